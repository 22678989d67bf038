"""Verify: a package's RTL against its integer model."""

import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from intaglio import __version__
from intaglio.errors import BadInput
from intaglio.flow.adapters import NamedAdapter, check_side_memory, open_adapter
from intaglio.flow.package import Package
from intaglio.flow.progress import Progress, silent
from intaglio.flow.simulator import executable_of
from intaglio.flow.stages import put_stage
from intaglio.flow.talk import check_length, encode_prompt
from intaglio.golden.sample import Sampling
from intaglio.plan.schedule import Schedule, User
from intaglio.verify.lockstep import Verdict, verify

STEP = "comparing RTL and integer model"


@dataclass(frozen=True, slots=True)
class Proof:
    """A verdict, with what was said and how long the simulator's build took (0 if cached)."""

    verdict: Verdict
    prompt: str
    text: str
    build_seconds: float
    adapter: str | None = None
    sampling: Sampling = field(default_factory=Sampling)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            **self.verdict.as_dict(), "build_seconds": self.build_seconds, "text": self.text,
            "adapter": self.adapter,
        }  # fmt: skip


def verify_package(
    package: Package,
    prompt: str,
    count: int,
    *,
    sampling: Sampling | None = None,
    chat: bool = False,
    adapter: str | None = None,
    model: str | None = None,
    waves: Path | None = None,
    progress: Progress = silent,
) -> Proof:
    """Generate ``count`` tokens after ``prompt`` on the simulated chip, comparing all it computes.

    End of text does not stop it. Stops at the first difference. ``adapter``: ``NAME=DIR``, a PEFT
    folder that both then have. ``model``: see :func:`intaglio.flow.origin.checkpoint_of`.
    ``waves``: an FST file.
    """
    sampling = sampling or Sampling()
    ids = encode_prompt(package.tokenizer, prompt, chat=chat)
    check_length(package.plan.context, len(ids), count)
    chosen = adapter_for(package, adapter, model, progress)
    with whole_file(waves, package.path) as partial:
        executable, seconds = executable_of(package, waves=waves is not None, progress=progress)
        user = User(len(ids), count, sampling, adapted=chosen is not None)
        planned = Schedule(package.plan).run([user])
        progress(STEP, 0, f"{len(ids)} prompt tokens")
        done = 0

        def heard(_: object) -> None:
            nonlocal done
            done += 1
            progress(STEP, min(done / count, 0.999), f"token {done} of {count}")

        verdict = verify(
            package.model, executable, package.images, ids, count, sampling,
            planned_cycles=planned, progress=heard, waves=partial, plan=package.plan,
            adapters={chosen.name: chosen.integers} if chosen else None,
            adapter=chosen.name if chosen else None,
        )  # fmt: skip
    progress(STEP, 1, "")
    said = package.tokenizer.decode(verdict.transcripts[0])
    return Proof(verdict, prompt, said, seconds, chosen.name if chosen else None, sampling)


def kept(proof: Proof) -> dict[str, Any]:
    """What a package keeps of a proof: all but what was said and what differs from run to run."""
    values = proof.verdict.as_dict()
    del values["simulated_tokens_per_second"]
    return {**values, "adapter": proof.adapter}


def keep_verdict(package: Package, proof: Proof) -> Package:
    """Put a proof's verdict, equal or not, into its package in place of the one before.

    A report that is there rests on the verdict: it goes where that changes. Of the prompt only a
    hash is kept. The same proof gives the same bytes. Raises ``OSError`` where it cannot be
    written.
    """
    prompt = hashlib.sha256(proof.prompt.encode("utf-8", "surrogatepass")).hexdigest()
    options = {
        "prompt": prompt, "tokens": proof.verdict.generated, "adapter": proof.adapter,
        "sampling": asdict(proof.sampling),
    }  # fmt: skip
    text = json.dumps(kept(proof), indent=1, sort_keys=True) + "\n"
    figures = {"equal": proof.verdict.equal, "positions": proof.verdict.positions}
    return put_stage(
        package, "verify", {"verdict.json": text.encode()}, options, {"intaglio": __version__},
        figures,
    )  # fmt: skip


def adapter_for(
    package: Package, given: str | None, model: str | None, progress: Progress
) -> NamedAdapter | None:
    """The adapter that is asked for, if one is; the chip must have room for it."""
    if given is None:
        return None
    chosen = open_adapter(package, given, model=model, progress=progress)
    check_side_memory(package, chosen)
    return chosen


@contextmanager
def whole_file(path: Path | None, package: Path) -> Iterator[Path | None]:
    """Yield a sibling of ``path`` to write, which takes its name when the block ends well.

    Raises :class:`BadInput` for what must not be replaced: a folder, a device, a package's file.
    """
    if path is None:
        yield None
        return
    place = path.resolve()
    if place.is_relative_to(package.resolve()):
        raise BadInput(f"{path}: cannot be written: it would be inside the chip package")
    if place.is_dir() or not place.parent.is_dir():
        what = "is a folder" if place.is_dir() else f"there is no folder {path.parent}"
        raise BadInput(f"{path}: cannot be written: {what}")
    if place.exists() and not place.is_file():
        raise BadInput(f"{path}: cannot be written: it is no ordinary file")
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.touch()  # a folder that cannot be written to is known before the build
        yield partial
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
