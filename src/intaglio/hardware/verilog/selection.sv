// The cells of a fabric: each (row, lane, column) is tied to one product line of its lane, inverted
// where its code is negative. In silicon this is a macro; its contents are in no source.
//
// `lines`: one bit per magnitude, lane by lane. `selected`: one bit per column, lane by lane.
module selection #(
    parameter string NAME = "",
    parameter int BITS = 4,
    parameter int LANES = 1,
    parameter int COLUMNS = 1,
    parameter int ROWS = 1
) (
    input  logic [15:0] id,
    input  logic [(ROWS == 1 ? 1 : $clog2(ROWS)) - 1:0] row,
    input  logic [LANES*2**(BITS-1)-1:0] lines,
    output logic [COLUMNS*LANES-1:0] selected
);
  localparam int WORDS = (COLUMNS + 63) / 64;
  localparam int MAGNITUDES = 2 ** (BITS - 1);
  logic [63:0] planes[ROWS*LANES*BITS*WORDS];

  initial begin
    string folder;
    if (!$value$plusargs("rom=%s", folder)) $fatal(1, "+rom=DIR is missing");
    $readmemh($sformatf("%s/%s.%0d.hex", folder, NAME, id), planes);
  end

  always_comb
    for (int lane = 0; lane < LANES; lane = lane + 1)
      for (int column = 0; column < COLUMNS; column = column + 1) begin
        logic [BITS-1:0] code;
        for (int plane = 0; plane < BITS; plane = plane + 1)
          code[plane] =
              planes[((32'(row)*LANES+lane)*BITS+plane)*WORDS+column/64][column%64];
        selected[lane*COLUMNS+column] =
            lines[lane*MAGNITUDES+32'(code[BITS-2:0])] ^ code[BITS-1];
      end
endmodule
