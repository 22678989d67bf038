"""The page and metrics.json: whole in themselves, the same for the same input, nothing made up."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_flow_simulator import VERDICT

from intaglio.errors import BadInput
from intaglio.flow import sizes as sizes_module
from intaglio.flow.choose import PlanOptions
from intaglio.flow.evaluate import facts_of, keep_evaluation
from intaglio.flow.package import open_package
from intaglio.flow.verify import Proof, keep_verdict
from intaglio.layout.die import PROCESS, chip_tiles
from intaglio.layout.rules import rules
from intaglio.quantity import GRADES, Quantity
from intaglio.report import facts as facts_module
from intaglio.report.drawing import PARTS, drawings, lane_parts
from intaglio.report.facts import Facts, gather
from intaglio.report.metrics import metrics_of, metrics_values
from intaglio.report.page import page
from intaglio.report.tables import cost_steps, energies, kinds
from intaglio.report.write import write_report
from intaglio.silicon.words import BADGE_MEANS, BADGES

ROWS = PlanOptions(rows=64)  # a chip of given rows needs no search
DOCUMENT = Path(__file__).parents[1] / "docs" / "report.md"


@pytest.fixture(autouse=True, scope="module")
def few():
    """A few models and counts of rows stand for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes_module, "preset_names", lambda: ["smollm2-1.7b", "bundled"])
        patch.setattr(facts_module, "ROWS", (64, 256))
        yield


@pytest.fixture(scope="module")
def facts() -> Facts:
    return gather("llama-3.1-8b", ROWS)


@pytest.fixture
def chip(made_home, tmp_path) -> Path:
    return Path(shutil.copytree(made_home(64) / "chip", tmp_path / "chip"))


class Outward(HTMLParser):
    """Everything in a page that a browser would fetch, or that would lead away."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []
        self.titles = 0

    def handle_starttag(self, tag, attrs):
        if tag in ("link", "img", "iframe", "object", "embed", "base", "image", "use", "a"):
            self.found.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                self.found.append(f"{name}={value}")
            if name == "style" and value and "url(" in value:
                self.found.append(value)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.titles += tag == "title"

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(text: str) -> Outward:
    parser = Outward()
    parser.feed(text)
    parser.close()
    return parser


def test_the_page_fetches_nothing_and_its_elements_close(facts):
    text = page(facts, metrics_of(facts))
    parser = read(text)
    assert parser.found == []
    assert parser.open == []
    assert parser.titles > 200
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "url(" not in "".join(style)
    assert "@import" not in "".join(style)
    assert re.findall(r"(?:https?:)?//[\w.]+\.\w+", re.sub(r"//.*", "", text)) == []
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|WebSocket|sendBeacon", text)


def test_the_same_input_gives_the_same_bytes(facts):
    again = gather("llama-3.1-8b", ROWS)
    assert page(facts, metrics_of(facts)) == page(again, metrics_of(again))
    assert metrics_values(facts, metrics_of(facts)) == metrics_values(again, metrics_of(again))


def test_both_modes_stand_apart_and_are_labelled(facts):
    text = page(facts, metrics_of(facts))
    one, batch = text.index("One user alone (batch 1)"), text.index("(batch-optimal)")
    alone, full = text[one:batch], text[batch:]
    assert ">16,960 tok/s<" in alone
    assert ">230 tok/s<" in alone
    assert ">17,744 tok/s<" not in alone
    assert ">17,744 tok/s<" in full


def test_every_badge_is_explained_and_every_grade_has_one(facts):
    assert set(BADGES) == set(GRADES)
    assert set(BADGES.values()) == set(BADGE_MEANS)
    text = page(facts, metrics_of(facts))
    assert {*re.findall(r'class="badge (\w+)"', text)} == set(BADGE_MEANS)


def test_a_name_cannot_write_into_the_page(facts):
    name = '<script src="//x.example/a.js"></script>"&'
    model = replace(facts.planned.model, title=name)
    evil = replace(facts, planned=replace(facts.planned, model=model))
    sizes = tuple(replace(size, title=name) for size in facts.sizes)
    parser = read(page(replace(evil, sizes=sizes), metrics_of(evil)))
    assert parser.found == []


def test_metrics_are_figures_with_provenance(facts):
    values = metrics_values(facts, metrics_of(facts))
    text = json.dumps(values, allow_nan=False)
    assert values["model"] == "llama-3.1-8b"
    assert "/tmp" not in text
    for key, metric in values["metrics"].items():
        assert re.fullmatch(r"[a-z]+(__[A-Za-z0-9_]+?)+", key), key
        assert set(metric) == {
            "value", "low", "high", "unit", "grade", "source", "blocked_by", "higher_is_better",
        }  # fmt: skip
        assert metric["grade"] in GRADES
        assert metric["source"]
        if metric["value"] is None:
            assert metric["blocked_by"]
        else:
            assert metric["low"] <= metric["value"] <= metric["high"]
    rate = values["metrics"]["plan__throughput__tokens_per_second_per_user"]
    assert rate["value"] == facts.figures["tokens_per_second_per_user"].number
    assert rate["higher_is_better"] is True
    assert values["metrics"]["plan__power__total"]["higher_is_better"] is False
    assert values["metrics"]["baseline__hc1__one_user__published"]["value"] == 16960


def test_every_key_is_documented(facts):
    """By its first two words, or in full where the document names it so."""
    text = DOCUMENT.read_text()
    for key in metrics_of(facts):
        stage, subject, *rest = key.split("__")
        known = f"{stage}__{subject}" in text or stage in ("baseline", "turnaround")
        last = f"__{rest[-1]}`" in text if rest else f"`{key}`" in text
        assert known or last or f"`__{subject}`" in text, key


def test_a_new_figure_of_the_plan_arrives_by_itself(facts, monkeypatch):
    extra, known = Quantity(3.0, "1", "exact", "a test"), facts.figures
    monkeypatch.setattr(Facts, "figures", property(lambda self: {**known, "hops": extra}))
    assert metrics_of(facts)["plan__figure__hops"].quantity is extra


def test_parts_add_up(facts):
    assert facts.bill
    steps = cost_steps(facts)
    price = facts.bill.cost["card_price_usd"].number
    assert sum(step["q"].number for step in steps) == pytest.approx(price)
    assert [step["name"] for step in steps][-1] == "margin"
    assert all(step["q"].number > 0 for step in steps)
    made = energies(facts)
    assert sum(row["q"].number for row in made["rows"]) == pytest.approx(
        made["token"].number, rel=1e-3
    )
    whole = facts.figures["area_mm2"].number
    assert sum(row["q"].number for row in kinds(facts)) == pytest.approx(whole, rel=0.005)


def test_rows_trade_area_for_speed(facts):
    fast, slow = facts.lanes
    assert (fast.rows, slow.rows) == (64, 256)
    assert fast.rate.number > slow.rate.number
    assert fast.area.number > slow.area.number


def test_a_package_tells_what_was_proven(chip):
    written = write_report(str(chip))
    assert "not verified yet" in written.page.read_text()
    assert written.as_dict()["verified"] is None
    assert written.as_dict()["package_target"] == "generic"
    assert "compiled for target generic" in written.page.read_text()
    metrics = json.loads(written.metrics_file.read_text())
    assert metrics["hash"] == open_package(chip).hash
    assert metrics["metrics"]["verify__equal"]["blocked_by"].startswith("not verified yet")

    keep_verdict(open_package(chip), Proof(VERDICT, "x", "y", 1.0))
    text = write_report(str(chip)).page.read_text()
    assert "proven in RTL, bit for bit: 9 positions" in text
    assert "not verified yet" not in text

    keep_verdict(open_package(chip), Proof(replace(VERDICT, equal=False), "x", "y", 1.0))
    written = write_report(str(chip))
    assert "RTL differs from the integer model" in written.page.read_text()
    assert json.loads(written.metrics_file.read_text())["metrics"]["verify__equal"]["value"] == 0
    assert sorted(open_package(chip).manifest["stages"]) == ["compile", "report", "verify"]


def test_a_package_tells_what_was_measured(chip):
    before = json.loads(write_report(str(chip)).metrics_file.read_text())["metrics"]
    assert before["quantize__growth_percent"]["value"] is None
    keep_evaluation(open_package(chip), {
        "tokens": 40, "bytes": 120, "float": {"perplexity": 4.0, "bits_per_byte": 1.0},
        "chip": {"perplexity": 4.2, "bits_per_byte": 1.1}, "growth_percent": 5.0, "window": 512,
        "engine": "twin", "adapter": None, "text": facts_of("<held>.txt", "abc"), "seconds": 1.0,
    })  # fmt: skip
    written = write_report(str(chip))
    metrics, text = (
        json.loads(written.metrics_file.read_text())["metrics"],
        written.page.read_text(),
    )
    for key in ("quantize__growth_percent", "plan__accuracy__growth_percent"):
        assert (metrics[key]["value"], metrics[key]["grade"]) == (5.0, "measured")
        assert "40 tokens of <held>.txt" in metrics[key]["source"]
    assert metrics["quantize__perplexity__chip"]["value"] == 4.2
    assert "Perplexity +5.00 %" in text
    assert "&lt;held&gt;.txt" in text
    assert "<held>" not in text


def test_a_package_is_left_alone_with_an_output(chip, tmp_path):
    before = (chip / "manifest.json").read_bytes()
    written = write_report(str(chip), output=tmp_path / "out", target="n5")
    assert written.page == tmp_path / "out" / "report.html"
    assert json.loads(written.metrics_file.read_text())["target"] == "n5"
    assert (chip / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "metrics.json", "report.html",
    ]  # fmt: skip


def test_a_package_called_as_a_preset_is_the_package(chip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chip.rename("bundled")
    written = write_report("bundled")
    assert written.facts.package is not None
    assert written.facts.planned.model.package is not None
    assert str(tmp_path) not in written.metrics_file.read_text() + written.page.read_text()


def test_where_a_report_cannot_go(chip, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"llama-3\.1-8b: no chip package to keep the report in"):
        write_report("llama-3.1-8b")
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="file: cannot be written: it is no folder"):
        write_report("bundled", output=tmp_path / "file")
    with monkeypatch.context() as patch:
        patch.setattr("intaglio.report.write.gather", None)  # all of it before any work
        with pytest.raises(BadInput, match=r"file/deep/x: cannot be written: .*/file is no folder"):
            write_report("bundled", output=tmp_path / "file" / "deep" / "x")
        with pytest.raises(BadInput, match="x: cannot be written: No such file or directory"):
            write_report("bundled", output=Path("/proc/x"))
        with pytest.raises(BadInput, match="cannot be written: File name too long"):
            write_report("bundled", output=tmp_path / ("x" * 300))
        with pytest.raises(BadInput, match="is a chip package"):
            write_report("bundled", output=chip)

    def full(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("intaglio.report.write.put_stage", full)
    with pytest.raises(BadInput, match="chip: cannot be written: Read-only file system") as caught:
        write_report(str(chip))
    assert caught.value.hint == "give a folder with --output"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (500, True)])
def test_a_browser_shows_it_without_scrolling_sideways(tmp_path, width, dark):
    """In headless Chromium, where there is one: the page is as wide as its window."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    text = write_report("llama-3.1-8b", output=tmp_path / "out").page.read_text()
    tell = "<script>document.title = document.documentElement.scrollWidth + ' ' + innerWidth"
    (tmp_path / "told.html").write_text(text.replace("</body>", f"{tell}</script></body>"))
    words = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
        "--dump-dom", *(["--force-dark-mode"] if dark else []), f"file://{tmp_path}/told.html",
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    found = re.search(r"<title>(\d+) (\d+)</title>", done.stdout)
    assert found, done.stderr
    assert int(found[1]) <= int(found[2]) == width


# pictures of the masks


def test_a_chip_shows_its_own_contacts(chip):
    """As many bright contacts as cells in the window, on the lines that the codes say."""
    package = open_package(chip)
    found = drawings(package)
    cells = found.made[0]
    weights = re.search(r'fill="#ff2fd0"[^>]* d="([^"]+)"', cells.svg)
    assert weights is not None
    boxes = re.findall(r"M([\d.]+) ([\d.]+)h", weights[1])
    columns = min(32, found.tile.columns)
    assert len(boxes) >= 2 * columns
    assert cells.legend[0] == ("#ff2fd0", "contact to metal 1: the model")
    assert [len(drawing.legend) > 3 for drawing in found.made] == [True] * 4
    assert drawings(package) == found
    other = replace_codes(package)
    assert drawings(other).made[0].svg != cells.svg
    for index in (2, 3):  # parts and places are the shape's
        assert drawings(other).made[index].svg == found.made[index].svg
    tiles = sum(map(len, chip_tiles(package.plan, rules(PROCESS)).values()))
    assert found.made[3].title.startswith(f"The die’s {tiles:,} tiles")
    assert len(re.findall(r"M[\d.]+ ", found.made[3].svg)) == tiles + 1  # and the bar


def replace_codes(package) -> Any:
    """The package with other codes in its head."""
    model = package.model
    head = replace(model.head, codes=model.head.codes ^ 1)
    return SimpleNamespace(
        model=replace(model, head=head),
        plan=package.plan,
        manifest=package.manifest,
        path=package.path,
    )


def test_parts_of_a_tile_cover_it(chip):
    found = drawings(open_package(chip))
    r = rules("sky130")
    width, lane = found.tile.size(r)[0], found.tile.drivers(r).g.lane(found.tile.drawn_rows)
    for part, x, y, wide, tall in lane_parts(found.tile, r, 0):
        assert part in PARTS
        assert wide > 0
        assert tall > 0
        assert x + wide <= width
        assert y + tall <= lane


def test_whose_masks_are_shown_is_said(chip):
    facts = gather(str(chip), PlanOptions(target="n6"))
    text = page(facts, metrics_of(facts))
    assert "The masks, drawn" in text
    assert "the pictures are of sky130’s drawn cell" in text
    facts = gather(str(chip), PlanOptions(target="sky130"))
    text = page(facts, metrics_of(facts))
    assert "The masks, drawn" in text
    assert "the pictures are of sky130’s drawn cell" not in text


def test_a_model_that_is_only_planned_has_no_masks(facts):
    assert "The masks, drawn" not in page(facts, metrics_of(facts))
