"""Tiny random Llama checkpoints, made from a seed, and the script that made their logits.

``python tests/reference_logits.py`` writes ``tests/data/reference_logits.npz`` with the logits of
transformers' LlamaForCausalLM, one array per case; it needs the ``peer`` extra. The tests make
the same checkpoints again and compare.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from intaglio.checkpoint.vocabulary import byte_alphabet

REFERENCE = Path(__file__).parent / "data" / "reference_logits.npz"
TOKENS = 24
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("Ġ", "Ġ"), ("1", "2"))
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip

# name: changes of the configuration, number format, shards
CASES: dict[str, tuple[dict[str, Any], str, int]] = {
    "tied": ({"tie_word_embeddings": True}, "F32", 1),
    "untied": ({"num_key_value_heads": 1}, "BF16", 3),
    "llama3": ({"rope_scaling": LLAMA3, "head_dim": 12, "rms_norm_eps": 1e-3}, "F16", 1),
}


def sample_config(**changes: Any) -> dict[str, Any]:
    """A config.json as transformers 4 writes it; any key can be changed."""
    config = {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "eos_token_id": 0,
        "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02,
        "intermediate_size": 64, "max_position_embeddings": 64, "mlp_bias": False,
        "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_scaling": None,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "float32",
        "use_cache": True, "vocab_size": 320,
    }  # fmt: skip
    return {**config, **changes}


def sample_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 weights by Hugging Face's names, lively enough that logits differ."""
    rng = np.random.default_rng(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or width // config["num_attention_heads"]
    query, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head

    def matrix(outputs: int, inputs: int) -> np.ndarray:
        return (rng.standard_normal((outputs, inputs)) * 1.5 / inputs**0.5).astype(np.float32)

    def gain() -> np.ndarray:
        return rng.uniform(0.5, 1.5, width).astype(np.float32)

    tensors = {"model.embed_tokens.weight": matrix(config["vocab_size"], width)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        tensors |= {
            f"{prefix}input_layernorm.weight": gain(),
            f"{prefix}self_attn.q_proj.weight": matrix(query, width),
            f"{prefix}self_attn.k_proj.weight": matrix(kv, width),
            f"{prefix}self_attn.v_proj.weight": matrix(kv, width),
            f"{prefix}self_attn.o_proj.weight": matrix(width, query),
            f"{prefix}post_attention_layernorm.weight": gain(),
            f"{prefix}mlp.gate_proj.weight": matrix(inner, width),
            f"{prefix}mlp.up_proj.weight": matrix(inner, width),
            f"{prefix}mlp.down_proj.weight": matrix(width, inner),
        }
    tensors["model.norm.weight"] = gain()
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = matrix(config["vocab_size"], width)
    return tensors


def sample_ids(count: int = TOKENS) -> np.ndarray:
    """Random token ids."""
    return np.random.default_rng(7).integers(0, 320, count)


def sample_tokenizer() -> tokenizers.Tokenizer:
    """A byte-level tokenizer: three control tokens, 256 bytes, six merges."""
    tokens = [*SPECIALS, *byte_alphabet(), *(left + right for left, right in MERGES)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, list(MERGES)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    backend.decoder = decoders.ByteLevel()  # pyright: ignore
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    return backend


def write_folder(
    folder: Path,
    config: dict[str, Any],
    tensors: dict[str, np.ndarray],
    dtype: str = "F32",
    shards: int = 1,
) -> Path:
    """Write a Hugging Face folder: config, weights in ``dtype`` over ``shards``, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    sample_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>", "chat_template": TEMPLATE})
    )
    names = sorted(tensors)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return folder
    owner = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        write_safetensors(folder / file, part, dtype)
        owner |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": owner}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], dtype: str = "F32") -> None:
    """Write float32 arrays in another number format."""
    header, data = {}, b""
    for name, array in tensors.items():
        start, data = len(data), data + narrowed(array, dtype).tobytes()
        header[name] = {
            "dtype": dtype, "shape": list(array.shape), "data_offsets": [start, len(data)]
        }  # fmt: skip
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def narrowed(array: np.ndarray, dtype: str) -> np.ndarray:
    """Round float32 to the number format; BF16 as its upper 16 bits, nearest even."""
    if dtype != "BF16":
        return array.astype({"F32": np.float32, "F16": np.float16}[dtype])
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def gguf_metadata(config: dict[str, Any]) -> dict[str, Any]:
    """The keys of a GGUF file for a configuration and the sample tokenizer."""
    tokens = sorted(sample_tokenizer().get_vocab().items(), key=lambda item: item[1])
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.block_count": config["num_hidden_layers"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "llama.rope.freq_base": config["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [token for token, _ in tokens],
        "tokenizer.ggml.token_type": [3 if token in SPECIALS else 1 for token, _ in tokens],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in MERGES],
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }


def write_gguf(
    path: Path,
    config: dict[str, Any],
    tensors: dict[str, np.ndarray],
    kind: str = "F32",
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Write a GGUF file by the gguf package: matrices in ``kind``, q and k in GGUF's row order."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in (metadata or gguf_metadata(config)).items():
        if key != "general.architecture":
            _add(writer, key, value)
    heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
    for name, array in tensors.items():
        stem = name.removeprefix("model.layers.").removesuffix(".weight")
        layer, _, rest = stem.partition(".")
        target = (
            f"blk.{layer}.{GGUF_NAMES[rest]}" if layer.isdigit() else GGUF_NAMES.get(stem, stem)
        )
        for letter, count in heads.items():
            if rest == f"self_attn.{letter}_proj":
                halves = array.reshape(count, 2, -1, config["hidden_size"])
                array = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)
        _add_tensor(writer, f"{target}.weight", array, kind if array.ndim == 2 else "F32")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32,
           str: writer.add_string, list: writer.add_array}[type(value)]  # fmt: skip
    add(key, value)


def _add_tensor(writer: gguf.GGUFWriter, name: str, array: np.ndarray, kind: str) -> None:
    quantised = gguf.quants.quantize(array, gguf.GGMLQuantizationType[kind])
    writer.add_tensor(name, quantised, raw_dtype=gguf.GGMLQuantizationType[kind])


def write_case(folder: Path, name: str) -> Path:
    """Write the folder of one of :data:`CASES`."""
    changes, dtype, shards = CASES[name]
    config = sample_config(**changes)
    return write_folder(folder, config, sample_tensors(config), dtype, shards)


def main() -> None:
    """Compute the reference logits with transformers in float32."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import AutoModelForCausalLM  # pyright: ignore[reportMissingImports]

    logits = {}
    for name in CASES:
        with TemporaryDirectory() as place:
            folder = write_case(Path(place), name)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            with torch.no_grad():
                logits[name] = model(torch.tensor(sample_ids()[None])).logits[0].numpy()
    np.savez(REFERENCE, **logits)


if __name__ == "__main__":
    main()
