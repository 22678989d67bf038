"""Models and masks compared: cell by cell, and shape by shape."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.errors import BadPackage, IntaglioError, Mismatch
from intaglio.golden.model import IntModel, Matrix
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import FabricPlan
from intaglio.quantity import read_yaml
from intaglio.verify.mask.read import BASE, SHEET, Progress, inside, read_file, read_sheet
from intaglio.verify.mask.shapes import (
    AGAIN,
    UNREADABLE,
    boxes,
    read_cells,
    read_layers,
    told,
)

SHOWN = 20
"""Differences that are named."""


def differences(expected: IntModel, found: IntModel, plan: ChipPlan) -> Iterator[dict[str, Any]]:
    """Where two models of one shape differ: codes by row, lane and column, the rest by index."""
    others = dict(found.matrices())
    fabrics = {
        f"layers.{index}.{name}": fabric
        for index, layer in enumerate(plan.layers)
        for name, fabric in layer.items()
    } | {"head": plan.head}
    for name, matrix in expected.matrices():
        yield from matrix_differences(name, matrix, others[name], fabrics[name])
    for field in ("rotary", "embedding", "embedding_multiplier"):
        yield from array_differences(field, getattr(expected, field), getattr(found, field))
    for field in ("residual_step", "embedding_shift", "norm"):
        if getattr(expected, field) != getattr(found, field):
            yield entry(field)
    for index, (own, other) in enumerate(zip(expected.layers, found.layers, strict=True)):
        for field in ("norm_attention", "norm_mlp", "score_shift"):
            if getattr(own, field) != getattr(other, field):
                yield entry(f"layers.{index}.{field}")


def matrix_differences(
    name: str, expected: Matrix, found: Matrix, fabric: FabricPlan
) -> Iterator[dict[str, Any]]:
    """Where two matrices of one shape differ."""
    for source, column in np.argwhere(expected.codes != found.codes).tolist():
        row, lane = divmod(source, fabric.lanes)
        codes = int(expected.codes[source, column]), int(found.codes[source, column])
        yield entry(name, row, lane, column, codes)
    if not np.array_equal(expected.extra_inputs, found.extra_inputs):
        yield entry(f"{name}.map")
    else:
        lanes = expected.extra_inputs % fabric.lanes
        for index, column in np.argwhere(expected.extra_codes != found.extra_codes).tolist():
            lane = int(lanes[index])
            row = fabric.rows + int((lanes[:index] == lane).sum())
            codes = int(expected.extra_codes[index, column]), int(found.extra_codes[index, column])
            yield entry(name, row, lane, column, codes)
    for field in ("multiplier", "shift"):
        yield from array_differences(
            f"{name}.{field}", getattr(expected, field), getattr(found, field)
        )


def array_differences(
    name: str, expected: np.ndarray, found: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Where two arrays of one shape differ, by the first index and the last."""
    for place in np.argwhere(expected != found).tolist():
        values = int(expected[tuple(place)]), int(found[tuple(place)])
        yield entry(name, place[0], None, place[-1] if len(place) > 1 else None, values)


def entry(
    name: str,
    row: int | None = None,
    lane: int | None = None,
    column: int | None = None,
    values: tuple[int | None, int | None] = (None, None),
) -> dict[str, Any]:
    """One difference: where, what should be there and what is."""
    return {
        "where": name, "row": row, "lane": lane, "column": column,
        "expected": values[0], "found": values[1],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """Two sets of masks of one shape: contacts altogether, those that stand in one only, files."""

    contacts: int
    changed: int
    files: int
    changed_files: int


def compare_masks(first: Path, second: Path, progress: Progress | None = None) -> Compared:
    """Take two chips' masks from each other (XOR), shape by shape.

    Raises :class:`Mismatch` naming what differs where anything but the programmable layer does:
    their data sheets, or a layer of a base cell. A tile's file must hold nothing else.
    """
    sheets = read_sheet(first / SHEET), read_sheet(second / SHEET)
    if sheets[0] != sheets[1]:
        keys = sorted(key for key in sheets[0] if sheets[0][key] != sheets[1].get(key))
        raise Mismatch(
            f"{first} and {second}: not masks of one shape: their data sheets differ in "
            f"{', '.join(keys) or 'their keys'}",
            hint="compile one of the two with --base",
        )
    try:
        compare_bases(inside(first, BASE), inside(second, BASE), sheets[0]["process"])
        layers = read_layers(sheets[0]["process"], sheets[0]["programmable"])
        tiles = [tile for array in sheets[0]["arrays"] for tile in array["tiles"]]
        names = list(dict.fromkeys(tile["file"] for tile in tiles))
        total = changed = files = 0
        for number, name in enumerate(names):
            made = [tile for tile in tiles if tile["file"] == name]
            one, other = (read_file(inside(place, name), made, layers) for place in (first, second))
            odd = sum(
                len(np.setxor1d(keys_of(one[cell]), keys_of(other[cell]))) for cell in sorted(one)
            )
            total += sum(map(len, one.values()))
            changed, files = changed + odd, files + (odd > 0)
            if progress:
                progress((number + 1) / len(names), name)
        return Compared(total, changed, len(names), files)
    except (IntaglioError, OSError):
        raise
    except UNREADABLE as error:
        raise BadPackage(f"{first / SHEET}: damaged: {told(error)}", hint=AGAIN) from None


def keys_of(corners: np.ndarray) -> np.ndarray:
    """Corners as one number each."""
    return corners[:, 0] << 32 | corners[:, 1] & 0xFFFFFFFF


def compare_bases(first: Path, second: Path, process: str) -> None:
    """Raise :class:`Mismatch` unless two files of base cells hold the same shapes."""
    if first.is_file() and second.is_file() and first.read_bytes() == second.read_bytes():
        return
    cells = [{cell.name: cell for cell in read_cells(path)} for path in (first, second)]
    if odd := sorted({*cells[0]} ^ {*cells[1]}):
        raise Mismatch(f"{first} and {second}: cell {odd[0]} is in one only")
    values = read_yaml(Path(str(files("intaglio") / "layout" / f"{process}.yaml")))
    for name in sorted(cells[0]):
        for layer, numbers in values["layers"].items():
            shapes = [np.unique(boxes(own[name], tuple(numbers["gds"])), axis=0) for own in cells]
            if not np.array_equal(shapes[0], shapes[1]):
                raise Mismatch(f"{first} and {second}: cell {name} differs on layer {layer}")
