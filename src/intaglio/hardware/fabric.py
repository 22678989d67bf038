"""The contract model of a whole fabric, in SystemVerilog: what a chip's simulation runs.

One module per code width, lanes and activation width; the sizes are its parameters. It does what a
fabric's cells do, bit cycle by bit cycle: a code selects a product line of its lane, a negative one
inverts it, a column counts its lanes' bits and shifts them into its accumulator. Columns are
sliced: bit j of word w belongs to column 64 w + j, so that a C++ compiler works on 512 columns at
once. :mod:`intaglio.hardware.select` is the same fabric as gates.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from intaglio.golden.number import CODEBOOKS, product_bits
from intaglio.plan.tiling import FabricPlan

DRAIN = 4
"""Cycles after the last bit cycle: serialiser, product lines, counter tree, carry of the row."""

WORD = 64
GROUP = 16  # lanes whose bits one loop body counts; longer bodies only take longer to compile
INDEX_BITS = 16  # of the ports' beat numbers


def cycles(fabric: FabricPlan) -> int:
    """Cycles from the edge that takes ``start`` to the first edge that may take ``read``."""
    return fabric.cycles + DRAIN


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
    ACCUMULATOR bits, BEAT. The ROM images ``NAME``, ``NAME_start`` and, with extra rows,
    ``NAME_map`` of number ``id`` are read from the folder of plusarg ``rom``.

    ``load``: beat ``load_index`` of the activations. ``start``: with or after the last load;
    (ROWS + EXTRA) * product bits + DRAIN edges later the sums can be read. ``read``: after the
    edge, ``read_data`` is beat ``read_index`` of the sums and stays; ``read_clk`` is ``clk``, or
    gated while there is no ``read``. ``rst`` stops a run.
    """
    counter = Counter(bits, lanes)
    body = counter.body()
    return MODULE.format(
        name=module_name(bits, lanes, activation),
        bits=bits,
        lanes=lanes,
        activation=activation,
        product=product_bits(activation),
        pairs=len(CODEBOOKS[bits]) // 2,
        counters=counter.planes,
        index=INDEX_BITS - 1,
        drain=DRAIN,
        loop_l=loop("l", "0", "LANES"),
        loop_p=loop("p", "0", "BITS"),
        loop_w=loop("w", "0", "WIDE"),
        loop_p_first=loop("p", "0", "ACCUMULATOR"),
        loop_column=loop("column", "0", "COLUMNS"),
        loop_extra=loop("extra", "0", "EXTRA"),
        loop_activation=loop("l", "0", "(ROWS + 1) * LANES"),
        loop_code=" ".join(
            loop(*range_) for range_ in (("l", "0", "LANES"), ("p", "0", "BITS"), ("w", "0", "WIDE"))
        ),
        loop_word=loop("w", "0", "WORDS"),
        products=indented(products(bits), 10),
        lines=indented(lines(bits), 8),
        body=indented(body, 6),
        temporaries=", ".join(f"u{i}" for i in range(counter.temporaries)),
        zeroed=" ".join(f"u{i} = 0;" for i in range(counter.temporaries)),
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


def lines(bits: int) -> Iterator[str]:
    """Statements that put bit ``cycle`` of lane ``l``'s products on its lines."""
    for pair in range(len(CODEBOOKS[bits]) // 2):
        for name in ("even", "odd"):
            yield f"{name}_line[{pair}][l] = 64'd0 - (({name}[{pair}][l] >> cycle) & 64'd1);"


@dataclass
class Counter:
    """Writes the loops in which every column counts its lanes' selected bits.

    A loop over words for each group of lanes; the sum of a column is in ``count`` bit planes.
    """

    bits: int
    lanes: int
    temporaries: int = 0
    text: list[str] = field(default_factory=list)

    @property
    def planes(self) -> int:
        """Bits of a column's count beside its carry, both at most ``lanes``."""
        return self.lanes.bit_length() + (self.lanes > GROUP)

    def body(self) -> list[str]:
        """The statements of one bit cycle."""
        whole = (self.lanes - 1) // GROUP
        rest = self.lanes - whole * GROUP
        if whole:
            self.text += [loop("g", "0", f"{whole * GROUP}", GROUP), loop("w", "0", "WIDE")]
            self._group(GROUP, "g + ", last=False)
            self.text += ["end end", "end end"]
        self.text += [loop("w", "0", "WIDE")]
        self._group(rest, f"{whole * GROUP} + ", last=True)
        self.text += ["end end"]
        return self.text

    def _group(self, lanes: int, base: str, *, last: bool) -> None:
        """Add ``lanes`` selected bits, and in the last group the accumulator's bit, to the count.

        At most two bits of a weight wait; a third makes a full adder.
        """
        self.temporaries, used = 0, self.temporaries
        waiting: list[list[str]] = [[] for _ in range(self.planes + 2)]
        for weight in range(self.planes):
            waiting[weight].append(f"count[{weight}][w]")
        if last:
            waiting[0].append("tap[w]")
        for lane in range(lanes):
            self._add(waiting, 0, self._select(f"{base}{lane}"))
        for weight in range(self.planes + 1):
            while len(waiting[weight]) > 1:
                self._half(waiting, weight)
        sums = [bits[0] if bits else "64'd0" for bits in waiting]
        if last:
            # the lowest bit stays in the accumulator, the others are worth half in the next cycle
            self.text.append(f"tap[w] = {sums[0]};")
            sums = sums[1:]
        self.text += [f"count[{weight}][w] = {sums[weight]};" for weight in range(self.planes)]
        self.temporaries = max(self.temporaries, used)

    def _select(self, lane: str) -> str:
        """The selected bit of a lane in the columns of word ``w``."""
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


def loop(variable: str, start: str, end: str, step: int = 1) -> str:
    """Open a loop that stays a loop; two ``end`` close it."""
    return (
        f"begin /*verilator unroll_disable*/ for ({variable} = {start}; {variable} < {end}; "
        f"{variable} = {variable} + {step}) begin"
    )


def indented(statements: Iterable[str], columns: int) -> str:
    return f"\n{' ' * columns}".join(statements)


# Variables of the clocked block are set to 0 first, or Verilator keeps them in memory; loop
# variables are unsigned, or g++ does not vectorise. The number `id` is used at the beginning only,
# so that all fabrics of one size are one C++ function. State is assigned at once, not at the end of
# the step, which nobody outside the block can see.
MODULE = """\
// Contract model of fabrics with {lanes} lanes, {bits}-bit codes and {activation}-bit activations.
module {name} #(
    parameter string NAME = "",
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
  localparam int BITS = {bits};
  localparam int PRODUCT = {product};  // bit cycles of a row
  localparam int COUNTERS = {counters};  // bits of a column's carry to the next bit cycle
  localparam int WORDS = (COLUMNS + 63) / 64;
  // a few words more where the processor works on twice as many at once
  localparam int WIDE = WORDS % 8 == 3 ? WORDS + 1 : WORDS % 8 > 4 ? (WORDS + 7) / 8 * 8 : WORDS;
  localparam int MAP = $clog2(ROWS + 1);
  localparam int MAPS = EXTRA == 0 ? 1 : EXTRA;

  // what is engraved
  logic [63:0] rom [(ROWS + EXTRA) * LANES * BITS * WORDS];
  logic [63:0] first [ACCUMULATOR][WIDE];  // what the accumulators start from
  int unsigned source [MAPS * LANES];  // the row that an extra row repeats, by lane

  logic [63:0] activations [(ROWS + 1) * LANES];  // one more row, which stays 0
  logic [63:0] sum [ACCUMULATOR][WIDE];

  // of the row and the bit cycle at work
  logic [63:0] code [LANES][BITS][WIDE];
  logic [63:0] even [{pairs}][LANES];
  logic [63:0] odd [{pairs}][LANES];
  logic [63:0] even_line [{pairs}][LANES];
  logic [63:0] odd_line [{pairs}][LANES];
  logic [63:0] count [COUNTERS][WIDE];
  logic [63:0] tap [WIDE];
  logic running;
  int unsigned wait_cycles, row, cycle;

  initial begin : engrave
    string folder;
    int unsigned column, extra, w, l, p;
    logic [ACCUMULATOR-1:0] starts [COLUMNS];
    logic [LANES*MAP-1:0] maps [MAPS];
    if (!$value$plusargs("rom=%s", folder)) $fatal(1, "+rom=DIR is missing");
    $readmemh($sformatf("%s/%s.%0d.hex", folder, NAME, id), rom);
    $readmemh($sformatf("%s/%s_start.%0d.hex", folder, NAME, id), starts);
    {loop_p_first}
      {loop_w} first[p][w] = 0; end end
    end end
    {loop_column}
      {loop_p_first}
        first[p][column/64] = first[p][column/64] | (64'(starts[column][p]) << (column % 64));
      end end
    end end
    if (EXTRA != 0) begin
      $readmemh($sformatf("%s/%s_map.%0d.hex", folder, NAME, id), maps);
      {loop_extra}
        {loop_l} source[extra*LANES+l] = 32'(maps[extra][l*MAP+:MAP]); end end
      end end
    end
    {loop_code} code[l][p][w] = 0; end end end end end end
    {loop_activation} activations[l] = 0; end end
    running = 0;
  end

  always_ff @(posedge clk) begin : work
    int unsigned w, l, p, g, base, low;
    logic [63:0] x, a, b, c;
    logic [63:0] {temporaries};
    w = 0; l = 0; p = 0; g = 0; base = 0; low = 0; x = 0;
    a = 0; b = 0; c = 0;
    {zeroed}

    if (running && wait_cycles != 0) wait_cycles = wait_cycles - 1;
    else if (running) begin
      if (cycle == 0) begin
        base = row * (LANES * BITS * WORDS);
        {loop_l}
          {loop_p}
            {loop_word}
              code[l][p][w] = rom[base+(l*BITS+p)*WORDS+w];
        end end end end end end
        {loop_l}
          if (row < ROWS) x = activations[row*LANES+l];
          else x = activations[source[(row-ROWS)*LANES+l]*LANES+l];
          {products}
        end end
      end
      low = (row < ROWS ? SHIFT : 0) + cycle;
      {loop_l}
        {lines}
      end end
      {loop_w}
        tap[w] = sum[low][w];
      end end
      {body}
      {loop_w}
        sum[low][w] = tap[w];
        tap[w] = 0;
      end end
      cycle = cycle + 1;
      if (cycle == PRODUCT) begin
        // what is left of the count goes to the accumulator's high bits
        low = low + 1;
        for (p = 0; p < COUNTERS && low < ACCUMULATOR; p = p + 1) begin
          {loop_w}
            a = sum[low][w]; b = count[p][w]; c = tap[w];
            sum[low][w] = a ^ b ^ c;
            tap[w] = (a & b) | (c & (a ^ b));
          end end
          low = low + 1;
        end
        for (; low < ACCUMULATOR; low = low + 1) begin
          {loop_w}
            a = sum[low][w]; c = tap[w];
            sum[low][w] = a ^ c;
            tap[w] = a & c;
          end end
        end
        for (p = 0; p < COUNTERS; p = p + 1) begin
          {loop_w} count[p][w] = 0; end end
        end
        cycle = 0;
        row = row + 1;
        if (row == ROWS + EXTRA) running = 0;
      end
    end

    if (load)
      for (int unsigned i = 0; i < BEAT; i = i + 1)
        activations[32'(load_index)*BEAT+i] = 64'($signed(load_data[i*{activation}+:{activation}]));
    if (start) begin
      for (p = 0; p < ACCUMULATOR; p = p + 1) begin
        {loop_w} sum[p][w] = first[p][w]; end end
      end
      for (p = 0; p < COUNTERS; p = p + 1) begin
        {loop_w} count[p][w] = 0; end end
      end
      row = 0; cycle = 0;
      wait_cycles = {drain} - 1;
      running = 1;
    end
    if (rst) running = 0;
  end

  always_ff @(posedge read_clk) begin : show
    int unsigned column;
    logic [63:0] block, swap;
    logic [63:0] elements [BEAT];
    column = 0; block = 0; swap = 0;
    if (read) begin
      // 8 columns of 8 planes at a time, transposed
      for (int unsigned i = 0; i < BEAT; i = i + 1) elements[i] = 0;
      for (int unsigned i = 0; i < BEAT; i = i + 8)
        for (int unsigned j = 0; j < ACCUMULATOR; j = j + 8) begin
          column = 32'(read_index) * BEAT + i;
          block = 0;
          for (int unsigned k = 0; k < 8; k = k + 1)
            if (j + k < ACCUMULATOR)
              block = block | (((sum[j+k][column/64] >> (column % 64)) & 64'hff) << (8 * k));
          swap = (block ^ (block >> 7)) & 64'h00aa00aa00aa00aa;
          block = block ^ swap ^ (swap << 7);
          swap = (block ^ (block >> 14)) & 64'h0000cccc0000cccc;
          block = block ^ swap ^ (swap << 14);
          swap = (block ^ (block >> 28)) & 64'h00000000f0f0f0f0;
          block = block ^ swap ^ (swap << 28);
          for (int unsigned k = 0; k < 8; k = k + 1)
            if (i + k < BEAT)
              elements[i+k] = elements[i+k] | (((block >> (8 * k)) & 64'hff) << j);
        end
      for (int unsigned i = 0; i < BEAT; i = i + 1)
        read_data[i*ACCUMULATOR+:ACCUMULATOR] <= elements[i][ACCUMULATOR-1:0];
    end
  end
endmodule
"""
