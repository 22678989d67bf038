"""Masks of small models for tests, and files of contacts with one of them changed."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdstk
import numpy as np
from random_model import random_architecture, random_model

from intaglio.golden.model import IntModel
from intaglio.layout.fabric import Array, Tile, contacts
from intaglio.layout.oasis import write_contacts
from intaglio.layout.rules import rules

MODEL_FORMS = {
    "bits": {"q": 3, "k": 2, "gate": 3, "head": 3},
    "extras": {"q": 0.3, "v": 1.0, "down": 0.1},
}
RULES = rules("sky130")
LAYER = RULES.layers["mcon"]
SIDE = RULES["ct.1"]


def mixed_model(seed: int = 3) -> IntModel:
    """A model of two layers with codes of every width and extra rows."""
    return random_model(seed, random_architecture(vocabulary=90), **MODEL_FORMS)


def open_cell(path: Path, start: str = "") -> tuple[gdstk.Library, gdstk.Cell]:
    """A file, and its first cell whose name starts so."""
    library = gdstk.read_oas(path)
    for cell in library.cells:
        if isinstance(cell, gdstk.Cell) and cell.name.startswith(start):
            return library, cell
    raise AssertionError(f"{path} has no cell {start}")


def read_corners(path: Path, name: str = "codes") -> np.ndarray:
    """Lower left corner of every contact of a cell of a file, nm, by gdstk alone."""
    (cell,) = (cell for cell in gdstk.read_oas(path).top_level() if cell.name == name)
    assert isinstance(cell, gdstk.Cell)
    found = []
    for polygon in cell.flatten().polygons:
        assert (polygon.layer, polygon.datatype) == LAYER
        corner = np.asarray(polygon.points).min(0)
        places = polygon.repetition.get_offsets() if polygon.repetition.size else [(0, 0)]
        found.extend(corner + np.asarray(place) for place in places)
    return np.rint(np.array(found) * 1000).astype(np.int64)


def write_corners(path: Path, corners: np.ndarray, name: str = "codes") -> None:
    """A file of contacts at these corners, by gdstk; its other tiles' stay as they are."""
    library = gdstk.Library("contacts", unit=1e-6, precision=1e-9)
    if path.is_file():
        for other in gdstk.read_oas(path).top_level():
            if isinstance(other, gdstk.Cell) and other.name != name:
                library.add(other.flatten())
    cell = library.new_cell(name)
    for x, y in corners.tolist():
        ends = (x / 1000, y / 1000), ((x + SIDE) / 1000, (y + SIDE) / 1000)
        cell.add(gdstk.rectangle(*ends, layer=LAYER[0], datatype=LAYER[1]))
    library.write_oas(path)


def edit_sheet(masks: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a data sheet, and its checksum with it."""
    path = masks / "die.json"
    values = json.loads(path.read_text())
    del values["sha256"]
    change(values)
    told = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**values, "sha256": told}))


def write_tile(tile: Tile, codes: np.ndarray, path: Path) -> None:
    """Write a tile's contacts."""
    made = {"codes": contacts(tile, tile.codes(codes), RULES)}
    path.write_bytes(b"".join(write_contacts(made, LAYER, RULES.grid)))


def random_codes(array: Array, seed: int = 0) -> np.ndarray:
    """Codes for all cells of an array."""
    rng = np.random.default_rng(seed)
    return rng.integers(
        0, 1 << array.bits, (array.rows, array.lanes, array.columns), dtype=np.uint8
    )
