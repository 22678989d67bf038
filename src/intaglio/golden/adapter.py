"""Adapter: low-rank additions to a frozen chip, in its side memory; validated, saved, hashed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from safetensors import safe_open

from intaglio.errors import BadPackage, IntaglioError, Overflow
from intaglio.golden.model import (
    LARGEST_SHIFT,
    MATRICES,
    UNREADABLE,
    IntModel,
    ModelFile,
    check_array,
    check_shift,
    matrix_shapes,
    write_tensors,
)
from intaglio.golden.number import LOW_RANK, MULTIPLIER_BITS, RANK_LIMIT, accumulator_bits

FORMAT = 1
METADATA = "intaglio_adapter"
SHIFT_BITS = LARGEST_SHIFT.bit_length()
HINT = "quantize the adapter again"

Key = tuple[int, str]
"""Layer and matrix: ``(0, "q")``."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """What one matrix gets in addition: ``up`` of ``down`` of its inputs.

    ``down``: int8 [inputs, rank], ``down_multiplier``: uint16 [rank], ``down_shift``: uint8
    [rank], of the narrow to what passes between. ``up``: int8 [rank, outputs],
    ``up_multiplier``: uint16 [outputs], ``up_shift``: uint8 [outputs], of the addend. Inputs and
    outputs stand in the matrix's own order.
    """

    down: np.ndarray
    down_multiplier: np.ndarray
    down_shift: np.ndarray
    up: np.ndarray
    up_multiplier: np.ndarray
    up_shift: np.ndarray

    @property
    def inputs(self) -> int:
        """Length of the input vector."""
        return self.down.shape[0]

    @property
    def rank(self) -> int:
        """Length of what passes between the two factors."""
        return self.down.shape[1]

    @property
    def outputs(self) -> int:
        """Length of the output vector."""
        return self.up.shape[1]

    @property
    def bits(self) -> int:
        """Bits of side memory."""
        weights = LOW_RANK.bits * self.rank * (self.inputs + self.outputs)
        return weights + (MULTIPLIER_BITS + SHIFT_BITS) * (self.rank + self.outputs)

    def check(self, name: str) -> None:
        """Raise :class:`BadPackage` or :class:`Overflow` unless it is legal for some matrix."""
        for field in ("down", "up"):
            array = getattr(self, field)
            if not isinstance(array, np.ndarray) or array.ndim != 2:
                raise BadPackage(f"{name}.{field}: must have two dimensions")
        if not 1 <= self.rank <= RANK_LIMIT:
            raise BadPackage(f"{name}: rank must be from 1 to {RANK_LIMIT}, not {self.rank}")
        if not self.inputs or not self.outputs:
            raise BadPackage(f"{name}: must have inputs and outputs")
        expected = {
            "down": ((self.inputs, self.rank), np.int8),
            "down_multiplier": ((self.rank,), np.uint16),
            "down_shift": ((self.rank,), np.uint8),
            "up": ((self.rank, self.outputs), np.int8),
            "up_multiplier": ((self.outputs,), np.uint16),
            "up_shift": ((self.outputs,), np.uint8),
        }
        for field, (shape, dtype) in expected.items():
            check_array(f"{name}.{field}", getattr(self, field), shape, dtype)
        for field in ("down_shift", "up_shift"):
            check_shift(f"{name}.{field}", getattr(self, field), 0)


@dataclass(frozen=True, eq=False)
class Adapter:
    """Low-rank additions to any matrices of one chip.

    ``model``: hash of the integer model whose units the additions are in. ``parts``: by layer and
    matrix name; what is not there stays as it is.
    """

    model: str
    parts: Mapping[Key, LowRank]

    def __post_init__(self) -> None:
        for (layer, name), part in self.parts.items():
            if type(layer) is not int or layer < 0 or name not in MATRICES:
                raise BadPackage(f"{full_name(layer, name)}: must be a matrix of a layer")
            part.check(full_name(layer, name))

    def check(self, model: IntModel | ModelFile) -> None:
        """Raise :class:`BadPackage` or :class:`Overflow` unless ``model`` can carry it."""
        found = model.hash()
        if self.model != found:
            raise BadPackage(
                f"adapter must be for the chip with hash {found[:16]}, not {self.model[:16]}",
                hint="quantize the adapter for this chip",
            )
        shapes = matrix_shapes(model.architecture, model.widths)
        for (layer, name), part in self.parts.items():
            where = full_name(layer, name)
            if layer >= len(model.layers):
                raise BadPackage(f"{where}: the chip has only {len(model.layers)} layers")
            inputs, outputs, activation = shapes[name]
            if (part.inputs, part.outputs) != (inputs, outputs):
                raise BadPackage(
                    f"{where}: must have {inputs} inputs and {outputs} outputs, "
                    f"not {part.inputs} and {part.outputs}"
                )
            try:
                accumulator_bits(inputs, -LOW_RANK.low, activation)
            except Overflow as error:
                raise Overflow(f"{where}.down: {error.message}") from None

    @property
    def bits(self) -> int:
        """Bits of side memory."""
        return sum(part.bits for part in self.parts.values())

    def hash(self) -> str:
        """SHA-256 (hex) of everything the side memory holds; independent of file and order."""
        digest = hashlib.sha256(json.dumps({"model": self.model}).encode())
        for name, array in sorted(self._arrays().items()):
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
            digest.update(little.tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        constants = json.dumps({"format": FORMAT, "model": self.model}, sort_keys=True)
        write_tensors(path, self._arrays(), {METADATA: constants})

    @classmethod
    def load(cls, path: Path) -> "Adapter":
        """Read what :meth:`save` wrote. Raises :class:`BadPackage` where anything is amiss.

        Whether it fits a chip is left to :meth:`check`.
        """
        try:
            constants, arrays = read_file(path)
            if constants != {"format": FORMAT, "model": str(constants["model"])}:
                raise ValueError("another format")
            return cls(constants["model"], parts_from(arrays))
        except IntaglioError:
            raise
        except FileNotFoundError:
            raise BadPackage(f"{path}: no such file", hint=HINT) from None
        except UNREADABLE as error:
            raise BadPackage(
                f"{path}: not an adapter of format {FORMAT}: {error!r}", hint=HINT
            ) from None

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            f"{full_name(*key)}.{field.name}": np.ascontiguousarray(getattr(part, field.name))
            for key, part in self.parts.items()
            for field in fields(part)
        }


def full_name(layer: int, name: str) -> str:
    """``layers.0.q``."""
    return f"layers.{layer}.{name}"


def read_file(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The constants and arrays of a saved adapter, nothing checked yet."""
    with safe_open(path, "np") as file:
        constants = json.loads((file.metadata() or {})[METADATA])
        return constants, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def parts_from(arrays: dict[str, np.ndarray]) -> dict[Key, LowRank]:
    """Gather the arrays of every matrix; each must be there, and no other."""
    found: dict[Key, dict[str, np.ndarray]] = {}
    for full, array in arrays.items():
        layers, layer, name, field = full.split(".")
        if layers != "layers" or full != f"{full_name(int(layer), name)}.{field}":
            raise ValueError(f"unexpected tensor {full}")
        found.setdefault((int(layer), name), {})[field] = array
    return {key: LowRank(**named) for key, named in sorted(found.items())}
