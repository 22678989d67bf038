"""Whole chips with adapters in side memory equal the integer model with the same adapters."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
from random_adapter import random_adapter
from random_model import random_architecture, random_model
from real_chip import Chip, build_chip

from intaglio.errors import BadInput
from intaglio.golden.adapter import Adapter
from intaglio.golden.model import IntModel
from intaglio.golden.number import Widths
from intaglio.golden.sample import Sampling
from intaglio.hardware import layer as hardware_layer
from intaglio.plan import chip as plan_chip
from intaglio.plan.adapter import layer_adapters
from intaglio.plan.schedule import Schedule, User
from intaglio.verify.lockstep import Verdict, verify, verify_together
from intaglio.verify.simulation import Simulation
from intaglio.verify.trace import Request

pytestmark = pytest.mark.slow

DEADLINE = 20_000
PROMPT = (5, 6, 7, 8, 9)
FOLDED = 20  # the rank for which fewer lanes are taken than the plan would
SHAPES: dict[str, tuple[IntModel, dict[str, Any]]] = {
    "hidden": (random_model(1), {"slots": 3, "adapter_rank": 9, "adapter_count": 2}),
    "late": (
        random_model(
            2,
            random_architecture(width=48, layers=3, heads=3, kv_heads=1, head_width=16, inner=80),
            Widths(norm=10, query=16, attention=10, product=12),
            bits={"q": 2, "v": 3, "down": 3},
            extras={"k": 0.5},
        ),
        {"slots": 2, "beat": 4, "lanes": 24, "adapter_rank": FOLDED},
    ),
    "small": (
        random_model(
            3,
            random_architecture(
                vocabulary=24, width=16, heads=2, kv_heads=1, head_width=8, inner=16, context=16
            ),
        ),
        {"slots": 2, "adapter_rank": 3},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Chips by shape, each built once."""

    @functools.cache
    def get(shape: str, whole: bool = False) -> Chip:
        model, options = SHAPES[shape]
        return build_chip(tmp_path_factory.mktemp(shape), model, whole=whole, **options)

    return get


@pytest.fixture(scope="module", autouse=True)
def _few_lanes():
    """So few that the fabrics are done long before: no plan of these shapes would take them."""

    def few(fabrics, rank, beat, count=1):
        made = layer_adapters(fabrics, rank, beat, count)
        if rank != FOLDED:
            return made
        return {name: dataclasses.replace(shape, lanes=3) for name, shape in made.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_chip, "layer_adapters", few)
        patch.setattr(hardware_layer, "layer_adapters", few)
        yield


@functools.cache
def adapters(shape: str) -> dict[str, Adapter]:
    """As many as the chip holds; the second has no parts in some matrices."""
    model, options = SHAPES[shape]
    rank = options["adapter_rank"]
    few = [(0, "q"), (0, "down"), (1, "v"), (1, "up")]
    made = {
        "every": random_adapter(model, 3, rank=rank),
        "few": random_adapter(model, 4, matrices=few),
    }
    return dict(list(made.items())[: options.get("adapter_count", 1)])


def compare(chip: Chip, shape: str, adapter: str | None, count: int = 6, **options) -> Verdict:
    return verify(
        chip.model, chip.executable, chip.rom, PROMPT, count, adapter=adapter,
        **{"adapters": adapters(shape), "plan": chip.plan, "deadline": DEADLINE, **options},
    )  # fmt: skip


@pytest.mark.parametrize("adapter", ["every", "few", None])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_chip_with_an_adapter_computes_the_integer_model_with_it(build, shape, adapter):
    if adapter not in (None, *adapters(shape)):
        pytest.skip("the chip holds one adapter")
    chip = build(shape)
    count = chip.plan.context - len(PROMPT)
    verdict = compare(chip, shape, adapter, count)
    assert verdict.first_difference is None
    assert verdict.equal
    planned = Schedule(chip.plan).run([User(len(PROMPT), count, adapted=adapter is not None)])
    assert verdict.simulated_cycles == planned


@pytest.mark.parametrize("shape", SHAPES)
def test_an_adapter_changes_what_is_said(build, shape):
    """Or the tests above compare what any adapter would give."""
    chip = build(shape)
    said = {name: compare(chip, shape, name).transcripts for name in (None, *adapters(shape))}
    assert len(set(said.values())) == len(said)


def test_the_late_chip_is_late_and_the_other_is_not(build):
    for shape, late in (("hidden", False), ("late", True)):
        cycles = Schedule(build(shape).plan)
        for index in range(2):
            assert all(bool(added) == late for added in cycles.adapter_cycles(index).values())


@pytest.mark.parametrize("shape", SHAPES)
def test_users_together_get_each_his_own_adapter(build, shape):
    chip = build(shape)
    chosen = [None, *adapters(shape)][: chip.plan.slots]
    requests = [
        Request(tuple(range(3 + slot, 9)), 9 - slot, Sampling(), name)
        for slot, name in enumerate(chosen)
    ]
    verdict = verify_together(
        chip.model, chip.executable, chip.rom, requests, deadline=DEADLINE,
        adapters=adapters(shape), plan=chip.plan,
    )  # fmt: skip
    assert verdict.first_difference is None
    users = [
        User(len(r.prompt), r.count, r.sampling, adapted=r.adapter is not None) for r in requests
    ]
    assert verdict.simulated_cycles == Schedule(chip.plan).run(users)


@pytest.mark.parametrize("shape", SHAPES)
def test_delays_at_the_port_change_nothing(build, shape):
    verdict = compare(build(shape), shape, "every", stall=3)
    assert verdict.first_difference is None


def test_the_whole_chip_under_one_top_takes_the_same_cycles(build):
    parts, whole = (compare(build("small", whole), "small", "every") for whole in (False, True))
    assert whole.equal
    assert whole.transcripts == parts.transcripts
    assert whole.simulated_cycles == parts.simulated_cycles


@pytest.mark.parametrize(
    ("layer", "name", "field"),
    [(0, "q", "down"), (1, "k", "up"), (0, "v", "up_multiplier"), (1, "o", "down_multiplier"),
     (0, "gate", "up"), (1, "up", "down"), (1, "down", "up_shift")],
)  # fmt: skip
def test_a_wrong_number_in_side_memory_is_named(build, monkeypatch, layer, name, field):
    """The chip gets an adapter of which one matrix' array is another."""
    chip, adapter = build("hidden"), adapters("hidden")["every"]
    part = adapter.parts[layer, name]
    array = getattr(part, field)
    flipped = 2 if field == "up_shift" else 1 << 14 if "multiplier" in field else 1
    other = array ^ np.array(flipped, array.dtype)
    wrong = dataclasses.replace(
        adapter,
        parts={**adapter.parts, (layer, name): dataclasses.replace(part, **{field: other})},
    )
    load = Simulation.load

    def load_wrong(self, plan, given, number):
        load(self, plan, wrong if given is adapter else given, number)

    monkeypatch.setattr(Simulation, "load", load_wrong)
    difference = compare(chip, "hidden", "every").first_difference
    assert difference is not None
    assert (difference.layer, difference.op) == (layer, name)


def test_an_adapter_can_take_anothers_place(build):
    """Between two runs of one chip, without a reset."""
    chip = build("hidden")
    first, second = adapters("hidden").values()
    said = []
    with Simulation(chip.executable, chip.rom, deadline=DEADLINE) as simulation:
        for adapter in (first, second, None, first):
            simulation.load(chip.plan, adapter, 1)
            simulation.configure(0, limit=len(PROMPT) + 6)
            simulation.send(0, PROMPT, adapter=1)
            said.append(tuple(result.token for result in simulation.results(6)))
            simulation.settle()
    assert said[:2] == [compare(chip, "hidden", name).transcripts[0] for name in ("every", "few")]
    assert said[2] == compare(chip, "hidden", None).transcripts[0]
    assert said[3] == said[0]


def test_a_place_that_is_not_there_is_refused(build):
    chip = build("hidden")
    adapter = adapters("hidden")["few"]
    with Simulation(chip.executable, chip.rom) as simulation:
        with pytest.raises(BadInput) as caught:
            simulation.load(chip.plan, adapter, 2)
        assert caught.value.message == "the chip holds 2 adapters; there is no number 2"
        plain = dataclasses.replace(chip.plan, adapter_rank=0)
        with pytest.raises(BadInput) as caught:
            simulation.load(plain, adapter)
        assert caught.value.message == "the chip holds 0 adapters; there is no number 0"
