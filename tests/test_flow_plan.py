"""``intaglio plan``: what can be planned, its keys and lines, and what is refused."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from intaglio import cli
from intaglio.cli.plan_text import listed, more_dies_line
from intaglio.errors import BadInput, DoesNotFit
from intaglio.flow.choose import PlanOptions, balanced_positions, open_model
from intaglio.flow.plan import run_plan
from intaglio.plan.preset import preset_folder
from intaglio.plan.process import process
from intaglio.plan.schedule import Schedule
from intaglio.silicon.request import Choices

FIGURES = (
    "area_mm2", "power_w", "tokens_per_second_per_user", "millijoule_per_token",
    "first_token_seconds", "cost_per_die_usd",
)  # fmt: skip
QUANTITY = {"value", "low", "high", "unit", "grade", "source", "year", "blocked_by"}
SMALL = "smollm2-135m"
LOOKED = r"looking for the fastest chip \.\.\.\nlooking for the fastest chip: done in [\d.]+ s\n"
DOCUMENT = Path(__file__).parents[1] / "docs" / "json.md"


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command line; its exit code, what it printed and what it complained of."""

    def run(*words: str):
        monkeypatch.setattr(sys, "argv", ["intaglio", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, *capsys.readouterr()

    return run


# what is planned


def test_a_preset_by_its_name():
    model = open_model(SMALL)
    assert model.preset is not None
    assert model.parameters == 134_515_008


def test_a_checkpoint_by_its_architecture(made_home):
    model = open_model(str(made_home(64) / "tiny"))
    assert (model.preset, model.architecture.width) == (None, 32)
    made = run_plan(str(made_home(64) / "tiny"))
    assert made.outline.plan.context == 64
    assert made.process.name == "n6"


def test_an_architecture_alone(run, made_home, tmp_path):
    home = made_home(64) / "tiny"
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "config.json").write_bytes((home / "config.json").read_bytes())
    (alone / "pytorch_model.bin").write_bytes(b"never opened")
    whole, folder = open_model(str(home)), open_model(str(alone))
    assert (folder.title, folder.architecture) == ("alone", whole.architecture)
    assert open_model(str(alone / "config.json")) == folder
    code, out, _ = run("plan", str(alone / "config.json"), "--json")
    assert (code, json.loads(out)["parameters"]) == (0, whole.parameters)


def test_an_architecture_of_another_family_is_to_be_stated(run, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    code, _, err = run("plan", str(tmp_path))
    assert code == 2
    assert "model_type must be 'llama', not 'qwen2'\n  hint: state the architecture" in err


def test_a_preset_of_ones_own(run, tmp_path):
    path = tmp_path / "mine.yaml"
    values = yaml.safe_load((preset_folder() / f"{SMALL}.yaml").read_text())
    path.write_text(yaml.safe_dump(values | {"name": "mine", "title": "Mine"}))
    assert open_model(str(path)).parameters == open_model(SMALL).parameters
    del values["window"]
    path.write_text(yaml.safe_dump(values))
    code, _, err = run("plan", str(path))
    assert code == 2
    assert err.endswith("BadInput: mine.yaml: has no window\n")


def test_a_package_by_its_own_plan(made_home):
    path = made_home(64) / "chip"
    made = run_plan(str(path))
    plan = json.loads((path / "plan.json").read_text())
    assert made.outline.plan.as_dict() == plan | {"rotary": plan["rotary"]}
    assert made.physical.cycles.token > Schedule(made.outline.plan).token(0)
    with pytest.raises(BadInput, match=r"^--bits is the chip's own"):
        run_plan(str(path), PlanOptions(bits=3))


def test_attention_is_balanced_with_the_fabrics_of_given_rows():
    made = run_plan(SMALL, PlanOptions(rows=37))
    positions, plan = made.outline.plan.positions, made.outline.plan
    assert balanced_positions(made.outline) == positions
    assert plan.context // positions < 4 * made.physical.cycles.interval


# the bounds


def test_without_a_bound_the_reticle_is_one():
    made = run_plan(SMALL)
    assert [bound.name for bound in made.bounds] == ["reticle"]
    assert made.binding is None


def test_the_smallest_area_bounds():
    made = run_plan(SMALL, PlanOptions(die=100.0))
    assert made.bounds[0].limit == 100.0
    assert made.bounds[0].name == "die"
    assert run_plan(SMALL, PlanOptions(target="sky130")).binding == "user_area"


def test_the_most_exceeded_bound_binds():
    assert run_plan(SMALL, PlanOptions(die=20.0, power=1e-4)).binding == "power"
    assert run_plan(SMALL, PlanOptions(die=858, power=1e4)).binding is None


def test_a_bound_may_hold_by_the_value_alone():
    area = run_plan(SMALL).physical.area["area_mm2"]
    bound = run_plan(SMALL, PlanOptions(die=area.number * 1.01)).bounds[0]
    assert bound.holds
    assert not bound.surely


# the object


def test_json_keys(run):
    code, out, _ = run("plan", SMALL, "--context", "256", "--json")
    assert code == 0
    assert out.count("\n") == 1
    values = json.loads(out)
    for name in FIGURES:
        assert set(values[name]) == QUANTITY
        assert (values[name]["value"] is None) == (values[name]["blocked_by"] is not None)
    assert (values["target"], values["context"], values["binding"]) == ("n6", 256, None)
    text = DOCUMENT.read_text().split("\n## `plan`\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert set(documented) - {"pareto"} == set(values)


def test_the_figures_are_the_models(run):
    _, out, _ = run("plan", SMALL, "--json")
    made = run_plan(SMALL)
    assert json.loads(out)["area_mm2"]["value"] == made.physical.area["area_mm2"].value
    assert json.loads(out)["cycles"]["first_token"] == made.physical.cycles.first


def test_one_screen(run):
    code, out, err = run("plan", SMALL)
    assert code == 0
    assert re.fullmatch(LOOKED, err)
    lines = out.splitlines()
    assert len(lines) <= 30
    assert lines[0].startswith("SmolLM2 135M: 135 M parameters; ")
    for word in ("area", "power, one user", "tokens/s, one user", "first token", "a die"):
        assert any(line.startswith(word) for line in lines), word
    assert max(map(len, lines)) <= 120
    assert any("holds" in line for line in lines[-4:])
    assert lines[-1].startswith("Faster with: clock 1.3 GHz (+")


def test_what_is_exceeded_is_said(run):
    _, out, _ = run("plan", SMALL, "--target", "sky130")
    line = r"^Binding: the user area of 10 mm² is exceeded by [\d,.]+ mm²$"
    assert re.search(line, out, re.MULTILINE)


def test_a_die_that_holds_no_part_is_refused(run):
    code, out, err = run("plan", "llama-3.1-8b", "--die", "5")
    assert (code, out) == (2, "")
    assert re.search(r"^DoesNotFit: .* 5 mm2", err, re.MULTILINE)
    assert run("plan", "llama-3.1-8b", "--die", "5", "--rows", "60")[0] == 2


# the search


def test_the_fastest_chip_under_the_bounds_is_found():
    made = run_plan("smollm2-1.7b", PlanOptions(die=300.0, power=40.0))
    assert made.chosen.found is not None
    assert made.binding in ("die", "power")
    assert all(bound.holds for bound in made.bounds)
    fixed = run_plan("smollm2-1.7b", PlanOptions(die=300.0, power=40.0, rows=300))
    rate = "tokens_per_second_per_user"
    assert made.figures[rate].number > fixed.figures[rate].number
    values = made.as_dict()["search"]
    assert values["changes"][0]["tokens_per_second_per_user"] > made.figures[rate].number
    areas = [point["area_mm2"] for point in values["front"]]
    assert areas == sorted(areas)


def test_bits_are_the_fewest_that_the_loss_allows():
    assert run_plan("llama-3.1-8b").outline.bits["q"] == 3
    assert run_plan("llama-3.1-8b", PlanOptions(loss=5.0)).outline.bits["q"] == 4
    assert run_plan(SMALL).outline.bits["q"] == 4
    with pytest.raises(BadInput, match=r"^no width that was measured loses at most 0\.1 %"):
        run_plan(SMALL, PlanOptions(loss=0.1))


def test_widths_and_contexts_beside_each_other(run):
    code, out, err = run("plan", SMALL, "--pareto", "--json")
    assert code == 0
    assert "comparing widths and contexts" in err
    rows = json.loads(out)["pareto"]
    assert [(row["context"], row["bits"]) for row in rows] == [
        (context, bits) for context in (1024, 2048, 4096) for bits in (3, 4)
    ]
    code, out, _ = run("plan", SMALL, "--die", "200", "--pareto")
    assert "Width and context, each the fastest chip under the bounds:" in out
    assert re.search(r"\n +[\d,]+ mm² .* head \d+; over the die\n", out)


# several dies


def test_a_model_too_large_for_a_die_is_cut(run):
    made = run_plan("llama-3.1-70b")
    assert made.cut is not None
    assert made.dies == len(made.cut.cut.dies) > 4
    assert made.binding is None
    assert made.bounds[0].value.number <= 858
    clock = made.process["clock"].number
    alone = clock / made.physical.cycles.token
    assert made.figures["tokens_per_second_per_user"].number < alone
    _, out, _ = run("plan", "llama-3.1-70b")
    assert re.search(rf"^  the largest of {made.dies} +\d+ mm²", out, re.MULTILINE)
    assert re.search(r"^  links, of each token +[\d.]+ µs", out, re.MULTILINE)
    assert out.endswith(f"fits a die; --dies {made.dies} looks for the fastest chip\n")


def test_the_fastest_chip_on_so_many_dies():
    few, many = (run_plan("llama-3.1-8b", PlanOptions(dies=n, die=400.0)) for n in (2, 4))
    assert (few.dies, many.dies) <= (2, 4)
    rate = "tokens_per_second_per_user"
    assert many.figures[rate].number > few.figures[rate].number


def test_dies_that_are_too_few():
    with pytest.raises(DoesNotFit, match=r"^no chip of this shape keeps to 1,\d+\.\d+ mm2") as said:
        run_plan("llama-3.1-70b", PlanOptions(dies=2))
    assert said.value.hint == "more --dies, or fewer bits"


# what is refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("llama-9",), "model must be a preset, a chip, or a checkpoint's folder or .gguf, not"),
        ((SMALL, "--target", "n2"), "target must be one of "),
        ((SMALL, "--target", "generic"), "target generic has no process"),
        ((SMALL, "--target", "none.yaml"), "none.yaml: cannot be read"),
        ((SMALL, "--die", "-1"), "die must be from 0.01 to 70,000 mm2, not -1"),
        ((SMALL, "--die", "nan"), "die must be from 0.01 to 70,000 mm2, not nan"),
        ((SMALL, "--die", "1e-300"), "die must be from 0.01 to 70,000 mm2, not 1e-300"),
        ((SMALL, "--power", "0"), "power must be from 1e-06 to 1,000,000 W, not 0"),
        ((SMALL, "--power", "1e300"), "power must be from 1e-06 to 1,000,000 W, not 1e+300"),
        ((SMALL, "--context", "0"), "context must be at least 1, not 0"),
        ((SMALL, "--context", "9000"), "context must be from 1 to the model's 8192, not 9000"),
        ((SMALL, "--slots", "0"), "slots must be from 1 to 256, not 0"),
        (("",), "model must be a preset, a chip, or a checkpoint's folder or .gguf, not ''"),
        ((SMALL, "--bits", "5"), "bits must be one of 2, 3, 4, 6, 8, not 5"),
        ((SMALL, "--bits", "0"), "bits must be one of 2, 3, 4, 6, 8, not 0"),
        ((SMALL, "--rows", "0"), "rows must be from 4 to 3,264 for this model, not 0"),
        ((SMALL, "--rows", "9", "--dies", "2"), "give --rows or --dies, not both"),
        ((SMALL, "--dies", "0"), "dies must be from 1 to 1024, not 0"),
        ((SMALL, "--rows", "5000"), "rows must be from 4 to 3,264 for this model, not 5000"),
        ((SMALL, "--beat", "3"), "beat must be a power of two up to 64 for this model, not 3"),
        ((SMALL, "--beat", "0"), "beat must be a power of two up to 64 for this model, not 0"),
        ((SMALL, "--loss", "0"), "loss must be from 0.01 to 1,000 %, not 0"),
        ((SMALL, "--target", "/nowhere/x.yaml"), "x.yaml: cannot be read: No such file or"),
        ((SMALL, "--cell", "rom"), "cell must be auto or one of select, signed, decode, counters"),
        ((SMALL, "--positions", "3"), "positions must be a power of two, not 3"),
        ((SMALL, "--positions", "4096"), "positions must be at most the context of 2048, not 4096"),
        ((SMALL, "--issue-rate", "2"), "issue rate must be from 1e-06 to 1, not 2"),
        ((SMALL, "--prompt-tokens", "4000"), "prompt and output must fit the context of 2048"),
    ],
)
def test_refused_in_a_line(run, words, message):
    code, out, err = run("plan", *words)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_a_target_file_without_a_unit(run, tmp_path):
    from intaglio.plan.target import target_path

    text = target_path("n6").read_text()
    path = tmp_path / "own.yaml"
    path.write_text(text.replace('unit: "Hz", ', ""))
    code, _, err = run("plan", SMALL, "--target", str(path))
    assert code == 2
    assert "own.yaml: clock: has no unit" in " ".join(err.split())


# words and numbers


def test_a_die_of_unknown_size_must_be_said(run, tmp_path):
    unknown = {"value": None, "unit": "mm2", "grade": "assumed", "source": "mine", "year": 2024,
               "blocked_by": "no scanner yet"}  # fmt: skip
    path = tmp_path / "mine.yaml"
    values = {"name": "mine", "title": "mine", "base": "n6", "figures": {"reticle": unknown}}
    path.write_text(yaml.safe_dump(values))
    code, out, err = run("plan", "bundled", "--target", str(path))
    assert (code, out) == (2, "")
    assert "unknown: mine.yaml: reticle: no scanner yet" in err
    assert run("plan", "bundled", "--target", str(path), "--die", "50")[0] == 0


def test_a_chip_larger_than_its_seat_has_no_price():
    made = run_plan("bundled", PlanOptions(target="tiny-tapeout"))
    assert not made.bounds[0].holds
    assert made.cost_per_die.value is None
    assert made.cost_per_die.blocked_by == (
        "the chip has 126 mm2, more than the user area of 0.576 mm2"
    )


def test_kinds_of_area_add_up_on_several_dies():
    made = run_plan("smollm2-1.7b", PlanOptions(target="n65", rows=40))
    assert made.dies > 1
    assert "links" in made.area_by_kind
    kinds = sum(area.number for area in made.area_by_kind.values())
    assert kinds == pytest.approx(made.figures["area_mm2"].number)


def test_power_that_no_chip_keeps_to_is_missed_by_the_least():
    made = run_plan("bundled", PlanOptions(power=0.001))
    assert made.binding == "power"
    assert made.bounds[0].holds  # one die, not more for speed
    assert made.figures["power_w"].number < run_plan("bundled").figures["power_w"].number / 3


def test_a_die_that_leaves_a_slow_chip_says_what_more_dies_give():
    narrow, wide = (run_plan(SMALL, PlanOptions(die=die, beat=16, positions=1)) for die in (40, 45))
    more, rate = wide.on_more_dies, "tokens_per_second_per_user"
    assert (narrow.dies > 1, wide.dies, narrow.on_more_dies) == (True, 1, None)
    assert more is not None
    assert more.dies > 1
    assert more.figures[rate].number > wide.figures[rate].number
    assert more_dies_line(more) == (
        f"On {more.dies} dies: {more.figures[rate].number:,.0f} tokens/s or more "
        f"(--dies {more.dies})"
    )
    assert run_plan("bundled").on_more_dies is None


def test_a_part_is_never_more_than_its_whole():
    for model, target in (("smollm2-135m", "sky130"), ("smollm2-135m", "n65")):
        f = run_plan(model, PlanOptions(target=target)).figures
        powers = [f[n].bounds for n in ("leakage_w", "power_w", "power_all_w", "power_full_w")]
        assert [low for low, _ in powers] == sorted(low for low, _ in powers)
        assert [high for _, high in powers] == sorted(high for _, high in powers)


def test_a_compiled_chip_is_not_compared(run, made_home):
    code, out, err = run("plan", str(made_home(64) / "chip"), "--pareto")
    assert (code, out) == (2, "")
    assert "--pareto compares chips that are still to be chosen" in err


def test_as_many_items_as_fit():
    assert listed("a: ", []) == "a: "
    assert listed("a: ", ["b", "c"]) == "a: b, c"
    long = "x" * 60
    assert listed("a: ", [long, long]) == f"a: {long}"


def test_another_request_is_another_headline():
    short = run_plan(SMALL, PlanOptions(choices=Choices(prompt=16, output=16)))
    rate = "tokens_per_second_per_user"
    assert short.figures[rate].number > run_plan(SMALL).figures[rate].number


def test_a_process_of_a_packages_own(made_home):
    made = run_plan(str(made_home(64) / "chip"), PlanOptions(target="n7"))
    assert made.process is process("n7")
