"""Signed select: what is drawn keeps the rules and selects the line and the sign of each code."""

import gdstk
import numpy as np
import pytest
from mask_files import RULES

from intaglio.layout.geometry import SIGNED, geometry, line_count, weight_area
from intaglio.layout.signed import column_middle, row_bottom, signed_array, signed_lines
from intaglio.verify.extract import Terminal, extract
from intaglio.verify.rules import BY_CONSTRUCTION, regions, violations

ROWS = 12  # of both widths more than a band has
WEIGHTS = 70  # more columns than stand between two straps


def codes_of(bits: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(0, 1 << bits, (ROWS, WEIGHTS), dtype=np.uint8)


@pytest.fixture(scope="module", params=[3, 4])
def drawn(request, tmp_path_factory):
    """Width, codes, and all layers of an array, merged."""
    pytest.importorskip("klayout.db")
    bits = request.param
    codes = codes_of(bits)
    cells = signed_array(codes, bits, RULES)
    library = gdstk.Library("signed", unit=1e-6, precision=RULES.grid * 1e-9)
    library.add(*cells)
    path = tmp_path_factory.mktemp("signed") / "array.oas"
    library.write_oas(path)
    return bits, codes, regions({path: cells[0].name}, RULES)


def test_a_sign_and_a_magnitude_take_a_column_each():
    codes = np.arange(8, dtype=np.uint8)[None]
    assert signed_lines(codes, 3).tolist() == [[0, 5, 1, 5, 2, 5, 3, 5, 0, 4, 1, 4, 2, 4, 3, 4]]


def test_every_rule_is_kept(drawn):
    rules = [rule for rule in RULES.rules.values() if rule.check not in BY_CONSTRUCTION]
    assert {rule.name: count for rule in rules if (count := violations(drawn[2], rule))} == {}
    for region in drawn[2].values():
        assert region.grid_check(RULES.grid, RULES.grid).is_empty()


def test_its_area_is_what_the_table_says(drawn):
    """The contacts of two columns and two rows stand a weight's width and a row's height apart."""
    bits, codes, layers = drawn
    g = geometry(line_count(SIGNED, bits), RULES)
    sums = sorted({each.bbox().left for each in layers["met2"].each()})
    wires = sorted(
        {each.bbox().bottom for each in layers["met3"].each() if each.bbox().width() > 9999}
    )
    pitch = min(np.diff(sums)) * 2, min(np.diff(wires))
    assert codes.shape == (ROWS, WEIGHTS)
    assert weight_area(SIGNED, bits, RULES) == pytest.approx(pitch[0] * g.row * 1e-6)


def terminals(bits: int) -> list[Terminal]:
    """Names of lines, word lines and sum lines, by where they must be."""
    g, columns = geometry(line_count(SIGNED, bits), RULES), 2 * WEIGHTS
    middle = g.width(columns) // 2
    found = []
    for row in range(ROWS):
        low = row_bottom(g, row)
        found.append(Terminal(f"word_{row}", "met3", middle, low))
        for line in range(g.lines):
            found.append(
                Terminal(f"line_{row}_{line}", "met1", middle, low + g.first + line * g.line)
            )
    top = row_bottom(g, ROWS - 1)
    for column in range(columns):
        found.append(Terminal(f"sum_{column}", "met2", column_middle(g, column), top))
    return found


def test_each_transistor_ties_its_sum_line_to_the_line_of_its_code(drawn):
    bits, codes, layers = drawn
    netlist = extract(layers, terminals(bits), "signed", RULES)
    found = set()
    (circuit,) = netlist.each_circuit()
    for device in circuit.each_device():
        ends = {device.net_for_terminal(name).name or "" for name in ("S", "D")}
        sums = [name for name in ends if name.startswith("sum_")]
        if sums:  # a dummy has none
            (line,) = ends - {*sums}
            found.add((device.net_for_terminal("G").name, line, sums[0]))
    magnitudes = 1 << bits - 1
    expected = set()
    for row, weight in np.ndindex(codes.shape):
        negative, magnitude = divmod(int(codes[row, weight]), magnitudes)
        static = magnitudes + (0 if negative else 1)
        expected.add((f"word_{row}", f"line_{row}_{magnitude}", f"sum_{2 * weight}"))
        expected.add((f"word_{row}", f"line_{row}_{static}", f"sum_{2 * weight + 1}"))
    assert found == expected
