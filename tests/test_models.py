"""The shipped models: complete, small, consistent, and evaluated on text they never saw."""

import inspect
import json
import runpy
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "src" / "intaglio" / "models"
NAMES = ("bundled-float", "bundled")
LIMIT = 5 * 10**6


def corpus():
    return SimpleNamespace(**runpy.run_path(str(ROOT / "models" / "corpus.py")))


def config(name):
    return json.loads((SHIPPED / name / "config.json").read_text())


def expected_shapes(config):
    width, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head
    shapes = {
        "model.embed_tokens.weight": (config["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    for index in range(config["num_hidden_layers"]):
        layer = {
            "input_layernorm": (width,),
            "self_attn.q_proj": (queries, width),
            "self_attn.k_proj": (keys, width),
            "self_attn.v_proj": (keys, width),
            "self_attn.o_proj": (width, queries),
            "post_attention_layernorm": (width,),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }
        shapes |= {f"model.layers.{index}.{part}.weight": shape for part, shape in layer.items()}
    return shapes


@pytest.mark.parametrize("name", NAMES)
def test_folder_is_complete_and_small(name):
    files = {path.name: path.stat().st_size for path in (SHIPPED / name).iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert sum(files.values()) <= LIMIT


@pytest.mark.parametrize("name", NAMES)
def test_tensors_agree_with_the_config(name):
    tensors = load_file(SHIPPED / name / "model.safetensors")
    assert {key: value.shape for key, value in tensors.items()} == expected_shapes(config(name))
    for key, value in tensors.items():
        assert value.dtype == np.float16, key
        assert np.isfinite(value).all(), key


@pytest.mark.parametrize("name", NAMES)
def test_dimensions_fit_the_chip(name):
    found = config(name)
    for key in ("vocab_size", "hidden_size", "intermediate_size", "head_dim"):
        assert found[key] % 16 == 0, key
    assert found["head_dim"] == 32


@pytest.mark.parametrize("name", NAMES)
def test_tokenizer_agrees_with_the_config(name):
    tokenizer, found = Tokenizer.from_file(str(SHIPPED / name / "tokenizer.json")), config(name)
    assert tokenizer.get_vocab_size() == found["vocab_size"]
    assert tokenizer.id_to_token(found["eos_token_id"]) == "<|endoftext|>"
    assert tokenizer.encode("<|endoftext|>").ids == [found["eos_token_id"]]


@pytest.mark.parametrize("name", NAMES)
def test_tokenizer_gives_source_back(name):
    tokenizer = Tokenizer.from_file(str(SHIPPED / name / "tokenizer.json"))
    sources = [inspect.getsource(module) for module in (json, textwrap)]
    for text in [*sources, "\t é\r\n𝄞 \x00\x7f\n\n  "]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_both_models_share_a_tokenizer():
    first, second = ((SHIPPED / name / "tokenizer.json").read_bytes() for name in NAMES)
    assert first == second


def test_held_out_rule_depends_on_the_path_alone():
    rule = corpus().is_held_out
    chosen = {
        name for name in ("traceback.py", "secrets.py", "ast.py", "json/decoder.py") if rule(name)
    }
    assert chosen == {"traceback.py", "secrets.py"}
    share = np.mean([rule(f"folder/{index}.py") for index in range(10_000)])
    assert share == pytest.approx(0.05, abs=0.01)


def test_held_out_files_are_library_source_and_not_trained_on(tmp_path):
    for name in ("traceback.py", "ast.py", "test/test_ast.py", "site-packages/traceback.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {name}\n")
    module = corpus()
    library, tests = module.training(tmp_path)
    assert module.held_out(tmp_path) == {"traceback.py": "# traceback.py\n"}
    assert set(library) == {"ast.py"}
    assert set(tests) == {"test/test_ast.py"}


@pytest.mark.parametrize("name", NAMES)
def test_card_states_quality_data_and_licence(name):
    card = (SHIPPED / name / "README.md").read_text()
    for needed in ("Bits per byte", "PSF licence", "held out", "seed"):
        assert needed in card, needed
    assert "$" not in card
