"""PEFT folders: what is read, one line for everything that is refused, and the library itself."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft_folder import random_factors, stored_name, write_peft
from reference_logits import (
    narrowed,
    sample_config,
    sample_ids,
    sample_tensors,
    write_folder,
    write_gguf,
)

from intaglio.architecture import Architecture
from intaglio.checkpoint import FloatModel, open_checkpoint
from intaglio.checkpoint.huggingface import STORED, read_architecture
from intaglio.checkpoint.peft import FloatAdapter, Merged, open_peft
from intaglio.checkpoint.tensors import MATRICES, tensor_shapes
from intaglio.errors import BadCheckpoint, BadInput, IntaglioError, UnsupportedModel

MERGE = r" \(merge it into its model with peft's merge_and_unload\(\) and compile that\)"
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
EVERY = [f"{STORED[name].split('.')[1]}" for name in MATRICES]


@pytest.fixture(scope="module")
def architecture() -> Architecture:
    return read_architecture(sample_config())


def opened(folder: Path, architecture: Architecture, **options: Any) -> FloatAdapter:
    """Write a folder and open it. ``tensors``: default random factors of all matrices."""
    tensors = options.pop("tensors", None)
    if tensors is None:
        tensors = random_factors(architecture)
    return open_peft(write_peft(folder, tensors, **options), architecture)


def refused(
    folder: Path,
    architecture: Architecture,
    message: str,
    error: type[IntaglioError] = BadCheckpoint,
    **options: Any,
) -> None:
    with pytest.raises(error, match=f"^{message}$") as caught:
        opened(folder, architecture, **options)
    assert "\n" not in str(caught.value)


# --- what is read


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_every_factor_is_read_exactly(tmp_path, architecture, dtype):
    tensors = random_factors(architecture)
    adapter = opened(tmp_path / "mine", architecture, tensors=tensors, dtype=dtype)
    assert adapter.source == "mine"
    assert list(adapter.parts) == [(layer, name) for layer in range(2) for name in MATRICES]
    for (layer, name), part in adapter.parts.items():
        for factor, array in (("A", part.down), ("B", part.up)):
            raw = narrowed(tensors[stored_name(layer, name, factor)], dtype)
            wide = (raw.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else raw
            np.testing.assert_array_equal(array, wide.astype(np.float32))
        assert (part.rank, part.scale) == (4, 2.0)


def test_the_scale_is_alpha_over_rank(tmp_path, architecture):
    plain = opened(tmp_path / "a", architecture, lora_alpha=6)
    root = opened(tmp_path / "b", architecture, lora_alpha=6, use_rslora=True)
    assert {part.scale for part in plain.parts.values()} == {1.5}
    assert {part.scale for part in root.parts.values()} == {3.0}


def test_patterns_change_rank_and_alpha(tmp_path, architecture):
    tensors = random_factors(architecture, {"q": 2, "v": 7, "up": 7}, [0])
    tensors |= random_factors(architecture, {"q": 3, "v": 7, "up": 7}, [1])
    adapter = opened(
        tmp_path, architecture, tensors=tensors, r=7, lora_alpha=14,
        target_modules=["q_proj", "v_proj", "up_proj"],
        rank_pattern={r"layers\.0\..*q_proj": 2, "self_attn.q_proj": 3, "_proj": 1},
        alpha_pattern={"^model.layers.1.mlp.up_proj": 3.5, "v_proj": -7},
    )  # fmt: skip
    assert {key: (part.rank, part.scale) for key, part in adapter.parts.items()} == {
        (0, "q"): (2, 7.0), (0, "v"): (7, -1.0), (0, "up"): (7, 2.0),
        (1, "q"): (3, 14 / 3), (1, "v"): (7, -1.0), (1, "up"): (7, 0.5),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"target_modules": ["q_proj", "self_attn.v_proj"]}, "0q 0v 1q 1v"),
        ({"target_modules": ["model.layers.1.mlp.down_proj"]}, "1down"),
        ({"target_modules": ["k_proj", "query_key_value"]}, "0k 1k"),
        ({"target_modules": r".*\.1\.self_attn\.[qk]_proj"}, "1q 1k"),
        ({"target_modules": "all-linear", "exclude_modules": ["mlp.up_proj"]}, "all but up"),
        ({"target_modules": "all-linear", "exclude_modules": r".*\.0\..*"}, "all of 1"),
        ({"target_modules": ["o_proj"], "layers_to_transform": 1}, "1o"),
        ({"target_modules": ["o_proj"], "layers_to_transform": [0]}, "0o"),
        ({"target_modules": ["o_proj"], "layers_to_transform": []}, "0o 1o"),
        ({"target_modules": ["o_proj"], "layers_to_transform": [0], "layers_pattern": "layers"},
         "0o"),
    ],
)  # fmt: skip
def test_targets_are_those_of_peft(tmp_path, architecture, changes, keys):
    wanted = {
        "all but up": [(layer, name) for layer in range(2) for name in MATRICES if name != "up"],
        "all of 1": [(1, name) for name in MATRICES],
    }.get(keys) or [(int(key[0]), key[1:]) for key in keys.split(" ")]
    tensors = {
        stored: array
        for stored, array in random_factors(architecture).items()
        if any(stored == stored_name(*key, factor) for key in wanted for factor in "AB")
    }
    assert list(opened(tmp_path, architecture, tensors=tensors, **changes).parts) == wanted


def test_old_configs_have_fewer_keys(tmp_path, architecture):
    write_peft(tmp_path, random_factors(architecture, {"q": 8, "v": 8}))
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"],
              "bias": "none", "enable_lora": None, "merge_weights": False}  # fmt: skip
    (tmp_path / CONFIG).write_text(json.dumps(config))
    adapter = open_peft(tmp_path, architecture)
    assert {part.scale for part in adapter.parts.values()} == {2.0}


def test_the_content_hash_is_of_both_files(tmp_path, architecture):
    first = opened(tmp_path / "a", architecture).content_hash
    assert opened(tmp_path / "other name", architecture).content_hash == first
    (tmp_path / "a" / "README.md").write_text("another card")
    assert open_peft(tmp_path / "a", architecture).content_hash == first
    changed = opened(tmp_path / "b", architecture, lora_alpha=9).content_hash
    tensors = random_factors(architecture, seed=1)
    others = opened(tmp_path / "c", architecture, tensors=tensors).content_hash
    assert len({first, changed, others}) == 3


def test_merged_weights_have_the_product_added(tmp_path, architecture):
    config = sample_config()
    model = open_checkpoint(write_folder(tmp_path / "model", config, sample_tensors(config)))
    tensors = random_factors(architecture, {"k": 4, "down": 4}, [1])
    adapter = opened(
        tmp_path / "adapter", architecture, tensors=tensors, layers_to_transform=[1],
        target_modules=["k_proj", "down_proj"],
    )  # fmt: skip
    merged = Merged(model, adapter)
    assert merged.architecture == model.architecture
    for name in tensor_shapes(architecture):
        want = model.tensor(name).astype(np.float64)
        if name in ("layers.1.k", "layers.1.down"):
            a, b = (tensors[stored_name(1, name.split(".")[2], factor)] for factor in "AB")
            want = want + 8 / 4 * (b.astype(np.float64) @ a)
        np.testing.assert_array_equal(merged.tensor(name), want.astype(np.float32))


@pytest.mark.parametrize("name", MATRICES)
def test_rows_are_those_of_hugging_face_in_a_gguf_file_too(tmp_path, architecture, name):
    """GGUF has q and k in another order on disk; an adapter is always in that of Hugging Face."""
    config = sample_config()
    tensors = sample_tensors(config)
    factors = random_factors(architecture, {name: 4})
    adapter = opened(
        tmp_path / "adapter", architecture, tensors=factors,
        target_modules=[STORED[name].split(".")[1]],
    )  # fmt: skip
    for layer in range(2):
        a, b = (factors[stored_name(layer, name, factor)] for factor in "AB")
        tensors[f"model.layers.{layer}.{STORED[name]}.weight"] += 2.0 * b @ a
    want = FloatModel(open_checkpoint(write_folder(tmp_path / "by hand", config, tensors)))
    plain = open_checkpoint(write_gguf(tmp_path / "tiny.gguf", config, sample_tensors(config)))
    ids = sample_ids()
    got = FloatModel(Merged(plain, adapter)).logits(ids)
    np.testing.assert_allclose(got, want.logits(ids), rtol=0, atol=1e-4)
    assert np.abs(got - FloatModel(plain).logits(ids)).max() > 0.1


# --- what is refused


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("use_dora", True, "False, not True"),
        ("bias", "all", "'none', not 'all'"),
        ("bias", "lora_only", "'none', not 'lora_only'"),
        ("lora_bias", True, "False, not True"),
        ("modules_to_save", ["lm_head"], r"None or \[\], not \['lm_head'\]"),
        ("peft_type", "LOHA", "'LORA', not 'LOHA'"),
        ("peft_type", None, "'LORA', not None"),
        ("fan_in_fan_out", True, "False, not True"),
        ("init_lora_weights", "pissa",
         "True or False or 'gaussian' or 'eva' or 'orthogonal', not 'pissa'"),
        ("init_lora_weights", "loftq",
         "True or False or 'gaussian' or 'eva' or 'orthogonal', not 'loftq'"),
        ("trainable_token_indices", [1, 2], r"None or \[\], not \[1, 2\]"),
        ("target_parameters", ["experts"], r"None or \[\], not \['experts'\]"),
        ("layer_replication", [[0, 2]], r"None, not \[\[0, 2\]\]"),
        ("alora_invocation_tokens", [5], r"None, not \[5\]"),
        ("use_qalora", True, "False, not True"),
        ("kasa_config", {"a": 1}, r"None, not \{'a': 1\}"),
        ("use_bdlora", {"a": 1}, r"None or False, not \{'a': 1\}"),
        ("use_dora", 0, "False, not 0"),
    ],
)  # fmt: skip
def test_more_than_lora_is_refused_by_name(tmp_path, architecture, key, value, expected):
    message = f"adapter_config.json: {key} must be {expected}{MERGE}"
    refused(tmp_path, architecture, message, UnsupportedModel, **{key: value})


def test_unknown_keys_are_refused_by_name(tmp_path, architecture):
    message = rf"adapter_config.json: unknown key 'use\\nnew' with value 'x+\.\.\.{MERGE}"
    refused(tmp_path, architecture, message, UnsupportedModel, **{"use\nnew": "x" * 99})


@pytest.mark.parametrize(
    "targets", [["q_proj", "lm_head"], ["lm_head"], "lm_.*", ["embed_tokens", "q_proj"], ".*"]
)
def test_other_modules_are_refused_by_name(tmp_path, architecture, targets):
    module = "model.embed_tokens" if "embed_tokens" in targets else "lm_head"
    message = (
        r"adapter_config.json: target_modules must be among q_proj, k_proj, v_proj, o_proj, "
        rf"gate_proj, up_proj and down_proj, not {module}{MERGE}"
    )
    refused(tmp_path, architecture, message, UnsupportedModel, target_modules=targets)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": ["c_attn"]}, "target_modules name no matrix of the model"),
        ({"target_modules": ["proj", "_proj"]}, "target_modules name no matrix of the model"),
        ({"target_modules": []}, "target_modules name no matrix of the model"),
        ({"layers_to_transform": [9]}, "target_modules name no matrix of the model"),
        ({"layers_to_transform": [0], "layers_pattern": ["h"]},
         "target_modules name no matrix of the model"),
        ({"layers_to_transform": ["0"]}, r"layers_to_transform must be integers, not \['0'\]"),
        ({"layers_to_transform": [0], "layers_pattern": 3},
         "layers_pattern must be a list of names or a pattern, not 3"),
        ({"target_modules": None}, "target_modules must be a list of names or a pattern, not None"),
        ({"target_modules": [1]},
         r"target_modules must be a list of names or a pattern, not \[1\]"),
        ({"exclude_modules": 7}, "exclude_modules must be a list of names or a pattern, not 7"),
        ({"target_modules": "("}, "target_modules has an invalid pattern: .*"),
        ({"rank_pattern": {"(": 3}}, "rank_pattern has an invalid pattern: .*"),
        ({"rank_pattern": [3]}, r"rank_pattern must be an object, not \[3\]"),
        ({"rank_pattern": {"q_proj": 0}}, "rank must be a positive integer, not 0"),
        ({"r": 4.0}, r"rank must be a positive integer, not 4\.0"),
        ({"r": True}, "rank must be a positive integer, not True"),
        ({"lora_alpha": "8"}, "lora_alpha must be a number up to 65504, not '8'"),
        ({"lora_alpha": 1e9}, r"lora_alpha must be a number up to 65504, not 1000000000\.0"),
        ({"use_rslora": 1}, "use_rslora must be true or false, not 1"),
    ],
)  # fmt: skip
def test_configs_that_are_wrong(tmp_path, architecture, changes, message):
    refused(tmp_path, architecture, f"adapter_config.json: {message}", **changes)


def test_ranks_above_64(tmp_path, architecture):
    legal = random_factors(architecture, {"q": 64})
    opened(tmp_path / "64", architecture, tensors=legal, r=64, target_modules=["q_proj"])
    message = (
        r"adapter_config.json: rank of model\.layers\.0\.self_attn\.q_proj must be at most 64, "
        rf"not 65{MERGE}"
    )
    tensors = random_factors(architecture, {"q": 65})
    refused(
        tmp_path / "65", architecture, message, UnsupportedModel, tensors=tensors, r=4,
        target_modules=["q_proj"], rank_pattern={"q_proj": 65},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tensor", "meaning"),
    [
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "DoRA"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "an adapter of an embedding"),
        ("base_model.model.lm_head.modules_to_save.weight", "a module saved whole"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", "a bias"),
        ("base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias", "a bias"),
    ],
)
def test_tensors_of_more_than_lora_are_refused_by_name(tmp_path, architecture, tensor, meaning):
    tensors = random_factors(architecture) | {tensor: np.zeros(4, np.float32)}
    message = f"{TENSORS}: tensor {tensor} must be a LoRA factor, is {meaning}{MERGE}"
    refused(tmp_path, architecture, message, UnsupportedModel, tensors=tensors)


@pytest.mark.parametrize(
    "tensor",
    [
        "base_model.model.lm_head.weight",
        "base_model.model.lm_head.lora_A.weight",
        "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
    ],
)
def test_unexpected_tensors(tmp_path, architecture, tensor):
    tensors = random_factors(architecture) | {tensor: np.zeros((4, 32), np.float32)}
    refused(tmp_path, architecture, f"{TENSORS}: unexpected tensor {tensor}", tensors=tensors)


def test_tensors_and_config_must_agree(tmp_path, architecture):
    extra, missing = stored_name(1, "v", "A"), stored_name(0, "k", "B")
    tensors = random_factors(architecture)
    refused(
        tmp_path / "a", architecture,
        f"{TENSORS}: tensor {extra} is not called for by adapter_config.json",
        tensors={extra: tensors[extra]}, target_modules=["k_proj"],
    )  # fmt: skip
    del tensors[missing]
    refused(
        tmp_path / "b", architecture,
        f"{TENSORS}: missing tensor {missing}, called for by adapter_config.json", tensors=tensors,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "shape", "expected"),
    [("A", (4, 33), "[4, 32]"), ("A", (5, 32), "[4, 32]"), ("B", (16, 5), "[16, 4]"),
     ("B", (4, 16), "[16, 4]"), ("A", (128,), "[4, 32]")],
)  # fmt: skip
def test_other_shapes(tmp_path, architecture, factor, shape, expected):
    tensor = stored_name(0, "k", factor)
    tensors = random_factors(architecture) | {tensor: np.zeros(shape, np.float32)}
    expected = expected.replace("[", r"\[").replace("]", r"\]")
    found = str(list(shape)).replace("[", r"\[").replace("]", r"\]")
    message = f"{TENSORS}: tensor {tensor} must have shape {expected}, not {found}"
    refused(tmp_path, architecture, message, tensors=tensors)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30])
def test_values_that_are_no_weights(tmp_path, architecture, value):
    tensors, tensor = random_factors(architecture), stored_name(1, "o", "B")
    tensors[tensor][3, 2] = value
    message = f"{TENSORS}: tensor {tensor} must be from -65504 to 65504 and finite"
    refused(tmp_path, architecture, message, tensors=tensors)


def test_files_that_are_missing(tmp_path, architecture):
    with pytest.raises(BadInput, match=r"^adapter must be a PEFT folder, not '.*/none'$"):
        open_peft(tmp_path / "none", architecture)
    folder = write_peft(tmp_path / "mine", random_factors(architecture))
    (folder / TENSORS).unlink()
    missing = rf"^mine: {TENSORS} must be a file and is missing$"
    with pytest.raises(BadCheckpoint, match=missing):
        open_peft(folder, architecture)
    (folder / "adapter_model.bin").write_bytes(b"not opened")
    with pytest.raises(
        UnsupportedModel,
        match=r"^adapter_model\.bin is a pickle, which can run code when it is opened \(",
    ):
        open_peft(folder, architecture)
    (folder / CONFIG).unlink()
    missing = rf"^mine: {CONFIG} must be a file and is missing$"
    with pytest.raises(BadCheckpoint, match=missing):
        open_peft(folder, architecture)


def test_files_that_are_no_adapter(tmp_path, architecture):
    folder = write_peft(tmp_path, random_factors(architecture))
    raw = (folder / TENSORS).read_bytes()
    (folder / TENSORS).write_bytes(raw[:-1])
    with pytest.raises(BadCheckpoint, match=rf"^{TENSORS}: data must be .* bytes long"):
        open_peft(folder, architecture)
    (folder / CONFIG).write_text("{}")
    with pytest.raises(BadCheckpoint, match=r"^adapter_config\.json: peft_type is missing$"):
        open_peft(folder, architecture)
    (folder / CONFIG).write_text("[")
    with pytest.raises(BadCheckpoint, match=r"^adapter_config\.json must be valid JSON: "):
        open_peft(folder, architecture)


def test_a_link_that_leaves_the_folder(tmp_path, architecture):
    folder = write_peft(tmp_path / "mine", random_factors(architecture))
    (folder / TENSORS).rename(tmp_path / "elsewhere")
    (folder / TENSORS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadCheckpoint, match=rf"^mine: {TENSORS} is a link that leaves the folder"):
        open_peft(folder, architecture)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_folder_is_read_or_refused(tmp_path_factory, data):
    architecture = read_architecture(sample_config())
    tensors = random_factors(architecture, {"q": 1}, [0])
    folder = write_peft(
        tmp_path_factory.mktemp("damaged"), tensors, r=1, target_modules=["q_proj"],
        layers_to_transform=[0],
    )  # fmt: skip
    path = folder / data.draw(st.sampled_from([CONFIG, TENSORS]))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, min(len(raw), 1500) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))])
    with contextlib.suppress(IntaglioError):
        open_peft(folder, architecture)


# --- the library


@pytest.mark.peer
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": "all-linear"},
        {"target_modules": EVERY, "use_rslora": True, "lora_alpha": 5},
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
        {"target_modules": r".*\.0\..*(q|down)_proj"},
        {"target_modules": EVERY, "exclude_modules": ["k_proj", "layers.1.mlp.up_proj"]},
        {"target_modules": EVERY, "rank_pattern": {"q_proj": 6, "layers.1.mlp.up_proj": 3},
         "alpha_pattern": {"^model.layers.0.self_attn.v_proj": 3}},
        {"target_modules": ["o_proj", "gate_proj"], "init_lora_weights": "gaussian", "r": 64},
        {"target_modules": ["k_proj"], "modules_to_save": []},
    ],
)  # fmt: skip
def test_folders_that_peft_wrote(tmp_path, options):
    """The library writes the folder and computes the logits."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    torch.manual_seed(2)
    config = sample_config()
    folder = write_folder(tmp_path / "model", config, sample_tensors(config))
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = peft.get_peft_model(
        model, peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **options})
    )
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:  # peft starts them at zero
                parameter.normal_(0, 0.2)
    theirs.save_pretrained(tmp_path / "adapter")
    ids = sample_ids()
    with torch.no_grad():
        want = theirs.eval()(torch.tensor(ids[None])).logits[0].numpy()
    checkpoint = open_checkpoint(folder)
    adapter = open_peft(tmp_path / "adapter", checkpoint.architecture)
    got = FloatModel(Merged(checkpoint, adapter)).logits(ids)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    assert np.abs(got - FloatModel(checkpoint).logits(ids)).max() > 0.01
