"""Simulated reads between their points: they go through them, and the right way between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.errors import BadInput
from intaglio.plan.process import process
from intaglio.plan.reads import FAST, SLOW, TYPICAL, Reads, along, reads_of


def simulated() -> Reads:
    found = reads_of("sky130")
    assert found is not None
    return found


READS = simulated()
ENTRIES = READS.values["shares"]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: "{bits}-{columns}-{rows}".format(**e))
def test_a_simulated_point_is_itself(entry):
    for share, read, precharge in zip(
        entry["share"], entry["read"], entry["precharge"], strict=True
    ):
        found = READS.cycle(
            entry["bits"], entry["rows"], entry["columns"], share, entry["condition"]
        )
        assert (found.read, found.precharge) == pytest.approx((read, precharge))
        assert found.clock == pytest.approx(1e9 / (read + precharge))


@pytest.mark.parametrize("condition", [SLOW, TYPICAL])
def test_points_that_the_table_does_not_have(condition):
    """The library's tiles were simulated apart, at twice the even share and other rows."""
    for entry in READS.values["tiles"]:
        if entry["condition"] == condition:
            simulated = entry["read"][0][1] + entry["precharge"]
            share = 2 / (1 << entry["bits"])
            found = READS.cycle(entry["bits"], entry["rows"], READS.columns, share, condition)
            assert found.period == pytest.approx(simulated, rel=0.05)


@given(
    bits=st.sampled_from([2, 3, 4]), rows=st.integers(1, 400), columns=st.integers(1, 576),
    share=st.floats(0, 0.99),
)  # fmt: skip
def test_more_rows_and_a_larger_share_read_no_faster(bits, rows, columns, share):
    one = READS.cycle(bits, rows, columns, share).read
    assert READS.cycle(bits, rows + 1, columns, share).read >= one
    assert READS.cycle(bits, rows, columns, share + 0.01).read >= one - 1e-9
    assert READS.cycle(bits, rows, columns, share, TYPICAL).read < one


def test_beyond_the_table():
    """Longer sum lines bear more; narrow tiles are the narrowest; nothing is said of wider ones."""
    near, far = (READS.cycle(3, rows, 576, 0.25).read for rows in (256, 300))
    slope = (near - READS.cycle(3, 128, 576, 0.25).read) / 128
    assert far == pytest.approx(near + 44 * slope)
    assert READS.cycle(3, 8, 4, 0.25) == READS.cycle(3, 8, 64, 0.25)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((5, 8, 64, 0.2), r"^reads of 5 bits, 'slow', were not simulated$"),
        ((3, 8, 577, 0.2), r"^tiles of up to 576 columns were simulated, not of 577$"),
        ((3, 8, 64, 1.5), r"^share of a row on one line must be from 0 to 1, not 1.5$"),
    ],
)
def test_what_was_not_simulated(asked, message):
    with pytest.raises(BadInput, match=message):
        READS.cycle(*asked)


def test_energies_grow_with_rows_and_spread_over_conditions():
    few, many = (READS.energy(3, rows) for rows in (32, 64))
    assert many.column > few.column
    assert many.bit == pytest.approx(2 * few.bit, rel=0.02)
    spread = READS.energy_spread
    assert (spread.value, spread.grade) == (1.0, "simulated")
    slow, fast = (READS.energy(3, 32, c).column / few.column for c in (SLOW, FAST))
    assert spread.bounds == pytest.approx((slow, fast))


def test_lines_through_points():
    points = [(1, 10.0), (3, 20.0), (4, 40.0)]
    assert [along(x, points) for x in (0, 1, 2, 3.5, 6)] == [10, 10, 15, 30, 80]
    assert along(6, points, held=True) == 40


def test_who_has_reads(tmp_path):
    """A process has its own; a seat or a file on it has those of its base; the others none."""
    assert process("sky130").reads is process("tiny-tapeout").reads is READS
    assert process("n6").reads is None
    path = tmp_path / "sky130.yaml"
    path.write_text("name: mine\ntitle: Mine\nbase: sky130\nfigures: {}\n", "utf-8")
    assert process(str(path)).reads is READS
    path.write_text("name: mine\ntitle: Mine\nbase: n6\nfigures: {}\n", "utf-8")
    process.cache_clear()
    assert process(str(path)).reads is None
