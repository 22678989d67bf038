"""When a fabric's rows end, against rows that wait one by one."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from intaglio.plan.tiling import FabricPlan, Shape, fabric_plan, lanes_for


def fabric(inputs: int, lanes: int, extra_rows: int = 0, activation: int = 8) -> FabricPlan:
    return FabricPlan(4, inputs, 8, lanes, extra_rows, 0, activation, 40)


def end(f: FabricPlan, beat: int, gaps: list[int]) -> int:
    """Cycles from the last beat to the last bit cycle, beats so many cycles after each other."""
    loads = list(accumulate([0, *gaps[1 : -(-f.inputs // beat)]]))
    ended = 0
    for row in range(f.rows):
        last = min((row + 1) * f.lanes, f.inputs) - 1
        ended = max(ended, loads[last // beat]) + f.product_bits
    return ended + f.extra_rows * f.product_bits - loads[-1]


FABRICS = st.builds(
    fabric, st.integers(1, 300), st.integers(1, 90), st.integers(0, 5), st.integers(4, 16)
)


@given(FABRICS, st.sampled_from([1, 2, 4, 16, 64]))
def test_tail_is_where_the_rows_end(f, beat):
    assert f.tail(beat) == end(f, beat, [1] * 300)
    assert (1 + f.extra_rows) * f.product_bits <= f.tail(beat) <= f.cycles


@given(FABRICS, st.sampled_from([1, 2, 4, 16]), st.lists(st.integers(1, 40), min_size=300))
def test_beats_with_gaps_end_no_later_after_the_last(f, beat, gaps):
    assert end(f, beat, gaps) <= f.tail(beat)


def test_tails_by_hand():
    assert fabric(64, 64).tail(16) == 12  # one row waits for all
    assert fabric(64, 16).tail(16) == 4 * 12 - 3  # all but the first beat come meanwhile
    assert fabric(64, 16, extra_rows=2).tail(16) == 6 * 12 - 3
    assert fabric(64, 4).tail(16) == 16 * 12 - 3
    assert fabric(240, 80).tail(2) == 12  # rows take 12 cycles, their beats 40
    assert fabric(240, 80, extra_rows=1).tail(2) == 24
    assert fabric(64, 16).tail(64) == 4 * 12  # one beat


@given(
    st.integers(1, 60), st.sampled_from([4, 16, 64]), st.integers(1, 60), st.booleans(),
)  # fmt: skip
def test_a_row_less_is_never_slower(beats, beat, rows, twice):
    inputs = beats * beat
    matrix = Shape(4, inputs, 8, inputs if twice else 0)
    fewer, more = (
        fabric_plan(matrix, lanes_for(matrix, rows + added, inputs), 8, inputs).tail(beat)
        for added in (0, 1)
    )
    assert fewer <= more
