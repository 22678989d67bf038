"""IntModel: everything that is engraved, as integers; validated, saved, loaded, hashed."""

import errno
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from intaglio.architecture import Architecture
from intaglio.errors import BadPackage, IntaglioError, Overflow
from intaglio.golden.number import (
    ATTENTION,
    CODEBOOKS,
    CONTEXT_LIMIT,
    MULTIPLIER_BITS,
    PRODUCT,
    SQUARE_BITS,
    WIDTH_LIMIT,
    Int,
    Widths,
    accumulator_bits,
    code_values,
)

FORMAT = 1
LARGEST_SHIFT = 62
UNREADABLE = (  # what foreign or damaged files make the readers raise
    OSError, SafetensorError, AttributeError, KeyError, RecursionError, TypeError, ValueError,
)  # fmt: skip
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


@dataclass(frozen=True, eq=False)
class Matrix:
    """One matrix as codes: what one fabric stores.

    ``bits``: width of a code, 2 to 4. ``codes``: uint8 [inputs, outputs]. ``extra_inputs``: int32
    [extras], ascending: the inputs that have a second digit, ``extra_codes``: uint8 [extras,
    outputs], of the same width. The weight is ``C[code] * 2**extra_shift + C[extra code]``; with
    no extras ``extra_shift`` is 0. ``multiplier``: uint16 [outputs], ``shift``: uint8 [outputs],
    of the output's narrow. The outputs of q and k stand in interleaved rotary order: pair i of a
    head is its columns 2 i and 2 i + 1.
    """

    bits: int
    codes: np.ndarray
    extra_shift: int
    extra_inputs: np.ndarray
    extra_codes: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray

    @property
    def inputs(self) -> int:
        """Length of the input vector."""
        return self.codes.shape[0]

    @property
    def outputs(self) -> int:
        """Length of the output vector."""
        return self.codes.shape[1]

    @property
    def extras(self) -> int:
        """Inputs with a second digit."""
        return len(self.extra_inputs)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per weight, second digits included."""
        return self.bits * (1 + self.extras / self.inputs)

    @property
    def largest(self) -> int:
        """The largest magnitude a weight can have."""
        top = max(CODEBOOKS[self.bits])
        return (top << self.extra_shift) + (top if self.extras else 0)

    def weights(self) -> np.ndarray:
        """The integer weights: int64 [inputs, outputs]."""
        values = code_values(self.bits)
        weights = values[self.codes] << self.extra_shift
        weights[self.extra_inputs] += values[self.extra_codes]
        return weights

    def check(self, name: str, inputs: int, outputs: int, activation: int) -> None:
        """Raise :class:`BadPackage` or :class:`Overflow` unless the matrix is legal."""
        if type(self.bits) is not int or self.bits not in CODEBOOKS:
            raise BadPackage(f"{name}: code width must be 2, 3 or 4 bits, not {self.bits!r}")
        expected = {
            "codes": ((inputs, outputs), np.uint8),
            "extra_inputs": ((self.extras,), np.int32),
            "extra_codes": ((self.extras, outputs), np.uint8),
            "multiplier": ((outputs,), np.uint16),
            "shift": ((outputs,), np.uint8),
        }
        for field, (shape, dtype) in expected.items():
            check_array(f"{name}.{field}", getattr(self, field), shape, dtype)
        for field in ("codes", "extra_codes"):
            array = getattr(self, field)
            if array.size and int(array.max()) >> self.bits:
                raise BadPackage(
                    f"{name}.{field}: codes must be below {1 << self.bits}, not {array.max()}"
                )
        extra = self.extra_inputs
        if self.extras and (
            extra[0] < 0 or extra[-1] >= inputs or bool((np.diff(extra) <= 0).any())
        ):
            raise BadPackage(f"{name}.extra_inputs: must ascend within 0 to {inputs - 1}")
        limit = 6 if self.extras else 0
        check_integer(f"{name}.extra_shift", self.extra_shift, 0, limit)
        accumulator_bits(inputs, self.largest, activation)
        check_shift(f"{name}.shift", self.shift, 0)


@dataclass(frozen=True, slots=True)
class Norm:
    """Constants of one norm: see :func:`intaglio.golden.ops.norm`."""

    epsilon: int
    multiplier: int
    shift: int

    def check(self, name: str) -> None:
        """Raise :class:`Overflow` unless the constants are within their widths."""
        check_integer(f"{name}.epsilon", self.epsilon, 1, (1 << 48) - 1)
        check_integer(f"{name}.multiplier", self.multiplier, 1, (1 << MULTIPLIER_BITS) - 1)
        check_integer(f"{name}.shift", self.shift, SQUARE_BITS // 2, LARGEST_SHIFT)


@dataclass(frozen=True, eq=False)
class Layer:
    """Everything one layer stores. ``score_shift``: right shift of an exact score, 0 to 31."""

    norm_attention: Norm
    q: Matrix
    k: Matrix
    v: Matrix
    o: Matrix
    score_shift: int
    norm_mlp: Norm
    gate: Matrix
    up: Matrix
    down: Matrix

    def matrices(self) -> Iterator[tuple[str, Matrix]]:
        """The seven matrices with their names, in the order of ``MATRICES``."""
        for name in MATRICES:
            yield name, getattr(self, name)


@dataclass(frozen=True, eq=False)
class IntModel:
    """A whole model in integers.

    ``residual_step``: the residual's step is ``2**-residual_step``; information for people and for
    ``quantize``, no operation needs it. ``rotary``: int64 [head_width / 2], turns per position
    times ``2**32``. ``embedding``: int8 [vocabulary, width], ``embedding_multiplier``: uint16
    [vocabulary], ``embedding_shift``: 0 to 56. ``head``: the final norm's outputs to logits (nats,
    12 fraction bits).
    """

    architecture: Architecture
    widths: Widths
    residual_step: int
    rotary: np.ndarray
    embedding: np.ndarray
    embedding_multiplier: np.ndarray
    embedding_shift: int
    layers: tuple[Layer, ...]
    norm: Norm
    head: Matrix

    def __post_init__(self) -> None:
        check_model(self)

    def matrices(self) -> Iterator[tuple[str, Matrix]]:
        """All matrices with their full names (``layers.0.q`` ... ``head``)."""
        for index, layer in enumerate(self.layers):
            for name, matrix in layer.matrices():
                yield f"layers.{index}.{name}", matrix
        yield "head", self.head

    @property
    def bits_per_weight(self) -> float:
        """Average stored bits over the block weights (embedding and head not counted)."""
        pairs = [(m.bits_per_weight, m.codes.size) for n, m in self.matrices() if n != "head"]
        return sum(bits * size for bits, size in pairs) / sum(size for _, size in pairs)

    def hash(self) -> str:
        """SHA-256 (hex) of everything that is engraved; independent of file format and order."""
        digest = hashlib.sha256(json.dumps(self._constants(), sort_keys=True).encode())
        for name, array in sorted(self._arrays().items()):
            array = np.ascontiguousarray(array)
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
            digest.update(little.tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write one safetensors file; two codes to a byte."""
        arrays = {}
        for name, array in self._arrays().items():
            packed = name.endswith(("codes",))
            arrays[name] = pack(array) if packed else np.ascontiguousarray(array)
        constants = json.dumps({"format": FORMAT, **self._constants()}, sort_keys=True)
        write_tensors(path, arrays, {"intaglio": constants})

    @classmethod
    def load(cls, path: Path) -> "IntModel":
        """Read what :meth:`save` wrote. Raises :class:`BadPackage` where anything is amiss."""
        with reading(path):
            return model_from(*read_file(path))

    def _constants(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture.as_dict(),
            "widths": asdict(self.widths),
            "residual_step": self.residual_step,
            "embedding_shift": self.embedding_shift,
            "norm": asdict(self.norm),
            "layers": [
                {
                    "norm_attention": asdict(layer.norm_attention),
                    "norm_mlp": asdict(layer.norm_mlp),
                    "score_shift": layer.score_shift,
                }
                for layer in self.layers
            ],
            "matrices": {
                name: {
                    "bits": m.bits,
                    "extra_shift": m.extra_shift,
                    "codes": list(m.codes.shape),
                    "extra_codes": list(m.extra_codes.shape),
                }
                for name, m in self.matrices()
            },
        }

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {
            "rotary": self.rotary,
            "embedding": self.embedding,
            "embedding_multiplier": self.embedding_multiplier,
        }
        for name, matrix in self.matrices():
            for field in fields(matrix):
                value = getattr(matrix, field.name)
                if isinstance(value, np.ndarray):
                    arrays[f"{name}.{field.name}"] = value
        return arrays


CONSTANTS = (
    "architecture", "widths", "residual_step", "embedding_shift", "norm", "layers", "matrices",
)  # fmt: skip
ARRAYS = ("rotary", "embedding", "embedding_multiplier")


def check_names(what: str, found: Iterable[str], expected: Iterable[str]) -> None:
    """Raise ``ValueError`` naming what is missing or not expected."""
    odd = sorted({*found} ^ {*expected})
    if odd:
        raise ValueError(f"{what} missing or unexpected: {odd[:3]}")


def array_names(matrices: Iterable[str]) -> Iterator[str]:
    """The tensors of the matrices of these full names."""
    for name in matrices:
        for field in fields(Matrix):
            if field.name not in ("bits", "extra_shift"):
                yield f"{name}.{field.name}"


@dataclass(frozen=True, slots=True)
class LayerConstants:
    """What a layer stores beside its matrices."""

    norm_attention: Norm
    norm_mlp: Norm
    score_shift: int


class ModelFile:
    """A saved model that is read matrix by matrix: a large one need not be in memory twice.

    Attributes as of :class:`IntModel`, but ``layers`` are :class:`LayerConstants`. ``known_hash``:
    the model's, where somebody has checked the file. Raises :class:`BadPackage` where anything is
    amiss, in a matrix when it is read.
    """

    def __init__(self, path: Path, known_hash: str | None = None) -> None:
        self.path, self._known_hash = path, known_hash
        with reading(path):
            self._constants, self._file = open_file(path)
            read = self._constants
            check_names("constants", read, CONSTANTS)
            for entry in read["layers"]:
                check_names(
                    "layer constants", entry, [field.name for field in fields(LayerConstants)]
                )
            self.residual_step: int = read["residual_step"]
            self.architecture = Architecture.from_dict(read["architecture"])
            self.widths = Widths(**read["widths"])
            self.norm = Norm(**read["norm"])
            self.embedding_shift: int = read["embedding_shift"]
            self.layers = tuple(
                LayerConstants(
                    Norm(**entry["norm_attention"]), Norm(**entry["norm_mlp"]),
                    entry["score_shift"],
                )
                for entry in read["layers"]
            )  # fmt: skip
            self.rotary, self.embedding, self.embedding_multiplier = (
                self._file.get_tensor(name) for name in ARRAYS
            )
            check_constants(self)
            names = [*matrix_names(self.architecture)]
            check_names("matrices", read["matrices"], names)
            check_names("tensors", self._file.keys(), [*ARRAYS, *array_names(names)])

    def matrices(self) -> Iterator[tuple[str, Matrix]]:
        """All matrices with their full names, one after the other."""
        shapes = matrix_shapes(self.architecture, self.widths)
        for name, entry in self._constants["matrices"].items():
            with reading(self.path):
                matrix = self._matrix(name, dict(entry))
                check_matrix(name, matrix, shapes, self.widths)
            yield name, matrix

    def hash(self) -> str:
        """The model's hash: see :meth:`IntModel.hash`."""
        return self._known_hash or self.whole().hash()

    def whole(self) -> IntModel:
        """The model, all of it in memory."""
        return IntModel.load(self.path)

    def _matrix(self, name: str, entry: dict[str, Any]) -> Matrix:
        arrays = {
            field.name: self._file.get_tensor(f"{name}.{field.name}")
            for field in fields(Matrix)
            if field.name not in ("bits", "extra_shift")
        }
        for field in ("codes", "extra_codes"):
            arrays[field] = unpack(arrays[field], tuple(entry.pop(field)))
        return Matrix(**entry, **arrays)


def pack(codes: np.ndarray) -> np.ndarray:
    """Two codes to a byte, the first in the low half; an odd last code is padded with 0."""
    flat = codes.reshape(-1)
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return flat[0::2] | flat[1::2] << 4


def unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of :func:`pack`."""
    size = int(np.prod(shape, dtype=np.int64))
    if packed.ndim != 1 or packed.dtype != np.uint8 or len(packed) != (size + 1) // 2:
        raise ValueError(f"packed codes of {packed.shape} do not hold {shape}")
    codes = np.empty(2 * len(packed), np.uint8)
    codes[0::2], codes[1::2] = packed & 15, packed >> 4
    return codes[:size].reshape(shape)


def write_tensors(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write a safetensors file. Raises ``OSError`` where it cannot be written."""
    try:
        save_file(arrays, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(errno.EIO, f"cannot be written: {error}", str(path)) from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what foreign or damaged files make the readers raise into :class:`BadPackage`."""
    try:
        yield
    except IntaglioError:
        raise
    except FileNotFoundError:
        raise BadPackage(f"{path}: no such file", hint="compile the model again") from None
    except UNREADABLE as error:
        raise BadPackage(
            f"{path}: not an integer model of format {FORMAT}: {error!r}",
            hint="compile the model again",
        ) from None


def read_constants(path: Path) -> dict[str, Any]:
    """What a saved model says beside its arrays."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size + 8 > path.stat().st_size:
            raise ValueError("file is truncated")
        metadata = json.loads(stream.read(size))["__metadata__"]["intaglio"]
    constants = json.loads(metadata)
    if constants.pop("format") != FORMAT:
        raise ValueError("another format")
    return constants


def open_file(path: Path) -> tuple[dict[str, Any], Any]:
    """The constants of a saved model, and its arrays to be read by name."""
    return read_constants(path), safe_open(path, framework="numpy")


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The constants and arrays of a saved model, codes unpacked, nothing checked yet."""
    constants, arrays = read_constants(path), load_file(path)
    for name, matrix in constants["matrices"].items():
        for field in ("codes", "extra_codes"):
            key = f"{name}.{field}"
            arrays[key] = unpack(arrays[key], tuple(matrix.pop(field)))
    return constants, arrays


def model_from(constants: dict[str, Any], arrays: dict[str, np.ndarray]) -> IntModel:
    """Build the model from what :func:`read_file` returns; both are used up."""

    def matrix(name: str) -> Matrix:
        named: dict[str, Any] = {
            field.name: arrays.pop(f"{name}.{field.name}")
            for field in fields(Matrix)
            if field.name not in ("bits", "extra_shift")
        }
        return Matrix(**matrices.pop(name), **named)

    def seven(index: int) -> dict[str, Any]:
        return {name: matrix(f"layers.{index}.{name}") for name in MATRICES}

    matrices: dict[str, Any] = constants.pop("matrices")
    layers = tuple(
        Layer(
            norm_attention=Norm(**entry.pop("norm_attention")),
            norm_mlp=Norm(**entry.pop("norm_mlp")),
            **entry,
            **seven(index),
        )
        for index, entry in enumerate(constants.pop("layers"))
    )
    model = IntModel(
        architecture=Architecture.from_dict(constants.pop("architecture")),
        widths=Widths(**constants.pop("widths")),
        norm=Norm(**constants.pop("norm")),
        rotary=arrays.pop("rotary"),
        embedding=arrays.pop("embedding"),
        embedding_multiplier=arrays.pop("embedding_multiplier"),
        layers=layers,
        head=matrix("head"),
        **constants,
    )
    if arrays or matrices:
        raise ValueError(f"unexpected tensors: {sorted([*arrays, *matrices])[:3]}")
    return model


def check_array(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type) -> None:
    """Raise :class:`BadPackage` unless ``array`` has the shape and dtype."""
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        found = f"{getattr(array, 'dtype', type(array).__name__)} {getattr(array, 'shape', '')}"
        raise BadPackage(f"{name}: must be {np.dtype(dtype).name} {shape}, not {found}")


def check_integer(name: str, value: Any, low: int, high: int) -> None:
    """Raise :class:`Overflow` unless ``value`` is an ``int`` within ``low`` to ``high``."""
    if type(value) is not int or not low <= value <= high:
        raise Overflow(f"{name}: must be an integer from {low} to {high}, not {value!r}")


def check_shift(name: str, shift: np.ndarray, low: int) -> None:
    """Raise :class:`Overflow` unless every shift is within ``low`` to 62."""
    if not low <= int(shift.min()) <= int(shift.max()) <= LARGEST_SHIFT:
        raise Overflow(
            f"{name}: must be from {low} to {LARGEST_SHIFT}, "
            f"not {int(shift.min())} to {int(shift.max())}"
        )


def largest_shrink(source: Int, to: int) -> int:
    """The largest shift that :func:`intaglio.golden.ops.shrink` can return."""
    return max(source.bits - to, 0)


def matrix_names(a: Architecture) -> Iterator[str]:
    """The full names of a model's matrices."""
    for index in range(a.layers):
        yield from (f"layers.{index}.{name}" for name in MATRICES)
    yield "head"


def matrix_shapes(a: Architecture, widths: Widths) -> dict[str, tuple[int, int, int]]:
    """Inputs, outputs and bits of an input of every kind of matrix."""
    return {
        "q": (a.width, a.query_width, widths.norm),
        "k": (a.width, a.kv_width, widths.norm),
        "v": (a.width, a.kv_width, widths.norm),
        "o": (a.query_width, a.width, widths.attention),
        "gate": (a.width, a.inner, widths.norm),
        "up": (a.width, a.inner, widths.norm),
        "down": (a.inner, a.width, widths.product),
        "head": (a.width, a.vocabulary, widths.norm),
    }


def check_matrix(
    name: str, matrix: Matrix, shapes: dict[str, tuple[int, int, int]], widths: Widths
) -> None:
    """Raise unless the matrix of that full name is legal."""
    kind = name.rpartition(".")[2]
    matrix.check(name, *shapes[kind])
    # a token's own shift is taken off these, so that many bits must be there
    if kind == "o":
        check_shift(f"{name}.shift", matrix.shift, largest_shrink(ATTENTION, widths.attention))
    if kind == "down":
        check_shift(f"{name}.shift", matrix.shift, largest_shrink(PRODUCT, widths.product))


def check_constants(model: "IntModel | ModelFile") -> None:
    """Raise unless everything beside the matrices is legal."""
    a = model.architecture
    for name, value, limit in (
        ("width", a.width, WIDTH_LIMIT),
        ("context", a.context, CONTEXT_LIMIT),
    ):
        if value > limit:
            raise Overflow(f"{name} must be at most {limit}, not {value}")
    check_array("rotary", model.rotary, (a.head_width // 2,), np.int64)
    if not 0 <= int(model.rotary.min()) <= int(model.rotary.max()) < 1 << 32:
        raise BadPackage("rotary: turn fractions must be from 0 to 2**32 - 1")
    check_array("embedding", model.embedding, (a.vocabulary, a.width), np.int8)
    check_array("embedding_multiplier", model.embedding_multiplier, (a.vocabulary,), np.uint16)
    check_integer("residual_step", model.residual_step, -64, 64)
    check_integer("embedding_shift", model.embedding_shift, 0, 56)
    if len(model.layers) != a.layers:
        raise BadPackage(f"layers: must be {a.layers}, not {len(model.layers)}")
    model.norm.check("norm")
    for index, layer in enumerate(model.layers):
        where = f"layers.{index}"
        layer.norm_attention.check(f"{where}.norm_attention")
        layer.norm_mlp.check(f"{where}.norm_mlp")
        check_integer(f"{where}.score_shift", layer.score_shift, 0, 31)


def check_model(model: IntModel) -> None:
    """Raise unless shapes, dtypes and widths of the whole model are legal."""
    check_constants(model)
    shapes = matrix_shapes(model.architecture, model.widths)
    for name, matrix in model.matrices():
        check_matrix(name, matrix, shapes, model.widths)
