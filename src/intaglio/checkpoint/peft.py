"""A PEFT folder: LoRA factors as found on disk, refused where they are anything else.

Every key of adapter_config.json is used, known to change nothing, or an error that names it; every
tensor of adapter_model.safetensors is one that the config calls for.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.architecture import Architecture
from intaglio.checkpoint.files import inside, read_json, sha256
from intaglio.checkpoint.forward import Weights
from intaglio.checkpoint.huggingface import PICKLES, STORED, refuse_pickle
from intaglio.checkpoint.safetensors import SafetensorsFile
from intaglio.checkpoint.tensors import LARGEST, MATRICES, tensor_shapes
from intaglio.errors import BadCheckpoint, BadInput, UnsupportedModel

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
RANK_LIMIT = 64  # what a chip's side memory is laid out for
MERGE = "merge it into its model with peft's merge_and_unload() and compile that"

# Keys that say nothing about what a trained adapter computes, whatever their value.
HARMLESS = frozenset(
    (
        "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying",
        "eva_config", "inference_mode", "loftq_config", "lora_dropout", "lora_ga_config",
        "megatron_core", "merge_weights", "peft_version", "qalora_group_size", "revision",
        "runtime_config", "task_type", "velora_config",
    )
)  # fmt: skip

# Keys that would change what it computes: the values below are the ones that do not.
ONLY: dict[str, tuple[Any, ...]] = {
    "alora_invocation_tokens": (None,),
    "arrow_config": (None,),
    "bias": ("none",),
    "enable_lora": (None,),
    "fan_in_fan_out": (False,),
    # others take something out of the base model's weights, which the folder does not hold
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
    "kasa_config": (None,),
    "layer_replication": (None,),
    "lora_bias": (False,),
    "megatron_config": (None,),
    "modules_to_save": (None, []),
    "monteclora_config": (None,),
    "peft_type": ("LORA",),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, []),
    "use_bdlora": (None, False),
    "use_dora": (False,),
    "use_qalora": (False,),
}

USED = frozenset(
    (
        "alpha_pattern", "exclude_modules", "layers_pattern", "layers_to_transform",
        "lora_alpha", "r", "rank_pattern", "target_modules", "use_rslora",
    )
)  # fmt: skip

OTHER_MODULES = ("lm_head", "model.embed_tokens")
FACTOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
MEANINGS = {  # what else a PEFT file can hold, by a part of the tensor's name
    "lora_magnitude_vector": "DoRA",
    "lora_embedding_": "an adapter of an embedding",
    "modules_to_save": "a module saved whole",
    ".bias": "a bias",
}


@dataclass(frozen=True, eq=False)
class Factors:
    """What one matrix gets in addition: ``scale`` times ``up`` times ``down``.

    ``down``: float32 [rank, inputs], ``up``: float32 [outputs, rank]; rows of q and k in the
    half-split order of the checkpoint.
    """

    down: np.ndarray
    up: np.ndarray
    scale: float

    @property
    def rank(self) -> int:
        """Length of what passes between the two factors."""
        return len(self.down)

    def product(self) -> np.ndarray:
        """The addition as one matrix: float64 [outputs, inputs]."""
        return self.scale * (self.up.astype(np.float64) @ self.down.astype(np.float64))


@dataclass(frozen=True, eq=False)
class FloatAdapter:
    """A LoRA adapter as found on disk.

    ``parts``: by layer and matrix name. ``source``: a short label without paths. ``files``: the
    files whose bytes matter.
    """

    parts: Mapping[tuple[int, str], Factors]
    source: str
    files: tuple[Path, ...] = field(default=(), repr=False)

    @cached_property
    def content_hash(self) -> str:
        """The sha256 over the files; read when first asked for."""
        return sha256(self.files)


class Merged:
    """A checkpoint with an adapter's additions in its weights: the float reference."""

    def __init__(self, checkpoint: Weights, adapter: FloatAdapter) -> None:
        self._checkpoint, self._adapter = checkpoint, adapter

    @property
    def architecture(self) -> Architecture:
        """That of the checkpoint."""
        return self._checkpoint.architecture

    def tensor(self, name: str) -> np.ndarray:
        """One tensor: float32; names, shapes and order are the checkpoint's."""
        tensor = self._checkpoint.tensor(name)
        prefix, _, short = name.rpartition(".")
        if not prefix:
            return tensor
        part = self._adapter.parts.get((int(prefix.removeprefix("layers.")), short))
        return tensor if part is None else (tensor + part.product()).astype(np.float32)


def open_peft(folder: str | Path, architecture: Architecture) -> FloatAdapter:
    """Read a PEFT folder's LoRA factors for a model of ``architecture``."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"adapter must be a PEFT folder, not {str(folder)!r}")
    config = Config.read(inside(folder, CONFIG))
    if not (folder / TENSORS).exists():
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        if pickles:
            raise refuse_pickle(pickles[0])
    file = SafetensorsFile(inside(folder, TENSORS))
    modules = modules_of(architecture)
    targets = config.targets(modules)
    check_names(file, modules, targets)
    shapes = tensor_shapes(architecture)
    parts = {}
    for module in targets:
        layer, name = modules[module]
        parts[layer, name] = read_factors(file, config, module, shapes[f"layers.{layer}.{name}"])
    return FloatAdapter(
        parts, folder.resolve().name, (inside(folder, CONFIG), inside(folder, TENSORS))
    )


def modules_of(architecture: Architecture) -> dict[str, tuple[int, str]]:
    """Layer and matrix name of every module that can have an adapter."""
    return {
        f"model.layers.{layer}.{STORED[name]}": (layer, name)
        for layer in range(architecture.layers)
        for name in MATRICES
    }


@dataclass(frozen=True)
class Config:
    """What adapter_config.json says, read with PEFT's own meaning of its patterns."""

    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Config":
        """Read the file; refuse by name whatever is more than LoRA."""
        values = read_json(path)
        if "peft_type" not in values:
            raise BadCheckpoint(f"{CONFIG}: peft_type is missing")
        for key, value in values.items():
            if key in ONLY and not any(same(value, allowed) for allowed in ONLY[key]):
                choices = " or ".join(repr(allowed) for allowed in ONLY[key])
                raise UnsupportedModel(
                    f"{CONFIG}: {key} must be {choices}, not {short(value)}", hint=MERGE
                )
            if key not in ONLY and key not in HARMLESS and key not in USED:
                raise UnsupportedModel(
                    f"{CONFIG}: unknown key {short(key)} with value {short(value)}", hint=MERGE
                )
        return cls(values)

    def targets(self, modules: Mapping[str, tuple[int, str]]) -> list[str]:
        """The modules that have an adapter, in the order of the layers."""
        for module in OTHER_MODULES:
            if self._target(module, None):
                raise UnsupportedModel(
                    f"{CONFIG}: target_modules must be among q_proj, k_proj, v_proj, o_proj, "
                    f"gate_proj, up_proj and down_proj, not {module}",
                    hint=MERGE,
                )
        found = [module for module, (layer, _) in modules.items() if self._target(module, layer)]
        if not found:
            raise BadCheckpoint(f"{CONFIG}: target_modules name no matrix of the model")
        return found

    def rank(self, module: str) -> int:
        """Rank of a module's factors."""
        rank = self._patterned("rank_pattern", "r", module)
        if type(rank) is not int or rank < 1:
            raise BadCheckpoint(f"{CONFIG}: rank must be a positive integer, not {short(rank)}")
        if rank > RANK_LIMIT:
            raise UnsupportedModel(
                f"{CONFIG}: rank of {module} must be at most {RANK_LIMIT}, not {rank}", hint=MERGE
            )
        return rank

    def scale(self, module: str) -> float:
        """What the product of a module's factors is multiplied by."""
        alpha = self._patterned("alpha_pattern", "lora_alpha", module)
        if type(alpha) not in (int, float) or not abs(alpha) <= LARGEST:
            raise BadCheckpoint(
                f"{CONFIG}: lora_alpha must be a number up to {LARGEST}, not {short(alpha)}"
            )
        rank, stabilised = self.rank(module), self.values.get("use_rslora", False)
        if type(stabilised) is not bool:
            raise BadCheckpoint(
                f"{CONFIG}: use_rslora must be true or false, not {short(stabilised)}"
            )
        return alpha / math.sqrt(rank) if stabilised else alpha / rank

    def _patterned(self, patterns: str, key: str, module: str) -> Any:
        """The value of ``key``, or of the first of the patterns that matches the module's end."""
        chosen = self.values.get(patterns) or {}
        if not isinstance(chosen, dict):
            raise BadCheckpoint(f"{CONFIG}: {patterns} must be an object, not {short(chosen)}")
        for pattern, value in chosen.items():
            if matches(rf"(.*\.)?({pattern})$", module, patterns):
                return value
        return self.values.get(key, 8)

    def _target(self, module: str, layer: int | None) -> bool:
        chosen = self.values.get("target_modules")
        if chosen == "all-linear":
            found = layer is not None
        elif isinstance(chosen, str):
            found = matches(chosen, module, "target_modules")
        else:
            found = ends_with(module, names(chosen, "target_modules"))
            found = found and self._of_layer(module, layer)
        return found and not self._excluded(module)

    def _excluded(self, module: str) -> bool:
        chosen = self.values.get("exclude_modules")
        if isinstance(chosen, str):
            return matches(chosen, module, "exclude_modules")
        return bool(chosen) and ends_with(module, names(chosen, "exclude_modules"))

    def _of_layer(self, module: str, layer: int | None) -> bool:
        """Whether layers_to_transform, if given, has the module's layer."""
        chosen = self.values.get("layers_to_transform")
        if chosen is None or chosen == []:
            return True
        layers = chosen if isinstance(chosen, list) else [chosen]
        if any(type(index) is not int for index in layers):
            raise BadCheckpoint(
                f"{CONFIG}: layers_to_transform must be integers, not {short(chosen)}"
            )
        pattern = self.values.get("layers_pattern") or "layers"
        patterns = [pattern] if isinstance(pattern, str) else names(pattern, "layers_pattern")
        return "layers" in patterns and layer in layers


def names(value: Any, key: str) -> list[str]:
    """A list of names, checked."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise BadCheckpoint(
            f"{CONFIG}: {key} must be a list of names or a pattern, not {short(value)}"
        )
    return value


def ends_with(module: str, ends: list[str]) -> bool:
    """Whether a module is one of the names, or ends with one after a dot."""
    return any(module == end or module.endswith(f".{end}") for end in ends)


def matches(pattern: str, module: str, key: str) -> bool:
    """Whether the whole name of a module matches."""
    try:
        return re.fullmatch(pattern, module) is not None
    except re.error as error:
        raise BadCheckpoint(f"{CONFIG}: {key} has an invalid pattern: {error}") from None


def same(value: Any, allowed: Any) -> bool:
    """Equal and of one type."""
    return value == allowed and isinstance(value, bool) == isinstance(allowed, bool)


def short(value: Any) -> str:
    """A value as one short line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_names(
    file: SafetensorsFile, modules: Mapping[str, tuple[int, str]], targets: list[str]
) -> None:
    """Refuse a tensor that is no factor of a target, and a target without its factors."""
    for tensor in file.entries:
        meaning = next((what for part, what in MEANINGS.items() if part in tensor), None)
        if meaning is not None:
            raise UnsupportedModel(
                f"{file.label}: tensor {tensor} must be a LoRA factor, is {meaning}", hint=MERGE
            )
        found = FACTOR.fullmatch(tensor)
        if found is None or found[1] not in modules:
            raise BadCheckpoint(f"{file.label}: unexpected tensor {tensor}")
        if found[1] not in targets:
            raise BadCheckpoint(f"{file.label}: tensor {tensor} is not called for by {CONFIG}")
    for tensor in (tensor for target in targets for tensor in factor_names(target)):
        if tensor not in file.entries:
            raise BadCheckpoint(f"{file.label}: missing tensor {tensor}, called for by {CONFIG}")


def factor_names(module: str) -> Iterator[str]:
    """How PEFT names the two factors of a module, down first."""
    yield from (f"base_model.model.{module}.lora_{factor}.weight" for factor in "AB")


def read_factors(
    file: SafetensorsFile, config: Config, module: str, shape: tuple[int, ...]
) -> Factors:
    """Read the factors of a matrix of ``shape`` [outputs, inputs]."""
    rank, (outputs, inputs) = config.rank(module), shape
    found = []
    for tensor, expected in zip(
        factor_names(module), ((rank, inputs), (outputs, rank)), strict=True
    ):
        if file.entries[tensor].shape != expected:
            raise BadCheckpoint(
                f"{file.label}: tensor {tensor} must have shape {list(expected)}, "
                f"not {list(file.entries[tensor].shape)}"
            )
        array = file.tensor(tensor)
        if not (np.abs(array) <= LARGEST).all():
            raise BadCheckpoint(
                f"{file.label}: tensor {tensor} must be from -{LARGEST} to {LARGEST} and finite"
            )
        found.append(array)
    return Factors(found[0], found[1], config.scale(module))
