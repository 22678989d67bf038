"""Outlines: a dense one is the compiled chip's plan; mixtures and latent attention by hand."""

import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize_models import random_checkpoint
from random_model import random_architecture, random_model

from intaglio.errors import BadInput
from intaglio.golden.number import accumulator_bits
from intaglio.golden.sample import Sampling
from intaglio.plan.chip import make_plan
from intaglio.plan.outline import Outline, OutlineSchedule, outline, spine, widest_beat
from intaglio.plan.preset import Experts, Latent, Preset, Window, preset, preset_names
from intaglio.plan.process import process
from intaglio.plan.schedule import Schedule, User, linear_gap
from intaglio.plan.tiling import DIGITS, EXTRA_SHIFT, MOST_LANES, Shape, extra_rows, lanes_for
from intaglio.quantize import QuantizeOptions, codebook, quantize

EIGHT: dict[str, Any] = {"context": 2048, "slots": 2}
SHORT: dict[str, Any] = {"context": 32, "slots": 1}


def made(architecture, **parts) -> Preset:
    """A preset of this architecture."""
    fields = dict.fromkeys(("experts", "latent", "window"))
    return Preset(
        name="made", title="made", architecture=architecture, published=(1.0, None),
        not_modelled=(), source="test", year=2026, **{**fields, **parts},
    )  # fmt: skip


SMALL = random_architecture(width=64, heads=4, kv_heads=2, head_width=16, inner=32)
MIXED = made(SMALL, experts=Experts(8, 2, 1, 0, None))
LATENT = made(
    replace(SMALL, kv_heads=4, head_width=24),
    latent=Latent(query_rank=32, kv_rank=16, plain=16, rotary=8, value=16),
)


def test_widths_are_those_of_the_quantizer():
    assert DIGITS == codebook.DIGITS
    assert EXTRA_SHIFT == codebook.EXTRA_SHIFT


def test_the_outline_of_the_bundled_model_is_the_plan_of_its_chip():
    """A chip of that architecture with the widths that the compiler chose: the same fabrics."""
    a = preset("bundled").architecture
    wide = {"q": 3, "k": 3, "v": 4, "o": 3, "gate": 4, "up": 2, "down": 4, "head": 4}
    model = random_model(architecture=a, bits=wide, extras={"k": 1.0, "v": 1.0, "head": 1.0})
    for target, rows in (("generic", None), ("sky130", process("sky130"))):
        plan = make_plan(model, target)
        bits = {name: width.bits * (1 + (width.extra_rows > 0))
                for name, width in (plan.layers[0] | {"head": plan.head}).items()}  # fmt: skip
        got = outline(preset("bundled"), rows, context=plan.context, slots=plan.slots, bits=bits)
        assert [
            {name: replace(fabric, extra_shift=0, accumulator=0) for name, fabric in layer.items()}
            for layer in got.plan.layers
        ] == [
            {name: replace(fabric, extra_shift=0, accumulator=0) for name, fabric in layer.items()}
            for layer in plan.layers
        ]
        ours, theirs = got.schedule(), Schedule(plan)
        for position in (0, 1, 100, 511):
            assert ours.token(position) == theirs.token(position)
        users = [User(7, 20, Sampling()), User(3, 9, Sampling())]
        assert ours.run(users) == theirs.run(users)
        assert got.weights == got.active_weights == got.cells == plan.cells


def test_the_outline_of_a_checkpoint_is_the_plan_of_its_chip():
    """With the widths that the quantizer chose: every fabric, its accumulator and shift too."""
    options = QuantizeOptions(bits=3.5, tokens=1024, refinement=0)
    model = quantize(random_checkpoint(), options)
    bits = {name: matrix.bits * (2 if matrix.extras else 1) for name, matrix in model.matrices()}
    assert len(set(bits.values())) > 2
    plan = make_plan(model)
    got = outline(model.architecture, context=plan.context, slots=plan.slots, bits=bits)
    assert replace(got.plan, rotary=plan.rotary) == plan


def test_widths_may_differ_by_layer():
    bits = {"layers.1.q": 8} | dict.fromkeys(("q", "k", "v", "o", "gate", "up", "down"), 3)
    got = outline(SMALL, context=32, slots=1, bits=bits)
    first, second = (layer["q"] for layer in got.plan.layers)
    assert (first.bits, first.extra_rows) == (3, 0)
    assert (second.bits, second.extra_rows) == (4, second.rows)
    assert got.bits["q"] == (3 + 8) / 2
    assert got.bits["head"] == 8


def test_the_outline_of_a_plan():
    plan = make_plan(random_model(architecture=SMALL, extras={"v": 0.5}))
    got = Outline.of(plan)
    assert got.plan is plan
    assert got.weights == got.active_weights == plan.cells
    assert set(got.copies.values()) == set(got.active.values()) == {1}
    assert got.schedule().token(5) == Schedule(plan).token(5)
    assert got.cache_width == 2 * SMALL.kv_width
    assert got.positions_kept(0) == plan.context
    assert 4 < got.bits["v"] < 8
    assert got.stored(0) == got.working(0) == got.copies


def test_an_eight_billion_model_in_milliseconds():
    begin = time.process_time()
    got = outline(preset("llama-3.1-8b"), process("n6"), **EIGHT, beat=128, positions=8)
    assert time.process_time() - begin < 1
    assert got.plan.target == "n6"
    fabric = got.plan.layers[0]["gate"]
    assert fabric.accumulator == accumulator_bits(4096, 15, 8)
    assert got.plan.head.extra_rows == got.plan.head.rows
    rows = [got.plan.layers[0][name].rows for name in ("q", "o", "gate", "down")]
    assert sum(rows) <= 37 + 2
    blocks = preset("llama-3.1-8b").architecture.block_parameters
    head = 2 * 128256 * 4096
    assert blocks + head <= got.weights <= 1.02 * (blocks + head)
    assert got.schedule().token(0) == Schedule(got.plan).token(0)


def test_lanes_of_a_large_model_exceed_what_is_compiled():
    got = outline(preset("llama-3.1-70b"), process("n5"), **EIGHT)
    down = got.plan.layers[0]["down"]
    assert down.lanes > MOST_LANES
    assert down.rows == 10
    held = outline(preset("llama-3.1-70b"), **EIGHT, lanes=100)
    assert {f.lanes for layer in held.plan.layers for f in layer.values()} == {100}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_has_an_outline(name):
    model = preset(name)
    a = spine(model)
    context = min(2048, a.context)
    got = outline(model, process("n5"), context=context, slots=1, beat=widest_beat(a), positions=8)
    twice = outline(model, process("n5"), context=context, slots=1, beat=widest_beat(a),
                    positions=16)  # fmt: skip
    ours, theirs = got.schedule(), twice.schedule()
    tokens = [ours.token(position) for position in range(0, context, 97)]
    assert all(before <= after for before, after in pairwise(tokens))
    assert theirs.token(context - 1) < ours.token(context - 1)
    stored = model.parameters - (0 if a.tied else a.vocabulary * a.width)
    head = a.vocabulary * a.width  # stored with two digits
    assert stored + head == pytest.approx(got.weights, rel=0.03)
    assert model.active + head == pytest.approx(got.active_weights, rel=0.03)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(4, 400), st.integers(4, 400), st.sampled_from([2, 3, 4, 6, 8]),
    st.sampled_from(preset_names()),
)  # fmt: skip
def test_fewer_rows_are_never_slower(few, more, bits, name):
    few, more = sorted((few, more))
    model = preset(name)
    chips = [outline(model, context=64, slots=1, bits=bits, rows=rows) for rows in (few, more)]
    cycles = [chip.schedule().token(17) for chip in chips]
    assert cycles[0] <= cycles[1]


def test_a_mixture_by_hand():
    got = outline(MIXED, context=32, slots=1, bits=4, lanes=16, beat=16, positions=1)
    plain = outline(made(SMALL), context=32, slots=1, bits=4, lanes=16, beat=16, positions=1)
    assert got.plan == plain.plan
    assert got.copies["gate"] == got.copies["down"] == 9
    assert got.active["gate"] == got.active["down"] == 3
    assert got.copies["q"] == got.active["q"] == 1
    router = got.extra[0]["router"]
    assert (router.copies, router.active) == (1, 1)
    assert (router.fabric.inputs, router.fabric.outputs, router.fabric.bits) == (64, 8, 4)
    expert = 3 * 64 * 32
    attention = 64 * (2 * 64 + 2 * 32)
    head, router_cells = 2 * 64 * 96, 2 * 64 * 8  # two digits
    assert got.weights == 2 * (attention + 9 * expert + router_cells) + head
    assert got.active_weights == 2 * (attention + 3 * expert + router_cells) + head
    # the router's 8 rows of 12 cycles, begun 3 beats before the last, drain and narrow; a beat of
    # 16 scores, sorted in 10 stages; 4 to choose; the experts begin when all beats are there; 2
    # more experts; their sum: weights, tree, end
    added = linear_gap([router.fabric], 16) + 10 + 4 + 3 + 2 + 2 + 1
    assert linear_gap([router.fabric], 16) == 8 * 12 - 3 + 4 + 4
    ours, theirs = got.schedule(), plain.schedule()
    assert ours.layer(1, 5) == theirs.layer(1, 5) + added
    assert ours.interval(1, 5) == theirs.interval(1, 5) + added
    assert ours.token(5) == theirs.token(5) + 2 * added


def test_dense_layers_among_a_mixture_have_no_router():
    model = replace(MIXED, experts=Experts(8, 2, 1, 1, 96))
    got = outline(model, context=32, slots=1, lanes=16, beat=16, positions=1)
    assert "router" not in got.extra[0]
    assert got.stored(0)["gate"] == 3
    assert got.stored(1)["gate"] == 9
    schedule = got.schedule()
    assert isinstance(schedule, OutlineSchedule)
    assert schedule.choice(0) == 0 < schedule.choice(1)
    assert schedule.layer(0, 3) + schedule.choice(1) == schedule.layer(1, 3)
    expert, other = 3 * 64 * 32, outline(MIXED, context=32, slots=1, lanes=16, beat=16)
    assert other.weights - got.weights == 6 * expert + other.extra[0]["router"].fabric.cells


def test_latent_attention_by_hand():
    got = outline(LATENT, context=32, slots=1, bits=4, lanes=16, beat=8, positions=1)
    assert (got.cache_width, got.mean_width()) == (24, 16)
    a = got.plan.architecture
    assert (a.heads, a.kv_heads, a.head_width) == (4, 1, 24)
    fabrics, stored = got.fabrics(0), got.stored(0)
    sizes = {name: (f.inputs, f.outputs, stored[name]) for name, f in fabrics.items()}
    assert sizes == {
        "query_down": (64, 32, 1), "q": (32, 96, 1), "k": (64, 24, 1), "key_up": (16, 16, 4),
        "v": (16, 16, 4), "o": (64, 64, 1), "gate": (64, 32, 1), "up": (64, 32, 1),
        "down": (32, 64, 1),
    }  # fmt: skip
    assert got.working(0) == stored
    weights = sum(n * m * count for n, m, count in sizes.values())
    latent = LATENT.latent
    assert latent
    assert weights == latent.parameters(64, 4) + 3 * 64 * 32
    assert got.weights == 2 * weights + 2 * 64 * 96
    # edges: (beats - 1) around each stop; the linears' rows are inputs / 16 of 12 cycles, plus 8,
    # and begin with the second beat
    norm = 15 + 1
    linear = {name: -(-f.inputs // 16) * (12 if name != "down" else 14) + 8 - (f.inputs // 8 - 2)
              for name, f in fabrics.items()}  # fmt: skip
    attention = (
        (7 + norm + 7 + linear["query_down"]) + (3 + norm + 3 + linear["q"])
        + (11 + 3 + linear["key_up"] + 1) + (1 + 4 + 1 + linear["v"])
        + (7 + 4 + 7 + linear["o"] + 1)
    )  # fmt: skip
    gated = 7 + norm + 7 + linear["gate"] + 9 + (3 + 4 + 3 + linear["down"] + 1)
    assert got.schedule().layer(0, 4) == attention + gated + 33 + 2 * 5


def test_a_window_bounds_what_a_layer_sees():
    got = outline(made(SMALL, window=Window(4, 2)), context=32, slots=1, positions=1)
    full = outline(made(SMALL), context=32, slots=1, positions=1).schedule()
    ours = got.schedule()
    assert [got.positions_kept(layer) for layer in (0, 1)] == [4, 32]
    for position in (0, 3, 4, 31):
        assert ours.layer(0, position) == full.layer(0, min(position, 3))
        assert ours.layer(1, position) == full.layer(1, position)


def test_rows_by_group_and_for_the_head():
    rows = {"qkv": 4, "o": 2, "mlp": 8, "down": 1, "head": 32}
    got = outline(MIXED, context=32, slots=1, rows=rows)
    found = {name: fabric.rows for name, fabric in got.fabrics(0).items()}
    assert found == {
        "q": 4, "k": 4, "v": 4, "o": 2, "gate": 8, "up": 8, "down": 1, "router": 2,
    }  # fmt: skip
    assert got.plan.head.rows == 16  # its second digits take as many
    fewer = outline(MIXED, context=32, slots=1, rows={**rows, "router": 16})
    assert fewer.fabrics(0)["router"].rows == 8


def test_second_digits_without_weights_are_spread_evenly():
    assert extra_rows(Shape(3, 64, 8), 16) == 0
    assert extra_rows(Shape(3, 64, 8, extras=17), 16) == 2
    assert lanes_for(Shape(4, 64, 8, extras=64), 1) == 64  # two rows are the least there can be
    assert lanes_for(Shape(4, 64, 8, extras=64), 8) == 16


def test_the_widest_beat():
    assert widest_beat(preset("llama-3.1-8b").architecture) == 128
    assert widest_beat(preset("llama-3.1-8b").architecture, 64) == 64
    assert widest_beat(spine(preset("deepseek-r1"))) == 64
    assert widest_beat(random_architecture(width=36, head_width=6, inner=50)) == 2


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"bits": 5}, "bits of q must be one of 2, 3, 4, 6, 8, not 5"),
        ({"bits": {"q": 4}}, "bits of k must be one of 2, 3, 4, 6, 8, not None"),
        ({"rows": 0}, "rows must be at least 1, not 0"),
        ({"rows": {"qkv": 1, "o": 1, "mlp": 1}}, "rows must have every group, not lack down"),
        ({"rows": {"qkv": 1, "o": 1, "mlp": 1, "down": 0}}, "rows must be at least 1, not 0"),
        ({"lanes": 0}, "lanes must be at least 1, not 0"),
        ({"lanes": -1}, "lanes must be at least 1, not -1"),
        ({"context": 33}, "context must be from 1 to the model's 32, not 33"),
        ({"slots": 0}, "slots must be from 1 to 256, not 0"),
        ({"beat": 0}, "beat must be at least 1, not 0"),
        ({"beat": 5}, "width must be a multiple of the beat 5"),
        ({"positions": 0}, "positions must be a power of two, not 0"),
        ({"adapter_rank": 8}, "adapter rank must be 0 for a mixture and for latent attention"),
    ],
)
def test_impossible_choices(choices, message):
    with pytest.raises(BadInput) as caught:
        outline(MIXED, **{**SHORT, **choices})
    assert caught.value.message == message


def test_dense_layers_must_be_made_of_experts():
    for inner, text in ((100, "a multiple of inner"), (64, "inner times the 3 experts")):
        model = replace(MIXED, experts=Experts(8, 2, 1, 1, inner))
        with pytest.raises(BadInput, match=rf"^made: dense_inner must be {text}"):
            outline(model, context=32, slots=1)


def test_an_adapter_beside_a_dense_outline():
    plan = make_plan(random_model(architecture=SMALL), adapter_rank=4)
    got = outline(SMALL, context=32, slots=2, adapter_rank=4, bits=4)
    assert got.plan.side_memory_bits == plan.side_memory_bits > 0
    assert got.schedule().token(3, adapted=True) == Schedule(plan).token(3, adapted=True)
