"""The chip against the integer model: what is equal passes, and every fault is named."""

import dataclasses
import json

import numpy as np
import pytest
import replay_chip
from random_model import random_model
from replay_chip import HANG, RETURN, SHOW, Word, index_of, spoil, write_program

from intaglio.errors import BadInput
from intaglio.golden.sample import Sampling
from intaglio.verify import lockstep
from intaglio.verify.lockstep import verify, verify_together
from intaglio.verify.simulation import Difference
from intaglio.verify.trace import Request, op_sizes, record

REQUEST = Request((5, 6, 7), 4)
TOGETHER = [REQUEST, Request((9, 8, 7, 6, 5), 3, Sampling.of(1.0, seed=3))]


@pytest.fixture(scope="module")
def model():
    return random_model(1)


@pytest.fixture(scope="module")
def replay(tmp_path_factory, model):
    return replay_chip.build_replay(
        tmp_path_factory.mktemp("replay"), model.architecture.vocabulary
    )


@pytest.fixture(scope="module")
def words(model):
    return replay_chip.program(model, [REQUEST])


def check(model, replay, folder, words, **options):
    rom = write_program(folder, words)
    return verify(model, replay, rom, REQUEST.prompt, REQUEST.count, **{"deadline": 300, **options})


def test_an_equal_chip_passes(model, replay, words, tmp_path):
    heard = []
    verdict = check(model, replay, tmp_path, words, planned_cycles=1000, progress=heard.append)
    assert verdict.equal
    assert verdict.first_difference is None
    assert (verdict.positions, verdict.generated) == (7, 4)
    assert list(verdict.transcripts) == [tuple(record(model, [REQUEST])[0])]
    assert tuple(result.token for result in heard) == verdict.transcripts[0]
    # the replaying chip does one word per cycle
    returns = [index for index, word in enumerate(words) if word.kind == RETURN]
    assert verdict.simulated_cycles == returns[-1] - 1
    assert verdict.cycles_per_token == (returns[-1] - returns[0]) / 3
    assert verdict.planned_cycles == 1000
    assert verdict.simulated_tokens_per_second == 7 / verdict.seconds


def test_a_verdict_is_plain_json(model, replay, words, tmp_path):
    verdict = check(model, replay, tmp_path, words)
    values = json.loads(json.dumps(verdict.as_dict()))
    assert values["equal"] is True
    assert values["cycles"] == {"planned": None, "simulated": verdict.simulated_cycles}
    assert set(values) == {
        "equal", "positions", "generated", "first_difference", "simulated_tokens_per_second",
        "cycles", "cycles_per_token",
    }  # fmt: skip


def test_planned_cycles_may_be_a_function(model, replay, words, tmp_path):
    def planned(prompt, generated):
        return 1000 * prompt + generated

    assert check(model, replay, tmp_path, words, planned_cycles=planned).planned_cycles == 3004


def places(model):
    sizes = op_sizes(model.architecture)
    return [
        (stage - 1, op, size) for stage, ops in enumerate(sizes) for op, size in ops.items()
        if op != "token"
    ]  # fmt: skip


def test_a_wrong_element_of_any_operation_is_named(model, replay, words, tmp_path):
    rng = np.random.default_rng(0)
    for layer, op, size in places(model):
        position = int(rng.integers(2, 6))
        element = int(rng.integers(size))
        first = element // 16 * 16
        at = index_of(words, kind=SHOW, layer=layer, op=op, position=position, first=first)
        broken = [*words]
        broken[at] = spoil(words[at], element - first)
        verdict = check(model, replay, tmp_path, broken)
        assert not verdict.equal
        expected = words[at].values[element - first]
        assert verdict.first_difference == Difference(
            0, position, layer, op, element, expected, expected ^ 1
        )


def test_a_standstill_before_any_operation_is_named(model, replay, words, tmp_path):
    rng = np.random.default_rng(1)
    for layer, op, size in places(model):
        position = int(rng.integers(2, 6))
        first = int(rng.integers(-(-size // 16))) * 16
        at = index_of(words, kind=SHOW, layer=layer, op=op, position=position, first=first)
        verdict = check(model, replay, tmp_path, [*words[:at], Word(HANG)])
        assert not verdict.equal
        assert verdict.first_difference == Difference(
            0, position, layer, op, first, words[at].values[0], None
        )


def test_a_token_that_does_not_come_is_named(model, replay, words, tmp_path):
    at = index_of(words, kind=RETURN, position=5)
    verdict = check(model, replay, tmp_path, [*words[:at], Word(HANG)])
    assert verdict.first_difference == Difference(
        0, 4, model.architecture.layers, "token", 0, words[at].token, None
    )


@pytest.mark.parametrize(
    ("change", "name", "expected", "got"),
    [
        ({"token": 95}, "token", None, 95),
        ({"final": True}, "final", 0, 1),
    ],
)
def test_a_wrong_result_is_named(model, replay, words, tmp_path, change, name, expected, got):
    at = index_of(words, kind=RETURN, position=5)
    broken = [*words]
    broken[at] = dataclasses.replace(words[at], **change)
    verdict = check(model, replay, tmp_path, broken)
    expected = words[at].token if expected is None else expected
    layers = model.architecture.layers
    assert verdict.first_difference == Difference(0, 4, layers, name, 0, expected, got)


def test_a_last_token_without_its_mark_is_named(model, replay, words, tmp_path):
    broken = [*words[:-1], dataclasses.replace(words[-1], final=False)]
    verdict = check(model, replay, tmp_path, broken)
    layers = model.architecture.layers
    assert verdict.first_difference == Difference(0, 5, layers, "final", 0, 1, 0)


def test_a_token_too_many_is_named(model, replay, words, tmp_path):
    broken = [*words, Word(RETURN, position=7, token=3)]
    verdict = check(model, replay, tmp_path, broken)
    assert verdict.first_difference is not None
    assert (verdict.first_difference.token, verdict.first_difference.op) == (6, "token")


def test_an_operation_without_a_probe_is_named(model, replay, words, tmp_path):
    broken = [word for word in words if (word.kind, word.layer, word.op) != (SHOW, 1, "up")]
    verdict = check(model, replay, tmp_path, broken)
    assert not verdict.equal
    assert verdict.first_difference is not None
    assert (verdict.first_difference.layer, verdict.first_difference.op) == (1, "up")


def test_two_users_get_what_each_gets_alone(model, replay, tmp_path):
    rom = write_program(tmp_path, replay_chip.program(model, TOGETHER))
    verdict = verify_together(model, replay, rom, TOGETHER, deadline=300)
    assert verdict.equal
    assert (verdict.positions, verdict.generated) == (15, 7)
    assert list(verdict.transcripts) == [tuple(record(model, [request])[0]) for request in TOGETHER]


def test_the_users_fault_is_named_by_its_slot(model, replay, tmp_path):
    words = replay_chip.program(model, TOGETHER)
    at = index_of(words, kind=SHOW, slot=1, layer=1, op="k", position=5)
    words[at] = spoil(words[at], 3)
    verdict = verify_together(model, replay, write_program(tmp_path, words), TOGETHER, deadline=300)
    difference = verdict.first_difference
    assert difference is not None
    assert (difference.slot, difference.token, difference.layer) == (1, 5, 1)
    assert (difference.op, difference.element) == ("k", 3)
    assert verdict.transcripts[1] == tuple(record(model, TOGETHER)[1][:1])


def test_goldens_error_reaches_the_caller(model, replay, words, tmp_path, monkeypatch):
    def fail(*arguments):
        raise BadInput("golden cannot")

    monkeypatch.setattr(lockstep, "record", fail)
    with pytest.raises(BadInput, match=r"^golden cannot$"):
        check(model, replay, tmp_path, words)


def test_a_listeners_error_ends_the_run(model, replay, words, tmp_path):
    def stop(result):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(model, replay, tmp_path, words, progress=stop)


def test_a_prompt_beyond_the_context_is_refused(model, replay, words, tmp_path):
    rom = write_program(tmp_path, words)
    with pytest.raises(BadInput, match="must fit the context of 32 positions, not 33"):
        verify(model, replay, rom, [1, 2], 32)
