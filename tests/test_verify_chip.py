"""Whole chips in simulation equal the integer model; what is broken in one is found and named."""

import dataclasses
import functools
import shutil
from typing import Any

import numpy as np
import pytest
from random_model import random_architecture, random_model
from real_chip import BLOCKS, HANG, LOSE, TABLE, TABLES, Chip, Fault, build_chip, with_faults

from intaglio.golden.forward import Golden
from intaglio.golden.model import IntModel
from intaglio.golden.number import RSQRT_MANTISSA, SQUARE_BITS, Widths
from intaglio.golden.ops import sum_of_squares
from intaglio.golden.sample import Sampling, sample
from intaglio.plan.schedule import Schedule, User
from intaglio.verify.lockstep import Verdict, verify, verify_together
from intaglio.verify.simulation import Difference, Simulation
from intaglio.verify.trace import Request, record

pytestmark = pytest.mark.slow

DEADLINE = 20_000
WARM = Sampling.of(temperature=0.9, top_k=20, top_p=0.9, seed=7)
PROMPT = (5, 6, 7, 8, 9)
SHAPES: dict[str, tuple[IntModel, dict[str, Any]]] = {
    "plain": (random_model(1), {"slots": 2}),
    "mixed": (
        random_model(
            2,
            random_architecture(
                vocabulary=101, width=48, layers=3, heads=3, kv_heads=1, head_width=16, inner=80
            ),
            Widths(norm=10, query=16, attention=10, product=12),
            bits={"q": 2, "k": 4, "v": 3, "o": 3, "gate": 2, "up": 4, "down": 3, "head": 4},
            extras={"k": 0.5, "v": 1.0, "down": 0.1, "head": 0.25},
        ),
        {"slots": 3, "beat": 8, "positions": 2, "lanes": 7},
    ),
    "wide": (
        random_model(
            3,
            random_architecture(
                vocabulary=64, width=64, layers=1, heads=2, kv_heads=2, head_width=32, inner=64,
                context=64,
            ),
            bits={"q": 3, "v": 2},
        ),
        {"slots": 1, "beat": 16, "lanes": 16},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Chips by shape, each built once; the plain one has sleeping faults."""

    @functools.cache
    def get(shape: str, whole: bool = False) -> Chip:
        model, options = SHAPES[shape]
        edit = with_faults if shape == "plain" else None
        chip = build_chip(tmp_path_factory.mktemp(shape), model, edit=edit, whole=whole, **options)
        Fault().write(chip.rom)
        return chip

    return get


@pytest.fixture(params=SHAPES)
def chip(request, build) -> Chip:
    return build(request.param)


@pytest.fixture
def plain(build) -> Chip:
    return build("plain")


def compare(chip: Chip, prompt=PROMPT, count=6, sampling=None, **options) -> Verdict:
    return verify(
        chip.model, chip.executable, chip.rom, prompt, count, sampling,
        deadline=DEADLINE, **options,
    )  # fmt: skip


def found(chip: Chip, **options) -> Difference:
    difference = compare(chip, **options).first_difference
    assert difference is not None
    return difference


@pytest.mark.parametrize("sampling", [Sampling(), WARM], ids=["greedy", "sampled"])
def test_a_chip_computes_the_integer_model_to_the_end_of_its_context(chip, sampling):
    count = chip.plan.context - len(PROMPT)
    verdict = compare(chip, count=count, sampling=sampling)
    assert verdict.first_difference is None
    assert verdict.equal
    assert len(verdict.transcripts[0]) == count
    user = User(len(PROMPT), count, sampling)
    assert verdict.simulated_cycles == Schedule(chip.plan).run([user])


def test_a_long_prompt(chip):
    length = chip.plan.context - 1
    prompt = np.random.default_rng(4).integers(0, chip.model.architecture.vocabulary, length)
    verdict = compare(chip, prompt=prompt.tolist(), count=1)
    assert verdict.equal
    assert verdict.simulated_cycles == Schedule(chip.plan).run([User(length, 1)])


def test_beats_as_wide_as_large_chips_have(tmp_path):
    """What the plan says of chips too large to simulate rests on the same blocks."""
    beat = 64
    shape = random_architecture(
        vocabulary=2 * beat + 9, width=beat, layers=1, heads=1, kv_heads=1, head_width=beat,
        inner=2 * beat, context=64,
    )  # fmt: skip
    chip = build_chip(tmp_path, random_model(5, shape), slots=1, beat=beat, positions=16, lanes=33)
    for sampling in (Sampling(), WARM):
        verdict = compare(chip, count=40, sampling=sampling)
        assert verdict.first_difference is None
        assert verdict.simulated_cycles == Schedule(chip.plan).run([User(5, 40, sampling)])


@pytest.mark.parametrize("shape", ["plain", "mixed"])
def test_users_together_get_what_each_gets_alone(build, shape):
    chip = build(shape)
    requests = [Request((1, 2, 3), 9, WARM), Request((4, 5, 6, 7, 8, 9, 10), 12)]
    if chip.plan.slots > 2:
        requests.append(Request((11,), 4, dataclasses.replace(WARM, seed=1)))
    verdict = verify_together(chip.model, chip.executable, chip.rom, requests, deadline=DEADLINE)
    assert verdict.first_difference is None
    alone = [tuple(record(chip.model, [request])[0]) for request in requests]
    assert list(verdict.transcripts) == alone
    users = [User(len(r.prompt), r.count, r.sampling) for r in requests]
    assert verdict.simulated_cycles == Schedule(chip.plan).run(users)


@pytest.mark.parametrize("seed", range(3))
def test_stalls_change_cycles_only(chip, seed):
    calm, stalled = compare(chip, sampling=WARM), compare(chip, sampling=WARM, stall=seed)
    assert stalled.equal
    assert stalled.transcripts == calm.transcripts
    assert stalled.simulated_cycles > calm.simulated_cycles


def test_a_program_of_parts_is_the_chip_cycle_by_cycle(build):
    """The parts joined in C++ do what the top module does, idle or not, stalled or not."""
    parts, whole = build("mixed"), build("mixed", whole=True)
    requests = [Request((1, 2, 3), 9, WARM), Request(PROMPT, 8), Request((11,), 4)]

    def run(chip: Chip, stall: int | None):
        with Simulation(chip.executable, chip.rom, deadline=DEADLINE, stall=stall) as sim:
            rows = []
            for slot, request in enumerate(requests):
                sim.configure(slot, request.sampling, limit=request.positions + 1)
                sim.send(slot, request.prompt)
                rows += sim.results(2)
            rows += sim.settle()
            sim.configure(0, host=True, epoch=1)
            sim.send(0, PROMPT)
            return rows, sim.logits().cycle, sim.accepted

    for stall in (None, 1, 2):
        assert run(parts, stall) == run(whole, stall)


@pytest.mark.parametrize("settled", [True, False])
def test_a_slot_rolls_back(chip, settled):
    """A lower position is sent again, with another token and a new epoch."""
    golden = Golden(chip.model)
    branch = [*PROMPT[:3], 20, 21]
    with Simulation(chip.executable, chip.rom, deadline=DEADLINE) as sim:
        sim.configure(0, limit=len(PROMPT) + 6)
        sim.send(0, PROMPT)
        before = [result.token for result in sim.results(3)]
        if settled:
            sim.settle()
        sim.configure(0, WARM, limit=12, epoch=1)
        sim.send(0, branch[3:], position=3)
        after = list(sim.results(7))
    assert before == record(chip.model, [Request(PROMPT, 3)])[0]
    assert {result.epoch for result in after} == {1}
    assert [result.position for result in after] == list(range(5, 12))
    tokens, x = [*branch], golden.residual(np.array(branch))
    for result in after:
        logits = golden.logits(x[-1:], len(tokens) - 1)[0]
        assert result.token == sample(logits, WARM, len(tokens) - 1)
        tokens.append(result.token)
        x = golden.residual(np.array(tokens[-1:]), len(tokens) - 1)


def test_the_host_gets_every_logit(chip):
    golden = Golden(chip.model)
    with Simulation(chip.executable, chip.rom, deadline=DEADLINE, stall=3) as sim:
        sim.configure(0, host=True)
        for position, token in enumerate(PROMPT):
            sim.send(0, [token], position)
            logits = sim.logits()
            x = golden.residual(np.array([token]), position)
            np.testing.assert_array_equal(logits.values, golden.logits(x, position)[0])
            assert (logits.slot, logits.position) == (0, position)
        assert sim.settle() == []


@pytest.mark.parametrize("shape", ["plain", "mixed"])
def test_host_sampling_takes_the_planned_cycles(build, shape):
    """But for those in which the chip waits for the host's next token."""
    chip = build(shape)
    with Simulation(chip.executable, chip.rom, deadline=DEADLINE) as sim:
        sim.configure(0, host=True)
        sim.send(0, PROMPT)
        taken = [sim.logits().cycle - sim.accepted[0].cycle]
        for position in range(len(PROMPT), len(PROMPT) + 4):
            before = len(sim.accepted)
            sim.send(0, [7], position)
            taken.append(sim.logits().cycle - sim.accepted[before].cycle)
    schedule = Schedule(chip.plan)
    planned = [schedule.host_run(len(PROMPT), count) for count in range(1, 6)]
    assert [sum(taken[: count + 1]) for count in range(5)] == planned


def test_a_stop_token_ends_generation(plain):
    tokens = record(plain.model, [Request(PROMPT, 8)])[0]
    with Simulation(plain.executable, plain.rom, deadline=DEADLINE) as sim:
        sim.configure(0, stop=tokens[4])
        sim.send(0, PROMPT)
        results = list(sim.results(tokens.index(tokens[4]) + 1))
        assert [result.token for result in results] == tokens[: len(results)]
        assert results[-1].final
        assert sim.settle() == []


def broken_rom(chip: Chip, folder, image: str, line: int, bit: int) -> Chip:
    """The chip with one bit of its ROM flipped."""
    shutil.copytree(chip.rom, folder / "rom")
    path = folder / "rom" / image
    lines = path.read_text().split("\n")
    width = len(lines[line])
    lines[line] = f"{int(lines[line], 16) ^ 1 << bit:0{width}x}"
    path.write_text("\n".join(lines))
    return dataclasses.replace(chip, rom=folder / "rom")


@pytest.mark.parametrize("name", ["q", "k", "v", "o", "gate", "up", "down", "head"])
@pytest.mark.parametrize("shape", ["plain", "mixed"])
def test_a_flipped_code_is_named(build, shape, name, tmp_path):
    """The sign of one code of one matrix; its column is the element."""
    chip = build(shape)
    layer = 0 if name == "head" else 1
    fabric = chip.plan.head if name == "head" else chip.plan.layers[layer][name]
    words = -(-fabric.outputs // 64)
    rng = np.random.default_rng(len(name))
    row, lane = int(rng.integers(fabric.rows - 1)), int(rng.integers(fabric.lanes))
    column = int(rng.integers(fabric.outputs))
    line = ((row * fabric.lanes + lane) * fabric.bits + fabric.bits - 1) * words + column // 64
    broken = broken_rom(chip, tmp_path, f"{name}.{layer}.hex", line, column % 64)
    difference = found(broken)
    op = "logits" if name == "head" else name
    assert (difference.layer, difference.op) == (
        chip.model.architecture.layers if name == "head" else layer, op,
    )  # fmt: skip
    assert difference.element == column
    assert difference.expected != difference.got


@pytest.mark.parametrize(
    ("image", "line", "bit", "layer", "op"),
    [
        ("embedding.0.hex", 5 * 6 + 1, 13, -1, "embedding"),
        ("embedding_multiplier.0.hex", 6, 14, -1, "embedding"),
        ("embedding_shift.0.hex", 0, 0, -1, "embedding"),
        ("norm_attention.1.hex", 0, 48 + 14, 1, "norm_attention"),
        ("norm_mlp.0.hex", 0, 48 + 16, 0, "norm_mlp"),
        ("norm.0.hex", 0, 48 + 13, 3, "norm"),
        ("score_shift.2.hex", 0, 0, 2, "attention"),
        ("k_map.1.hex", 0, 0, 1, "k"),
        ("v_start.0.hex", 1, 12, 0, "v"),
        ("up_narrow.2.hex", 1, 22 * 3 + 14, 2, "up"),
        ("down_narrow.0.hex", 1, 22 * 2 + 16, 0, "down"),
    ],
)
def test_a_flipped_bit_of_any_image_is_named(build, tmp_path, image, line, bit, layer, op):
    difference = found(broken_rom(build("mixed"), tmp_path, image, line, bit))
    assert (difference.layer, difference.op) == (layer, op)


@pytest.fixture
def fault(plain):
    """Wakes a fault of the plain chip; asleep again afterwards."""
    yield lambda fault: fault.write(plain.rom)
    Fault().write(plain.rom)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("op", BLOCKS)
def test_a_block_that_hides_its_valid_is_named(plain, fault, op, layer):
    fault(Fault(HANG, BLOCKS[op], position=3 + layer, layer=layer))
    difference = found(plain)
    assert (difference.token, difference.layer, difference.op) == (3 + layer, layer, op)
    assert difference.element == 0
    assert difference.expected is not None
    assert difference.got is None


@pytest.mark.parametrize("op", BLOCKS)
def test_a_block_that_loses_a_beat_is_named(plain, fault, op):
    fault(Fault(LOSE, BLOCKS[op], position=2, layer=1))
    difference = found(plain)
    assert (difference.token, difference.layer, difference.op) == (2, 1, op)
    assert difference.expected != difference.got


def table_uses(model) -> dict[str, tuple[int, int, set[str]]]:
    """For every table an entry that the run needs, a bit of it, and the operations it shows in."""
    values = {}

    def trace(layer, op, position, rows):
        values[layer, op] = rows

    Golden(model).residual(np.array(PROMPT), 0, 0, trace)
    norm = model.layers[0].norm_attention
    square = sum_of_squares(values[-1, "embedding"][:1])[0] + norm.epsilon
    zeros = (SQUARE_BITS - square.bit_length()) // 2
    root = (square << 2 * zeros >> SQUARE_BITS - RSQRT_MANTISSA >> 16) - 64
    gate = int(np.abs(values[0, "gate"][0, 0])) >> 8
    return {
        "sine": (1, 6, {"rotary_q", "rotary_k"}),
        "exp2": (0, 8, {"attention"}),
        "root": (root, 11, {"norm_attention"}),
        "gate": (min(gate, 255), 8, {"product"}),
    }


@pytest.mark.parametrize("name", TABLES.values())
def test_a_wrong_table_entry_is_named(plain, fault, name):
    index, bit, ops = table_uses(plain.model)[name]
    fault(Fault(TABLE, list(TABLES.values()).index(name), index=index, bit=bit))
    difference = found(plain)
    assert difference.op in ops
    assert difference.layer == 0
    assert difference.expected != difference.got
