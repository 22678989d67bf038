"""Verify: a package's RTL against its integer model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio.flow.package import Package
from intaglio.flow.simulator import executable_of
from intaglio.flow.talk import check_length, encode_prompt
from intaglio.golden.sample import Sampling
from intaglio.plan.schedule import Schedule, User
from intaglio.verify.lockstep import Verdict, verify

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """A verdict, and how long the simulator's build took (0 where it was cached)."""

    verdict: Verdict
    build_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**self.verdict.as_dict(), "build_seconds": self.build_seconds}


def verify_package(
    package: Package,
    prompt: str,
    count: int,
    *,
    sampling: Sampling | None = None,
    chat: bool = False,
    waves: Path | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Generate ``count`` tokens after ``prompt`` on the simulated chip, comparing all it computes.

    End of text does not stop it. Stops at the first difference. ``waves``: an FST file.
    """
    show = progress or (lambda *_: None)
    sampling = sampling or Sampling()
    ids = encode_prompt(package.tokenizer, prompt, chat=chat)
    check_length(package.plan.context, len(ids), count)
    executable, seconds = executable_of(package, waves=waves is not None, progress=show)
    step, done = "comparing RTL and integer model, token by token", 0
    show(step, 0, count)

    def heard(_: object) -> None:
        nonlocal done
        done += 1
        show(step, done, count)

    verdict = verify(
        package.model, executable, package.images, ids, count, sampling,
        planned_cycles=Schedule(package.plan).run([User(len(ids), count, sampling)]),
        progress=heard, waves=waves,
    )  # fmt: skip
    return Proof(verdict, seconds)
