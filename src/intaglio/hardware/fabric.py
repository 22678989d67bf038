"""The contract model of a whole fabric, in SystemVerilog: what a chip's simulation runs.

One module per code width, lanes and activation width; the sizes are its parameters. It does what a
fabric's cells do: a code selects a product line of its lane, a negative one inverts it, a column
counts its lanes' bits and shifts them into its accumulator. All bit cycles of a row are done at its
last one, for a few words of columns and a few lanes at a time, so that they stay in the processor's
nearest memory. Columns are sliced: bit j of word w belongs to column 64 w + j, so that a C++
compiler works on 512 columns at once. :mod:`intaglio.hardware.select` is the same fabric as gates.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from intaglio.golden.number import CODEBOOKS, product_bits
from intaglio.plan.tiling import FabricPlan

DRAIN = 4
"""Cycles after the last bit cycle: serialiser, product lines, counter tree, carry of the row."""

GROUP = 16  # lanes that are counted together, at most
INDEX_BITS = 16  # of the ports' beat numbers
ZERO = "64'd0"


def cycles(fabric: FabricPlan, beat: int) -> int:
    """Cycles from the edge that takes the last load to the first edge that may take ``read``."""
    return fabric.tail(beat) + DRAIN


def module_name(bits: int, lanes: int, activation: int) -> str:
    """Name of the module of all fabrics with these three."""
    return f"fabric_b{bits}_l{lanes}_a{activation}"


def fabric_sources(fabrics: Iterable[FabricPlan]) -> dict[str, str]:
    """The modules that these fabrics instantiate: text by file name, in a fixed order."""
    shapes = sorted({(f.bits, f.lanes, f.activation) for f in fabrics})
    return {f"{module_name(*shape)}.sv": fabric_module(*shape) for shape in shapes}


def fabric_module(bits: int, lanes: int, activation: int) -> str:
    """The module of one shape.

    Parameters: NAME of the matrix, COLUMNS, main ROWS, EXTRA rows, SHIFT of the main rows,
    ACCUMULATOR bits, BEAT (a divisor of 64). The ROM images ``NAME``, ``NAME_start`` and, with
    extra rows, ``NAME_map`` of number ``id`` are read from the folder of plusarg ``rom``.

    ``load``: beat ``load_index`` of the activations, in order. ``start``: with the first load, when
    all sums have been read. A row begins a cycle after its last activation was loaded, or when the
    row before ends, product bits later; DRAIN edges after the last row's last bit cycle, and so
    :func:`cycles` after the last load, the sums can be read. ``read``: after the edge,
    ``read_data`` is beat ``read_index`` of the sums and stays; ``read_clk`` is ``clk``, or gated
    while there is no ``read``. A beat read too early is 0; what pads the last beat is undefined.
    ``rst`` stops a run.
    """
    groups = -(-lanes // GROUP)
    counter = Counter(bits, -(-lanes // groups))
    body = counter.body()
    return MODULE.format(
        name=module_name(bits, lanes, activation),
        bits=bits,
        lanes=lanes,
        activation=activation,
        product=product_bits(activation),
        pairs=len(CODEBOOKS[bits]) // 2,
        groups=groups,
        group=counter.lanes,
        carry=counter.carry_bits,
        index=INDEX_BITS - 1,
        drain=DRAIN,
        products=indented(products(bits), 8),
        body=indented(body, 12),
        temporaries=", ".join(f"u{i}" for i in range(counter.temporaries)),
        zeroed=" ".join(f"u{i} = 0;" for i in range(counter.temporaries)),
        **LOOPS,
    )


def products(bits: int) -> Iterator[str]:
    """Statements that multiply lane ``l``'s activation ``x`` with every magnitude.

    Two by two: ``even``, the product of the even rank, and ``odd``, how the next one differs. The
    sign bit comes inverted.
    """
    for pair in range(len(CODEBOOKS[bits]) // 2):
        here, there = CODEBOOKS[bits][2 * pair : 2 * pair + 2]
        yield f"even[{pair}][l] = (x * 64'd{here}) ^ (64'd1 << (PRODUCT - 1));"
        yield f"odd[{pair}][l] = (x * 64'd{here}) ^ (x * 64'd{there});"


@dataclass
class Counter:
    """Writes the loop in which every column adds its lanes' selected bits to what it carries."""

    bits: int
    lanes: int
    temporaries: int = 0
    text: list[str] = field(default_factory=list)

    @property
    def carry_bits(self) -> int:
        """Bits of a column's carry, which is at most ``lanes``."""
        return self.lanes.bit_length()

    def body(self) -> list[str]:
        """The statements of one bit cycle for the column words ``w``.

        At most two bits of a weight wait; a third makes a full adder.
        """
        waiting: list[list[str]] = [[f"carry[{i}][w]"] for i in range(self.carry_bits)]
        waiting += [[], []]
        waiting[0].append("tap[w]")
        for lane in range(self.lanes):
            self._add(waiting, 0, self._select(lane))
        for weight in range(self.carry_bits + 1):
            while len(waiting[weight]) > 1:
                self._half(waiting, weight)
        # the lowest bit stays in the accumulator, the others are worth half in the next cycle
        self.text.append(f"tap[w] = {waiting[0][0]};")
        for weight in range(self.carry_bits):
            bits = waiting[weight + 1]
            self.text.append(f"carry[{weight}][w] = {bits[0] if bits else ZERO};")
        return self.text

    def _select(self, lane: int) -> str:
        """The selected bit of a lane."""
        rank = [f"code[{lane}][{plane}][w]" for plane in range(self.bits)]
        level = [
            self._name(f"even_line[{pair}][{lane}] ^ ({rank[0]} & odd_line[{pair}][{lane}])")
            for pair in range(len(CODEBOOKS[self.bits]) // 2)
        ]
        for plane in rank[1:-1]:
            level = [
                self._name(f"{a} ^ ({plane} & ({a} ^ {b}))")
                for a, b in zip(level[0::2], level[1::2], strict=True)
            ]
        return self._name(f"{level[0]} ^ {rank[-1]}")

    def _add(self, waiting: list[list[str]], weight: int, bit: str) -> None:
        waiting[weight].append(bit)
        if len(waiting[weight]) == 3:
            a, b, c = waiting[weight]
            either = self._name(f"{a} ^ {b}")
            waiting[weight] = [self._name(f"{either} ^ {c}")]
            self._add(waiting, weight + 1, self._name(f"({a} & {b}) | ({either} & {c})"))

    def _half(self, waiting: list[list[str]], weight: int) -> None:
        a, b = waiting[weight]
        waiting[weight] = [self._name(f"{a} ^ {b}")]
        self._add(waiting, weight + 1, self._name(f"{a} & {b}"))

    def _name(self, expression: str) -> str:
        """Give an expression a name of its own."""
        name = f"u{self.temporaries}"
        self.temporaries += 1
        self.text.append(f"{name} = {expression};")
        return name


def loop(variable: str, end: str) -> str:
    """Open a loop that stays a loop; two ``end`` close it."""
    return (
        f"begin /*verilator unroll_disable*/ for ({variable} = 0; {variable} < {end}; "
        f"{variable} = {variable} + 1) begin"
    )


LOOPS = {
    f"each_{name}": loop(variable, end)
    for name, variable, end in (
        ("block", "b", "BLOCKS"), ("column", "i", "COLUMNS"),
        ("extra", "i", "EXTRA"), ("group", "g", "GROUPS"), ("lane", "l", "LANES"),
        ("padded_lane", "l", "GROUPS * GROUP"), ("group_lane", "l", "GROUP"),
        ("code_plane", "p", "BITS"), ("sum_plane", "p", "PLANES"), ("carry_plane", "p", "CARRY"),
        ("pair", "p", "PAIRS"), ("word", "w", "BLOCK"), ("whole_word", "w", "WORDS"),
        ("cycle", "k", "PRODUCT"), ("byte", "i", "8"), ("plane_byte", "j", "PLANES / 8"),
        ("bit", "k", "8"), ("input", "i", "(ROWS + 1) * LANES"),
    )
}  # fmt: skip


def indented(statements: Iterable[str], columns: int) -> str:
    return f"\n{' ' * columns}".join(statements)


# How to keep Verilator and g++ fast here: variables of a clocked block are set to 0 first, or they
# are kept in memory; loop variables are unsigned, and what the inner loop over words reads has
# constant indices besides, or g++ does not vectorise. State is assigned at once where nobody reads
# it at the same edge.
MODULE = """\
// Contract model of fabrics with {lanes} lanes, {bits}-bit codes and {activation}-bit activations.
module {name} #(
    parameter string NAME = "",
    parameter int INPUTS = 16,
    parameter int COLUMNS = 64,
    parameter int ROWS = 1,
    parameter int EXTRA = 0,
    parameter int SHIFT = 0,
    parameter int ACCUMULATOR = 32,
    parameter int BEAT = 16
) (
    input  logic clk,
    input  logic read_clk,
    input  logic rst,
    input  logic [{index}:0] id,
    input  logic load,
    input  logic [{index}:0] load_index,
    input  logic [BEAT*{activation}-1:0] load_data,
    input  logic start,
    input  logic read,
    input  logic [{index}:0] read_index,
    output logic [BEAT*ACCUMULATOR-1:0] read_data
);
  /* verilator no_inline_module */
  /* verilator lint_off BLKSEQ */
  localparam int LANES = {lanes};
  localparam int GROUPS = {groups};  // of lanes that are counted together,
  localparam int GROUP = {group};  // so many
  localparam int BITS = {bits};
  localparam int PAIRS = {pairs};  // of product lines
  localparam int PRODUCT = {product};  // bit cycles of a row
  localparam int CARRY = {carry};  // bits of a column's carry to the next bit cycle
  localparam int PLANES = (ACCUMULATOR + 7) / 8 * 8;
  localparam int WORDS = (COLUMNS + 63) / 64;
  // a few words more where the processor works on twice as many at once
  localparam int WIDE = WORDS == 3 ? 4 : WORDS > 4 ? (WORDS + 7) / 8 * 8 : WORDS;
  localparam int BLOCK = WIDE <= 32 ? WIDE : WIDE % 32 == 0 ? 32 : WIDE % 24 == 0 ? 24
                       : WIDE % 16 == 0 ? 16 : 8;
  localparam int BLOCKS = WIDE / BLOCK;
  localparam int MAP = $clog2(ROWS + 1);
  localparam int MAPS = EXTRA == 0 ? 1 : EXTRA;

  // what is engraved
  logic [63:0] rom [ROWS + EXTRA][LANES][BITS][WORDS];
  logic [63:0] first [BLOCKS][PLANES][BLOCK];  // what the accumulators start from
  int unsigned source [MAPS][LANES];  // the row that an extra row repeats, by lane

  logic [63:0] activation [(ROWS + 1) * LANES];  // one more row, which stays 0
  logic [63:0] sum [BLOCKS][PLANES][BLOCK];
  logic [63:0] result [WIDE * 64];  // the sums when all rows are done, by column

  // of the row, the lanes and the words at work
  logic [63:0] even [PAIRS][GROUPS * GROUP];
  logic [63:0] odd [PAIRS][GROUPS * GROUP];
  logic [63:0] even_line [PAIRS][GROUP];
  logic [63:0] odd_line [PAIRS][GROUP];
  logic [63:0] code [GROUP][BITS][BLOCK];
  logic [63:0] carry [CARRY][BLOCK];
  logic [63:0] tap [BLOCK];

  logic running, row_ended, done;
  int unsigned delay, cycle, row, ended;
  int unsigned loaded, wanted;  // activations that are there, and that the row wants

  initial begin : engrave
    string folder;
    int unsigned b, g, i, l, p, w;
    logic [BEAT*ACCUMULATOR-1:0] starts [(COLUMNS + BEAT - 1) / BEAT];
    logic [LANES*MAP-1:0] maps [MAPS];
    if (!$value$plusargs("rom=%s", folder)) $fatal(1, "+rom=DIR is missing");
    $readmemh($sformatf("%s/%s.%0d.hex", folder, NAME, id), rom);
    $readmemh($sformatf("%s/%s_start.%0d.hex", folder, NAME, id), starts);
    {each_block} {each_sum_plane} {each_word} first[b][p][w] = 0; end end end end end end
    {each_column}
      b = i / (64 * BLOCK);
      w = i / 64 % BLOCK;
      begin /*verilator unroll_disable*/ for (p = 0; p < ACCUMULATOR; p = p + 1) begin
        first[b][p][w] = first[b][p][w]
          | (64'(starts[i/BEAT][i%BEAT*ACCUMULATOR+p]) << (i % 64));
      end end
    end end
    if (EXTRA != 0) begin
      $readmemh($sformatf("%s/%s_map.%0d.hex", folder, NAME, id), maps);
      {each_extra} {each_lane} source[i][l] = 32'(maps[i][l*MAP+:MAP]); end end end end
    end
    {each_input} activation[i] = 0; end end
    {each_group_lane} {each_code_plane} {each_word} code[l][p][w] = 0; end end end end end end
    {each_pair} {each_padded_lane} even[p][l] = 0; odd[p][l] = 0; end end end end
    running = 0;
    row_ended = 0;
    done = 0;
    delay = 0;
  end

  always_ff @(posedge clk) begin : control
    row_ended <= delay == 1;
    if (delay != 0) delay <= delay - 1;
    if (row_ended && !running) done <= 1;
    if (load) begin
      // of rows that have not begun: none that is at work reads them
      for (int unsigned e = 0; e < BEAT; e = e + 1)
        activation[32'(load_index)*BEAT+e] =
            64'($signed(load_data[e*{activation}+:{activation}]));
      loaded <= (32'(load_index) + 1) * BEAT;
    end
    if (running && (cycle != 0 || loaded >= wanted)) begin
      cycle <= cycle + 1;
      if (cycle == PRODUCT - 1) begin
        cycle <= 0;
        row <= row + 1;
        wanted <= wanted + LANES < INPUTS ? wanted + LANES : INPUTS;
        ended <= row;
        delay <= {drain} - 2;
        if (row == ROWS + EXTRA - 1) running <= 0;
      end
    end
    if (start) begin
      done <= 0;
      running <= 1;
      cycle <= 0;
      row <= 0;
      wanted <= LANES < INPUTS ? LANES : INPUTS;
    end
    if (rst) begin
      running <= 0;
      row_ended <= 0;
      delay <= 0;
    end
  end

  always_ff @(posedge clk) begin : work
    int unsigned b, g, i, j, k, l, p, w, base, low;
    logic [63:0] x, y, z;
    logic [63:0] {temporaries};
    b = 0; g = 0; i = 0; j = 0; k = 0; l = 0; p = 0; w = 0; base = 0; low = 0;
    x = 0; y = 0; z = 0;
    {zeroed}

    if (row_ended) begin
      if (ended == 0) begin
        {each_block} {each_sum_plane} {each_word} sum[b][p][w] = first[b][p][w]; end end end end
        end end
      end
      {each_lane}
        if (ended < ROWS) x = activation[ended*LANES+l];
        else x = activation[source[ended-ROWS][l]*LANES+l];
        {products}
      end end
      base = ended < ROWS ? SHIFT : 0;

      {each_block} {each_group}
        {each_group_lane} {each_code_plane}
          if (g * GROUP + l >= LANES) begin
            {each_word} code[l][p][w] = 0; end end
          end else if (BLOCKS == 1) begin
            {each_whole_word} code[l][p][w] = rom[ended][g*GROUP+l][p][w]; end end
          end else if (WORDS == WIDE) begin
            {each_word} code[l][p][w] = rom[ended][g*GROUP+l][p][b*BLOCK+w]; end end
          end else begin
            {each_word}
              if (b * BLOCK + w < WORDS) code[l][p][w] = rom[ended][g*GROUP+l][p][b*BLOCK+w];
            end end
          end
        end end end end
        {each_carry_plane} {each_word} carry[p][w] = 0; end end end end
        {each_cycle}
          {each_pair} {each_group_lane}
            even_line[p][l] = 64'd0 - ((even[p][g*GROUP+l] >> k) & 64'd1);
            odd_line[p][l] = 64'd0 - ((odd[p][g*GROUP+l] >> k) & 64'd1);
          end end end end
          low = base + k;
          {each_word} tap[w] = sum[b][low][w]; end end
          {each_word}
            {body}
          end end
          {each_word} sum[b][low][w] = tap[w]; end end
        end end
        // what is left of the carry goes to the accumulator's high bits
        {each_word} tap[w] = 0; end end
        low = base + PRODUCT;
        for (p = 0; p < CARRY && low < ACCUMULATOR; p = p + 1) begin
          {each_word}
            x = sum[b][low][w]; y = carry[p][w]; z = tap[w];
            sum[b][low][w] = x ^ y ^ z;
            tap[w] = (x & y) | (z & (x ^ y));
          end end
          low = low + 1;
        end
        for (; low < ACCUMULATOR; low = low + 1) begin
          {each_word}
            x = sum[b][low][w]; z = tap[w];
            sum[b][low][w] = x ^ z;
            tap[w] = x & z;
          end end
        end
      end end end end

      // 8 columns of 8 planes at a time, transposed
      if (ended == ROWS + EXTRA - 1) begin
        {each_block} {each_word} {each_byte}
          base = ((b * BLOCK + w) * 8 + i) * 8;
          {each_bit} result[base+k] = 0; end end
          {each_plane_byte}
            x = 0;
            {each_bit} x = x | (((sum[b][8*j+k][w] >> (8 * i)) & 64'hff) << (8 * k)); end end
            y = (x ^ (x >> 7)) & 64'h00aa00aa00aa00aa;
            x = x ^ y ^ (y << 7);
            y = (x ^ (x >> 14)) & 64'h0000cccc0000cccc;
            x = x ^ y ^ (y << 14);
            y = (x ^ (x >> 28)) & 64'h00000000f0f0f0f0;
            x = x ^ y ^ (y << 28);
            {each_bit}
              result[base+k] = result[base+k] | (((x >> (8 * k)) & 64'hff) << (8 * j));
            end end
          end end
        end end end end end end
      end
    end
  end

  always_ff @(posedge read_clk) begin : show
    if (read)
      for (int unsigned e = 0; e < BEAT; e = e + 1)
        read_data[e*ACCUMULATOR+:ACCUMULATOR] <=
            done ? result[32'(read_index)*BEAT+e][ACCUMULATOR-1:0] : 0;
  end
endmodule
"""
