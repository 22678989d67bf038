# amaranth: UnusedElaboratable=no
"""A chip's figures: exact cycles, sums that close, what grows with what."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import BadInput
from intaglio.golden.number import KEY, MULTIPLIER_BITS, VALUE
from intaglio.hardware import attention, images
from intaglio.hardware.norm import EPSILON_BITS, SHIFT_BITS
from intaglio.hardware.reciprocal import Reciprocal
from intaglio.hardware.sampler import Sampler
from intaglio.plan.outline import Outline, outline
from intaglio.plan.preset import preset
from intaglio.plan.process import process
from intaglio.plan.schedule import Schedule, User
from intaglio.quantity import GRADES, numbers
from intaglio.silicon import blocks
from intaglio.silicon.blocks import sampler_sizes
from intaglio.silicon.fabric import fabric_energy
from intaglio.silicon.model import KINDS, Silicon, inputs_of, silicon
from intaglio.silicon.physical import Physical, figures
from intaglio.silicon.request import Choices, request_cycles

SMALL = "smollm2-135m"


def chip(name=SMALL, **changes) -> Outline:
    shape = {"context": 256, "slots": 2, "bits": 4, "positions": 2}
    return outline(preset(name), process("n6"), **{**shape, **changes})


def physical(target="n6", choices=None, **changes) -> Physical:
    return figures(chip(**changes), process(target), choices)


@pytest.fixture(scope="module")
def small() -> Physical:
    return physical()


# cycles are the schedule's


@pytest.mark.parametrize(("prompt", "output"), [(1, 1), (1, 2), (7, 5), (128, 128)])
def test_cycles_are_those_of_the_schedule(prompt, output):
    made = chip()
    cycles = request_cycles(made, Choices(prompt=prompt, output=output))
    schedule = Schedule(made.plan)
    assert cycles.first == schedule.run([User(prompt, 1)])
    assert cycles.first + cycles.decode == schedule.run([User(prompt, output)])


def test_rates_are_cycles_times_clock(small):
    cycles, clock = small.cycles, process("n6")["clock"].number
    speed = {name: quantity.number for name, quantity in small.speed.items()}
    steps, late = cycles.output - 1, speed["redrive_cycles"]
    decode = cycles.decode + steps * late
    assert speed["tokens_per_second_per_user"] == pytest.approx(clock * steps / decode)
    first = cycles.first + late + (cycles.prompt - 1) * speed["redrive_cycles_interval"]
    assert speed["first_token_seconds"] == pytest.approx(first / clock)
    whole = (first + decode) / clock
    assert speed["tokens_per_second_end_to_end"] == pytest.approx(cycles.output / whole)
    head = cycles.head + small.silicon.redrives(numbers(small.inputs)).head
    interval = max(cycles.layer + speed["redrive_cycles_interval"], head)
    assert speed["tokens_per_second_full"] == pytest.approx(clock / interval)


def test_speed_falls_with_the_position(small):
    rates = list(small.at_context([0, 64, 128, 255]).values())
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1]


def test_users_share_the_pipeline():
    alone, two, many = (physical(slots=n) for n in (1, 2, 200))
    rate = alone.speed["tokens_per_second_all"].number
    assert rate == pytest.approx(alone.speed["tokens_per_second_per_user"].number)
    assert two.speed["tokens_per_second_all"].number == pytest.approx(2 * rate)
    full = many.speed["tokens_per_second_full"].number
    assert many.speed["tokens_per_second_all"].number == pytest.approx(full)
    assert full / rate == pytest.approx(many.users["full"])


def test_a_request_must_fit_the_context():
    with pytest.raises(BadInput, match=r"^prompt and output must fit the context of 256, not 200"):
        Choices(prompt=200, output=58).request(256)
    assert Choices(prompt=200, output=57).request(256) == (200, 57)
    assert Choices().request(2048) == (1024, 1024)
    assert Choices().request(256) == (128, 128)
    assert Choices().request(1) == (1, 1)


@pytest.mark.parametrize("rate", [0, -1, 1.5, 1e-300, float("nan")])
def test_issue_rate_out_of_range(rate):
    with pytest.raises(BadInput, match=r"^issue rate must be from 1e-06 to 1, not "):
        Choices(issue_rate=rate)


def test_a_capped_issue_rate_slows_the_prompt_and_at_last_the_user():
    whole, half, tenth = (physical(choices=Choices(issue_rate=rate)) for rate in (1, 0.5, 0.01))
    first, user = "first_token_seconds", "tokens_per_second_per_user"
    cycles, clock = whole.cycles, process("n6")["clock"].number
    interval = clock / whole.speed["tokens_per_second_full"].number
    late = (cycles.prompt - 1) * interval / clock
    assert half.speed[first].number == pytest.approx(whole.speed[first].number + late)
    assert half.speed[user].number == whole.speed[user].number
    assert tenth.speed[user].number == pytest.approx(0.01 * clock / interval)


def test_prompt_of_nothing():
    with pytest.raises(BadInput, match=r"^prompt must be at least 1 token, not 0$"):
        Choices(prompt=0)


# sums close


def test_area_is_the_sum_of_its_kinds(small):
    area = {name: quantity.number for name, quantity in small.area.items()}
    assert area["area_mm2"] == pytest.approx(sum(area[f"area_{kind}"] for kind in KINDS))


def test_blocks_are_all_but_wires_and_pads(small):
    area = {name: quantity.number for name, quantity in small.area.items()}
    outside = area["area_wiring"] + area["area_pads"]
    blocks = sum(block.area.number * block.count for block in small.blocks)
    assert blocks == pytest.approx(area["area_mm2"] - outside)
    assert sum(small.stations.values()) == pytest.approx(blocks)


def test_blocks_name_their_layers(small):
    layers = len(small.outline.plan.layers)
    named = {block.name: block for block in small.blocks}
    assert named["q fabric"].layers == tuple(range(layers))
    assert named["q fabric"].count == layers
    assert named["head fabric"].layer is None
    assert named["norms"].count == 2 * layers


def test_power_is_energy_times_rate_and_leakage(small):
    power = {name: quantity.number for name, quantity in small.power.items()}
    speed = {name: quantity.number for name, quantity in small.speed.items()}
    token, leak = power["dynamic_millijoule"] / 1e3, power["leakage_w"]
    for name, rate in (("power_w", "per_user"), ("power_full_w", "full"), ("power_all_w", "all")):
        assert power[name] == pytest.approx(token * speed[f"tokens_per_second_{rate}"] + leak)
    single = power["power_w"] / speed["tokens_per_second_per_user"] * 1e3
    assert power["millijoule_per_token"] == pytest.approx(single)


def test_keys_and_values_by_hand(small):
    plan, made = small.outline.plan, process("n6")
    a = plan.architecture
    bits = plan.slots * plan.context * a.kv_width * (KEY.bits + VALUE.bits) * a.layers
    area = bits * made["sram_cell"].number / made["sram_efficiency"].number / 1e6
    assert small.area["area_kv"].number == pytest.approx(area)


def test_embedding_is_its_rom(small):
    a, made = small.outline.plan.architecture, process("n6")
    bits = a.vocabulary * (a.width * 8 + 16)
    rom = bits * made["rom_cell"].number / made["sram_efficiency"].number / 1e6
    assert rom < small.area["area_embedding"].number < rom * 1.2


def test_issue_rate_caps_the_full_pipeline():
    whole, half = physical(), physical(choices=Choices(issue_rate=0.5))
    name = "tokens_per_second_full"
    assert half.speed[name].number == pytest.approx(whole.speed[name].number / 2)
    assert half.power["power_full_w"].number < whole.power["power_full_w"].number


def test_a_seat_on_a_shuttle_has_no_pads_of_its_own():
    assert physical("sky130").area["area_pads"].number == 0
    assert physical().area["area_pads"].number > 0


# quantities


def test_every_figure_has_range_grade_and_source(small):
    for name, figure in small.figures.items():
        quantity = figure.quantity
        low, high = quantity.bounds
        assert low <= quantity.number <= high, name
        assert quantity.grade in GRADES
        assert "n6" in quantity.source
    assert small.speed["tokens_per_second_per_user"].grade == process("n6")["clock"].grade


def test_only_the_clock_and_the_tiles_move_the_speed(small):
    clock, *others = small.moves["tokens_per_second_per_user"]
    assert clock == "clock"
    assert set(others) <= {"crossing_cycles", "line_reach", "cell_width", "line_pitch"}
    assert "crossing_cycles" in others
    assert "clock" not in small.moves["area_mm2"]
    assert small.moves["power_w"]


def test_the_cell_that_is_asked_for_is_taken():
    made = {cell: physical(choices=Choices(cell=cell)) for cell in ("select", "decode", "auto")}
    assert set(made["decode"].cells.values()) == {"decode"}
    areas = {cell: each.area["area_mm2"].number for cell, each in made.items()}
    assert areas["auto"] <= min(areas.values())


# counts that the hardware has too


@pytest.mark.parametrize("beat", [2, 16, 64])
def test_the_sampler_is_the_hardwares(beat):
    made = chip(beat=beat).plan
    block = Sampler(vocabulary=made.architecture.vocabulary, beat=beat)
    assert sampler_sizes(made) == (sum(block.depths), sum(map(len, block.network)))


def test_widths_and_cycles_are_the_hardwares():
    assert blocks.NARROW_BITS == images.NARROW_BITS
    assert Reciprocal.gap == blocks.RECIPROCAL_CYCLES
    assert attention.GROUP == blocks.GROUP
    assert blocks.NORM_BITS == EPSILON_BITS + MULTIPLIER_BITS + SHIFT_BITS


# what grows with what


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(4, 300), more=st.integers(1, 300))
def test_fewer_rows_are_never_slower(rows, more):
    few, many = (
        request_cycles(chip(rows=n), Choices(prompt=4, output=4)) for n in (rows, rows + more)
    )
    assert few.token <= many.token
    assert few.first <= many.first


@settings(max_examples=10, deadline=None)
@given(context=st.integers(16, 1000), more=st.integers(1, 1000))
def test_a_larger_context_is_never_less_area(context, more):
    small, large = (physical(context=n).area for n in (context, context + more))
    assert large["area_mm2"].number >= small["area_mm2"].number
    assert large["transistors"].number >= small["transistors"].number


@pytest.mark.parametrize("bits", [2, 3])
def test_wider_codes_are_never_smaller(bits):
    narrow, wide = (physical(bits=n).area["area_mm2"].number for n in (bits, bits + 1))
    assert wide > narrow


def test_more_positions_per_cycle_are_faster_and_larger():
    few, many = (physical(positions=n) for n in (1, 8))
    assert many.cycles.token < few.cycles.token
    assert many.area["area_attention"].number > few.area["area_attention"].number


def test_an_adapter_takes_side_memory():
    plain, adapted = physical(), physical(adapter_rank=8)
    assert plain.area["area_adapters"].number == 0
    assert adapted.area["area_adapters"].number > 0


def test_a_mixture_stores_more_than_works():
    made = figures(chip("gpt-oss-20b"), process("n6"))
    stored: Counter[str] = Counter()
    layers = len(made.outline.plan.layers)
    for block in made.blocks:
        stored[block.name] += round(block.count)
    assert stored["down fabric"] == 32 * layers
    assert stored["q fabric"] == layers
    assert stored["router fabric"] == layers
    dense = made.power["femtojoule_per_weight"].number
    assert dense < 10 * physical().power["femtojoule_per_weight"].number
    assert made.outline.active_weights < made.outline.weights / 4


# reads of tiles, where they were simulated


def on_sky130(rows: int, **numbers) -> tuple[Silicon, dict[str, float]]:
    own = process("sky130")
    made = outline(preset("bundled"), own, rows=rows, context=256, slots=1, bits=4, beat=16)
    x = {**{name: q.number for name, q in inputs_of(own).items()}, **numbers}
    return silicon(made, own, Choices(), x), x


def test_the_slowest_read_sets_the_clock():
    """Few rows leave the target's clock; more rows, or more of a row on a line, do not."""
    stated = process("sky130")["clock"].number
    model, x = on_sky130(24)
    assert set(model.cells.values()) == {"select"}
    assert model.clock(x) == stated
    model, x = on_sky130(256)
    slowest = model.slowest(x)
    assert slowest is not None
    assert model.clock(x) == pytest.approx(1e9 / slowest[1])
    assert model.clock(x) < stated / 2
    clocks = [model.clock({**x, "line_share": share}) for share in (0.1, 0.25, 0.46, 1.0)]
    assert clocks == sorted(clocks, reverse=True)
    assert len(set(clocks)) == 4
    rate = "tokens_per_second_per_user"
    speeds = [model.speed({**x, "line_share": share})[rate] for share in (0.25, 0.46)]
    assert speeds[0] / speeds[1] == pytest.approx(clocks[1] / clocks[2])


def test_a_process_without_reads_keeps_its_clock():
    own = process("n6")
    assert not {"line_share", "read_energy"} & set(inputs_of(own))
    made = outline(preset("bundled"), own, rows=256, context=256, slots=1, bits=4, beat=16)
    x = {name: q.number for name, q in inputs_of(own).items()}
    model = silicon(made, own, Choices(), x)
    assert model.slowest(x) is None
    assert model.clock(x) == x["clock"]


def test_reads_take_what_was_simulated():
    """By hand: sum lines, gates and pins, word lines; twice as much at twice the factor."""
    model, x = on_sky130(128)
    fabric = next(part.fabric for part in model.parts if part.fabric)
    reads = process("sky130").reads
    assert reads is not None
    e, rows = reads.energy(fabric.bits, fabric.rows + fabric.extra_rows), fabric.rows
    found = fabric_energy(fabric, "select", x, reads)
    falls = x["line_activity"] * fabric.cycles * fabric.lanes
    assert found.sums == pytest.approx(falls * fabric.outputs * e.column)
    assert found.lines > falls * (1 << fabric.bits) * e.gate + fabric.lanes * rows * (
        e.word * fabric.outputs / e.columns
    )
    twice = fabric_energy(fabric, "select", {**x, "read_energy": 2.0}, reads)
    assert twice.sums + twice.lines == pytest.approx(2 * (found.sums + found.lines))
    formula = fabric_energy(fabric, "select", x)
    assert formula.trees == found.trees
    assert 0.5 < (found.sums + found.lines) / (formula.sums + formula.lines) < 2
    for cell in ("signed", "decode"):
        assert fabric_energy(fabric, cell, x, reads) == fabric_energy(fabric, cell, x)
