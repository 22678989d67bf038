"""A GGUF file of the Llama family: metadata read at once, tensors lazily from a memory map.

Every key is used, known to change nothing, or an error that names it. The header is read here
and not by ``gguf.GGUFReader``, which takes two seconds for a vocabulary of 49,152 tokens.
"""

import math
import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

from intaglio.architecture import Architecture, RopeScaling
from intaglio.checkpoint.files import check_name
from intaglio.checkpoint.forward import llama3_factors, plain_frequencies
from intaglio.checkpoint.safetensors import widen
from intaglio.checkpoint.tensors import Checkpoint, tensor_shapes
from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.errors import BadCheckpoint, UnsupportedModel

SUPPORTED = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")
SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
STRING, ARRAY = 8, 9

STORED = {
    "norm_attention": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "norm_mlp": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
ROPE_FACTORS = "rope_freqs.weight"

USED = frozenset(
    (
        "llama.context_length", "llama.embedding_length", "llama.block_count",
        "llama.feed_forward_length", "llama.vocab_size", "llama.attention.head_count",
        "llama.attention.head_count_kv", "llama.attention.key_length",
        "llama.attention.value_length", "llama.attention.layer_norm_rms_epsilon",
        "llama.rope.dimension_count", "llama.rope.freq_base", "general.alignment",
        "general.architecture",
    )
)  # fmt: skip
# Keys that would change the arithmetic: the values below are the ones that do not.
ONLY: dict[str, tuple[Any, ...]] = {
    "general.type": ("model",),
    "general.quantization_version": (2,),
    "llama.attention.causal": (True,),
    "llama.embedding_scale": (1.0,),
    "llama.expert_count": (0,),
    "llama.expert_used_count": (0,),
    "llama.logit_scale": (1.0,),
    "llama.residual_scale": (1.0,),
    "llama.rope.scale_linear": (1.0,),
    "llama.rope.scaling.attn_factor": (1.0,),
    "llama.rope.scaling.factor": (1.0,),
    "llama.rope.scaling.finetuned": (False,),
    "llama.rope.scaling.type": ("none",),
    "llama.tensor_data_layout": ("Meta AI original pth",),
    "llama.use_parallel_residual": (False,),
    "split.count": (0, 1),
    "split.no": (0,),
}
HARMLESS = ("general.", "quantize.imatrix.", "mradermacher.", "split.tensors.count")


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor's place in the file; ``shape`` is [outputs, inputs]."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int
    stop: int


class GgufFile:
    """Metadata and tensors of one file, by name; ``label`` is what errors call the file."""

    def __init__(self, path: Path) -> None:
        self.label = path.name
        if path.stat().st_size < 24:
            raise BadCheckpoint(f"{self.label} must be a GGUF file, is shorter than its header")
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._place = 0
        try:
            self.metadata, self.entries = self._header()
        except (struct.error, IndexError):
            raise BadCheckpoint(
                f"{self.label}: the header runs past the end of the file",
                hint="the file is truncated or damaged: copy it again",
            ) from None
        except UnicodeDecodeError as error:
            raise BadCheckpoint(f"{self.label}: names must be UTF-8: {error}") from None
        self._check_extents()

    def tensor(self, name: str) -> np.ndarray:
        """Read one tensor as float32, dequantised as its format defines."""
        entry = self.entries[name]
        raw = np.frombuffer(self._map, np.uint8, entry.stop - entry.start, entry.start)
        if entry.kind.name in ("F32", "F16", "BF16"):
            return widen(raw, entry.kind.name).reshape(entry.shape)
        rows = raw.reshape(entry.shape[0], -1)
        return quants.dequantize(rows, entry.kind).reshape(entry.shape)

    def _header(self) -> tuple[dict[str, Any], dict[str, Entry]]:
        magic, version = self._map[:4], struct.unpack_from("<I", self._map, 4)[0]
        if magic != b"GGUF":
            raise BadCheckpoint(f"{self.label} must be a GGUF file, begins with {magic!r}")
        if version not in (2, 3):
            raise UnsupportedModel(
                f"{self.label}: GGUF version must be 2 or 3, little-endian, not {version}"
            )
        self._place = 8
        tensors, keys = self._scalar("<Q"), self._scalar("<Q")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = check_name(self._string(), self.label)
            if key in metadata:
                raise BadCheckpoint(f"{self.label}: key {key} occurs twice")
            metadata[key] = self._value(key)
        places: dict[str, tuple[int, tuple[int, ...], int]] = {}
        for _ in range(tensors):
            name = check_name(self._string(), self.label)
            if name in places:
                raise BadCheckpoint(f"{self.label}: tensor {name} occurs twice")
            shape = tuple(self._scalar("<Q") for _ in range(self._scalar("<I")))
            places[name] = (self._scalar("<I"), shape[::-1], self._scalar("<Q"))
        self._alignment = self._check_alignment(metadata.get("general.alignment", 32))
        base = self._aligned(self._place)
        return metadata, {name: self._entry(name, base, *place) for name, place in places.items()}

    def _entry(self, name: str, base: int, kind: int, shape: tuple[int, ...], start: int) -> Entry:
        label = f"{self.label}: tensor {name}"
        known = {int(member): member for member in GGMLQuantizationType}
        if kind not in known or known[kind].name not in SUPPORTED:
            found = known[kind].name if kind in known else kind
            raise UnsupportedModel(f"{label} must be one of {', '.join(SUPPORTED)}, not {found}")
        block, size = GGML_QUANT_SIZES[known[kind]]
        if not 1 <= len(shape) <= 2 or 0 in shape or shape[-1] % block:
            raise BadCheckpoint(
                f"{label}: {known[kind].name} must have 1 or 2 dimensions and rows of a multiple "
                f"of {block}, not shape {list(shape)}"
            )
        start += base
        return Entry(known[kind], shape, start, start + math.prod(shape) // block * size)

    def _check_alignment(self, value: Any) -> int:
        if type(value) is not int or value < 1 or value & (value - 1):
            raise BadCheckpoint(
                f"{self.label}: general.alignment must be a power of two, not {value!r}"
            )
        return value

    def _check_extents(self) -> None:
        """Refuse a truncated file and tensors that overlap or are not aligned."""
        previous = 0
        for name, entry in sorted(self.entries.items(), key=lambda item: item[1].start):
            if entry.start % self._alignment or entry.start < previous:
                raise BadCheckpoint(f"{self.label}: tensor {name} overlaps or is not aligned")
            if entry.stop > len(self._map):
                raise BadCheckpoint(
                    f"{self.label}: tensor {name} must end at byte {entry.stop}, the file has "
                    f"{len(self._map)}",
                    hint="the file is truncated or damaged: copy it again",
                )
            previous = entry.stop

    def _aligned(self, place: int) -> int:
        return -(-place // self._alignment) * self._alignment

    def _scalar(self, form: str) -> Any:
        value = struct.unpack_from(form, self._map, self._place)[0]
        self._place += struct.calcsize(form)
        return value

    def _string(self) -> str:
        length = self._scalar("<Q")
        start, self._place = self._place, self._place + length
        if self._place > len(self._map):
            raise IndexError
        return self._map[start : self._place].decode()

    def _value(self, key: str) -> Any:
        kind = self._scalar("<I")
        if kind == STRING:
            return self._string()
        if kind in SCALARS:
            value = self._scalar(SCALARS[kind])
            return _shortest(value) if kind == 6 else value
        if kind != ARRAY:
            raise BadCheckpoint(f"{self.label}: key {key} has unknown type {kind}")
        kind, count = self._scalar("<I"), self._scalar("<Q")
        if kind == STRING:
            return [self._string() for _ in range(count)]
        if kind not in SCALARS:
            raise UnsupportedModel(f"{self.label}: key {key} is an array of type {kind}")
        form = f"<{count}{SCALARS[kind][1]}"
        values = struct.unpack_from(form, self._map, self._place)
        self._place += struct.calcsize(form)
        return list(values)


def open_gguf(path: Path, source: str | None = None) -> Checkpoint:
    """Open a GGUF file; read no tensor of a layer yet."""
    file = GgufFile(path)
    architecture = read_architecture(file)
    last = f"blk.{architecture.layers - 1}.attn_norm.weight"
    if last not in file.entries:
        raise BadCheckpoint(f"{file.label}: missing tensor {last}, of the last layer")
    names = _stored_names(architecture)
    _check_tensors(file, names, architecture)

    def read(name: str) -> np.ndarray:
        array = file.tensor(names[name])
        heads = {"q": architecture.heads, "k": architecture.kv_heads}.get(name.split(".")[-1])
        return half_split(array, heads) if heads else array

    counts: Counter[str] = Counter()
    for entry in file.entries.values():
        counts[entry.kind.name] += math.prod(entry.shape) * (len(entry.shape) == 2)
    main = counts.most_common(1)[0][0]
    return Checkpoint(
        architecture=architecture,
        tokenizer=Tokenizer.from_gguf(file.metadata),
        source=source or f"{path.stem} (from {main})",
        files=(path,),
        read=read,
        file_of=lambda name: file.label,
    )


def half_split(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of a GGUF q or k matrix to Hugging Face's rotary order.

    GGUF stores the pair that turns together as rows 2i and 2i + 1 of a head, Hugging Face as
    rows i and i + half. ``matrix``: [heads * head width, inputs]; the result has the same shape.
    """
    pairs = matrix.reshape(heads, -1, 2, matrix.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(matrix.shape)


def read_architecture(file: GgufFile) -> Architecture:
    """Translate the metadata; an unknown key or a value that is not supported is an error."""
    values = file.metadata
    _check_keys(file)
    heads = _integer(file, "attention.head_count")
    width = _integer(file, "embedding_length")
    if "llama.attention.key_length" not in values and width % heads:
        raise UnsupportedModel(
            f"{file.label}: llama.embedding_length must be a multiple of "
            f"llama.attention.head_count {heads}, not {width}"
        )
    head_width = _integer(file, "attention.key_length", width // heads)
    for name in ("attention.value_length", "rope.dimension_count"):
        if _integer(file, name, head_width) != head_width:
            raise UnsupportedModel(
                f"{file.label}: llama.{name} must be the head width {head_width}, "
                f"not {values[f'llama.{name}']}"
            )
    rope_base = _number(file, "rope.freq_base", 10000.0)
    return Architecture(
        family="llama",
        vocabulary=_vocabulary(file),
        width=width,
        layers=_integer(file, "block_count"),
        heads=heads,
        kv_heads=_integer(file, "attention.head_count_kv", heads),
        head_width=head_width,
        inner=_integer(file, "feed_forward_length"),
        context=_integer(file, "context_length"),
        rope_base=rope_base,
        norm_epsilon=_number(file, "attention.layer_norm_rms_epsilon"),
        tied="output.weight" not in file.entries,
        rope_scaling=_rope_scaling(file, rope_base, head_width),
    )


def _check_keys(file: GgufFile) -> None:
    family = file.metadata.get("general.architecture")
    if family != "llama":
        raise UnsupportedModel(
            f"{file.label}: general.architecture must be 'llama', not {family!r}"
        )
    for key, value in file.metadata.items():
        if key in USED or key.startswith("tokenizer."):
            continue
        if key in ONLY:
            if value not in ONLY[key]:
                choices = " or ".join(repr(allowed) for allowed in ONLY[key])
                raise UnsupportedModel(f"{file.label}: {key} must be {choices}, not {value!r}")
        elif not key.startswith(HARMLESS):
            raise UnsupportedModel(f"{file.label}: unknown key {key!r}")


def _vocabulary(file: GgufFile) -> int:
    """Take the embedding's rows; llama.vocab_size, where given, must agree."""
    entry = file.entries.get("token_embd.weight")
    if entry is None:
        raise BadCheckpoint(f"{file.label}: missing tensor token_embd.weight")
    return _integer(file, "vocab_size", entry.shape[0])


def _rope_scaling(file: GgufFile, base: float, head_width: int) -> RopeScaling | None:
    """Recognise Llama 3's scaling in the tensor of factors that divide the frequencies.

    The file holds the factors and not the four numbers that made them: the published models all
    use low 1, high 4 and context 8,192; other factors are refused.
    """
    if ROPE_FACTORS not in file.entries:
        return None
    found = file.tensor(ROPE_FACTORS)
    if found.shape == (head_width // 2,) and np.isfinite(found).all() and found.max() > 1:
        factor = _shortest(float(found.max()))
        scaling = RopeScaling(factor, 1.0, 4.0, 8192)
        expected = llama3_factors(plain_frequencies(base, head_width), scaling)
        if np.allclose(found, expected, rtol=1e-5, atol=0):
            return scaling
    raise UnsupportedModel(
        f"{file.label}: tensor {ROPE_FACTORS} must be Llama 3's scaling with low_freq_factor 1, "
        f"high_freq_factor 4 and an original context of 8192"
    )


def _integer(file: GgufFile, name: str, default: int | None = None) -> int:
    value = file.metadata.get(f"llama.{name}", default)
    if type(value) is not int or value < 1:
        raise BadCheckpoint(f"{file.label}: llama.{name} must be a positive integer, not {value!r}")
    return value


def _number(file: GgufFile, name: str, default: float | None = None) -> float:
    value = file.metadata.get(f"llama.{name}", default)
    if type(value) is not float or not math.isfinite(value):
        raise BadCheckpoint(f"{file.label}: llama.{name} must be a finite number, not {value!r}")
    return value


def _shortest(value: float) -> float:
    """Give the decimal that a float32 was written from: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _stored_names(architecture: Architecture) -> dict[str, str]:
    """Map canonical names to GGUF's."""
    names = {"embedding": "token_embd.weight", "norm": "output_norm.weight"}
    if not architecture.tied:
        names["head"] = "output.weight"
    for layer in range(architecture.layers):
        for name, stored in STORED.items():
            names[f"layers.{layer}.{name}"] = f"blk.{layer}.{stored}.weight"
    return names


def _check_tensors(file: GgufFile, names: dict[str, str], architecture: Architecture) -> None:
    shapes = tensor_shapes(architecture)
    for name, stored in names.items():
        if stored not in file.entries:
            raise BadCheckpoint(f"{file.label}: missing tensor {stored}")
        found = file.entries[stored].shape
        if found != shapes[name]:
            raise BadCheckpoint(
                f"{file.label}: tensor {stored} must have shape {list(shapes[name])}, "
                f"not {list(found)}"
            )
    extra = file.entries.keys() - set(names.values()) - {ROPE_FACTORS}
    if extra:
        raise BadCheckpoint(f"{file.label}: unexpected tensor {min(extra)}")
