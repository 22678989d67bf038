"""Twin on the native engine equals ``golden`` whatever the order of what it is asked."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from native_kernels import KERNELS, MIXED, SHAPES, every_kernels, shaped_model
from random_adapter import every_matrix, random_adapter
from random_model import random_architecture, random_model
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from intaglio.errors import BadInput, BadPackage, IntaglioError
from intaglio.golden.adapter import Adapter
from intaglio.golden.forward import Golden
from intaglio.golden.model import IntModel, ModelFile
from intaglio.golden.sample import Sampling, sample
from intaglio.twin.engine import Twin, processors
from intaglio.twin.rows import Sequence

BLOCK = 96  # rows of one pass of the kernels
SAMPLINGS = [
    Sampling(),
    Sampling.of(0.8, 0, 0.95, 1),
    Sampling.of(1.5, 5, 1.0, 2**63 + 7),
    Sampling.of(100, 64, 1.0, 3),
]


def tokens_of(model: IntModel, count: int, seed: int = 0) -> np.ndarray:
    """Random tokens."""
    return np.random.default_rng(seed).integers(0, model.architecture.vocabulary, count)


def wanted_logits(model: IntModel, tokens: Any, adapter: Adapter | None = None) -> np.ndarray:
    """What ``golden`` says after each of the tokens."""
    golden = Golden(model, adapters={} if adapter is None else {"it": adapter})
    x = golden.residual(np.asarray(tokens), adapter=None if adapter is None else "it")
    return golden.logits(x)


def wanted_tokens(
    model: IntModel, tokens: Any, sampling: Sampling, count: int, adapter: Adapter | None = None
) -> list[int]:
    """How ``golden`` goes on after the tokens."""
    golden = Golden(model, adapters={} if adapter is None else {"it": adapter})
    name = None if adapter is None else "it"
    x, position, new = golden.residual(np.asarray(tokens), adapter=name), len(tokens) - 1, []
    while True:
        new.append(sample(golden.logits(x[-1:])[0], sampling, position))
        if len(new) == count:
            return new
        position += 1
        x = golden.residual(np.array(new[-1:]), position, adapter=name)


def same(got: np.ndarray, want: np.ndarray) -> None:
    """Fail unless logits equal the wanted ones and are int32."""
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, want)


# --- one sequence


@every_kernels
@pytest.mark.parametrize("shape", SHAPES)
def test_token_by_token_equals_golden(kernels, shape):
    model = shaped_model(shape)
    tokens, twin = tokens_of(model, 20), Twin(model, kernels=kernels, threads=1)
    want, sequence = wanted_logits(model, tokens), twin.sequence()
    for position, token in enumerate(tokens):
        same(twin.logits([token], sequence, position), want[position : position + 1])
    assert sequence.length == len(tokens)
    assert twin.engine == f"native {kernels}"


LONG = 2 * BLOCK + 40


@cache
def long_case() -> tuple[IntModel, np.ndarray, np.ndarray]:
    """A model, a prompt of three blocks, and its logits."""
    model = shaped_model("odd", context=LONG)
    tokens = tokens_of(model, LONG)
    return model, tokens, wanted_logits(model, tokens)


@every_kernels
@pytest.mark.parametrize(
    "parts",
    [[LONG], [BLOCK, BLOCK, 40], [BLOCK - 1, 1, BLOCK + 1, 39], [1, 2, 3, 4, 5, 6, LONG - 21]],
    ids=str,
)
def test_a_prompt_in_parts_equals_golden(kernels, parts):
    model, tokens, want = long_case()
    twin, position = Twin(model, kernels=kernels, threads=1), 0
    sequence = twin.sequence()
    for count in parts:
        part = slice(position, position + count)
        same(twin.logits(tokens[part], sequence, position), want[part])
        position += count


@every_kernels
def test_rows_wanted_in_any_block_equal_golden(kernels):
    model, tokens, want = long_case()
    twin, rng = Twin(model, kernels=kernels, threads=1), np.random.default_rng(2)
    wishes = [[], [0], [LONG - 1], [BLOCK - 1, BLOCK], [BLOCK, BLOCK + 1], range(5, LONG, 7)]
    wishes += [np.flatnonzero(rng.random(LONG) < share) for share in (0.02, 0.5)]
    for rows in wishes:
        sequence = twin.sequence()
        got = twin.step([sequence] * LONG, tokens, np.arange(LONG), list(rows))
        same(got, want[list(rows)])
        assert got.shape == (len(rows), twin.vocabulary)


def test_the_last_logits_alone_equal_golden():
    model, tokens, want = long_case()
    same(Twin(model).logits(tokens, last=True), want[-1:])


def test_no_tokens_have_no_logits():
    twin = Twin(shaped_model("default"))
    for last in (False, True):
        assert twin.logits([], last=last).shape == (0, twin.vocabulary)


def test_a_shorter_context_is_obeyed():
    model = shaped_model("default")
    twin, tokens = Twin(model, context=17), tokens_of(model, 18)
    same(twin.logits(tokens[:17]), wanted_logits(model, tokens[:17]))
    with pytest.raises(BadInput, match="positions must be from 0 to 16, not 0 to 17"):
        twin.logits(tokens)
    assert Twin(model, context=1000).context == model.architecture.context


def test_threads_are_the_processors_by_default():
    assert Twin(shaped_model("one head")).threads == processors() >= 1


def test_kernels_must_be_there():
    with pytest.raises(BadInput, match=r"kernels must be one of .*portable, which this"):
        Twin(shaped_model("one head"), kernels="avx9")


# --- many sequences: any history


TOKENS = 40


@cache
def history_case(shape: str) -> tuple[IntModel, dict[str, Adapter]]:
    """A model with adapters: of all matrices, of few, of a rank above any other."""
    model = shaped_model(shape, context=TOKENS)
    some = [key for key in every_matrix(model) if key[1] in ("q", "down")]
    return model, {
        "all": random_adapter(model, 1),
        "some": random_adapter(model, 2, matrices=some, rank=1),
        "wide": random_adapter(model, 3, matrices=every_matrix(model)[:3], rank=64),
    }


@cache
def history_twin(shape: str, kernels: str) -> Twin:
    model, adapters = history_case(shape)
    return Twin(model, kernels=kernels, threads=1, adapters=adapters)


class Histories(RuleBasedStateMachine):
    """Sequences that begin, go on together, fork and go back, beside what each has read."""

    @initialize(
        shape=st.sampled_from(["default", "odd", "no groups"]), kernels=st.sampled_from(KERNELS)
    )
    def begin(self, shape: str, kernels: str) -> None:
        self.model, self.adapters = history_case(shape)
        self.twin = history_twin(shape, kernels)
        self.read: dict[Sequence, list[int]] = {}
        self.another(None)
        self.another("all")

    def want(self, sequence: Sequence, tokens: list[int]) -> np.ndarray:
        return wanted_logits(self.model, tokens, self.adapters.get(sequence.adapter or ""))

    @precondition(lambda self: len(self.read) < 6)
    @rule(adapter=st.sampled_from([None, "all", "some", "wide"]))
    def another(self, adapter: str | None) -> None:
        self.read[self.twin.sequence(adapter)] = []

    @precondition(lambda self: len(self.read) < 6)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(list(self.read)))
        length = data.draw(st.integers(0, sequence.length))
        copy = sequence.fork(length)
        assert (copy.length, copy.adapter) == (length, sequence.adapter)
        self.read[copy] = self.read[sequence][:length]

    @rule(seed=st.integers(0, 1 << 32))
    def step(self, seed: int) -> None:
        """Rows of some sequences in any order, from where they are or from earlier on."""
        rng = np.random.default_rng(seed)
        rows: list[tuple[Sequence, int]] = []
        for sequence in self.read:
            first = int(rng.integers(sequence.length + 1)) if rng.random() < 0.4 else -1
            first = sequence.length if first < 0 else first
            count = int(rng.choice([0, 1, 1, 2, 5, 12]))
            places = range(first, min(first + count, TOKENS))
            self.read[sequence] = self.read[sequence][: first if places else None]
            rows += [(sequence, place) for place in places]
        order = list(rng.permutation([list(self.read).index(s) for s, _ in rows]).astype(int))
        queues = {i: [row for row in rows if row[0] is s] for i, s in enumerate(self.read)}
        rows = [queues[index].pop(0) for index in order]
        tokens = tokens_of(self.model, len(rows), seed)
        for (sequence, _), token in zip(rows, tokens.tolist(), strict=True):
            self.read[sequence].append(token)
        wanted = np.flatnonzero(rng.random(len(rows)) < 0.5)
        got = self.twin.step([s for s, _ in rows], tokens, [place for _, place in rows], wanted)
        logits = {s: self.want(s, self.read[s]) for s in {rows[row][0] for row in wanted}}
        for line, row in zip(got, wanted, strict=True):
            sequence, place = rows[row]
            same(line, logits[sequence][place])
        assert [s.length for s in self.read] == [len(read) for read in self.read.values()]

    @rule(seed=st.integers(0, 1 << 32), count=st.integers(0, 6))
    def decode(self, seed: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        there = [s for s, read in self.read.items() if 0 < len(read) <= TOKENS - count]
        batch = [there[i] for i in rng.permutation(len(there))[: rng.integers(4)]]
        samplings = [SAMPLINGS[i] for i in rng.integers(0, len(SAMPLINGS), len(batch))]
        last, places = [self.read[s][-1] for s in batch], [s.length - 1 for s in batch]
        got = self.twin.decode(batch, last, places, samplings, count)
        assert got.shape == (count, len(batch))
        assert got.dtype == np.int32
        for new, sequence, sampling in zip(got.T, batch, samplings, strict=True):
            read = self.read[sequence]
            logits = self.want(sequence, [*read, *new[:-1].tolist()])[len(read) - 1 :]
            want = [sample(row, sampling, len(read) - 1 + i) for i, row in enumerate(logits)]
            assert new.tolist() == want[:count]
            read += new[:-1].tolist()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)


# --- threads


@cache
def large_case() -> tuple[IntModel, dict[str, Adapter], np.ndarray, dict[str | None, np.ndarray]]:
    """A model of which even one row is worth several threads; tokens, their logits by adapter."""
    architecture = random_architecture(
        width=512, inner=1024, heads=8, kv_heads=2, head_width=64, vocabulary=1000, context=160
    )
    model = random_model(6, architecture, **MIXED)
    assert sum(matrix.codes.size for _, matrix in model.matrices()) > 4 << 20
    adapters = {"all": random_adapter(model, 1), "wide": random_adapter(model, 2, rank=64)}
    tokens = tokens_of(model, 110)
    want = {name: wanted_logits(model, tokens, adapters.get(name or "")) for name in (None, "all")}
    return model, adapters, tokens, want


@cache
def large_twin(threads: int, kernels: str = KERNELS[0]) -> Twin:
    model, adapters, _, _ = large_case()
    return Twin(model, threads=threads, kernels=kernels, adapters=adapters)


@every_kernels
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_equal_golden(kernels, threads):
    """One row, PRIVATE rows and one more, a block and one more, with and without an adapter."""
    _, _, tokens, wants = large_case()
    twin = large_twin(threads, kernels)
    for adapter, want in wants.items():
        sequence = twin.sequence(adapter)
        for first, last in ((0, 1), (1, 5), (5, 10), (10, 107), (107, 110)):
            got = twin.logits(tokens[first:last], sequence, first)
            same(got, want[first:last])


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_mixed_rows_on_threads_equal_golden(threads):
    _, _, tokens, wants = large_case()
    twin, rng = large_twin(threads), np.random.default_rng(threads)
    sequences = [twin.sequence(adapter) for adapter in (None, "all", None)]
    lengths, done = np.array([60, 30, 10]), np.zeros(3, int)
    twin.prefill(sequences[0], tokens[:20])
    done[0] = 20
    order = rng.permutation(np.repeat(np.arange(3), lengths - done))
    places = [int(done[i]) + int((order[:row] == i).sum()) for row, i in enumerate(order)]
    wanted = np.flatnonzero(rng.random(len(order)) < 0.3)
    got = twin.step([sequences[i] for i in order], tokens[places], places, wanted)
    for line, row in zip(got, wanted, strict=True):
        same(line, wants[sequences[order[row]].adapter][places[row]])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sequences_decoded_together_on_threads_equal_golden(threads):
    model, adapters, tokens, _ = large_case()
    twin = large_twin(threads)
    cases = [(None, 7, SAMPLINGS[0]), ("all", 3, SAMPLINGS[1]), ("wide", 1, SAMPLINGS[2])]
    sequences = [twin.sequence(name) for name, _, _ in cases]
    for sequence, (_, length, _) in zip(sequences, cases, strict=True):
        twin.prefill(sequence, tokens[: length - 1])
    last, places = [int(tokens[length - 1]) for _, length, _ in cases], [6, 2, 0]
    got = twin.decode(sequences, last, places, [how for _, _, how in cases], 5)
    want = [
        wanted_tokens(model, tokens[:length], how, 5, adapters.get(name or ""))
        for name, length, how in cases
    ]
    assert got.T.tolist() == want


def test_callers_on_several_threads_get_their_own_logits():
    _, _, tokens, wants = large_case()
    twin, want, wrong = large_twin(2), wants[None], []

    def call(first: int) -> None:
        sequence = twin.sequence()
        for position in range(first, first + 8):
            got = twin.logits(tokens[: position + 1], sequence, last=True)
            if not np.array_equal(got[0], want[position]):
                wrong.append(position)

    callers = [threading.Thread(target=call, args=(first,)) for first in (0, 4, 8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def in_a_child(check: Callable[[], None]) -> int:
    """Status with which a forked child exits after the check: 0 where nothing failed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_computes_and_makes_twins_of_its_own():
    model, _, tokens, wants = large_case()
    twins = [Twin(model, threads=3)]
    sequence = twins[0].sequence()
    twins[0].prefill(sequence, tokens[:20])

    def check() -> None:
        same(twins[0].logits(tokens[20:30], sequence, 20), wants[None][20:30])
        new = Twin(model, threads=3)  # its threads can get the handles of the parent's
        same(new.logits(tokens[:10]), wants[None][:10])
        twins.clear()
        gc.collect()
        same(new.logits(tokens[:10]), wants[None][:10])
        del new
        gc.collect()

    assert in_a_child(check) == 0
    assert in_a_child(lambda: same(twins[0].logits(tokens[:9]), wants[None][1:10])) != 0
    same(twins[0].logits(tokens[20:30], sequence, 20), wants[None][20:30])


# --- generation


@every_kernels
@pytest.mark.parametrize("sampling", SAMPLINGS[:3], ids=["greedy", "sampled", "five"])
def test_generation_across_its_chunks_equals_golden(kernels, sampling):
    model, _, _ = long_case()
    twin = Twin(model, kernels=kernels, threads=1)
    tokens, sequence = tokens_of(model, 9), twin.sequence()
    got = list(twin.generate(sequence, tokens, 0, 60, sampling))
    assert got == wanted_tokens(model, tokens, sampling, 60)


def test_generation_goes_on_from_where_it_was_left():
    model, _, _ = long_case()
    twin, sampling = Twin(model), SAMPLINGS[1]
    prompt, sequence = tokens_of(model, 5).tolist(), twin.sequence()
    stream = twin.generate(sequence, prompt, 0, 50, sampling)
    said = [next(stream) for _ in range(6)]
    del stream
    assert sequence.length > len(prompt) + 5
    more = list(twin.generate(sequence, [*said[-1:], 3, 4], len(prompt) + 5, 20, sampling))
    assert more == wanted_tokens(model, [*prompt, *said, 3, 4], sampling, 20)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9, 17, 33])
def test_generation_yields_as_many_as_asked(count):
    model, _, _ = long_case()
    twin = Twin(model)
    assert len(list(twin.generate(twin.sequence(), [1], 0, count, Sampling()))) == count


def test_generation_fills_the_context_and_no_more():
    twin = Twin(shaped_model("default"), context=20)
    assert len(list(twin.generate(twin.sequence(), [1, 2, 3], 0, 18, Sampling()))) == 18
    with pytest.raises(BadInput, match="positions must be from 0 to 19, not 0 to 20"):
        next(twin.generate(twin.sequence(), [1, 2, 3], 0, 19, Sampling()))


# --- adapters


@every_kernels
@pytest.mark.parametrize("shape", ["default", "odd", "group of 8", "super tiles"])
def test_adapters_mixed_in_one_step_equal_golden(kernels, shape):
    model, adapters = history_case(shape)
    twin = history_twin(shape, kernels)
    names = [None, "all", "some", "wide", "all"]
    sequences = [twin.sequence(name) for name in names]
    order = [row % 5 for row in range(100)]  # each sequence 20 rows, across a block
    streams = [tokens_of(model, 20, seed) for seed in range(5)]
    tokens, places = [streams[i][row // 5] for row, i in enumerate(order)], np.arange(100) // 5
    got = twin.step([sequences[i] for i in order], tokens, places, range(100))
    wants = [
        wanted_logits(model, stream, adapters.get(name or ""))
        for stream, name in zip(streams, names, strict=True)
    ]
    for i, want in enumerate(wants):
        same(got[i::5], want)
    plain = wanted_logits(model, streams[1])
    assert (wants[1] != plain).mean() > 0.5


def test_an_adapter_must_be_one_of_those_given():
    model, adapters = history_case("odd")
    with pytest.raises(BadInput, match=r"given \(none\), not 'all'"):
        Twin(model).sequence("all")
    with pytest.raises(BadInput, match=r"given \(all, some, wide\), not 'al'"):
        Twin(model, adapters=adapters).sequence("al")
    with pytest.raises(IntaglioError, match="adapter must be for the chip with hash"):
        Twin(shaped_model("odd", seed=5), adapters=adapters)


# --- files


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("twin") / "model"
    shaped_model("odd").save(path)
    return path


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_a_file_gives_the_twin_of_its_model(saved, engine):
    model = IntModel.load(saved)
    tokens, want = tokens_of(model, 20), Twin(model, engine=engine)
    twin = Twin(ModelFile(saved), engine=engine)
    same(twin.logits(tokens), wanted_logits(model, tokens))
    assert twin.memory == want.memory
    assert (twin.context, twin.vocabulary, twin.engine) == (
        want.context, want.vocabulary, want.engine,
    )  # fmt: skip


def test_a_file_takes_adapters(saved):
    model = IntModel.load(saved)
    adapter, tokens = random_adapter(model), tokens_of(model, 20)
    twin = Twin(ModelFile(saved), adapters={"it": adapter})
    same(twin.logits(tokens, twin.sequence("it")), wanted_logits(model, tokens, adapter))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def headless(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def edited(change: Callable[[dict, dict], None]) -> Callable[[Path], None]:
    """Write the file again with its constants and arrays changed."""

    def edit(path: Path) -> None:
        with safe_open(path, "np") as file:
            constants = json.loads(file.metadata()["intaglio"])
        arrays = load_file(path)
        change(constants, arrays)
        save_file(arrays, path, metadata={"intaglio": json.dumps(constants)})

    return edit


def without(constants: dict, arrays: dict, matrix: str) -> None:
    del constants["matrices"][matrix]
    for name in [name for name in arrays if name.startswith(f"{matrix}.")]:
        del arrays[name]


def copied(constants: dict, arrays: dict, matrix: str) -> None:
    constants["matrices"][matrix] = constants["matrices"]["layers.0.q"]
    for name in [name for name in arrays if name.startswith("layers.0.q.")]:
        arrays[name.replace("layers.0.q", matrix)] = arrays[name].copy()


def transposed(constants: dict, arrays: dict, matrix: str) -> None:
    constants["matrices"][matrix]["codes"].reverse()


def put(name: str, index: int, value: int) -> Callable[[dict, dict], None]:
    def change(constants: dict, arrays: dict) -> None:
        arrays[name][index] = value

    return change


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": truncated,
    "empty": emptied,
    "header cut": headless,
    "gone": lambda path: path.unlink(),
    "matrix missing": edited(lambda c, a: without(c, a, "layers.1.up")),
    "head missing": edited(lambda c, a: without(c, a, "head")),
    "matrix unknown": edited(lambda c, a: copied(c, a, "layers.7.q")),
    "matrix of another name": edited(lambda c, a: copied(c, a, "layers.0.p")),
    "wrong shape": edited(lambda c, a: transposed(c, a, "layers.0.gate")),
    "wrong size": edited(lambda c, a: c["matrices"]["head"].update(codes=[5, 5])),
    "array missing": edited(lambda c, a: dict.__delitem__(a, "layers.2.v.shift")),
    "wrong dtype": edited(lambda c, a: a.update(rotary=a["rotary"].astype(np.int32))),
    "shift too large": edited(put("layers.1.down.shift", 3, 63)),
    "shift too small": edited(put("layers.1.down.shift", 3, 2)),
    "extra inputs not ascending": edited(put("layers.1.v.extra_inputs", 0, 5)),
    "layers too few": edited(lambda c, a: c["layers"].pop() and None),
    "bits": edited(lambda c, a: c["matrices"]["layers.0.q"].update(bits=5)),
    "norm": edited(lambda c, a: c["norm"].update(epsilon=0)),
}


@pytest.mark.parametrize("engine", ["native", "numpy"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_as_the_model_is(saved, tmp_path, engine, damage):
    path = tmp_path / "model"
    path.write_bytes(saved.read_bytes())
    DAMAGES[damage](path)
    with pytest.raises(IntaglioError) as whole:
        IntModel.load(path)
    with pytest.raises(IntaglioError) as parts:
        Twin(ModelFile(path), engine=engine)
    assert type(parts.value) is type(whole.value)
    assert "\n" not in str(parts.value)


def test_a_file_cut_after_it_was_opened_is_refused(saved, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(saved.read_bytes())
    file = ModelFile(path)
    path.unlink()
    with pytest.raises(BadPackage, match="no such file"):
        file.whole()


# --- memory


def packed_bytes(model: IntModel) -> int:
    """Bytes of a model as the kernels hold it: tiles of 16 outputs, blocks of inputs."""
    block = {4: (8, 64), 3: (32, 192), 2: (16, 64)}
    total = model.embedding.size + 2 * len(model.embedding_multiplier)
    for _, matrix in model.matrices():
        inputs, size = block[matrix.bits]
        for rows in (matrix.inputs, matrix.extras):
            total += -(-matrix.outputs // 16) * -(-rows // inputs) * size
        total += 4 * matrix.extras * (matrix.extras < matrix.inputs) + 3 * matrix.outputs
    return total


@pytest.mark.parametrize("shape", SHAPES)
def test_memory_is_what_is_packed(shape):
    model = shaped_model(shape)
    a = model.architecture
    positions, channels = -(-a.context // 16) * 16, -(-a.head_width // 16) * 16
    twin = Twin(model)
    assert twin.memory == {
        "weights": packed_bytes(model),
        "sequence": 2 * a.layers * a.kv_heads * channels * positions,
    }
    assert twin.sequence().memory.bytes == twin.memory["sequence"]


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_memory_of_weights_counts_adapters(engine):
    model = shaped_model(next(iter(SHAPES)))
    adapter = random_adapter(model)
    sizes = [
        Twin(model, engine=engine, adapters=a).memory["weights"] for a in ({}, {"it": adapter})
    ]
    codes = sum(part.down.size + part.up.size for part in adapter.parts.values())
    assert sizes[1] - sizes[0] >= codes


RESIDENT = """
import gc, sys
from pathlib import Path
from intaglio.golden.model import ModelFile
from intaglio.twin.engine import Twin

def resident():
    gc.collect()
    line, = [l for l in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in l]
    return int(line.split()[1]) * 1024

Twin(ModelFile(Path(sys.argv[1]))).logits([1, 2, 3])
before = resident()
twin = Twin(ModelFile(Path(sys.argv[2])), threads=2)
sequence = twin.sequence()
twin.prefill(sequence, list(range(twin.context - 1)))
print(twin.memory["weights"], twin.memory["sequence"], resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.skipif("INTAGLIO_NATIVE" in os.environ, reason="memory is another under sanitizers")
def test_a_process_grows_by_the_packed_weights(saved, tmp_path):
    architecture = random_architecture(
        width=1024, inner=3072, layers=4, heads=16, kv_heads=4, head_width=64, vocabulary=4000,
        context=1000,
    )  # fmt: skip
    random_model(0, architecture).save(tmp_path / "large")
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT, saved, tmp_path / "large"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stderr == ""
    weights, sequence, grown = map(int, done.stdout.split())
    assert 25e6 < weights < 40e6
    assert sequence == 2 * 4 * 4 * 64 * 1008
    assert weights < grown < 1.1 * (weights + sequence) + 8e6
