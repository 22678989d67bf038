"""Cost, turnaround and agents of whole models: what is joined, what is said, what is refused."""

import json
import re
import sys
from pathlib import Path

import pytest

from intaglio import cli
from intaglio.flow.agents import AgentOptions, run_agents
from intaglio.flow.choose import PlanOptions, choose, open_model, plain_outline, target_of
from intaglio.flow.cost import Bill, mean_bits, run_cost, work_of
from intaglio.flow.plan import run_plan
from intaglio.flow.turnaround import run_turnaround
from intaglio.plan.preset import preset_names
from intaglio.plan.schedule import User
from intaglio.silicon.cost import Terms
from intaglio.silicon.yields import Redundancy

DOCUMENT = Path(__file__).parents[1] / "docs" / "json.md"
SMALL = "bundled"  # a model of 1.4 M weights: quick
COMMANDS = (
    ("cost", SMALL), ("turnaround", SMALL), ("agents", SMALL, "-n", "50", "--prompt-tokens", "9",
                                             "--gpu-tokens-per-second", "500"),
)  # fmt: skip


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command line: its exit code, stdout, stderr."""

    def run(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["intaglio", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def bill() -> Bill:
    return run_cost("llama-3.1-8b")


def test_a_bill_is_of_the_planned_chip(bill):
    planned = run_plan("llama-3.1-8b")
    assert bill.subject.chip.area == planned.physical.area["area_mm2"]
    assert bill.cost["cost_per_die_usd"] == planned.cost_per_die
    assert bill.subject.users == planned.outline.plan.slots


def test_one_user_stands_beside_one_user_and_a_batch_beside_all(bill):
    values = bill.as_dict()
    assert values["chip"]["users"] > 1
    h200 = next(row for row in values["baselines"] if row["machine"] == "h200")
    assert h200["one_user"]["published"]["value"] == 230
    assert h200["batch"]["published"]["value"] == 17744
    for kind in ("one_user", "batch"):
        assert set(h200[kind]["break_even_cards"]) == {"first_chip_usd", "next_model_usd"}
    # the same shape once more costs less, so it pays back sooner
    for row in bill.rows:
        for mode in row.back.values():
            first, following = mode["first_chip_usd"].value, mode["next_model_usd"].value
            assert (first is None) == (following is None)
            assert first is None or following is None or following <= first


def test_terms_reach_the_figures(bill):
    dear = run_cost("llama-3.1-8b", None, Terms(changes={"wafer_price": 50_000}))
    assert dear.cost["good_die_usd"].number > bill.cost["good_die_usd"].number
    spared = run_cost("llama-3.1-8b", None, Terms(redundancy=Redundancy(0.7, 3, 0.02)))
    assert spared.cost["yield"].number > bill.cost["yield"].number
    few = run_cost("llama-3.1-8b", None, Terms(volume=10))
    assert few.cost["card_price_usd"].number > bill.cost["card_price_usd"].number
    assert few.cost["card_cost_usd"] == bill.cost["card_cost_usd"]


def test_the_chip_that_is_paid_is_the_one_that_is_planned():
    options = PlanOptions(target="n65", rows=40)
    planned, paid = run_plan("smollm2-1.7b", options), run_cost("smollm2-1.7b", options)
    assert paid.cost["dies"].number == planned.dies > 1
    assert paid.cost["cost_per_die_usd"] == planned.cost_per_die
    small = run_cost(SMALL, None, Terms(die=5))
    assert small.cost["dies"].number == 1  # a slower chip that fits, not a fast one in pieces
    assert small.subject.planned.figures == run_plan(SMALL, PlanOptions(die=5)).figures


def test_more_users_cost_area_and_make_tokens_cheaper_together():
    few, many = (run_cost("llama-3.1-8b", PlanOptions(rows=60, slots=n)) for n in (2, 8))
    assert many.subject.users == 8
    assert many.subject.chip.area.number > few.subject.chip.area.number
    name = "all_users_usd_per_mtoken"
    assert many.cost[name].number < few.cost[name].number


def test_work_of_a_dense_model_by_hand():
    opened = open_model("llama-3.1-8b")
    outline = plain_outline(opened, target_of(opened, PlanOptions()), PlanOptions())
    work = work_of("llama-3.1-8b", opened, outline, 1500)
    assert work.stored == pytest.approx(8.03e9, rel=0.01)
    assert work.cache == 1500 * 32 * 2 * 8 * 128  # layers, keys and values, heads, bytes
    head, layers = 4096 * 128_256, 6_979_321_856
    assert mean_bits(outline) == pytest.approx((8 * head + 3 * layers) / (head + layers), rel=1e-3)


@pytest.mark.parametrize("name", [name for name in preset_names() if name != "bundled"])
def test_every_preset_has_its_days_and_its_machines(name):
    way = run_turnaround(name)
    assert way.next_model.total.quantity.known
    opened = open_model(name)
    outline = plain_outline(opened, target_of(opened, PlanOptions()), PlanOptions())
    assert work_of(name, opened, outline, 1000).active <= opened.parameters


def test_seats_are_for_chips_of_their_process():
    fits = {seat.name: fit for seat, fit in run_turnaround(SMALL, target="sky130").seats}
    assert fits["tiny-tapeout"] == "none"  # 1.4 M weights on half a mm2
    assert fits["ihp"] is None
    seat = {seat.name: fit for seat, fit in run_turnaround(SMALL, target="tiny-tapeout").seats}
    assert seat == {"tiny-tapeout": "none", "wafer-space": None, "chipignite": None, "ihp": None}
    assert {fit for _, fit in run_turnaround(SMALL, target="n6").seats} == {None}


def test_the_default_chain_is_ten_steps_of_ten_seconds():
    made = run_agents("llama-3.1-8b")
    assert made.gpu.chain.steps == 10
    assert made.gpu.step == pytest.approx(10, abs=0.01)
    assert made.chip.seconds.quantity.number < made.gpu.seconds.quantity.number
    whole = made.gpu.seconds.quantity.number / made.chip.seconds.quantity.number
    assert made.ratio.quantity.number == pytest.approx(whole)


def test_the_chips_seconds_are_exact_cycles_and_re_drives_over_its_clock():
    options = AgentOptions(steps=3, prompt=20, output=30, gpu_rate=100, context=64)
    made = run_agents(SMALL, options)
    opened = open_model(SMALL)
    process = target_of(opened, PlanOptions())
    chip = choose(opened, process, PlanOptions(context=64)).physical
    cycles = chip.outline.schedule().run([User(20, 30)])
    late = [chip.speed[f"redrive_cycles{of}"].number for of in ("", "_interval")]
    cycles += (1 + 30) * late[0] + 19 * late[1]
    seconds = 3 * cycles / process["clock"].number
    assert made.chip.seconds.quantity.number == pytest.approx(seconds)


def test_a_small_models_step_is_what_its_context_holds():
    made = run_agents("smollm2-135m", AgentOptions(steps=2))
    assert (made.gpu.chain.prompt, made.gpu.chain.output) == (1024, 8192 - 1024 + 1)
    assert made.chip.seconds.quantity.number < made.gpu.seconds.quantity.number
    made = run_agents("bundled", AgentOptions(steps=2))
    assert (made.gpu.chain.prompt, made.gpu.chain.output) == (256, 512 - 256 + 1)


def test_rates_that_are_given_are_taken():
    options = AgentOptions(
        steps=1, prompt=100, output=1000, rate=2000, prompt_rate=1e4, gpu_rate=100
    )
    made = run_agents("llama-3.1-8b", options)
    assert made.chip.seconds.quantity.number == pytest.approx(0.51)
    assert made.gpu.output.number == pytest.approx(10)


def test_the_longer_of_two_timelines_fills_the_line(run):
    slow = ("--steps", "4", "--prompt-tokens", "10", "--tokens", "10",
            "--tokens-per-second", "10", "--prompt-tokens-per-second", "1000")  # fmt: skip
    code, out, _ = run("agents", "llama-3.1-8b", *slow)
    assert code == 0
    lines = out.splitlines()
    bars = [line for line in lines if set(line.strip()) <= {"█", "░", "▏"}]
    assert [len(bar.strip()) for bar in bars] == [3, 80, 80]
    assert "  the GPU's line, 23 times larger" in lines
    assert lines[-1].startswith("23.1 times later (")


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_json_is_one_object_with_the_documented_keys(run, words):
    code, out, _ = run(*words, "--json")
    assert code == 0
    assert out.count("\n") == 1
    text = DOCUMENT.read_text().split(f"\n## `{words[0]}`\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    values = json.loads(out)
    assert set(values) == documented
    for key in re.findall(r"^\| `next_model\.(\w+)` \|", text, re.MULTILINE):
        assert key in values["next_model"]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_lines_fit_a_reader(run, words):
    code, out, err = run(*words)
    assert code == 0
    assert re.sub(r"looking for the fastest chip( \.\.\.|: done in [\d.]+ s)\n", "", err) == ""
    assert "nan" not in out
    assert "None" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cost", "--wafer-price", "-3"), "wafer price must be from 0 to 10,000,000 USD, not -3"),
        (("cost", "--yield", "poisson"),
         "yield model must be one of murphy, negative-binomial, not 'poisson'"),
        (("cost", "--die", "900"),
         "die must be above 0 and at most the reticle of 858 mm2, not 900"),
        (("cost", "--volume", "0"), "volume must be from 1 to 1,000,000,000,000 cards, not 0"),
        (("cost", "llama-9"), "model must be a preset"),
        (("cost", "--target", "generic"), "target generic has no process"),
        (("turnaround", "--promise", "0"), "promise must be from 0.01 to 36,500 days, not 0"),
        (("agents", "--gpu", "h300"), "machine must be one of h100"),
        (("cost", SMALL, "--target", "tiny-tapeout"),
         "the chip has 126 mm2, more than the user area of 0.576 mm2"),
        (("cost", SMALL, "--die", "1"), "no cut of the chip fits dies of 1 mm2"),
        (("turnaround", "--package-weeks", "inf"),
         "package weeks must be from 0 to 10,000, not inf"),
        (("cost", "--years", "1e-300"), "years must be from 0.01 to 100, not 1e-300"),
        (("cost", "--electricity", "1e300"),
         "electricity must be from 0 to 100 USD/kWh, not 1e+300"),
        (("cost", "--utilisation", "nan"), "utilisation must be from 1e-06 to 1, not nan"),
        (("agents", "--seconds", "1e300"),
         "seconds of a step must be from 1e-06 to 10,000,000, not 1e+300"),
        (("agents", "--steps", "0"), "steps must be at least 1, not 0"),
        (("agents", "--steps", "100000000"), "steps must be at most 100,000, not 100,000,000"),
        (("agents", "--outside", "inf"), "seconds outside must be from 0 to 10,000,000, not inf"),
        (("agents", "--gpu-tokens-per-second", "-1"),
         "gpu rate must be from 0.001 to 1,000,000,000,000 tokens/s, not -1"),
        (("agents", "--seconds", "0.001"), "a step of 0.001 s must leave time for a token"),
        (("agents", "--context", "100", "--prompt-tokens", "1024"),
         "tokens in and out of a step must fit the 100 positions"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_bad_input_is_one_line(run, words, message):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert (
        len([line for line in err.splitlines() if not line.startswith("looking for the fastest")])
        <= 2
    )  # the line and its hint
