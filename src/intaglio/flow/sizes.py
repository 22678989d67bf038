"""Every preset's chip on a process, as ``plan PRESET`` says it by default; kept in the cache."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from intaglio.errors import BadInput
from intaglio.flow.cache import UNREADABLE, Store, key_of, source_hash
from intaglio.flow.choose import PlanOptions
from intaglio.flow.plan import Planned, run_plan
from intaglio.flow.progress import Progress, silent
from intaglio.plan.preset import preset_names
from intaglio.plan.process import Process
from intaglio.quantity import Quantity

LOOKING = "planning models of other sizes"
FILE = "size.json"
SOURCES = ("presets", "silicon", "quantity.py")
"""What decides a plan beside what decides a package."""


@dataclass(frozen=True, slots=True)
class Size:
    """A model's chip. ``silicon``: mm² in so many ``dies``; ``bits``: of the layers' weights;
    ``rate``: tokens/s of one user."""

    name: str
    title: str
    parameters: int
    active: int
    silicon: Quantity
    dies: int
    bits: float
    rate: Quantity
    power: Quantity

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Size":
        """The size of plain values."""
        measured = {name: Quantity(**values[name]) for name in ("silicon", "rate", "power")}
        return cls(**{**values, **measured})


def sizes_on(process: Process, target: str, progress: Progress = silent) -> tuple[Size, ...]:
    """Every preset's chip on the process, which ``target`` names, in the order of what it stores.

    Searching for all of them takes half a minute; a second time they come from the cache.
    """
    made = sorted(each_size(process, target, progress), key=lambda size: size.parameters)
    return tuple(made)


def each_size(process: Process, target: str, progress: Progress) -> Iterator[Size]:
    """The chips by the presets' names."""
    names = preset_names()
    for index, name in enumerate(names):
        progress(LOOKING, index / len(names), name)
        yield kept_size(process, target, name)
    progress(LOOKING, 1, "")


def kept_size(process: Process, target: str, name: str) -> Size:
    """A preset's chip from the cache, or planned and put there."""
    stated = asdict(replace(process, reads=None)) | {
        "reads": process.reads and process.reads.values
    }
    store, key = Store("sizes"), key_of(
        sources=source_hash(SOURCES), preset=name, process=stated
    )  # fmt: skip
    found = store.find(key)
    if found is not None:
        try:
            return Size.from_dict(json.loads((found / FILE).read_text("utf-8")))
        except (*UNREADABLE, TypeError, BadInput):
            store.drop(key)
    size = size_of(run_plan(name, PlanOptions(target=target)))
    with store.make(key) as folder:
        Path(folder / FILE).write_text(json.dumps(asdict(size)), "utf-8")
    return size


def size_of(each: Planned) -> Size:
    """A planned chip as a point among sizes."""
    q = each.figures
    bits = min(bits for name, bits in each.outline.bits.items() if name != "head")
    return Size(
        each.name, each.model.title, each.model.parameters, each.model.active, q["area_mm2"],
        each.dies, bits, q["tokens_per_second_per_user"], q["power_w"],
    )  # fmt: skip
