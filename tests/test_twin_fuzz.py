"""Whatever a twin is given: one BadInput, or what is right. And its kernels: an error, no crash."""

from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from array_devices import seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from native_kernels import KERNELS, native
from random_adapter import random_adapter
from random_model import random_architecture, random_model

from intaglio.errors import BadInput, IntaglioError
from intaglio.golden.adapter import Adapter
from intaglio.golden.forward import Golden
from intaglio.golden.model import IntModel
from intaglio.golden.sample import Sampling
from intaglio.twin import _native
from intaglio.twin.engine import Twin
from intaglio.twin.rows import Sequence

CONTEXT, VOCABULARY = 24, 40
every_engine = pytest.mark.parametrize("engine", ["native", "numpy"])
fuzz = settings(max_examples=300, deadline=None)


@cache
def case(seed: int = 0) -> tuple[IntModel, dict[str, Adapter]]:
    """A small model with an adapter."""
    architecture = random_architecture(
        vocabulary=VOCABULARY, width=16, inner=20, layers=2, context=CONTEXT
    )
    model = random_model(seed, architecture, extras={"v": 1.0, "k": 0.25})
    return model, {"it": random_adapter(model)}


@cache
def twin_of(engine: str, seed: int = 0) -> Twin:
    model, adapters = case(seed)
    return Twin(model, engine=engine, threads=1, adapters=adapters)


@cache
def stream() -> np.ndarray:
    return np.random.default_rng(0).integers(0, VOCABULARY, CONTEXT)


@cache
def stream_logits() -> np.ndarray:
    golden = Golden(case()[0])
    return golden.logits(golden.residual(stream()))


# --- what nobody should give


class Odd:
    """An object whose text has several lines."""

    def __repr__(self) -> str:
        return "odd\nand long " * 9


NESTED: list = []
NESTED.append(NESTED)
HUGE = [1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 64, 1 << 70, -1, -(1 << 63), -(1 << 70)]
NUMBERS = st.sampled_from(HUGE) | st.integers(-3, CONTEXT + 3) | st.integers(-3, VOCABULARY + 3)
NUMPY_TYPES = ["i1", "u1", "i2", "<i8", ">i8", "u8", "f4", "f8", "c8", "?", "m8[s]", "O", "U1"]
STRANGE = st.sampled_from(
    [
        None, True, False, 1.0, float("nan"), float("inf"), 2j, "", "a", "1", b"", b"1", (), [], {},
        [[]], [None], [1.0], ["1"], [True], [[1, 2], [3]], [[1]], NESTED, {1: 2}, {1}, range(3),
        object(), Odd(), Odd, np.array(3), np.array([[1]]), np.array([[1], [2]]), np.float64(2),
        np.bool_(True), np.timedelta64(3, "s"), np.datetime64("2020"), np.array([1, 2], "m8[s]"),
        np.zeros((2, 0), int), np.empty(0), np.array([1 << 63], np.uint64), deque([1, 2]),
        Sampling(), [Sampling()], np.array([Sampling(), Sampling()]), (i for i in range(2)),
        Ellipsis, memoryview(b"12"), bytearray(b"12"), np.ma.array([1, 2]),
    ]
)  # fmt: skip


@st.composite
def arrays(draw: st.DrawFn, numbers: st.SearchStrategy[int]) -> np.ndarray:
    """Arrays of any type and stride."""
    values = draw(st.lists(numbers, max_size=6))
    try:
        array = np.array(values, draw(st.sampled_from(NUMPY_TYPES)))
    except OverflowError:
        array = np.array(values, object)
    return array[:: draw(st.sampled_from([1, -1, 2]))]


TOKEN = st.integers(0, VOCABULARY - 1)
LISTS = st.lists(NUMBERS, max_size=5)
ANYTHING = st.one_of(STRANGE, NUMBERS, LISTS, LISTS.map(tuple), arrays(NUMBERS))


def or_anything(legal: st.SearchStrategy) -> st.SearchStrategy:
    """Mostly legal, so that the other arguments are looked at too."""
    return st.integers(0, 7).flatmap(lambda die: legal if die else ANYTHING)


@dataclass
class Rows:
    """Legal rows of some sequences, each of which may then be replaced."""

    own: list[Sequence]
    sequences: Any
    tokens: Any
    places: Any
    wanted: Any


@st.composite
def rows_of(draw: st.DrawFn, engine: str, *, once: bool = False) -> Rows:
    """Rows, one or none of whose arguments are something else; ``once``: of each sequence one."""
    own = own_sequences(engine)
    some = draw(st.lists(st.sampled_from(own), max_size=5, unique=once))
    tokens = draw(st.lists(TOKEN, min_size=len(some), max_size=len(some)))
    following: dict[Sequence, int] = {}
    places = []
    for sequence in some:
        start = st.integers(0, min(sequence.length, CONTEXT - 5))
        places.append(following[sequence] if sequence in following else draw(start))
        following[sequence] = places[-1] + 1
    wanted = sorted(draw(st.sets(st.integers(0, max(len(some) - 1, 0)), max_size=len(some))))
    rows = Rows(own, some, tokens, places, wanted)
    wrong = draw(st.sampled_from(["", "", "sequences", "sequence", "tokens", "places", "wanted"]))
    if wrong == "sequence" and some:
        some[draw(st.integers(0, len(some) - 1))] = draw(st.sampled_from([*own, *foreign(engine)]))
    elif wrong not in ("", "sequence"):
        setattr(rows, wrong, draw(ANYTHING | st.sampled_from([some, tokens, places, wanted])))
    return rows


def other(engine: str) -> str:
    return "numpy" if engine == "native" else "native"


def own_sequences(engine: str) -> list[Sequence]:
    """Fresh ones of several lengths, one with an adapter."""
    lengths = (0, 5, 9, CONTEXT)
    return [*(filled(engine).fork(n) for n in lengths), twin_of(engine).sequence("it")]


def foreign(engine: str) -> list[Any]:
    """What is not a sequence of the twin."""
    others = [twin_of(engine, 1), twin_of(other(engine))]
    return [*(twin.sequence() for twin in others), None, filled(engine).memory]


@cache
def filled(engine: str) -> Sequence:
    sequence = twin_of(engine).sequence()
    twin_of(engine).prefill(sequence, stream())
    return sequence


def attempt(what: Any, *arguments: Any) -> Any:
    """The result, or None after a BadInput of one line."""
    try:
        return what(*arguments)
    except BadInput as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 300
    return None


def unharmed(engine: str, own: list[Sequence], before: list[int]) -> None:
    """What was refused left the sequences as they were."""
    assert [sequence.length for sequence in own] == before
    got = twin_of(engine).logits(stream()[5:7], own[1], 5)
    np.testing.assert_array_equal(got, stream_logits()[5:7])


TOKENS = st.lists(TOKEN, max_size=5)
TOKENS_OR = or_anything(TOKENS | TOKENS.map(lambda tokens: np.array(tokens, np.int16)))
PLACE_OR = or_anything(st.sampled_from([0, 0, 0, np.int32(5), np.uint8(0), CONTEXT - 1]))
COUNT_OR = or_anything(st.sampled_from([0, 1, 2, np.uint8(3), CONTEXT - 1, CONTEXT]))
SAMPLING = st.sampled_from([Sampling(), Sampling.of(1.0, seed=5), Sampling(seed=(1 << 64) - 1)])


@every_engine
@fuzz
@given(st.data())
def test_step_takes_what_is_right_or_nothing(engine, data):
    r = data.draw(rows_of(engine))
    before = [sequence.length for sequence in r.own]
    got = attempt(twin_of(engine).step, r.sequences, r.tokens, r.places, r.wanted)
    if got is None:
        unharmed(engine, r.own, before)
    else:
        assert got.shape == (len(r.wanted), VOCABULARY)


@every_engine
@fuzz
@given(st.data())
def test_decode_takes_what_is_right_or_nothing(engine, data):
    r = data.draw(rows_of(engine, once=True))
    before = [sequence.length for sequence in r.own]
    try:
        number = len(r.sequences)
    except TypeError:  # nothing that has a length; so has an array of no dimension
        number = len(r.own)
    samplings = st.lists(SAMPLING, min_size=number, max_size=number)
    how = data.draw(or_anything(samplings | samplings.map(deque)))
    count = data.draw(COUNT_OR)
    got = attempt(twin_of(engine).decode, r.sequences, r.tokens, r.places, how, count)
    if got is None:
        unharmed(engine, r.own, before)
    else:
        assert got.shape == (count, len(r.sequences))
        assert not got.size or 0 <= got.min() <= got.max() < VOCABULARY


@every_engine
@fuzz
@given(st.data())
def test_logits_take_what_is_right_or_nothing(engine, data):
    own = own_sequences(engine)
    before = [sequence.length for sequence in own]
    one = data.draw(or_anything(st.sampled_from([*own, None, *own, *foreign(engine)])))
    tokens, place = data.draw(TOKENS_OR), data.draw(PLACE_OR)
    got = attempt(twin_of(engine).logits, tokens, one, place)
    if got is None:
        unharmed(engine, own, before)
    else:
        assert got.shape == (len(tokens), VOCABULARY)


@every_engine
@fuzz
@given(st.data())
def test_generate_takes_what_is_right_or_nothing(engine, data):
    own = own_sequences(engine)
    before = [sequence.length for sequence in own]
    one = data.draw(or_anything(st.sampled_from([*own, *own, *foreign(engine)])))
    tokens = data.draw(TOKENS_OR)
    place, count = data.draw(PLACE_OR), data.draw(COUNT_OR)
    how = data.draw(or_anything(SAMPLING))
    twin = twin_of(engine)
    got = attempt(lambda: list(twin.generate(one, tokens, place, count, how)))
    if got is None:
        unharmed(engine, own, before)
    else:
        assert len(got) == count


@every_engine
@given(ANYTHING)
def test_fork_takes_what_is_right_or_nothing(engine, length):
    copy = attempt(filled(engine).fork, length)
    assert copy is None or copy.length == length


@every_engine
@given(ANYTHING)
def test_sequence_takes_what_is_right_or_nothing(engine, adapter):
    sequence = attempt(twin_of(engine).sequence, adapter)
    assert sequence is None or sequence.adapter is adapter is None


def few(threads: Any) -> bool:
    """Not as many threads as would be legal, but slow."""
    return not isinstance(threads, int) or not 3 < threads <= 1024


@fuzz
@given(
    ANYTHING, or_anything(st.none() | st.integers(1, 30)),
    or_anything(st.none() | st.integers(1, 3)).filter(few),
    or_anything(st.sampled_from([None, "native", "numpy"])),
    or_anything(st.sampled_from([None, *KERNELS])), st.data(),
)  # fmt: skip
def test_a_twin_is_made_of_what_is_right_or_not_at_all(
    anything, context, threads, engine, kernels, data
):
    model, adapters = case()
    wrong = [{None: adapters["it"]}, {"it": None}, {1: 2}, [("it", 3)], anything]
    adapters = data.draw(st.sampled_from([None, {}, adapters]) | st.sampled_from(wrong))
    model = data.draw(st.sampled_from([model] * 9 + [anything]))
    twin = attempt(
        lambda: Twin(
            model, context=context, threads=threads, engine=engine, kernels=kernels,
            adapters=adapters,
        )
    )  # fmt: skip
    if twin is not None:
        assert 1 <= twin.context <= CONTEXT
        np.testing.assert_array_equal(twin.logits(stream()[:1]), stream_logits()[:1])


def test_an_adapter_of_another_model_is_refused():
    with pytest.raises(IntaglioError, match="adapter must be for the chip with hash"):
        Twin(case(1)[0], adapters=case()[1])


# --- the kernels


REFUSALS = (TypeError, ValueError)
DTYPES = [
    np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32,
    np.float64, np.bool_, np.dtype(">i4"), np.dtype(">i8"), np.complex64, np.dtype("O"),
]  # fmt: skip


@st.composite
def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """An argument of the kernels, or something near it, or something else."""
    kind = draw(st.integers(0, 19))
    if kind < 15:
        return value
    if kind == 15:
        return draw(ANYTHING)
    if isinstance(value, np.ndarray):
        return draw(spoiled_array(value))
    if isinstance(value, int):
        return draw(NUMBERS | st.sampled_from([value - 1, value + 1, 17, 33, 62, 63, 4096]))
    if isinstance(value, (list, tuple)) and value:
        at = draw(st.integers(0, len(value) - 1))
        changed = list(value)
        changed[at] = draw(spoiled(value[at]))
        return draw(
            st.sampled_from([type(value)(changed), value[:-1], [*value, value[at]], value[:0]])
        )
    return draw(ANYTHING)


@st.composite
def spoiled_array(draw: st.DrawFn, array: np.ndarray) -> Any:
    """Another shape, type, order or element."""
    kind = draw(st.integers(0, 7))
    shape = tuple(draw(st.sampled_from([0, 1, n - 1, n, n + 1, 2 * n])) for n in array.shape)
    shape = tuple(max(n, 0) for n in shape)
    if kind == 0:
        return np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
    if kind == 1:
        return array.astype(draw(st.sampled_from(DTYPES)))
    if kind == 2:
        return np.asfortranarray(array) if array.ndim > 1 else array[::-1]
    if kind == 3:
        return array.reshape(draw(st.sampled_from([(-1, 1), (1, -1), (1, 1, -1), (-1,)])))
    if kind == 4:
        return array.tolist()
    if kind == 5:
        array = array.copy()
        array.flags.writeable = False
        return array
    changed, info = array.copy(), np.iinfo(array.dtype)
    if changed.size:
        values = st.sampled_from([info.min, info.max, 0, 1]) | st.integers(info.min, info.max)
        changed.reshape(-1)[draw(st.integers(0, changed.size - 1))] = draw(values)
    return changed


def call(what: Any, arguments: list[Any]) -> Any:
    """The result, or None where it was refused."""
    try:
        return what(*arguments)
    except REFUSALS:
        return None


def spoiled_call(data: st.DataObject, what: Any, arguments: list[Any]) -> Any:
    return call(what, [data.draw(spoiled(argument)) for argument in arguments])


def random32(rng: np.random.Generator, bits: int, shape: Any) -> np.ndarray:
    return rng.integers(-(1 << bits - 1), 1 << bits - 1, shape).astype(np.int32)


@fuzz
@given(seeds, st.integers(0, 20), st.sampled_from(KERNELS), st.data())
def test_single_operations_take_what_is_legal_or_nothing(rng, n, kernels, data):
    x, norm = random32(rng, 32, n), (1, 40000, 50)
    fractions = rng.integers(0, 1 << 32, n, dtype=np.uint32)
    calls = [
        (_native.norm, [kernels, x, norm, 8]),
        (_native.rotate, [kernels, random32(rng, 16, 2 * n), fractions, 7, 8]),
        (_native.rotate, [kernels, random32(rng, 32, 2 * n), fractions, (1 << 32) - 1, 16]),
        (_native.shrink, [kernels, x, 8]),
        (_native.gate, [kernels, random32(rng, 24, n), random32(rng, 20, n)]),
        (_native.sample, [kernels, random32(rng, 24, n + 1), 4096, 64, 65536, 5, 7]),
        (_native.table, ["exp"]),
    ]
    what, arguments = data.draw(st.sampled_from(calls))
    got = spoiled_call(data, what, arguments)
    assert got is None or isinstance(got, (np.ndarray, tuple, int))
    assert call(what, arguments) is not None


@cache
def model_arguments() -> list[Any]:
    """What a native model is made of: widths and constants of :func:`case`."""
    model, _ = case()
    a = model.architecture
    shape = (a.vocabulary, a.width, a.layers, a.heads, a.kv_heads, a.head_width, a.inner, a.context)
    return [
        KERNELS[0], 1, shape, (8, 12, 8, 8), model.rotary.astype(np.uint32), model.embedding,
        model.embedding_multiplier, model.embedding_shift, (1, 40000, 50),
    ]  # fmt: skip


@fuzz
@given(st.data())
def test_a_model_is_made_of_what_is_legal_or_not_at_all(data):
    arguments = [data.draw(spoiled(argument)) for argument in model_arguments()]
    arguments[1] = arguments[1] if few(arguments[1]) else 2
    made = call(_native.Model, arguments)
    if made is not None:
        assert made.bytes > 0
        for what in (made.forward, made.decode):  # not all matrices are set
            assert call(what, [[], np.empty(0, np.int64), np.empty(0, np.int64)]) is None


def test_what_was_never_made_is_refused():
    engine, none = native(case()[0], KERNELS[0]), np.empty(0, np.int64)
    for kind in (_native.Memory, _native.Adapter):
        with pytest.raises(TypeError):
            kind()
    nobody: list[Any] = [None]
    with pytest.raises(ValueError, match="sequences must not be None"):
        engine.model.forward(nobody, np.zeros(1, np.int64), np.zeros(1, np.int64), none)
    with pytest.raises(ValueError, match="every matrix must be set"):
        _native.Model(*model_arguments()).forward([], none, none, none)


@fuzz
@given(st.data())
def test_parts_of_a_model_are_legal_or_refused(data):
    model, adapters = case()
    made, layer = _native.Model(*model_arguments()), model.layers[0]
    kind, matrix = data.draw(
        st.sampled_from([(1, layer.k), (2, layer.v), (3, layer.o), (6, layer.down)])
    )
    adapter, part = made.adapter(), adapters["it"].parts[0, "o"]
    calls = [
        (made.set_layer, [1, (1, 40000, 50), (1, 40000, 50), 5]),
        (made.set_matrix, [
            1, kind, matrix.bits, matrix.codes, matrix.extra_shift, matrix.extra_inputs,
            matrix.extra_codes, matrix.multiplier, matrix.shift,
        ]),
        (made.set_part, [
            adapter, 1, 3, part.down, part.down_multiplier, part.down_shift, part.up,
            part.up_multiplier, part.up_shift,
        ]),
        (made.memory, [adapter]),
    ]  # fmt: skip
    what, arguments = data.draw(st.sampled_from(calls))
    spoiled_call(data, what, arguments)


@pytest.mark.parametrize("scalar", [np.timedelta64(3, "s"), np.datetime64("2020"), b"12345678"])
def test_a_buffer_that_is_no_array_is_refused(scalar):
    """NumPy's time scalars have a buffer without strides, which nanobind would follow."""
    arguments: list[Any] = [KERNELS[0], np.zeros(8, np.int32), (1, 40000, 50), 8]
    assert call(_native.norm, arguments) is not None
    arguments[1] = scalar
    assert call(_native.norm, arguments) is None
    arguments = list(model_arguments())
    arguments[4] = scalar
    assert call(_native.Model, arguments) is None


def test_an_adapter_in_use_or_of_another_model_is_refused():
    made, other = (_native.Model(*model_arguments()) for _ in range(2))
    part = case()[1]["it"].parts[0, "o"]
    arrays = [
        part.down, part.down_multiplier, part.down_shift, part.up, part.up_multiplier,
        part.up_shift,
    ]  # fmt: skip
    adapter = made.adapter()
    with pytest.raises(ValueError, match="adapter must be one of this model's"):
        other.set_part(adapter, 0, 3, *arrays)
    with pytest.raises(ValueError, match="adapter must be one of this model's"):
        other.memory(adapter)
    made.set_part(adapter, 0, 3, *arrays)
    made.memory(adapter)
    with pytest.raises(ValueError, match="that no sequence uses yet"):
        made.set_part(adapter, 0, 3, *arrays)


@fuzz
@given(seeds, st.sampled_from(KERNELS), st.data())
def test_passes_take_what_is_legal_or_nothing(rng, kernels, data):
    """Rows, samplings and memories near what is legal; legal ones still work after it."""
    engine, foreign = fuzzed_engine(kernels), fuzzed_engine(kernels, 1).sequence()
    model, memories = engine.model, [engine.sequence(), engine.sequence("it")]
    tokens, places = stream()[:6].astype(np.int64), np.array([0, 1, 0, 2, 3, 1])
    rows = [memories[i] for i in (0, 0, 1, 0, 0, 1)]
    wanted = np.array([1, 4, 5])
    samplings = np.array([[0, 64, 65536, 0], [4096, 3, 60000, 9]], np.uint64)
    both, zeros = np.array([3, 4]), np.zeros(2, np.int64)
    calls = [
        (model.forward, [rows, tokens, places, wanted]),
        (model.decode, [memories, both, zeros, samplings, 3]),
        (
            model.matrix_product,
            [0, 6, random32(rng, 8, (3, 20)), np.array([0, 1, 2], np.int32), 20],
        ),
        (model.attention, [memories[0], 1, 1, random32(rng, 12, (2, 8)), 0]),
        (memories[0].fork, [1]),
    ]
    model.forward([memories[0]], zeros[:1], zeros[:1], zeros[:0])
    what, arguments = data.draw(st.sampled_from(calls))
    if data.draw(st.integers(0, 9)) == 0:
        arguments[0] = foreign if what == model.attention else [foreign, *rows[1:]]
    spoiled_call(data, what, arguments)
    np.testing.assert_array_equal(
        model.forward([memories[0]] * 4, tokens[:4], np.arange(4), np.arange(4)),
        stream_logits()[:4],
    )


@cache
def fuzzed_engine(kernels: str, seed: int = 0) -> Any:
    model, adapters = case(seed)
    return type(native(model, kernels))(model, CONTEXT, 1, kernels, adapters)


@every_engine
def test_a_last_token_that_is_none_leaves_the_sequence_as_it_was(engine):
    own = own_sequences(engine)
    before = [sequence.length for sequence in own]
    with pytest.raises(BadInput, match=r"^tokens must be from 0 to"):
        list(twin_of(engine).generate(own[0], [0, VOCABULARY], 0, 1, Sampling()))
    unharmed(engine, own, before)
