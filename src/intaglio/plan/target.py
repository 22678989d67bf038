"""Targets: what a process allows, read from ``targets/*.yaml`` with unit, source and year."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from intaglio.errors import BadInput
from intaglio.quantity import Quantity, is_number, quantity, read_yaml

KEYS = {"name", "title", "node", "rows_per_layer", "figures"}
OWN = {"name", "title", "base", "figures"}
CODE_WIDTHS = (2, 3, 4)


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


def target_folder() -> Path:
    """Where the data files of the package are."""
    return Path(str(files("intaglio") / "targets"))


def target_names() -> list[str]:
    """The names that :func:`target` knows."""
    names = [path.stem for path in target_folder().glob("*.yaml")]
    return sorted(names, key=lambda name: (len(name), name))


def target_path(name: str) -> Path:
    """The data file of a target: of the package by its name, or any that ends in .yaml."""
    if name.endswith(".yaml"):
        return Path(name)
    refuse_unknown(name)
    return target_folder() / f"{name}.yaml"


def refuse_unknown(name: str) -> None:
    """Raise :class:`BadInput` where no target of the package has the name."""
    if name not in target_names():
        raise BadInput(f"target must be one of {', '.join(target_names())}, not {name!r}")


def check_keys(values: Any, wanted: set[str], place: str) -> None:
    """Raise :class:`BadInput` naming the place unless ``values`` has exactly the wanted keys."""
    if not isinstance(values, Mapping):
        raise BadInput(f"{place}: must be a mapping")
    if missing := wanted - set(values):
        raise BadInput(f"{place}: has no {', '.join(sorted(missing))}")
    if unknown := {str(key) for key in values} - wanted:
        raise BadInput(f"{place}: unknown key {', '.join(sorted(unknown))}")


def read_target(path: Path) -> dict[str, Any]:
    """What a target's file states. Raises :class:`BadInput` naming file and key.

    With ``base``, a target of the package, it states only what is not as there. ``circuit`` is
    added: the target of the package whose simulated reads are its own, empty for a file that has
    no base.
    """
    values = read_yaml(path)
    circuit = path.stem if path.parent == target_folder() else ""
    if "base" in values:
        values, circuit = on_base(values, path), values["base"]
    check_keys(values, KEYS, path.name)
    for key in ("name", "title"):
        if not isinstance(values[key], str) or not values[key].strip():
            raise BadInput(f"{path.name}: {key} must be a text, not {values[key]!r}")
        if not values[key].isprintable():
            raise BadInput(f"{path.name}: {key} must be a text in one line, not {values[key]!r}")
    node = values["node"]
    if node is not None and not (is_number(node) and node > 0):
        raise BadInput(f"{path.name}: node must be a length in nm or null, not {node!r}")
    if not isinstance(values["figures"], Mapping):
        raise BadInput(f"{path.name}: figures must be a mapping")
    return {**values, "circuit": circuit}


def on_base(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A target of the package with the name, title and figures that a file changes."""
    check_keys(values, OWN, path.name)
    if values["base"] not in target_names():
        raise BadInput(
            f"{path.name}: base must be one of {', '.join(target_names())}, not {values['base']!r}"
        )
    if not isinstance(values["figures"], Mapping):
        raise BadInput(f"{path.name}: figures must be a mapping")
    base = read_target(target_path(values["base"]))
    figures = {**base["figures"], **values["figures"]}
    own = {"name": values["name"], "title": values["title"], "figures": figures}
    return {key: own.get(key, base[key]) for key in KEYS}


@cache
def target(name: str) -> Target:
    """The target of that name. Raises :class:`BadInput` for an unknown one."""
    refuse_unknown(name)
    path = target_path(name)
    values = read_target(path)
    figures = {
        key: quantity(values["figures"][key], f"{path.name}: {key}")
        for key in ("clock", "user_area", "line_pitch", "cell_width", "sram_cell",
                    "sram_efficiency")
        if key in values["figures"]
    }  # fmt: skip
    area = figures.get("user_area")
    return Target(
        name=values["name"],
        clock=figures["clock"].number,
        rows=read_rows(values, path),
        user_area=area.number if area and area.known else None,
        cells=least_cells(figures),
        sram=sram_bit(figures),
    )


def read_rows(values: Mapping[str, Any], path: Path) -> int:
    """Rows that a layer's groups share, from what a target's file states."""
    stated = quantity(values["rows_per_layer"], f"{path.name}: rows_per_layer")
    rows = stated.value
    if not isinstance(rows, int) or rows < 4:
        raise BadInput(f"{path.name}: rows_per_layer must be an integer from 4, not {rows}")
    return rows


def least_cells(figures: Mapping[str, Quantity]) -> dict[int, float]:
    """Least µm² of a select cell by its code's width: 2**bits lines times pitch times width."""
    if "line_pitch" not in figures or "cell_width" not in figures:
        return {}
    line = figures["line_pitch"].bounds[0] * figures["cell_width"].bounds[0]
    return {bits: 2**bits * line for bits in CODE_WIDTHS}


def sram_bit(figures: Mapping[str, Quantity]) -> float | None:
    """µm² of one bit of SRAM, its macro's periphery included; None where unknown."""
    if "sram_cell" not in figures or "sram_efficiency" not in figures:
        return None
    return figures["sram_cell"].number / figures["sram_efficiency"].number
