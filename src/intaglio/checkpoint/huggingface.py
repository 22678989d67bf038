"""A Hugging Face folder of the Llama family: config.json and safetensors, single or sharded.

Every key of config.json is used, known to change nothing, or an error that names it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.architecture import Architecture, RopeScaling
from intaglio.checkpoint.files import check_name, inside, read_json
from intaglio.checkpoint.safetensors import SafetensorsFile
from intaglio.checkpoint.tensors import Checkpoint, tensor_shapes
from intaglio.checkpoint.tokenizer import TOKENIZER_FILES, Tokenizer
from intaglio.errors import BadCheckpoint, UnsupportedModel

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")

# Keys that say nothing about the arithmetic of one forward pass, whatever their value.
HARMLESS = frozenset(
    (
        "_attn_implementation", "_attn_implementation_autoset", "_flash_attn_2_enabled",
        "_name_or_path", "attention_dropout", "attn_implementation", "bos_token_id",
        "chunk_size_feed_forward", "decoder_start_token_id", "dtype", "eos_token_id",
        "finetuning_task", "hidden_dropout_prob", "id2label", "initializer_range",
        "is_llama_config", "label2id", "max_sequence_length", "output_attentions",
        "output_hidden_states", "pad_token_id", "prefix", "pretraining_tp", "problem_type",
        "return_dict", "sep_token_id", "task_specific_params", "tokenizer_class",
        "torch_dtype", "torchscript", "transformers.js_config", "transformers_version",
        "unsloth_fixed", "unsloth_version", "use_cache", "bad_words_ids",
        "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
        "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty",
        "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length",
        "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
        "num_return_sequences", "output_scores", "remove_invalid_values",
        "repetition_penalty", "return_dict_in_generate", "suppress_tokens", "temperature",
        "top_k", "top_p", "typical_p",
    )
)  # fmt: skip

# Keys that would change the arithmetic: the values below are the ones that do not.
ONLY: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "attention_bias": (False,),
    "auto_map": (None,),
    "cross_attention_hidden_size": (None,),
    "hidden_act": ("silu",),
    "is_decoder": (False, True),
    "is_encoder_decoder": (False,),
    "layer_types": (None,),
    "mlp_bias": (False,),
    "model_type": ("llama",),
    "original_max_position_embeddings": (None,),
    "partial_rotary_factor": (None, 1.0),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
    "rope_interleaved": (False,),
    "sliding_window": (None,),
    "tf_legacy_loss": (False,),
    "tie_encoder_decoder": (False,),
    "use_bfloat16": (False,),
    "use_sliding_window": (False,),
}

USED = frozenset(
    (
        "architectures", "vocab_size", "hidden_size", "intermediate_size",
        "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
        "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
        "rope_parameters", "tie_word_embeddings",
    )
)  # fmt: skip

STORED = {
    "norm_attention": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "norm_mlp": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
DERIVED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


def open_folder(folder: Path, source: str | None = None) -> Checkpoint:
    """Open a folder with config.json, safetensors and tokenizer files; read no tensor yet."""
    _refuse_pickles(folder)
    architecture = read_architecture(read_json(inside(folder, "config.json")))
    weights = _Weights.open(folder, architecture)
    names = ["config.json", *weights.names, *(n for n in TOKENIZER_FILES if (folder / n).exists())]
    return Checkpoint(
        architecture=architecture,
        tokenizer=Tokenizer.load(folder),
        source=source or f"{folder.resolve().name} (from {'+'.join(weights.dtypes)})",
        files=tuple(inside(folder, name) for name in names),
        read=weights.read,
        file_of=weights.file_of,
    )


def architecture_alone(path: Path) -> Architecture | None:
    """What a config.json says, or that of a folder without safetensors; None for anything else.

    Weights of other formats are not opened, so that a folder of pickles has an architecture too.
    """
    if path.is_dir() and not any((path / name).exists() for name in (SINGLE, INDEX)):
        path = path / "config.json"
    if path.suffix != ".json" or not path.is_file():
        return None
    return read_architecture(read_json(inside(path.parent, path.name)))


def read_architecture(config: dict[str, Any]) -> Architecture:
    """Translate config.json; an unknown key or a value that is not supported is an error."""
    _check_keys(config)
    heads = _integer(config, "num_attention_heads")
    width = _integer(config, "hidden_size")
    if config.get("head_dim") is None and width % heads:
        raise UnsupportedModel(
            f"config.json: hidden_size must be a multiple of num_attention_heads {heads}, "
            f"not {width}"
        )
    rope_base, rope_scaling = _rope(config)
    return Architecture(
        family="llama",
        vocabulary=_integer(config, "vocab_size"),
        width=width,
        layers=_integer(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=_integer(config, "num_key_value_heads", heads),
        head_width=_integer(config, "head_dim", width // heads),
        inner=_integer(config, "intermediate_size"),
        context=_integer(config, "max_position_embeddings"),
        rope_base=rope_base,
        norm_epsilon=_number(config, "rms_norm_eps", 1e-6),
        tied=_boolean(config, "tie_word_embeddings", False),
        rope_scaling=rope_scaling,
    )


def _check_keys(config: dict[str, Any]) -> None:
    family = config.get("model_type")
    if family != "llama":
        raise UnsupportedModel(f"config.json: model_type must be 'llama', not {family!r}")
    if config.get("architectures") not in (None, ["LlamaForCausalLM"]):
        raise UnsupportedModel(
            f"config.json: architectures must be ['LlamaForCausalLM'], "
            f"not {config['architectures']!r}"
        )
    for key, value in config.items():
        if key in ONLY and not any(_same(value, allowed) for allowed in ONLY[key]):
            choices = " or ".join(repr(allowed) for allowed in ONLY[key])
            raise UnsupportedModel(f"config.json: {key} must be {choices}, not {_short(value)}")
        if key not in ONLY and key not in HARMLESS and key not in USED:
            raise UnsupportedModel(
                f"config.json: unknown key {key!r} with value {_short(value)}",
                hint="it might change the arithmetic; remove it if it does not",
            )


def _rope(config: dict[str, Any]) -> tuple[float, RopeScaling | None]:
    """Read the rotary options in the style of transformers 4, of transformers 5, or both equal."""
    old, new = config.get("rope_scaling"), config.get("rope_parameters")
    if old and new and old != new:
        raise UnsupportedModel("config.json: rope_scaling and rope_parameters must not differ")
    options = old or new or {}
    if not isinstance(options, dict):
        raise UnsupportedModel(f"config.json: rope_scaling must be an object, not {options!r}")
    options = {key: value for key, value in options.items() if value is not None}
    base = options.pop("rope_theta", config.get("rope_theta"))
    if config.get("rope_theta") not in (None, base):
        raise UnsupportedModel("config.json: rope_theta and rope_parameters must not differ")
    legacy = options.pop("type", None)
    kind = options.pop("rope_type", legacy or "default")
    if legacy not in (None, kind) or kind not in ("default", "llama3"):
        raise UnsupportedModel(
            f"config.json: rope_type must be 'default' or 'llama3', not {kind!r}"
        )
    if options.pop("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModel("config.json: partial_rotary_factor must be 1.0")
    scaling = _llama3(options) if kind == "llama3" else None
    if options:
        raise UnsupportedModel(f"config.json: rope_type {kind!r} has unknown key {min(options)!r}")
    return _number({"rope_theta": base}, "rope_theta", 10000.0), scaling


def _llama3(options: dict[str, Any]) -> RopeScaling:
    """Take the four keys of Llama 3's scaling out of ``options``."""
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    values = {name: options.pop(name, None) for name in names}
    return RopeScaling(
        factor=_number(values, "factor"),
        low_freq_factor=_number(values, "low_freq_factor"),
        high_freq_factor=_number(values, "high_freq_factor"),
        original_context=_integer(values, "original_max_position_embeddings"),
    )


def _value(config: dict[str, Any], key: str, default: Any) -> Any:
    value = config.get(key)
    value = default if value is None else value
    if value is None:
        raise BadCheckpoint(f"config.json: {key} is missing")
    return value


def _integer(config: dict[str, Any], key: str, default: int | None = None) -> int:
    value = _value(config, key, default)
    if type(value) is not int or value < 1:
        raise BadCheckpoint(f"config.json: {key} must be a positive integer, not {_short(value)}")
    return value


def _number(config: dict[str, Any], key: str, default: float | None = None) -> float:
    value = _value(config, key, default)
    if type(value) not in (int, float) or not abs(value) < 1e300:
        raise BadCheckpoint(f"config.json: {key} must be a finite number, not {_short(value)}")
    return float(value)


def _boolean(config: dict[str, Any], key: str, default: bool) -> bool:
    value = _value(config, key, default)
    if type(value) is not bool:
        raise BadCheckpoint(f"config.json: {key} must be true or false, not {_short(value)}")
    return value


def _same(value: Any, allowed: Any) -> bool:
    return value == allowed and isinstance(value, bool) == isinstance(allowed, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_pickles(folder: Path) -> None:
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        return
    names = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if names:
        raise refuse_pickle(names[0])
    raise BadCheckpoint(f"{folder.resolve().name}: {SINGLE} or {INDEX} is missing")


def refuse_pickle(name: str) -> UnsupportedModel:
    """Say why a pickled checkpoint is not opened."""
    return UnsupportedModel(
        f"{name} is a pickle, which can run code when it is opened",
        hint="convert the checkpoint to safetensors: model.save_pretrained(FOLDER)",
    )


@dataclass(frozen=True)
class _Weights:
    """The safetensors of one folder; ``place`` maps a stored tensor to its file."""

    place: dict[str, SafetensorsFile]
    names: list[str]
    stored: dict[str, str] = field(default_factory=dict)

    @property
    def dtypes(self) -> list[str]:
        """The number formats that occur, in lower case."""
        return sorted({file.entries[name].dtype.lower() for name, file in self.place.items()})

    def read(self, name: str) -> np.ndarray:
        """Read one canonical tensor as float32."""
        stored = self.stored[name]
        return self.place[stored].tensor(stored)

    def file_of(self, name: str) -> str:
        """The name of the file that holds a canonical tensor."""
        return self.place[self.stored[name]].label

    @classmethod
    def open(cls, folder: Path, architecture: Architecture) -> "_Weights":
        """Open all shards, and check that exactly the expected tensors are there."""
        names, owner = _shards(folder)
        place: dict[str, SafetensorsFile] = {}
        for name in names:
            file = SafetensorsFile(inside(folder, name))
            for tensor in file.entries:
                if tensor in place:
                    raise BadCheckpoint(
                        f"tensor {tensor} is in {place[tensor].label} and again in {name}"
                    )
                if owner is not None and owner.get(tensor) != name:
                    raise BadCheckpoint(
                        f"{INDEX}: tensor {tensor} must be in {owner.get(tensor)}, is in {name}"
                    )
                place[tensor] = file
        _require((owner or {}).keys() - place.keys(), f"listed in {INDEX}")
        last = f"model.layers.{architecture.layers - 1}.input_layernorm.weight"
        _require({last} - place.keys(), "the last layer of config.json")
        weights = cls(place, names, _stored_names(architecture))
        weights._check(architecture)
        return weights

    def _check(self, architecture: Architecture) -> None:
        shapes = tensor_shapes(architecture)
        _require(self.stored.values() - self.place.keys(), "called for by config.json")
        for name, stored in self.stored.items():
            file = self.place[stored]
            if file.entries[stored].shape != shapes[name]:
                raise BadCheckpoint(
                    f"{file.label}: tensor {stored} must have shape {list(shapes[name])}, "
                    f"not {list(file.entries[stored].shape)}"
                )
        extra = self.place.keys() - set(self.stored.values())
        for name in sorted(name for name in extra if not DERIVED.fullmatch(name)):
            if name != "lm_head.weight" or not self._repeats_embedding():
                raise BadCheckpoint(f"{self.place[name].label}: unexpected tensor {name}")

    def _repeats_embedding(self) -> bool:
        """Allow a tied checkpoint that stores its head, if it is the embedding bit for bit."""
        stored = self.stored["embedding"]
        return np.array_equal(
            self.place["lm_head.weight"].tensor("lm_head.weight"), self.place[stored].tensor(stored)
        )


def _require(missing: Iterable[str], why: str) -> None:
    names = sorted(missing)
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise BadCheckpoint(f"missing tensor {names[0]}{more}, {why}")


def _shards(folder: Path) -> tuple[list[str], dict[str, str] | None]:
    """Name the safetensors files and, where sharded, the file of every tensor."""
    if not (folder / INDEX).exists():
        return [SINGLE], None
    if (folder / SINGLE).exists():
        raise BadCheckpoint(f"{folder.resolve().name}: {SINGLE} and {INDEX} are both there")
    owner = read_json(inside(folder, INDEX)).get("weight_map")
    if not isinstance(owner, dict) or not all(isinstance(name, str) for name in owner.values()):
        raise BadCheckpoint(f"{INDEX}: weight_map must map tensor names to file names")
    for name in [*owner, *owner.values()]:
        check_name(name, INDEX)
    names = sorted(set(owner.values()))
    for name in names:
        if Path(name).suffix != ".safetensors":
            raise refuse_pickle(name)
    return names, owner


def _stored_names(architecture: Architecture) -> dict[str, str]:
    """Map canonical names to Hugging Face's."""
    names = {"embedding": "model.embed_tokens.weight", "norm": "model.norm.weight"}
    if not architecture.tied:
        names["head"] = "lm_head.weight"
    for layer in range(architecture.layers):
        for name, stored in STORED.items():
            names[f"layers.{layer}.{name}"] = f"model.layers.{layer}.{stored}.weight"
    return names
