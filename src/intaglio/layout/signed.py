"""Signed select: an array of cells that store a sign and a magnitude, drawn to be compared.

It is an array of select cells with fewer lines: a row has one product line per magnitude and two
static lines, one always low, one always high. A weight takes two columns. The contact of the even
one chooses the magnitude's line, that of the odd one a static line: the sign's sum line falls where
the weight is negative. What reads the two, and the XOR behind them, is not drawn.
"""

import gdstk
import numpy as np

from intaglio.layout.geometry import SIGNED, Geometry, geometry, line_count
from intaglio.layout.pen import Pen, around
from intaglio.layout.rules import Rules
from intaglio.layout.tile import Cells, band_cell, draw_taps


def signed_lines(codes: np.ndarray, bits: int) -> np.ndarray:
    """The line that each column's contact is on: uint8 [rows, 2 columns].

    ``codes``: uint8 [rows, columns], the sign in the top bit. The sign of a negative weight is on
    the static line that is low.
    """
    magnitudes = 1 << bits - 1
    lines = np.empty((len(codes), codes.shape[1], 2), np.uint8)
    lines[..., 0] = codes % magnitudes
    lines[..., 1] = magnitudes + 1 - codes // magnitudes
    return lines.reshape(len(codes), -1)


def signed_array(codes: np.ndarray, bits: int, r: Rules) -> list[gdstk.Cell]:
    """An array that holds ``codes``, with its edges; first the cell of all others.

    An even number of rows; an even number of weights to a row. The origin is the lower left corner.
    """
    g, cells = geometry(line_count(SIGNED, bits), r), Cells()
    lines = signed_lines(codes, bits)
    rows, columns = lines.shape
    pen = Pen(f"signed_{bits}_{rows}_{columns // 2}", r)
    for first in range(0, rows, g.band):
        band = band_cell(g, min(g.band, rows - first), columns, r, cells)
        pen.place(band, 0, row_bottom(g, first) - g.strip)
    draw_taps(pen, g, columns, g.rows_height(rows) - g.strip)
    draw_sum_lines(pen, g, rows, columns)
    for row, chosen in enumerate(lines.tolist()):
        low = row_bottom(g, row) + g.first
        for column, line in enumerate(chosen):
            pen.square("mcon", column_middle(g, column), low + line * g.line)
    return [pen.cell, *cells.values()]


def row_bottom(g: Geometry, row: int) -> int:
    """The lower edge of a row above the array's."""
    return g.bottom(row) - g.sense.height


def column_middle(g: Geometry, column: int) -> int:
    """The middle of a column."""
    return g.slot(column) * g.column + g.column // 2


def draw_sum_lines(pen: Pen, g: Geometry, rows: int, columns: int) -> None:
    """The columns' sum lines: those of even ones from the first row's lower edge on."""
    r = pen.r
    half = r["via.1a"] // 2 + r["m2.5"]
    top = row_bottom(g, rows - 1) + g.row + half
    for column in range(columns):
        edge = row_bottom(g, column % 2)
        pen.box("met2", around(column_middle(g, column), r["m2.1"]), (edge - half, top))
