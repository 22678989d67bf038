"""The float reference: against committed logits of transformers and a plain definition."""

import dataclasses
import math

import numpy as np
import pytest
from reference_logits import (
    CASES,
    REFERENCE,
    sample_config,
    sample_ids,
    sample_tensors,
    write_case,
    write_folder,
)

from intaglio.architecture import RopeScaling
from intaglio.checkpoint import FloatModel, forward, open_checkpoint, rope_frequencies
from intaglio.checkpoint.huggingface import read_architecture


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    config = sample_config()
    folder = tmp_path_factory.mktemp("forward")
    return open_checkpoint(write_folder(folder, config, sample_tensors(config)))


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers(tmp_path, name):
    with np.load(REFERENCE) as reference:
        expected = reference[name]
    logits = FloatModel(open_checkpoint(write_case(tmp_path, name))).logits(sample_ids())
    assert (logits.dtype, logits.shape) == (np.float32, (24, 320))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(logits.argmax(axis=1), expected.argmax(axis=1))


def plain_attention(query, key, value):
    """The definition, one position and one head at a time, in float64."""
    count, heads, width = query.shape
    group = heads // key.shape[1]
    output = np.zeros((count, heads, width))
    for position in range(count):
        for head in range(heads):
            keys = key[: position + 1, head // group].astype(np.float64)
            weights = np.exp(keys @ query[position, head] / math.sqrt(width))
            output[position, head] = weights / weights.sum() @ value[: position + 1, head // group]
    return output.reshape(count, -1)


@pytest.mark.parametrize("block", [1, 3, 8, 64])
def test_attention_does_not_depend_on_its_blocks(monkeypatch, block):
    rng = np.random.default_rng(0)
    query, key, value = (
        rng.standard_normal((19, heads, 8)).astype(np.float32) for heads in (6, 2, 2)
    )
    monkeypatch.setattr(forward, "QUERY_BLOCK", block)
    expected = plain_attention(query, key, value)
    np.testing.assert_allclose(forward.attend(query, key, value), expected, atol=1e-6)


def test_a_position_does_not_see_its_future(tiny):
    model, ids = FloatModel(tiny), sample_ids()
    changed = ids.copy()
    changed[12:] = (changed[12:] + 1) % 320
    before, after = model.logits(ids), model.logits(changed)
    np.testing.assert_allclose(before[:12], after[:12], atol=1e-5)
    assert np.abs(before[12] - after[12]).max() > 0.1


def test_the_cache_changes_nothing(tiny):
    ids = sample_ids()
    np.testing.assert_array_equal(
        FloatModel(tiny).logits(ids), FloatModel(tiny, cache=False).logits(ids)
    )


def test_taps_hand_out_what_the_matrices_take(tiny):
    seen = {}
    ids = sample_ids()
    logits = FloatModel(tiny).logits(ids, lambda layer, name, x: seen.update({(layer, name): x}))
    shapes = {
        "attention_input": (24, 32), "query": (24, 4, 8), "key": (24, 2, 8), "value": (24, 2, 8),
        "attention_output": (24, 32), "mlp_input": (24, 32), "down_input": (24, 64),
        "residual": (24, 32),
    }  # fmt: skip
    expected = {(layer, name): shape for layer in (0, 1) for name, shape in shapes.items()}
    expected |= {(-1, "residual"): (24, 32), (2, "head_input"): (24, 32)}
    assert {key: array.shape for key, array in seen.items()} == expected
    assert all(array.dtype == np.float32 for array in seen.values())

    def times(layer: int, name: str, array: np.ndarray) -> np.ndarray:
        return array @ tiny.tensor(f"layers.{layer}.{name}").T

    for layer in (0, 1):
        value = times(layer, "v", seen[layer, "attention_input"])
        np.testing.assert_allclose(value, seen[layer, "value"].reshape(24, -1), atol=1e-5)
        gate, up = (times(layer, name, seen[layer, "mlp_input"]) for name in ("gate", "up"))
        inner = gate / (1 + np.exp(-gate)) * up
        np.testing.assert_allclose(inner, seen[layer, "down_input"], atol=1e-5)
        added = times(layer, "o", seen[layer, "attention_output"]) + times(layer, "down", inner)
        after = seen[layer - 1, "residual"] + added
        np.testing.assert_allclose(after, seen[layer, "residual"], atol=1e-5)
    head = seen[2, "head_input"] @ tiny.tensor("head").T
    np.testing.assert_allclose(head, logits, atol=1e-5)


def test_altered_weights_can_be_passed(tiny):
    class Altered:
        architecture = tiny.architecture

        def tensor(self, name: str) -> np.ndarray:
            return tiny.tensor(name) * np.float32(2 if name == "head" else 1)

    ids = sample_ids()
    np.testing.assert_array_equal(
        FloatModel(Altered()).logits(ids), 2 * FloatModel(tiny).logits(ids)
    )


def test_rotary_turns_halves():
    cosine, sine = np.zeros((1, 1, 2), np.float32), np.ones((1, 1, 2), np.float32)
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 4)
    np.testing.assert_array_equal(forward.rotate(x, cosine, sine), [[[-2, -3, 0, 1]]])


def test_rotary_frequencies():
    plain = read_architecture(sample_config())
    np.testing.assert_allclose(rope_frequencies(plain), [1, 0.1, 0.01, 0.001])
    scaling = RopeScaling(8.0, 1.0, 4.0, 64)
    scaled = rope_frequencies(dataclasses.replace(plain, rope_scaling=scaling))
    turns = 64 * 0.1 / (2 * math.pi)  # the second pair lies between 1 and 4 turns
    kept = (turns - 1) / 3
    np.testing.assert_allclose(
        scaled, [1, 0.1 * ((1 - kept) / 8 + kept), 0.01 / 8, 0.001 / 8], rtol=1e-12
    )


@pytest.mark.parametrize("x", [-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4])
def test_silu_is_stable(x):
    expected = x / (1 + math.exp(-x)) if x > -700 else 0.0
    assert forward.silu(np.array([x], np.float32))[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1, 2]], r"ids must be integers \[T\], not int64 \[1, 2\]"),
        ([0.5], r"ids must be integers \[T\], not float64 \[1\]"),
        ([320], "ids must be 0 to 319, not 320 to 320"),
        ([-1], "ids must be 0 to 319, not -1 to -1"),
        ([0] * 65, "ids must be 1 to 64 tokens, not 65"),
        (np.zeros(0, int), "ids must be 1 to 64 tokens, not 0"),
    ],
)
def test_ids_are_checked(tiny, ids, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        FloatModel(tiny).logits(np.array(ids))
