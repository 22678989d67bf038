"""The plan's cycles, held to what the hardware says of its blocks. The whole chip's: test_tiny."""

import gc

import pytest
from random_model import random_architecture, random_model

from intaglio.golden.number import ATTENTION, PRODUCT, Int
from intaglio.golden.sample import Sampling
from intaglio.hardware.attention import Attention
from intaglio.hardware.embedding import Embedding
from intaglio.hardware.gate import Gate
from intaglio.hardware.linear import linear_gap
from intaglio.hardware.norm import Norm
from intaglio.hardware.residual import Residual
from intaglio.hardware.rotary import Rotary
from intaglio.hardware.sampler import Sampler
from intaglio.hardware.shrink import Shrink
from intaglio.plan import schedule
from intaglio.plan.chip import make_plan
from intaglio.plan.schedule import Schedule, User
from intaglio.plan.tiling import GROUPS

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

SHAPES = [
    {},
    {"width": 64, "heads": 2, "kv_heads": 1, "head_width": 32, "inner": 96, "vocabulary": 300},
    {"width": 16, "heads": 4, "kv_heads": 4, "head_width": 4, "inner": 24, "vocabulary": 50},
]


@pytest.fixture(autouse=True)
def _blocks_end_here():
    """Blocks that are only asked for their gaps complain when they are deleted: not elsewhere."""
    yield
    gc.collect()


@pytest.fixture(params=SHAPES, ids=lambda changes: f"width{changes.get('width', 32)}")
def plan(request):
    return make_plan(random_model(architecture=random_architecture(**request.param)), positions=2)


def test_gaps_are_the_hardwares(plan):
    a, beat = plan.architecture, plan.beat
    assert schedule.norm_gap(plan) == Norm(width=a.width, beat=beat, to=Int(8)).gap
    assert Embedding.gap == schedule.EMBEDDING_GAP
    assert Residual.gap == schedule.RESIDUAL_GAP
    assert Gate.gap == schedule.GATE_GAP
    shrinks = [(a.query_width, ATTENTION, 8), (a.inner, PRODUCT, 10)]
    for length, source, bits in shrinks:
        shrink = Shrink(length=length, beat=beat, source=source, to=Int(bits))
        assert shrink.gap == schedule.SHRINK_GAP
    for names in GROUPS.values():
        fabrics = [plan.layers[0][name] for name in names]
        assert schedule.linear_gap(fabrics, plan.beat) == linear_gap(fabrics, plan.beat)


def test_rotary_and_attention_gaps_are_the_hardwares(plan):
    a = plan.architecture
    shape = {"heads": a.heads, "kv_heads": a.kv_heads, "head_width": a.head_width}
    shape |= {"beat": plan.beat, "query": Int(plan.widths.query)}
    rotary = Rotary(**shape, fractions=plan.rotary, position_bits=20)
    assert rotary.gap == schedule.ROTARY_GAP
    assert rotary.prepare == a.head_width + schedule.ROTARY_LATENCY
    attention = Attention(**shape, context=plan.context, slots=plan.slots, positions=plan.positions)
    for position in range(plan.context):
        assert schedule.attention_gap(plan, position) == attention.gap(position)


@pytest.mark.parametrize("top_k", [1, 2, 40, 64])
@pytest.mark.parametrize("beta", [0, 5000])
def test_sampler_gap_is_the_hardwares(plan, beta, top_k):
    sampling = Sampling(beta=beta, top_k=top_k)
    sampler = Sampler(vocabulary=plan.architecture.vocabulary, beat=plan.beat)
    assert schedule.sampler_gap(plan, sampling) == sampler.gap(sampling)


def test_prompt_positions_follow_each_other_a_layer_apart(plan):
    cycles = Schedule(plan)
    short, long = cycles.run([User(4, 1)]), cycles.run([User(20, 1)])
    intervals = [
        max(cycles.interval(index, position) for index in range(len(plan.layers)))
        for position in range(4, 20)
    ]
    assert long - short <= sum(intervals) + 16 * len(plan.layers)
    assert long < 20 * cycles.token(20) / 2


def test_two_users_share_the_chain(plan):
    cycles = Schedule(plan)
    alone = cycles.run([User(3, 10)])
    both = cycles.run([User(3, 10), User(3, 10)])
    assert alone < both < 2 * alone


def test_one_user_takes_a_token_after_the_other(plan):
    cycles = Schedule(plan)
    first, second = cycles.run([User(5, 3)]), cycles.run([User(5, 4)])
    assert second - first == cycles.token(7)
