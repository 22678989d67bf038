"""Hugging Face folders: what is read, and one line for everything that is refused."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_logits import (
    CASES,
    LLAMA3,
    narrowed,
    sample_config,
    sample_tensors,
    write_case,
    write_folder,
    write_safetensors,
)
from safetensors.numpy import load_file

from intaglio.architecture import RopeScaling
from intaglio.checkpoint import open_checkpoint
from intaglio.checkpoint.huggingface import STORED, read_architecture
from intaglio.checkpoint.safetensors import SafetensorsFile
from intaglio.errors import BadCheckpoint, IntaglioError, UnsupportedModel

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def folder_of(place: Path, **options: Any) -> Path:
    config = sample_config()
    return write_folder(place / "tiny", config, sample_tensors(config), **options)


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_refused(folder: Path, message: str, error: type[IntaglioError] = BadCheckpoint) -> None:
    with pytest.raises(error, match=message) as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)


def widened(array: np.ndarray, dtype: str) -> np.ndarray:
    raw = narrowed(array, dtype)
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_read_exactly(tmp_path, name):
    checkpoint = open_checkpoint(write_case(tmp_path / name, name))
    changes, dtype, _ = CASES[name]
    tensors = sample_tensors(sample_config(**changes))
    stored = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
    if checkpoint.architecture.tied:
        stored["head"] = stored["embedding"]
    for layer in range(2):
        stored |= {f"layers.{layer}.{k}": f"model.layers.{layer}.{v}" for k, v in STORED.items()}
    assert checkpoint.shapes.keys() == stored.keys()
    for canonical, theirs in stored.items():
        array = checkpoint.tensor(canonical)
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, widened(tensors[f"{theirs}.weight"], dtype))
    assert checkpoint.source == f"{name} (from {dtype.lower()})"


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_files_of_the_safetensors_package(tmp_path, dtype):
    write_safetensors(tmp_path / SINGLE, sample_tensors(sample_config()), dtype)
    ours = SafetensorsFile(tmp_path / SINGLE)
    for name, array in load_file(tmp_path / SINGLE).items():
        np.testing.assert_array_equal(ours.tensor(name), array.astype(np.float32))


def test_a_tensor_is_read_only_and_known(tmp_path):
    checkpoint = open_checkpoint(folder_of(tmp_path))
    with pytest.raises(ValueError, match="read-only"):
        checkpoint.tensor("norm")[0] = 1
    with pytest.raises(ValueError, match=r"^tensor must be one of embedding, .*, not 'q'$"):
        checkpoint.tensor("q")


def test_the_hash_depends_on_bytes_alone(tmp_path):
    first, second = folder_of(tmp_path / "a"), folder_of(tmp_path / "b")
    assert open_checkpoint(first).content_hash == open_checkpoint(second).content_hash
    with (second / SINGLE).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x3f")
    assert open_checkpoint(first).content_hash != open_checkpoint(second).content_hash


def test_both_styles_of_rotary_options():
    scaling = RopeScaling(8.0, 1.0, 4.0, 16)
    old = read_architecture(sample_config(rope_scaling=LLAMA3, rope_theta=500000.0))
    legacy = {("type" if key == "rope_type" else key): value for key, value in LLAMA3.items()}
    older = read_architecture(sample_config(rope_scaling=legacy, rope_theta=500000.0))
    config = sample_config(rope_parameters=LLAMA3 | {"rope_theta": 500000.0})
    del config["rope_theta"], config["rope_scaling"]
    assert old == older == read_architecture(config)
    assert (old.rope_base, old.rope_scaling) == (500000.0, scaling)
    plain = sample_config(rope_parameters={"rope_theta": 10000.0, "rope_type": "default"})
    assert read_architecture(plain).rope_scaling is None


def test_defaults_of_llama():
    config = sample_config()
    for key in ("num_key_value_heads", "rms_norm_eps", "rope_theta", "tie_word_embeddings"):
        del config[key]
    architecture = read_architecture(config)
    assert (architecture.kv_heads, architecture.head_width) == (4, 8)
    assert (architecture.norm_epsilon, architecture.rope_base) == (1e-6, 10000.0)
    assert not architecture.tied


UNSUPPORTED = [
    ({"model_type": "qwen2"}, "model_type must be 'llama', not 'qwen2'"),
    ({"model_type": None}, "model_type must be 'llama', not None"),
    ({"architectures": ["MistralForCausalLM"]}, r"architectures must be \['LlamaForCausalLM'\]"),
    ({"hidden_act": "gelu"}, "hidden_act must be 'silu', not 'gelu'"),
    ({"attention_bias": True}, "attention_bias must be False, not True"),
    ({"mlp_bias": True}, "mlp_bias must be False, not True"),
    ({"mlp_bias": 0}, "mlp_bias must be False, not 0"),
    ({"sliding_window": 4096}, "sliding_window must be None, not 4096"),
    ({"layer_types": ["sliding_attention"]}, "layer_types must be None"),
    ({"quantization_config": {"bits": 4}}, "quantization_config must be None, not {'bits': 4}"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor must be None or 1.0, not 0.5"),
    ({"rope_interleaved": True}, "rope_interleaved must be False, not True"),
    ({"auto_map": {"AutoModel": "x.Y"}}, "auto_map must be None"),
    ({"num_experts": 8}, "unknown key 'num_experts' with value 8"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "must be 'default' or 'llama3', not"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "'llama3', not 'linear'"),
    ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'llama3', not 'dynamic'"),
    ({"rope_scaling": {"type": [1]}}, r"'llama3', not \[1\]"),
    ({"rope_scaling": {"rope_type": "default", "factor": 2.0}}, "has unknown key 'factor'"),
    ({"rope_scaling": LLAMA3 | {"beta_fast": 32}}, "'llama3' has unknown key 'beta_fast'"),
    ({"rope_scaling": LLAMA3 | {"partial_rotary_factor": 0.5}}, "partial_rotary_factor must be"),
    ({"rope_scaling": LLAMA3 | {"factor": -1.0}}, "rope_scaling must have factor > 0"),
    ({"rope_scaling": LLAMA3 | {"rope_theta": 5e5}}, "rope_theta and rope_parameters must not"),
    ({"rope_scaling": LLAMA3, "rope_parameters": {"rope_type": "default"}}, "must not differ"),
    ({"rope_scaling": "llama3"}, "rope_scaling must be an object"),
    ({"hidden_size": 33}, "hidden_size must be a multiple of num_attention_heads 4, not 33"),
    ({"num_key_value_heads": 3}, "heads must be a multiple of kv_heads, not 4 and 3"),
    ({"head_dim": 7}, "head_width must be even"),
]  # fmt: skip

BAD = [
    ({"hidden_size": None}, "hidden_size is missing"),
    ({"hidden_size": 32.0}, "hidden_size must be a positive integer, not 32.0"),
    ({"vocab_size": -1}, "vocab_size must be a positive integer, not -1"),
    ({"num_hidden_layers": True}, "num_hidden_layers must be a positive integer, not True"),
    ({"rms_norm_eps": "1e-5"}, "rms_norm_eps must be a finite number, not '1e-5'"),
    ({"rope_theta": 10**400}, "rope_theta must be a finite number"),
    ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false, not 'no'"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is missing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message", "error"),
    [(*case, UnsupportedModel) for case in UNSUPPORTED] + [(*case, BadCheckpoint) for case in BAD],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else "",
)
def test_a_configuration_is_refused(changes, message, error):
    with pytest.raises(error, match=message) as caught:
        read_architecture(sample_config(**changes))
    assert "\n" not in str(caught.value)


def test_bad_json(tmp_path):
    folder = folder_of(tmp_path)
    for text, message in [
        ('{"model_type": ', "config.json must be valid JSON"),
        ("[]", "config.json must be a JSON object, not list"),
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ('{"rms_norm_eps": NaN}', "NaN is not a JSON number"),
        ("[" * 100_000, "config.json must be valid JSON"),
    ]:
        (folder / "config.json").write_text(text)
        assert_refused(folder, message)
    (folder / "config.json").write_bytes(b"\xff\xfe")
    assert_refused(folder, "config.json must be UTF-8")


def test_missing_files(tmp_path):
    for name in ("config.json", "tokenizer.json"):
        folder = folder_of(tmp_path / name)
        (folder / name).unlink()
        assert_refused(folder, f"^tiny: {name} must be a file and is missing$")
    folder = folder_of(tmp_path)
    (folder / SINGLE).unlink()
    assert_refused(folder, "^tiny: model.safetensors or .* is missing$")
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    assert_refused(folder, "pytorch_model.bin is a pickle.*safetensors", UnsupportedModel)


def test_a_pickle_is_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"\x80")
    assert_refused(tmp_path / "model.pt", "model.pt is a pickle", UnsupportedModel)


def rewrite(folder: Path, changes: Mapping[str, np.ndarray] | None = None, drop: str = "") -> None:
    tensors = sample_tensors(sample_config()) | dict(changes or {})
    tensors.pop(drop, None)
    write_safetensors(folder / SINGLE, tensors)


def test_missing_unexpected_and_misshapen_tensors(tmp_path):
    folder = folder_of(tmp_path)
    rewrite(folder, drop="model.layers.1.mlp.up_proj.weight")
    assert_refused(folder, "missing tensor model.layers.1.mlp.up_proj.weight, called for by")
    rewrite(folder, drop="lm_head.weight")
    assert_refused(folder, "missing tensor lm_head.weight")
    rewrite(folder, {"model.layers.0.self_attn.q_proj.bias": np.zeros(32, np.float32)})
    assert_refused(folder, "unexpected tensor model.layers.0.self_attn.q_proj.bias")
    rewrite(folder, {"model.norm.weight": np.zeros(31, np.float32)})
    assert_refused(folder, r"tensor model.norm.weight must have shape \[32\], not \[31\]")
    rewrite(folder)
    change_json(folder / "config.json", num_hidden_layers=10**12)
    assert_refused(folder, "missing tensor model.layers.999999999999.input_layernorm.weight")
    change_json(folder / "config.json", num_hidden_layers=1)
    assert_refused(folder, "unexpected tensor model.layers.1.input_layernorm.weight")


def test_derived_rotary_buffers_are_let_pass(tmp_path):
    folder = folder_of(tmp_path)
    rewrite(folder, {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(4, np.float32)})
    open_checkpoint(folder)


def test_a_tied_head_must_repeat_the_embedding(tmp_path):
    config = sample_config(tie_word_embeddings=True)
    tensors = sample_tensors(config)
    same = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    checkpoint = open_checkpoint(write_folder(tmp_path / "same", config, same))
    np.testing.assert_array_equal(checkpoint.tensor("head"), checkpoint.tensor("embedding"))
    other = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}
    assert_refused(write_folder(tmp_path / "b", config, other), "unexpected tensor lm_head.weight")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_must_be_finite(tmp_path, value):
    folder = folder_of(tmp_path)
    array = sample_tensors(sample_config())["model.layers.1.mlp.down_proj.weight"]
    array[3, 5] = value
    rewrite(folder, {"model.layers.1.mlp.down_proj.weight": array})
    checkpoint = open_checkpoint(folder)
    checkpoint.tensor("layers.0.down")
    message = rf"tensor layers.1.down must be finite, found {value} at \(3, 5\)"
    with pytest.raises(BadCheckpoint, match=message):
        checkpoint.tensor("layers.1.down")


def index_of(folder: Path, **changes: str | None) -> None:
    index = json.loads((folder / INDEX).read_text())
    owner = index["weight_map"] | changes
    index["weight_map"] = {name: file for name, file in owner.items() if file is not None}
    (folder / INDEX).write_text(json.dumps(index))


def test_shards_that_do_not_match_their_index(tmp_path):
    first = "model-00001-of-00003.safetensors"
    cases: list[tuple[dict[str, str | None], str]] = [
        ({"model.norm.weight": first}, "tensor model.norm.weight must be in model-00001"),
        ({"model.norm.weight": None}, "tensor model.norm.weight must be in None, is in"),
        ({"ghost": first}, f"missing tensor ghost, listed in {INDEX}"),
        ({"ghost": "absent.safetensors"}, "absent.safetensors must be a file and is missing"),
        ({"ghost": "../out.safetensors"}, "must stay in the folder, not '../out.safetensors'"),
        ({"ghost": "/out.safetensors"}, "must stay in the folder, not '/out.safetensors'"),
        ({"ghost": "a\\b.safetensors"}, "must stay in the folder"),
    ]
    for number, (changes, message) in enumerate(cases):
        folder = folder_of(tmp_path / str(number), shards=3)
        index_of(folder, **changes)
        assert_refused(folder, message)


def test_odd_indexes(tmp_path):
    folder = folder_of(tmp_path, shards=3)
    index_of(folder, ghost="shard.bin")
    assert_refused(folder, "shard.bin is a pickle", UnsupportedModel)
    for text in ("{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'):
        (folder / INDEX).write_text(text)
        assert_refused(folder, "weight_map must map tensor names to file names")
    rewrite(folder)
    assert_refused(folder, "are both there")


def test_a_tensor_in_two_shards(tmp_path):
    folder = folder_of(tmp_path, shards=3)
    tensors = sample_tensors(sample_config())
    name = "model-00003-of-00003.safetensors"
    stored = SafetensorsFile(folder / name).entries
    both = {key: tensors[key] for key in [*stored, "lm_head.weight"]}
    write_safetensors(folder / name, both)
    assert_refused(folder, f"tensor lm_head.weight is in .* and again in {name}")


def test_links(tmp_path):
    folder = folder_of(tmp_path)
    (folder / SINGLE).rename(tmp_path / "elsewhere")
    (folder / SINGLE).symlink_to(tmp_path / "elsewhere")
    assert_refused(folder, "model.safetensors is a link that leaves the folder.*cp -rL")


def test_the_hugging_face_cache(tmp_path):
    """A snapshot is a folder of links into ``blobs`` of the same model, and into nothing else."""
    written, snapshot = folder_of(tmp_path / "raw"), tmp_path / "snapshots" / "revision"
    (tmp_path / "blobs").mkdir()
    snapshot.mkdir(parents=True)
    for path in written.iterdir():
        path.rename(tmp_path / "blobs" / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    open_checkpoint(snapshot)
    (snapshot / "config.json").unlink()
    (tmp_path / "blobs" / "config.json").rename(tmp_path / "config.json")
    (snapshot / "config.json").symlink_to("../../config.json")
    assert_refused(snapshot, "config.json is a link that leaves the folder")


def header_of(folder: Path, text: bytes, length: int | None = None, data: bytes = b"") -> None:
    size = len(text) if length is None else length
    (folder / SINGLE).write_bytes(size.to_bytes(8, "little") + text + data)


def test_damaged_safetensors(tmp_path):
    folder = folder_of(tmp_path)
    whole = (folder / SINGLE).read_bytes()
    (folder / SINGLE).write_bytes(whole[:-1])
    assert_refused(folder, r"data must be \d+ bytes long, not \d+ \(the file is truncated")
    (folder / SINGLE).write_bytes(whole + b"\0")
    assert_refused(folder, "data must be")
    (folder / SINGLE).write_bytes(whole[:5])
    assert_refused(folder, "must be a safetensors file, has only 5 bytes")
    header_of(folder, b"{}", length=1 << 60)
    assert_refused(folder, "header must fit the file's 10 bytes, claims 1152921504606846976")
    header_of(folder, b'{"a"')
    assert_refused(folder, "model.safetensors header must be valid JSON")


ENTRIES = [
    ('{"a": 1}', "must have dtype, shape and two data_offsets", BadCheckpoint),
    ('{"a": {"dtype": "F32", "shape": [1]}}', "must have dtype, shape", BadCheckpoint),
    ('{"a": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]}}',
     "must be one of F32, F16, BF16, not 'I8'", UnsupportedModel),
    ('{"a": {"dtype": [], "shape": [4], "data_offsets": [0, 4]}}', "not \\[\\]", UnsupportedModel),
    ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
     r"F32 \[2\] must take 8 bytes, not 4", BadCheckpoint),
    ('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}', "non-neg", BadCheckpoint),
    ('{"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}', "non-neg", BadCheckpoint),
    ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
     "must start at byte 0, not 4", BadCheckpoint),
    ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
     ' "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
     "must start at byte 4, not 0", BadCheckpoint),
    ('{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},'
     ' "a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}',
     "duplicate key 'a'", BadCheckpoint),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "error"), ENTRIES)
def test_odd_headers(tmp_path, text, message, error):
    folder = folder_of(tmp_path)
    header_of(folder, text.encode(), data=bytes(8))
    assert_refused(folder, message, error)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 2500), byte=st.integers(0, 255), cut=st.booleans())
def test_any_damage_is_an_error_of_ours_or_none(tmp_path_factory, place, byte, cut):
    folder = folder_of(tmp_path_factory.mktemp("damage"))
    raw = bytearray((folder / SINGLE).read_bytes())
    raw[place] = byte
    (folder / SINGLE).write_bytes(raw[: place + 1] if cut else raw)
    with contextlib.suppress(IntaglioError):
        checkpoint = open_checkpoint(folder)
        for name in checkpoint.shapes:
            checkpoint.tensor(name)
