"""A tiny chip for the tests of flow and cli: a random checkpoint, quick to compile.

``python tests/tiny_chip.py ARGUMENTS`` is ``intaglio ARGUMENTS`` with quick Verilog in place of the
real one, which takes seconds.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from reference_logits import sample_config, sample_tensors, write_folder

from intaglio.flow.compile import CompileOptions
from intaglio.golden.adapter import Adapter
from intaglio.golden.forward import Golden
from intaglio.golden.model import IntModel
from intaglio.golden.sample import Sampling, sample
from intaglio.hardware import emit
from intaglio.plan.chip import ChipPlan
from intaglio.verify.simulation import Logits, Result

TEXT = "the index of the list in the other 12 lists\n" * 20
QUICK = CompileOptions(bits=4, uniform=True, calibration=TEXT)


def tiny_checkpoint(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A Hugging Face folder of two layers, 32 wide, with a chat template."""
    config = sample_config(**changes)
    return write_folder(folder, config, sample_tensors(config, seed))


def quick_emit(plan: ChipPlan, folder: Path) -> list[Path]:
    """Verilog of no use that depends on the plan as the real one does."""
    folder.mkdir(parents=True)
    (folder / "chip.v").write_text(f"// {json.dumps(plan.as_dict())}\nmodule chip; endmodule\n")
    (folder / "rom.sv").write_text("module rom; endmodule\n")
    (folder / "stations.json").write_text("{}\n")
    return sorted(folder.iterdir())


def run_quick(arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """``intaglio ARGUMENTS`` in a process of its own, Verilog as by :func:`quick_emit`."""
    return subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=300,
        env=environment(), **options,
    )  # fmt: skip


def environment() -> dict[str, str]:
    """Small matrices are multiplied fastest by one thread; what is written waits for a flush."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "OPENBLAS_NUM_THREADS": "1"}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class PlayedChip:
    """The integer model behind the interface of a simulation; refuses what a chip would."""

    def __init__(self, model: IntModel) -> None:
        self.model, self.adapter = model, None
        self.golden = Golden(model)
        self.context = self.golden.context
        self.started: list[int] = []
        self.epochs: list[int] = []
        self.filled = 0
        self.closed = False

    def configure(
        self,
        slot: int,
        sampling: Sampling,
        *,
        limit: int = 1 << 20,
        host: bool = False,
        epoch: int | None = None,
    ) -> None:
        assert slot == 0
        assert epoch is not None
        assert epoch != (self.epochs or [None])[-1], "a new request needs a new epoch"
        self.sampling, self.limit, self.host = sampling, limit, host
        self.epochs.append(epoch)

    def load(self, plan: ChipPlan, adapter: Adapter, number: int) -> None:
        assert number == 0
        assert plan.adapter_rank >= max(part.rank for part in adapter.parts.values())
        self.golden = Golden(self.model, adapters={"0": adapter})

    def send(
        self, slot: int, tokens: Sequence[int], position: int, *, adapter: int | None = None
    ) -> None:
        assert position <= self.filled, "keys and values before the position must be there"
        self.adapter = None if adapter is None else str(adapter)
        self.started.append(position)
        self.position, self.tokens = position, list(tokens)

    def logits(self) -> Logits:
        assert self.host
        x = self.golden.residual(np.array(self.tokens), self.position, adapter=self.adapter)
        self.filled = self.position + len(self.tokens)
        logits = self.golden.logits(x[-1:])[0]
        return Logits(0, self.epochs[-1], self.filled, logits, 0)

    def run(self, results: int) -> Iterator[Result]:
        assert not self.host
        for _ in range(results):
            x = self.golden.residual(np.array(self.tokens), self.position, adapter=self.adapter)
            self.position += len(self.tokens)
            self.filled = self.position
            logits = self.golden.logits(x[-1:])[0]
            token = sample(logits, self.sampling, self.position - 1)
            self.tokens = [token]
            final = self.position + 1 >= self.limit
            yield Result(0, self.epochs[-1], self.position, token, final, 0)

    def close(self) -> None:
        self.closed = True


if __name__ == "__main__":
    emit.emit = quick_emit
    from intaglio.cli import main

    main()
