"""GGUF files: what is read, and one line for everything that is refused."""

import contextlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_logits import (
    gguf_metadata,
    sample_config,
    sample_ids,
    sample_tensors,
    write_folder,
    write_gguf,
)

from intaglio.architecture import RopeScaling
from intaglio.checkpoint import FloatModel, open_checkpoint
from intaglio.checkpoint.gguf import SUPPORTED, GgufFile
from intaglio.errors import BadCheckpoint, IntaglioError, UnsupportedModel

CONFIG = sample_config()


def write(path: Path, kind: str = "F32", tensors: Any = None, **changes: Any) -> Path:
    """Write the sample model; a key that is changed to None is left out."""
    metadata = gguf_metadata(CONFIG) | changes
    metadata = {key: value for key, value in metadata.items() if value is not None}
    return write_gguf(path, CONFIG, tensors or sample_tensors(CONFIG), kind, metadata)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same model as a Hugging Face folder."""
    place = tmp_path_factory.mktemp("gguf") / "tiny"
    return open_checkpoint(write_folder(place, CONFIG, sample_tensors(CONFIG)))


def assert_refused(path: Path, message: str, error: type[IntaglioError]) -> None:
    with pytest.raises(error, match=message) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_the_same_model_as_the_folder(tmp_path, folder):
    checkpoint = open_checkpoint(write(tmp_path / "tiny.gguf"))
    assert checkpoint.architecture == folder.architecture
    assert checkpoint.source == "tiny (from F32)"
    for name in checkpoint.shapes:
        np.testing.assert_array_equal(checkpoint.tensor(name), folder.tensor(name))
    ids = sample_ids()
    np.testing.assert_array_equal(
        FloatModel(checkpoint).logits(ids), FloatModel(folder).logits(ids)
    )


@pytest.mark.parametrize("kind", SUPPORTED)
def test_every_number_format(tmp_path, folder, kind):
    checkpoint = open_checkpoint(write(tmp_path / "tiny.gguf", kind))
    steps = {"F32": 0, "F16": 2**-11, "BF16": 2**-8, "Q8_0": 1 / 200, "Q4_0": 1 / 8, "Q4_1": 1 / 15}
    for name, shape in checkpoint.shapes.items():
        found, exact = checkpoint.tensor(name), folder.tensor(name)
        assert (found.dtype, found.shape) == (np.float32, shape)
        bound = steps[kind] * np.abs(exact).max(axis=-1, keepdims=True) * (len(shape) == 2)
        assert (np.abs(found - exact) <= bound * 1.01).all(), name


def test_the_header_agrees_with_the_reader_of_the_gguf_package(tmp_path):
    path = write(tmp_path / "tiny.gguf", "Q4_1")
    ours, theirs = GgufFile(path), gguf.GGUFReader(path)
    names = [name for name in theirs.fields if not name.startswith("GGUF.")]
    assert list(ours.metadata) == names
    for name in names:
        found = ours.metadata[name]
        assert found == (pytest.approx(theirs.fields[name].contents()) if isinstance(found, float)
                         else theirs.fields[name].contents())  # fmt: skip
    assert list(ours.entries) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        exact = gguf.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(ours.tensor(tensor.name), exact)


def test_a_tied_head(tmp_path):
    tensors = sample_tensors(CONFIG)
    del tensors["lm_head.weight"]
    checkpoint = open_checkpoint(write(tmp_path / "tiny.gguf", tensors=tensors))
    assert checkpoint.architecture.tied
    np.testing.assert_array_equal(checkpoint.tensor("head"), checkpoint.tensor("embedding"))


def factors(scaling: RopeScaling) -> np.ndarray:
    """What converters write: transformers' formula, frequency by frequency."""
    low, high, context = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_context
    values = []
    for frequency in 500000.0 ** -(np.arange(0, 8, 2) / 8):
        wavelength = 2 * np.pi / frequency
        smooth = (context / wavelength - low) / (high - low)
        if wavelength < context / high:
            values.append(1.0)
        elif wavelength > context / low:
            values.append(scaling.factor)
        else:
            values.append(1 / ((1 - smooth) / scaling.factor + smooth))
    return np.array(values, np.float32)


def write_scaled(path: Path, values: np.ndarray) -> Path:
    tensors = sample_tensors(CONFIG) | {"rope_freqs": values}
    return write(path, "F32", tensors, **{"llama.rope.freq_base": 500000.0})


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_scaling_of_llama3_is_recognised(tmp_path, factor):
    scaling = RopeScaling(factor, 1.0, 4.0, 8192)
    path = write_scaled(tmp_path / "tiny.gguf", factors(scaling))
    assert open_checkpoint(path).architecture.rope_scaling == scaling


@pytest.mark.parametrize(
    "values",
    [
        factors(RopeScaling(8.0, 1.0, 2.0, 8192)) * np.array([1, 1, 1.1, 1], np.float32),
        np.ones(4, np.float32),
        np.array([1, 1, np.nan, 8], np.float32),
        factors(RopeScaling(8.0, 1.0, 4.0, 8192))[:3],
    ],
)
def test_other_scalings_are_refused(tmp_path, values):
    path = write_scaled(tmp_path / "tiny.gguf", values)
    assert_refused(path, "tensor rope_freqs.weight must be Llama 3's scaling", UnsupportedModel)


UNSUPPORTED = [
    ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type must be 'none', not 'yarn'"),
    ({"llama.rope.scaling.factor": 2.0}, "llama.rope.scaling.factor must be 1.0, not 2.0"),
    ({"llama.rope.scaling.yarn_log_multiplier": 0.1}, "unknown key 'llama.rope.scaling.yarn_log"),
    ({"llama.attention.sliding_window": 512}, "unknown key 'llama.attention.sliding_window'"),
    ({"llama.expert_count": 8}, "llama.expert_count must be 0, not 8"),
    ({"llama.logit_scale": 0.5}, "llama.logit_scale must be 1.0, not 0.5"),
    ({"llama.rope.dimension_count": 4}, "llama.rope.dimension_count must be the head width 8"),
    ({"llama.attention.value_length": 4}, "llama.attention.value_length must be the head width 8"),
    ({"llama.embedding_length": 33}, "must be a multiple of llama.attention.head_count 4, not 33"),
    ({"general.type": "adapter"}, "general.type must be 'model', not 'adapter'"),
    ({"general.quantization_version": 1}, "general.quantization_version must be 2, not 1"),
    ({"split.count": 3}, "split.count must be 0 or 1, not 3"),
    ({"vendor.key": 1}, "unknown key 'vendor.key'"),
    ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model must be 'gpt2', not 'llama'"),
    ({"tokenizer.ggml.pre": "qwen2"}, "pre must be one of smollm, gpt-2, llama-bpe, not 'qwen2'"),
    ({"tokenizer.ggml.pre": None}, "tokenizer.ggml.pre must be one of .*, not None"),
    ({"tokenizer.ggml.add_eos_token": True}, "add_eos_token must be False, not True"),
    ({"tokenizer.ggml.magic": 1}, "unknown key 'tokenizer.ggml.magic'"),
]  # fmt: skip
BAD = [
    ({"llama.block_count": None}, "llama.block_count must be a positive integer, not None"),
    ({"llama.block_count": 3}, "missing tensor blk.2.attn_norm.weight, of the last layer"),
    ({"llama.block_count": 1}, "unexpected tensor blk.1.attn_k.weight"),
    ({"llama.vocab_size": 999}, r"token_embd.weight must have shape \[999, 32\], not \[320, 32\]"),
    ({"llama.attention.head_count_kv": [2, 2]}, "head_count_kv must be a positive integer"),
    ({"llama.rope.freq_base": "x"}, "llama.rope.freq_base must be a finite number, not 'x'"),
    ({"llama.rope.freq_base": float("inf")}, "llama.rope.freq_base must be a finite number"),
    ({"general.alignment": 48}, "general.alignment must be a power of two, not 48"),
    ({"tokenizer.ggml.tokens": ["a", "a"], "tokenizer.ggml.token_type": [1, 1]}, "not repeat"),
    ({"tokenizer.ggml.token_type": [1, 1]}, "must be of one length, not 265 and 2"),
    ({"tokenizer.ggml.merges": ["a"]}, r"merges must be pairs of tokens, not \('a',\)"),
    ({"tokenizer.ggml.merges": [1]}, "merges must be a list of str values"),
    ({"tokenizer.ggml.tokens": 5}, "tokens must be a list of str values"),
    ({"tokenizer.ggml.tokens": None}, "one length, not 0 and 265"),
    ({"tokenizer.ggml.token_type": "x"}, "token_type must be a list of int values"),
    ({"tokenizer.chat_template": 1}, "tokenizer.chat_template must be text"),
    ({"a\nb": 1}, r"names must be printable, not 'a\\nb'"),
    ({"tokenizer.ggml.merges": ["x q"]}, "merges do not fit the tokens"),
    ({"tokenizer.ggml.merges": None}, "merges must be pairs of tokens"),
    ({"tokenizer.ggml.eos_token_id": 999}, "eos_token_id must be a token id below 265, not 999"),
    ({"tokenizer.ggml.add_bos_token": True}, "bos_token_id must be a token id below 265, not No"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message", "error"),
    [(*case, UnsupportedModel) for case in UNSUPPORTED] + [(*case, BadCheckpoint) for case in BAD],
)
def test_a_key_is_refused(tmp_path, changes, message, error):
    assert_refused(write(tmp_path / "tiny.gguf", **changes), message, error)


def test_other_families_are_refused(tmp_path):
    raw = write(tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "tiny.gguf").write_bytes(
        raw.replace(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0gemma")
    )
    message = "tiny.gguf: general.architecture must be 'llama', not 'gemma'"
    assert_refused(tmp_path / "tiny.gguf", message, UnsupportedModel)


@pytest.mark.parametrize("kind", ["Q5_0", "Q4_K", "IQ4_NL", "F64"])
def test_other_formats_are_refused_by_name(tmp_path, monkeypatch, kind):
    def add(writer, name, array, _):
        writer.add_tensor(name, array, raw_dtype=gguf.GGMLQuantizationType[kind])

    tensors = {"model.embed_tokens.weight": np.zeros((256, 256), np.float32)}
    monkeypatch.setattr("reference_logits._add_tensor", add)
    message = f"token_embd.weight must be one of F32, F16, BF16, Q8_0, Q4_0, Q4_1, not {kind}"
    assert_refused(write(tmp_path / "tiny.gguf", tensors=tensors), message, UnsupportedModel)


def test_missing_tensors_are_named(tmp_path):
    tensors = sample_tensors(CONFIG)
    for name, stored in [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight"),
    ]:
        rest = {key: array for key, array in tensors.items() if key != name}
        path = write(tmp_path / "tiny.gguf", tensors=rest)
        assert_refused(path, f"tiny.gguf: missing tensor {stored}", BadCheckpoint)
    path = write(
        tmp_path / "tiny.gguf",
        tensors=tensors | {"blk.0.attn_q.bias": tensors["model.norm.weight"]},
    )
    assert_refused(path, "tiny.gguf: unexpected tensor blk.0.attn_q.bias", BadCheckpoint)


def test_damaged_files(tmp_path):
    path = write(tmp_path / "tiny.gguf")
    raw = path.read_bytes()
    for text, message, error in [
        (raw[:10], "must be a GGUF file, is shorter than its header", BadCheckpoint),
        (b"GGML" + raw[4:], "must be a GGUF file, begins with b'GGML'", BadCheckpoint),
        (raw[:4] + b"\1\0\0\0" + raw[8:], "version must be 2 or 3, .* not 1", UnsupportedModel),
        (raw[:4] + b"\0\0\0\3" + raw[8:], "version must be 2 or 3", UnsupportedModel),
        (raw[:500], "the header runs past the end of the file", BadCheckpoint),
        (raw[:8] + b"\xff" * 8 + raw[16:], "runs past the end|begins|UTF-8|twice", BadCheckpoint),
        (raw[:-64], "tensor .* must end at byte .* the file has", BadCheckpoint),
    ]:
        path.write_bytes(text)
        assert_refused(path, message, error)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 8000), byte=st.integers(0, 255), cut=st.booleans())
def test_any_damage_is_an_error_of_ours_or_none(tmp_path, place, byte, cut):
    path = write(tmp_path / "tiny.gguf")
    raw = bytearray(path.read_bytes())
    raw[place] = byte
    path = tmp_path / "damaged.gguf"
    path.write_bytes(raw[: place + 1] if cut else raw)
    with contextlib.suppress(IntaglioError):
        checkpoint = open_checkpoint(path)
        for name in checkpoint.shapes:
            checkpoint.tensor(name)
