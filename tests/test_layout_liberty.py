"""Liberty of a tile, read back by another's parser: its numbers are the simulated ones."""

import re
import shutil
import subprocess
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from liberty.parser import parse_liberty

from intaglio.errors import BadInput
from intaglio.layout.fabric import Array, Tile
from intaglio.layout.liberty import CONDITIONS, Macro, liberty, reads, tables
from intaglio.layout.rules import rules
from intaglio.layout.views import write_views

TILE = Macro("tile", 3, 40, 2, 64, 12_345.6)


def read_back(macro=TILE, condition="slow"):
    library = parse_liberty(liberty(macro, condition))
    (cell,) = library.get_groups("cell")
    return library, cell


def bus(cell, name):
    (found,) = [group for group in cell.get_groups("bus") if group.args == [name]]
    return found


def timing(group, kind):
    return [t for t in group.get_groups("timing") if t["timing_type"] == kind]


def test_units_and_condition():
    library, cell = read_back()
    assert library["time_unit"].value == "1ns"
    assert library["capacitive_load_unit"] == [1, "ff"]
    at = tables()["conditions"]["slow"]
    assert (library["nom_voltage"], library["nom_temperature"]) == (at["volts"], at["celsius"])
    assert cell["area"] == pytest.approx(12_345.6)
    assert {group.args[0] for group in cell.get_groups("pg_pin")} == {"VPWR", "VGND"}


def test_buses_are_as_wide_as_the_tile():
    _, cell = read_back()
    widths = {t.args[0]: t["bit_width"] for t in cell.get_groups("type")}
    assert widths == {"row_type": 40, "bit_n_type": 16, "precharge_n_type": 4, "out_type": 128}
    assert {b.args[0]: b["direction"] for b in cell.get_groups("bus")} == {
        "row": "input", "bit_n": "input", "precharge_n": "input", "out": "output",
    }  # fmt: skip


@pytest.mark.parametrize("condition", CONDITIONS)
def test_tables_are_the_simulated_ones(condition):
    own = reads(TILE, condition)
    assert own["rows"] == 48  # the next that was simulated
    _, cell = read_back(condition=condition)
    pins = bus(cell, "out").get_groups("pin")
    assert [str(pin.args[0]).strip('"') for pin in pins] == ["out[63:0]", "out[127:64]"]
    (rise,), (fall,) = timing(pins[1], "rising_edge"), timing(pins[1], "falling_edge")
    assert rise["related_pin"].value == "precharge_n[2] precharge_n[3]"
    for group, name, key in (
        (rise, "cell_rise", "read"), (rise, "rise_transition", "rise"),
        (fall, "cell_fall", "read_back"), (fall, "fall_transition", "fall"),
    ):  # fmt: skip
        (table,) = group.get_groups(name)
        assert table.get_array("values").tolist() == own[key]
    (power,) = pins[0].get_groups("internal_power")
    (energy,) = power.get_groups("rise_power")
    assert energy.get_array("values").item() == pytest.approx(
        own["sum_energy"] + own["sense_energy"], rel=1e-4
    )


def test_constraints_and_phases():
    own = reads(TILE, "slow")
    _, cell = read_back()
    (setup,) = timing(bus(cell, "row"), "setup_rising")
    (rise,) = setup.get_groups("rise_constraint")
    assert rise.get_array("values").item() == own["word"]
    precharge = bus(cell, "precharge_n")
    assert precharge["clock"]
    assert precharge["min_pulse_width_low"] == own["precharge"]
    assert precharge["min_pulse_width_high"] == max(map(max, own["read"]))
    assert bus(cell, "bit_n")["capacitance"] == pytest.approx(40 * own["bit_load"], rel=1e-4)


def test_a_slower_condition_is_slower_and_more_rows_are():
    times = [reads(TILE, condition)["read"][0][0] for condition in ("fast", "typical", "slow")]
    assert times == sorted(times)
    for condition in CONDITIONS:
        grown = [
            reads(Macro("t", bits, rows, 1, 64, 1), condition)
            for bits in (2, 3, 4) for rows in (16, 32, 48, 64, 128, 256)
        ]  # fmt: skip
        for few, more in pairwise(grown):
            if few["bits"] == more["bits"]:
                assert few["read"][0][0] < more["read"][0][0]
                assert few["sum_energy"] < more["sum_energy"]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(1, 256), st.integers(1, 9), st.integers(1, 576))
def test_every_tile_that_can_be_has_a_library(bits, rows, lanes, columns):
    text = liberty(Macro("t", bits, rows, lanes, columns, 1.0), "typical")
    assert text.count("{") == text.count("}")
    assert f"bit_width : {lanes * columns};" in text
    assert not re.search(r"nan|inf\b|None", text)


def test_a_drawn_tile_has_its_libraries(tmp_path):
    tile = Tile(Array("fabric", 3, 6, 2, 8), 0, 2, 0, 8)
    written = write_views(tile, tmp_path, rules())
    (slow,) = [path for path in written if path.name == f"{tile.base}_slow.lib"]
    (cell,) = parse_liberty(slow.read_text()).get_groups("cell")
    width, height = tile.size(rules())
    assert cell["area"] == pytest.approx(width * height * 1e-6)
    text = (tmp_path / f"{tile.base}.v").read_text()
    for group in cell.get_groups("bus"):  # as wide as the Verilog's ports
        (kind,) = [t for t in cell.get_groups("type") if t.args == [f"{group.args[0]}_type"]]
        assert f"wire [{kind['bit_width'] - 1:.0f}:0] {group.args[0]}" in text
    high = Tile(Array("fabric", 3, 300, 1, 8), 0, 1, 0, 8)
    assert not [path for path in write_views(high, tmp_path, rules()) if path.suffix == ".lib"]


@pytest.mark.parametrize(
    ("macro", "condition", "message"),
    [
        (Macro("t", 3, 257, 1, 8, 1), "slow", "t: no tile of 3 bits and 257 rows was simulated"),
        (Macro("t", 3, 8, 1, 577, 1), "slow",
         "t: tiles of up to 576 columns were simulated, not 577"),
        (TILE, "cold", "condition must be one of typical, slow, fast, not 'cold'"),
    ],
)  # fmt: skip
def test_what_was_not_simulated_is_refused(macro, condition, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        liberty(macro, condition)
    with pytest.raises(BadInput, match=r"^reads of tiles were simulated on sky130, not 'n6'$"):
        tables("n6")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("sta"), reason="needs OpenSTA (apt-get install opensta)")
def test_opensta_times_a_tile(tmp_path):
    """A timer that is not ours finds the table's read time behind the clock's rising edge."""
    (tmp_path / "tile.lib").write_text(liberty(Macro("tile", 2, 16, 1, 4, 100.0), "slow"))
    (tmp_path / "top.v").write_text(
        "module top(input [15:0] row, input [3:0] bit_n, input [1:0] clk, output [3:0] out);\n"
        "tile u(.row(row), .bit_n(bit_n), .precharge_n(clk), .out(out));\nendmodule\n"
    )
    script = (
        "read_liberty tile.lib\nread_verilog top.v\nlink_design top\n"
        "create_clock -name c -period 100 [get_ports clk*]\n"
        "set_output_delay 0 -clock c [get_ports out*]\nset_load 2 [get_ports out*]\n"
        "report_checks -rise_to out[3] -path_delay max -digits 4\nexit\n"
    )
    (tmp_path / "run.tcl").write_text(script)
    done = subprocess.run(
        ["sta", "-no_splash", "-exit", "run.tcl"], cwd=tmp_path, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert "Error" not in done.stdout + done.stderr, done.stdout + done.stderr
    arrival = re.search(r"([\d.]+)\s+data arrival time", done.stdout)
    assert arrival, done.stdout
    own = reads(Macro("tile", 2, 16, 1, 4, 100.0), "slow")
    assert float(arrival[1]) == pytest.approx(own["read"][0][0], rel=0.02)
