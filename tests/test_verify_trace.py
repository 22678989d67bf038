"""The expected trace file: golden's values, readable while it is written."""

import numpy as np
import pytest
from random_model import random_architecture, random_model

from intaglio.errors import BadInput
from intaglio.golden.forward import Golden
from intaglio.golden.sample import Sampling, sample
from intaglio.hardware.port import PROBES
from intaglio.verify import trace
from intaglio.verify.trace import OPS, Request, TraceFile, create, op_sizes, record


@pytest.fixture(scope="module")
def model():
    return random_model(3, random_architecture(context=160))


def plain_run(model, request):
    """Golden one position at a time: all traced values, and the tokens."""
    golden, values, tokens = Golden(model), {}, list(request.prompt)
    for position in range(request.positions):

        def show(layer, op, at, rows):
            values[layer, op, at] = rows[0]

        x = golden.residual(np.array([tokens[position]]), position, 0, show)
        if position >= len(request.prompt) - 1:
            logits = golden.logits(x, position, show)
            tokens.append(sample(logits[0], request.sampling, position))
    return values, tokens[len(request.prompt) :]


def test_operations_are_goldens(model):
    values, _ = plain_run(model, Request((1, 2), 1))
    named = {(layer, op) for layer, op, _ in values}
    sizes = op_sizes(model.architecture)
    assert named == {
        (stage - 1, op) for stage, ops in enumerate(sizes) for op in ops if op != "token"
    }
    assert {op for _, op in named} == set(PROBES)
    for (layer, op, _), row in values.items():
        assert len(row) == sizes[layer + 1][op]


@pytest.mark.parametrize("block", [4, 64])
def test_the_file_holds_what_golden_computes_position_by_position(
    model, tmp_path, monkeypatch, block
):
    monkeypatch.setattr(trace, "BLOCK", block)
    requests = [
        Request(tuple(range(10, 21)), 6),
        Request((7,), 9, Sampling.of(1.0, 20, 0.9, seed=5)),
    ]
    with create(tmp_path / "trace", model.architecture, requests) as file:
        tokens = record(model, requests, file)
        for slot, request in enumerate(requests):
            values, expected = plain_run(model, request)
            assert tokens[slot] == expected
            for (layer, op, position), row in values.items():
                for element in (0, len(row) // 2, len(row) - 1):
                    found = file.expected(slot, layer, op, position, element)
                    assert found == row[element], (slot, layer, op, position, element)
            for index, token in enumerate(expected):
                at = len(request.prompt) - 1 + index
                assert file.expected(slot, model.architecture.layers, "token", at, 0) == token


def test_a_user_gets_what_it_gets_alone(model):
    requests = [Request((1, 2, 3), 5, Sampling.of(0.8, seed=1)), Request((9,) * 70, 3)]
    assert record(model, requests) == [record(model, [request])[0] for request in requests]


def test_prompt_positions_have_no_logits(model, tmp_path):
    request = Request((5, 6, 7), 2)
    with create(tmp_path / "trace", model.architecture, [request]) as file:
        record(model, [request], file)
        final = model.architecture.layers
        assert file.expected(0, final, "logits", 1, 0) is None
        assert file.expected(0, final, "logits", 2, 0) is not None


def test_positions_are_published_as_they_come(model, tmp_path):
    request, seen = Request((5, 6, 7), 4), []
    with create(tmp_path / "trace", model.architecture, [request]) as file:

        def chosen(slot, token):
            seen.append([file.expected(0, 0, "q", at, 0) is not None for at in range(6)])

        record(model, [request], file, chosen)
    assert [row.index(False) if False in row else 6 for row in seen] == [3, 4, 5, 6]


def test_a_listener_ends_the_run(model):
    tokens = record(model, [Request((1,), 50)], chosen=lambda slot, token: True)
    assert [len(row) for row in tokens] == [1]


def test_the_file_grows_with_positions_and_not_with_the_prompts_logits(tmp_path):
    sizes = [{"embedding": 4}, {"q": 4}, {"norm": 4, "logits": 1000, "token": 1}]
    with TraceFile(tmp_path / "trace", sizes, 1, 500) as file:
        file.write(0, 0, "q", 499, np.ones((1, 4), np.int64))
        file.publish(0, 500)
    status = (tmp_path / "trace").stat()
    assert status.st_size > 500 * 4000
    assert status.st_blocks * 512 < 100_000


def test_a_wrong_size_is_refused(tmp_path):
    sizes = [{"embedding": 4}, {"q": 4}, {"norm": 4, "logits": 10, "token": 1}]
    with (
        TraceFile(tmp_path / "trace", sizes, 1, 2) as file,
        pytest.raises(ValueError, match=r"^q must have 4 elements, not 5$"),
    ):
        file.write(0, 0, "q", 0, np.zeros((1, 5), np.int64))


@pytest.mark.parametrize(
    ("prompt", "count", "message"),
    [
        ((), 1, r"^prompt must have at least one token$"),
        ((1,), 0, r"^tokens to generate must be at least 1, not 0$"),
    ],
)
def test_an_empty_request_is_refused(prompt, count, message):
    with pytest.raises(BadInput, match=message):
        Request(prompt, count)


def test_a_request_beyond_the_context_is_refused(model):
    with pytest.raises(BadInput, match=r"must fit the context of 160 positions, not 161$"):
        record(model, [Request((1, 2), 160)])


def test_operation_numbers_begin_with_the_probes():
    assert OPS[:-1] == PROBES
