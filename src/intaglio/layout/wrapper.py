"""Fabrics' cells and ROMs as tiles: the Verilog that stands around them.

A module of cells takes the place of those of a fabric as gates, a reader that of a ROM. The clock's
second half is evaluate: product bits are gated by it, latches hold what was read to the clock's
edge. What chooses a row must stand still meanwhile: a sum line that has fallen stays down. The
buffers that ``precharge_n``, the rows' and the product bits' wires need are a synthesis tool's.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from intaglio.layout.contents import BANK_ROWS, ROM_BITS, Rom
from intaglio.layout.fabric import Tile

LOADED = "SIMULATION"
"""The macro with which a simulation reads the tiles' codes."""


def instance_name(tile: Tile) -> str:
    """A tile's instance in its fabric's cells."""
    return f"tile_{tile.lane}_{tile.column}"


def image_name(name: str, number: int | str, tile: Tile) -> str:
    """The file of a tile's codes for a simulation. ``number``: the layer's."""
    return f"{name}.{number}.{tile.lane}.{tile.column}.hex"


def cells(module: str, name: str, tiles: Sequence[Tile]) -> str:
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
        lines += placed(tile, "word", f"bit_n_{tile.lane}")
        low, last = tile.lane * columns + tile.column, tile.columns - 1
        lines.append(f"  assign read[{low + last}:{low}] = {instance_name(tile)}_out[{last}:0];")
    lines += loading(name, tiles)
    return "\n".join([*lines, "endmodule", ""])


def reader(module: str, name: str, rom: Rom, tiles: Sequence[Tile]) -> str:
    """The module of a ROM: the word at the address of the clock edge before.

    ``name``: of its images; ``tiles``: all of its array. Of an address, the lowest bit says which
    bit of the cells, the next ones which word of a row, then come row and bank.
    """
    array, width = rom.array, rom.width
    bits = max((rom.words - 1).bit_length(), 1)
    group, row = 1 + (rom.fold - 1).bit_length(), (array.rows - 1).bit_length()
    bank = group + (BANK_ROWS - 1).bit_length()
    lines = [
        f"// ROM {name}: {rom.words} words of {width} bits in {len(tiles)} tiles.",
        f"module {module} (", "    input wire clk,", "    input wire [15:0] id,",
        f"    input wire [{bits - 1}:0] address,", f"    output logic [{width - 1}:0] data", ");",
        "  wire evaluate = ~clk;",
        f"  wire [{(1 << ROM_BITS) - 1}:0] bit_n = "
        "~((address[0] ? 4'b1100 : 4'b1010) & {4{evaluate}});",
        f"  wire [{array.columns - 1}:0] read;",
        f"  wire [{width - 1}:0] word = "
        + (f"read[address[{group - 1}:1]*{width}+:{width}];" if rom.fold > 1 else "read;"),
        f"  logic [{width - 1}:0] held;",
        "  always_latch if (evaluate) held = word;",
        "  always_ff @(posedge clk) data <= held;",
    ]  # fmt: skip
    drawn = tiles[0].drawn_rows
    for lane in range(array.lanes):
        one = f"{drawn}'d1" + (f" << address[{group + row - 1}:{group}]" if row else "")
        if array.lanes > 1:
            one = f"address[{bits - 1}:{bank}] == {lane} ? {one} : {drawn}'d0"
        lines.append(f"  wire [{drawn - 1}:0] row_{lane} = {one};")
    for tile in tiles:
        lines += placed(tile, f"row_{tile.lane}", "bit_n")
    for first in (tile for tile in tiles if tile.lane == 0):
        ends = f"[{first.columns - 1}:0]"
        outs = [f"{instance_name(t)}_out{ends}" for t in tiles if t.column == first.column]
        low = first.column
        lines.append(f"  assign read[{low + first.columns - 1}:{low}] = {' | '.join(outs)};")
    lines += loading(name, tiles)
    return "\n".join([*lines, "endmodule", ""])


def placed(tile: Tile, row: str, bit_n: str) -> Iterator[str]:
    """A tile's instance, on those wires, and the wire of its outputs."""
    own = instance_name(tile)
    yield f"  wire [{tile.drawn_columns - 1}:0] {own}_out;"
    yield (
        f"  {tile.base} {own} (.row({row}), .bit_n({bit_n}), "
        f".precharge_n({{2{{evaluate}}}}), .out({own}_out));"
    )


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


def behaviour(tile: Tile) -> str:
    """What a tile does, for a simulation, as a module of its name.

    A column's output is 0 in precharge; it becomes 1 when in evaluate the line that its code
    selects in an active row falls, and stays 1: what fell by mistake is not taken back. ``codes``:
    for each row its codes' bits, the low bits of all columns first, column 0 lowest.
    """
    bits, rows, columns = tile.array.bits, tile.drawn_rows, tile.drawn_columns
    return f"""\
// What tile {tile.base} does; its codes are read when a simulation starts.
module {tile.base} (
    input wire [{rows - 1}:0] row,
    input wire [{(1 << bits) - 1}:0] bit_n,
    input wire [1:0] precharge_n,
    output wire [{columns - 1}:0] out
);
  reg [{bits * columns - 1}:0] codes [0:{rows - 1}];
  logic [{columns - 1}:0] read, fallen;
  integer r, l, b;
  always_comb begin
    read = 0;
    fallen = 0;
    for (r = 0; r < {rows}; r = r + 1)
      if (row[r])
        for (l = 0; l < {1 << bits}; l = l + 1)
          if (!bit_n[l]) begin
            fallen = {{{columns}{{1'b1}}}};
            for (b = 0; b < {bits}; b = b + 1)
              fallen = fallen & (codes[r][b*{columns}+:{columns}] ^ {{{columns}{{!l[b]}}}});
            read = read | fallen;
          end
  end
  assign out = (out | read) & {{{columns // 2}{{precharge_n}}}};
endmodule
"""


def image(tile: Tile, codes: np.ndarray) -> str:
    """A tile's codes for its behaviour. ``codes``: of its array, uint8 [rows, lanes, columns]."""
    bits, columns = tile.array.bits, tile.drawn_columns
    digits = -(-bits * columns // 4)
    words = []
    for row in tile.codes(codes)[0]:
        planes = np.concatenate([row >> plane & 1 for plane in range(bits)])
        word = int.from_bytes(np.packbits(planes, bitorder="little").tobytes(), "little")
        words.append(f"{word:0{digits}x}\n")
    return "".join(words)
