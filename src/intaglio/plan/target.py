"""Targets: what a process allows, read from ``targets/*.yaml`` with unit, source and year."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from intaglio.errors import BadInput


@dataclass(frozen=True, slots=True)
class Target:
    """A process as far as the plan needs it.

    ``clock``: Hz. ``rows``: what a layer's four fabric groups share under automatic lanes.
    ``user_area``: mm² or None where unlimited. ``cells``: µm² of one stored code by its width,
    lower bound, or empty. ``sram``: µm² of one bit of SRAM or None where unknown.
    """

    name: str
    clock: float
    rows: int
    user_area: float | None
    cells: dict[int, float]
    sram: float | None = None


def target_names() -> list[str]:
    """The names that :func:`target` knows."""
    folder = files("intaglio") / "targets"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name != "__init__.py")


@cache
def target(name: str) -> Target:
    """The target of that name. Raises :class:`BadInput` for an unknown one."""
    if name not in target_names():
        raise BadInput(f"target must be one of {', '.join(target_names())}, not {name!r}")
    text = (files("intaglio") / "targets" / f"{name}.yaml").read_text("utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    area = values["user_area_mm2"]
    return Target(
        name=values["name"],
        clock=float(values["clock_hz"]["value"]),
        rows=values["rows_per_layer"]["value"],
        user_area=area["value"] if area else None,
        cells={bits: cell["low"] for bits, cell in values["cells"].items()},
        sram=values["sram"]["value"] if values.get("sram") else None,
    )
