"""Adapters for a package: PEFT folders in the chip's integers, quantized once and kept."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from intaglio.checkpoint.peft import FloatAdapter, open_peft
from intaglio.errors import BadInput
from intaglio.flow.cache import Store, key_of
from intaglio.flow.origin import checkpoint_of
from intaglio.flow.package import Package
from intaglio.flow.progress import Progress, silent
from intaglio.golden.adapter import Adapter
from intaglio.golden.forward import Golden, Trace

FILE = "adapter.safetensors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
STEP = "quantizing the adapter"


@dataclass(frozen=True)
class NamedAdapter:
    """An adapter as a user chose it: as found, and in the chip's integers."""

    name: str
    source: FloatAdapter
    integers: Adapter

    @property
    def rank(self) -> int:
        """The largest rank of its parts: what side memory must hold."""
        return max(part.rank for part in self.integers.parts.values())


def open_adapter(
    package: Package, given: str, *, model: str | None = None, progress: Progress = silent
) -> NamedAdapter:
    """Open ``NAME=DIR``, a PEFT folder made for the package's checkpoint, or one that is shipped.

    ``model``: where that checkpoint is; by default the name it was compiled by.
    """
    name, folder = split_given(given)
    checkpoint = checkpoint_of(package, model)
    source = open_peft(folder, checkpoint.architecture)
    key = key_of(adapter=source.content_hash, model=package.hash)
    store = Store("adapters")
    with store.locked(key, progress):
        if store.find(key) is None:
            from intaglio.quantize.adapter import quantize_adapter  # its imports take long

            progress(STEP, 0, name)
            golden = Golden(package.model)

            def forward(ids: np.ndarray, trace: Trace) -> None:
                golden.residual(ids, trace=trace)

            integers = quantize_adapter(source, checkpoint, package.model, forward)
            with store.make(key) as made:
                integers.save(made / FILE)
            progress(STEP, 1, "")
        return NamedAdapter(name, source, Adapter.load(store.root / key / FILE))


def check_side_memory(package: Package, adapter: NamedAdapter, *, otherwise: str = "") -> None:
    """Raise :class:`BadInput` where the chip itself has no room for the adapter.

    ``otherwise``: what else could be done.
    """
    held, needed = package.plan.adapter_rank, adapter.rank
    if held >= needed:
        return
    has = f"side memory for a rank of at most {held}" if held else "no side memory for adapters"
    raise BadInput(
        f"adapter {adapter.name!r} has rank {needed}, and {package.path} has {has}",
        hint=f"compile the chip with --adapter-rank {needed}{otherwise}",
    )


def shipped() -> dict[str, Path]:
    """The adapters of the bundled model that come with the compiler, by name."""
    root = Path(str(files("intaglio") / "models" / "adapters"))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/adapter_config.json"))}


def split_given(given: str) -> tuple[str, Path]:
    """Name and folder of ``NAME=DIR``, or of a shipped adapter's name."""
    name, equals, folder = given.partition("=")
    if not equals and name in shipped():
        return name, shipped()[name]
    if not equals or not folder or not NAME.fullmatch(name):
        raise BadInput(
            f"adapter must be NAME=DIR or one that is shipped ({', '.join(shipped())}), "
            f"not {given!r}",
            hint="for example --adapter docs=path/to/peft-folder",
        )
    return name, Path(folder)
