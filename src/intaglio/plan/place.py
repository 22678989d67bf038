"""Where every code of a matrix stands in its fabric, and what the columns start from."""

import numpy as np

from intaglio.golden.model import Matrix
from intaglio.plan.tiling import FabricPlan


def place(matrix: Matrix, fabric: FabricPlan) -> tuple[np.ndarray, np.ndarray]:
    """Where every code of a matrix stands.

    Returns the codes: uint8 [rows + extra rows, lanes, outputs], :func:`padding` where a lane has
    no input, and the main rows that extra rows repeat: uint64 [extra rows, lanes], ``rows`` where a
    lane has no input.
    """
    lanes, rows = fabric.lanes, fabric.rows
    padded = padding(fabric.bits, matrix.outputs)
    codes = np.tile(padded, ((rows + fabric.extra_rows) * lanes, 1))
    codes[: matrix.inputs] = matrix.codes
    sources = np.full((fabric.extra_rows, lanes), rows, np.uint64)
    taken = [0] * lanes
    for index, source in enumerate(matrix.extra_inputs.tolist()):
        row, lane = divmod(source, lanes)
        sources[taken[lane], lane] = row
        codes[(rows + taken[lane]) * lanes + lane] = matrix.extra_codes[index]
        taken[lane] += 1
    return codes.reshape(rows + fabric.extra_rows, lanes, matrix.outputs), sources


def padding(bits: int, outputs: int) -> np.ndarray:
    """Codes of a lane that has no input, and is fed 0: uint8 [outputs].

    Any positive code will do, for all products are 0. But a line's sign bit comes inverted, as a 1:
    all lines fall then, so columns take the positive codes in turn, that none bears all of them.
    """
    return (np.arange(outputs) % (1 << bits - 1)).astype(np.uint8)


def start_values(codes: np.ndarray, fabric: FabricPlan) -> np.ndarray:
    """What each column's accumulator starts from: int64 [outputs].

    A negative code's product p comes inverted, as -p - 1, so that the column starts from its
    number of negative codes. All lines are inverted in the sign's bit cycle, which counts
    2**(product_bits - 1) too much for every cell.
    """
    negative = (codes >> fabric.bits - 1).sum(1, dtype=np.int64)  # [rows, outputs]
    excess = fabric.lanes << fabric.product_bits - 1
    per_row = negative - excess
    main, extra = per_row[: fabric.rows].sum(0), per_row[fabric.rows :].sum(0)
    return (main << fabric.extra_shift) + extra
