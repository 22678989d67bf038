"""A safetensors file, mapped into memory: its header checked whole, its tensors read lazily."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.checkpoint.files import check_name, parse_json
from intaglio.errors import BadCheckpoint, UnsupportedModel

WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
HEADER_LIMIT = 100_000_000  # of the format itself


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor's place: ``start`` and ``stop`` count bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class SafetensorsFile:
    """The tensors of one file, by name; ``label`` is what errors call the file."""

    def __init__(self, path: Path) -> None:
        self.label = path.name
        size = path.stat().st_size
        if size < 8:
            raise BadCheckpoint(f"{self.label} must be a safetensors file, has only {size} bytes")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, HEADER_LIMIT):
                raise BadCheckpoint(
                    f"{self.label}: header must fit the file's {size} bytes, claims {length}"
                )
            header = parse_json(file.read(length), f"{self.label} header")
        header.pop("__metadata__", None)
        self.entries = {name: self._entry(name, value) for name, value in header.items()}
        self._check_extents(size - 8 - length)
        self._bytes = np.memmap(path, np.uint8, "r", offset=8 + length) if self.entries else None

    def _entry(self, name: str, value: Any) -> Entry:
        label = f"{self.label}: tensor {check_name(name, self.label)}"
        try:
            dtype, shape, (start, stop) = value["dtype"], value["shape"], value["data_offsets"]
        except (TypeError, KeyError, ValueError):
            raise BadCheckpoint(f"{label} must have dtype, shape and two data_offsets") from None
        if not isinstance(dtype, str) or dtype not in WIDTHS:
            raise UnsupportedModel(f"{label} must be one of {', '.join(WIDTHS)}, not {dtype!r}")
        numbers = [*shape, start, stop] if isinstance(shape, list) else [None]
        if any(type(number) is not int or number < 0 for number in numbers):
            raise BadCheckpoint(f"{label} must have non-negative integers as shape and offsets")
        if stop - start != math.prod(shape) * WIDTHS[dtype]:
            raise BadCheckpoint(
                f"{label}: {dtype} {shape} must take {math.prod(shape) * WIDTHS[dtype]} bytes, "
                f"not {stop - start}"
            )
        return Entry(dtype, tuple(shape), start, stop)

    def _check_extents(self, size: int) -> None:
        """Refuse a truncated file, overlapping tensors and bytes that belong to no tensor."""
        expected = 0
        for name, entry in sorted(self.entries.items(), key=lambda item: item[1].start):
            if entry.start != expected:
                raise BadCheckpoint(
                    f"{self.label}: tensor {name} must start at byte {expected}, not {entry.start}"
                )
            expected = entry.stop
        if expected != size:
            raise BadCheckpoint(
                f"{self.label}: data must be {expected} bytes long, not {size}",
                hint="the file is truncated or damaged: copy it again",
            )

    def tensor(self, name: str) -> np.ndarray:
        """Read one tensor as float32; an F32 tensor is a view of the map where aligned."""
        entry = self.entries[name]
        assert self._bytes is not None
        raw = self._bytes[entry.start : entry.stop]
        return widen(raw, entry.dtype).reshape(entry.shape)


def widen(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Turn little-endian bytes of F32, F16 or BF16 into a flat float32 array, exactly."""
    if dtype == "BF16":
        return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    stored = raw.view({"F32": "<f4", "F16": "<f2"}[dtype])
    return np.asarray(stored).astype(np.float32, copy=dtype != "F32" or not stored.flags.aligned)
