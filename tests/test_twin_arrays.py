"""The twin on arrays: whole runs, in any blocks and batches, equal ``golden``'s."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from array_devices import DEVICES, every_device, exact_bytes, functions, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from random_model import random_architecture, random_model

from intaglio.golden.forward import Golden
from intaglio.golden.model import IntModel, Matrix
from intaglio.golden.number import Widths
from intaglio.golden.sample import Sampling, sample
from intaglio.twin import arrays as engine_module
from intaglio.twin.arrays import ArrayEngine
from intaglio.twin.namespace import ByteProduct, NumpyArrays, TorchArrays

MIXED = {"bits": {"q": 3, "gate": 2, "up": 3}, "extras": {"v": 1.0, "k": 0.25, "down": 0.1}}


def engine_of(model: IntModel, device: str | None, context: int | None = None) -> ArrayEngine:
    functions(device)
    return ArrayEngine(model, context or model.architecture.context, device)


def run(engine: ArrayEngine, sequence: Any, tokens: np.ndarray, position: int = 0) -> np.ndarray:
    """Logits of consecutive tokens of one sequence."""
    rows = np.arange(len(tokens))
    return engine.forward([sequence] * len(tokens), tokens, position + rows, rows)


def golden_logits(model: IntModel, tokens: np.ndarray) -> np.ndarray:
    golden = Golden(model)
    return golden.logits(golden.residual(tokens))


def loud(model: IntModel) -> IntModel:
    """The same model with outputs so large that everything saturates, as far as shifts allow."""
    least = {"o": 16 - model.widths.attention, "down": 32 - model.widths.product}

    def louder(name: str, matrix: Matrix) -> Matrix:
        more = 11 if name in ("gate", "head") else 7
        shift = np.maximum(matrix.shift.astype(int) - more, least.get(name, 0))
        return replace(matrix, shift=shift.astype(np.uint8))

    layers = tuple(
        replace(layer, **{name: louder(name, matrix) for name, matrix in layer.matrices()})
        for layer in model.layers
    )
    return replace(model, layers=layers, head=louder("head", model.head))


SHAPES = {
    "default": {},
    "odd": {"width": 17, "inner": 23, "heads": 6, "kv_heads": 2, "head_width": 6, "layers": 3},
    "one head": {"heads": 1, "kv_heads": 1, "head_width": 2, "width": 5, "inner": 3, "layers": 1},
    "no groups": {"heads": 3, "kv_heads": 3, "head_width": 16, "width": 48, "inner": 80},
    "wide heads": {"heads": 4, "kv_heads": 1, "head_width": 130, "width": 40, "layers": 1},
}
ACTIVATIONS = {
    "default": Widths(),
    "odd": Widths(norm=6, query=16, attention=16, product=16),
    "one head": Widths(norm=12, query=5, attention=5, product=4),
    "no groups": Widths(norm=4, query=4, attention=4, product=9),
    "wide heads": Widths(norm=16, query=13, attention=9, product=12),
}


@every_device
@pytest.mark.parametrize("saturated", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_golden(device, shape, saturated):
    model = random_model(4, random_architecture(**SHAPES[shape]), ACTIVATIONS[shape], **MIXED)
    model = loud(model) if saturated else model
    tokens = np.random.default_rng(0).integers(0, 96, 32)
    engine = engine_of(model, device)
    got = run(engine, engine.sequence(), tokens)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, golden_logits(model, tokens))


NAMES = ("q", "k", "v", "o", "gate", "up", "down", "head")
width = st.integers(4, 16)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1 << 20),
    st.builds(Widths, width, width, width, width),
    st.fixed_dictionaries({name: st.integers(2, 4) for name in NAMES}),
    st.fixed_dictionaries({name: st.sampled_from([0, 0.1, 0.5, 1.0]) for name in NAMES}),
    st.sampled_from(sorted(SHAPES)),
    st.booleans(),
)
def test_any_model_equals_golden(seed, widths, bits, extras, shape, saturated):
    model = random_model(seed, random_architecture(**SHAPES[shape]), widths, bits, extras)
    model = loud(model) if saturated else model
    tokens = np.random.default_rng(seed).integers(0, 96, 12)
    engine = engine_of(model, None)
    np.testing.assert_array_equal(
        run(engine, engine.sequence(), tokens), golden_logits(model, tokens)
    )


@pytest.mark.peer
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_by_byte_products_equal_golden(monkeypatch, shape):
    """What a GPU runs, on the CPU."""
    monkeypatch.setattr(
        TorchArrays, "product", lambda self, matrix, bits: ByteProduct(self, matrix, bits)
    )
    model = random_model(5, random_architecture(**SHAPES[shape]), ACTIVATIONS[shape], **MIXED)
    tokens = np.random.default_rng(0).integers(0, 96, 32)
    with exact_bytes():
        engine = engine_of(model, "cpu")
        assert isinstance(engine.head.product, ByteProduct)
        got = run(engine, engine.sequence(), tokens)
    np.testing.assert_array_equal(got, golden_logits(model, tokens))


@pytest.fixture(scope="module")
def model() -> IntModel:
    return random_model(3, random_architecture(context=300), **MIXED)


@pytest.fixture(scope="module")
def prompt() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 96, 290)


@pytest.fixture(scope="module")
def whole(model, prompt) -> np.ndarray:
    return golden_logits(model, prompt)


@pytest.fixture(scope="module", params=DEVICES)
def engine(request, model) -> ArrayEngine:
    return engine_of(model, request.param)


def test_name_and_size(engine, model):
    """Every weight is a float of 32 bits, or of 64 in PyTorch; constants are int64."""
    assert engine.name in ("numpy", "torch cpu", "torch cuda")
    a, matrices = model.architecture, [matrix for _, matrix in model.matrices()]
    held = 16 * sum(m.outputs for m in matrices) + 4 * a.head_width
    held += a.vocabulary * (a.width + 8)
    weights = sum(m.codes.size for m in matrices)
    if engine.name == "numpy":
        assert engine.weight_bytes == held + 4 * weights
    if engine.name == "torch cpu":
        assert engine.weight_bytes == held + 8 * weights


def test_a_long_prompt_at_once_equals_golden(engine, prompt, whole):
    """More rows than run together, more positions than a memory begins with."""
    assert len(prompt) > 2 * NumpyArrays.rows
    np.testing.assert_array_equal(run(engine, engine.sequence(), prompt), whole)


def test_small_steps_of_attention_and_head_equal_golden(engine, prompt, whole, monkeypatch):
    monkeypatch.setattr(engine_module, "SCORES", 4 * 290 * 7)
    monkeypatch.setattr(engine_module, "LOGITS", 96 * 5)
    np.testing.assert_array_equal(run(engine, engine.sequence(), prompt), whole)
    monkeypatch.setattr(engine_module, "SCORES", 1)
    monkeypatch.setattr(engine_module, "LOGITS", 1)
    np.testing.assert_array_equal(run(engine, engine.sequence(), prompt[:40]), whole[:40])


def test_token_by_token_equals_golden(engine, prompt, whole):
    sequence = engine.sequence()
    for at in range(80):
        np.testing.assert_array_equal(run(engine, sequence, prompt[at : at + 1], at)[0], whole[at])


@settings(max_examples=10, deadline=None)
@given(cuts=st.sets(st.integers(1, 289), max_size=6))
def test_any_partition_of_a_prompt_gives_the_same(engine, prompt, whole, cuts):
    sequence, edges = engine.sequence(), [0, *sorted(cuts), len(prompt)]
    parts = [run(engine, sequence, prompt[a:b], a) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_mixed_batches_equal_golden(engine, prompt, whole, rng):
    """Pieces of four sequences, their rows shuffled together, with and without logits."""
    lengths, done = rng.integers(1, 90, 4), np.zeros(4, int)
    sequences = [engine.sequence() for _ in lengths]
    while (done < lengths).any():
        ends = np.minimum(done + rng.integers(0, 40, 4), lengths)
        owner = rng.permutation(np.repeat(np.arange(4), ends - done))
        positions = np.array([done[o] + (owner[:at] == o).sum() for at, o in enumerate(owner)], int)
        wanted = np.flatnonzero(rng.random(len(owner)) < 0.5)
        rows = [sequences[at] for at in owner]
        got = engine.forward(rows, prompt[positions], positions, wanted)
        np.testing.assert_array_equal(got, whole[positions[wanted]])
        done = ends


def test_nothing_asked_is_nothing_given(engine, prompt):
    none, zero, sequence = np.zeros(0, np.int64), np.zeros(1, np.int64), engine.sequence()
    assert engine.forward([], none, none, none).shape == (0, 96)
    assert engine.decode([], none, none, [], 3).shape == (3, 0)
    assert engine.forward([sequence], prompt[:1], zero, none).shape == (0, 96)
    assert engine.decode([sequence], prompt[:1], zero, [Sampling()], 0).shape == (0, 1)


def test_rewinding_forgets(engine, prompt, whole):
    sequence = engine.sequence()
    run(engine, sequence, prompt[:50])
    run(engine, sequence, prompt[100:110], 20)
    np.testing.assert_array_equal(run(engine, sequence, prompt[20:30], 20), whole[20:30])


@pytest.mark.parametrize("length", [0, 1, 30, 64, 65, 120])
def test_a_fork_goes_its_own_way(engine, prompt, whole, length):
    sequence = engine.sequence()
    run(engine, sequence, prompt[:120])
    other = sequence.fork(length)
    run(engine, other, np.roll(prompt, 7)[length : length + 5], length)
    np.testing.assert_array_equal(run(engine, sequence, prompt[120:125], 120), whole[120:125])
    np.testing.assert_array_equal(
        run(engine, other, prompt[length : length + 5], length), whole[length : length + 5]
    )


def golden_tokens(model: IntModel, prompt: np.ndarray, count: int, sampling: Sampling) -> list[int]:
    """The tokens that ``golden`` writes after ``prompt``."""
    golden, tokens = Golden(model), prompt.tolist()
    x = golden.residual(prompt)[-1:]
    for _ in range(count):
        at = len(tokens) - 1
        tokens.append(sample(golden.logits(x)[0], sampling, at))
        x = golden.residual(np.array(tokens[-1:]), at + 1)
    return tokens[len(prompt) :]


def test_decode_of_a_batch_equals_golden(engine, model, prompt):
    """Unlike lengths and settings together: greedy ones, and seeds."""
    lengths = [1, 9, 60, 33, 9]
    samplings = [
        Sampling(), Sampling.of(1.0, seed=1), Sampling.of(0.8, 0, 0.9, seed=1 << 63),
        Sampling.of(2.0, 40, seed=12345678901), Sampling.of(1.0, seed=2),
    ]  # fmt: skip
    sequences = [engine.sequence() for _ in lengths]
    for sequence, length in zip(sequences, lengths, strict=True):
        run(engine, sequence, prompt[: length - 1])
    positions = np.array(lengths) - 1
    got = engine.decode(sequences, prompt[positions], positions, samplings, 12)
    assert got.dtype == np.int32
    want = [
        golden_tokens(model, prompt[:length], 12, sampling)
        for length, sampling in zip(lengths, samplings, strict=True)
    ]
    assert got.T.tolist() == want
    again = engine.decode(sequences, prompt[positions], positions, samplings, 12)
    np.testing.assert_array_equal(again, got)


def test_decode_of_more_sequences_than_run_together(engine, prompt, monkeypatch):
    monkeypatch.setattr(engine.arrays, "rows", 3)
    monkeypatch.setattr(engine_module, "LOGITS", 96 * 2)
    samplings = [Sampling.of(1.5, seed=seed) for seed in range(8)]
    lengths, sequences = np.arange(8), [engine.sequence() for _ in range(8)]
    for length, sequence in zip(lengths, sequences, strict=True):
        run(engine, sequence, prompt[:length])
    together = engine.decode(sequences, prompt[:8], lengths, samplings, 4)
    for at in range(8):
        one = slice(at, at + 1)
        alone = engine.decode(sequences[one], prompt[one], lengths[one], samplings[one], 4)
        np.testing.assert_array_equal(alone, together[:, one])


def test_decode_to_the_last_position(model, prompt):
    """A context that is no power of two: the memory grows to it and no further."""
    engine = engine_of(model, None, context=70)
    sequence = engine.sequence()
    run(engine, sequence, prompt[:60])
    got = engine.decode([sequence], prompt[60:61], np.array([60]), [Sampling()], 10)
    assert got[:, 0].tolist() == golden_tokens(model, prompt[:61], 10, Sampling())
    assert sequence.positions == 70
