"""A fabric's cells as tiles: the Verilog that stands between its product banks and its counters.

The module takes the place of the cells of a fabric as gates. The clock's second half is evaluate:
product bits are gated by it, a latch at every output holds what was read to the clock's edge. The
buffers that ``precharge_n``, the rows' and the product bits' wires need are a synthesis tool's.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from intaglio.layout.fabric import Tile
from intaglio.layout.rules import Rules

LOADED = "SIMULATION"
"""The macro with which a simulation reads the tiles' codes."""


def instance_name(tile: Tile) -> str:
    """A tile's instance in its fabric's cells."""
    return f"tile_{tile.lane}_{tile.column}"


def image_name(name: str, number: int | str, tile: Tile) -> str:
    """The file of a tile's codes for a simulation. ``number``: the layer's."""
    return f"{name}.{number}.{tile.lane}.{tile.column}.hex"


def cells(module: str, name: str, tiles: Sequence[Tile], r: Rules) -> str:
    """The module of a fabric's cells. ``name``: of the matrix; ``tiles``: all of its array."""
    array = tiles[0].array
    rows, lanes, columns = array.rows, array.lanes, array.columns
    magnitudes = 1 << array.bits - 1
    lines = [
        f"// The cells of fabric {name}: {len(tiles)} tiles.", f"module {module} (",
        "    input wire clk,", "    input wire [15:0] id,",
        f"    input wire [{max((rows - 1).bit_length(), 1) - 1}:0] row,",
        f"    input wire [{lanes * magnitudes - 1}:0] lines,",
        f"    output logic [{columns * lanes - 1}:0] selected", ");",
        "  wire evaluate = ~clk;",
        f"  wire [{tiles[0].drawn_rows - 1}:0] word = {tiles[0].drawn_rows}'d1 << row;",
        f"  wire [{columns * lanes - 1}:0] read;",
        "  always_latch if (evaluate) selected = read;",
    ]  # fmt: skip
    for lane in range(lanes):
        low = lane * magnitudes
        ends = f"{low + magnitudes - 1}:{low}"
        lines.append(
            f"  wire [{2 * magnitudes - 1}:0] bit_n_{lane} = "
            f"~({{~lines[{ends}], lines[{ends}]}} & {{{2 * magnitudes}{{evaluate}}}});"
        )
    for tile in tiles:
        lines += placed(tile, r)
    lines += loading(name, tiles)
    return "\n".join([*lines, "endmodule", ""])


def placed(tile: Tile, r: Rules) -> Iterator[str]:
    """A tile's instance and where its outputs go: one bit per lane, column by column."""
    own, lanes = instance_name(tile), tile.array.lanes
    width = tile.drawn_columns
    yield f"  wire [{width - 1}:0] {own}_out;"
    yield (
        f"  {tile.base} {own} (.row(word), .bit_n(bit_n_{tile.lane}), "
        f".precharge_n({{2{{evaluate}}}}), .out({own}_out));"
    )
    for column in range(tile.columns):
        at = (tile.column + column) * lanes + tile.lane
        yield f"  assign read[{at}] = {own}_out[{column}];"


def loading(name: str, tiles: Sequence[Tile]) -> Iterator[str]:
    """What reads the tiles' codes where they are simulated; no synthesis tool sees it."""
    yield f"`ifdef {LOADED}"
    yield "  string folder;"
    yield "  initial begin"
    yield '    if (!$value$plusargs("rom=%s", folder)) $fatal(1, "+rom=DIR is missing");'
    for tile in tiles:
        image = image_name(name, "%0d", tile)
        yield f'    $readmemh($sformatf("%s/{image}", folder, id), {instance_name(tile)}.codes);'
    yield "  end"
    yield "`endif"


def behaviour(tile: Tile, r: Rules) -> str:
    """What a tile does, for a simulation, as a module of its name.

    A column's output is 1 in evaluate where the line that its code selects in the active row has
    fallen, and 0 in precharge. ``codes``: a word for each row, column 0 in the low bits.
    """
    bits, rows, columns = tile.array.bits, tile.drawn_rows, tile.drawn_columns
    return f"""\
// What tile {tile.base} does; its codes are read when a simulation starts.
module {tile.base} (
    input wire [{rows - 1}:0] row,
    input wire [{(1 << bits) - 1}:0] bit_n,
    input wire [1:0] precharge_n,
    output reg [{columns - 1}:0] out
);
  reg [{bits * columns - 1}:0] codes [0:{rows - 1}];
  integer r, c;
  always @* begin
    out = 0;
    for (r = 0; r < {rows}; r = r + 1)
      if (row[r])
        for (c = 0; c < {columns}; c = c + 1)
          out[c] = out[c] | (precharge_n[c%2] & ~bit_n[codes[r][c*{bits}+:{bits}]]);
  end
endmodule
"""


def image(tile: Tile, codes: np.ndarray) -> str:
    """A tile's codes for its behaviour. ``codes``: of its array, uint8 [rows, lanes, columns]."""
    digits = -(-tile.array.bits * tile.drawn_columns // 4)
    words = []
    for row in tile.codes(codes)[0]:
        word = sum(int(code) << tile.array.bits * column for column, code in enumerate(row))
        words.append(f"{word:0{digits}x}\n")
    return "".join(words)
