// One image of the programmable layer: `data` is the word at `address` of the clock edge before.
//
// The contents are read from {+rom}/{NAME}.{id}.hex when a simulation starts; they are in no source.
module rom #(
    parameter string NAME  = "",
    parameter int    WIDTH = 1,
    parameter int    DEPTH = 1
) (
    input  logic                                         clk,
    input  logic [                                 15:0] id,
    input  logic [(DEPTH == 1 ? 1 : $clog2(DEPTH)) - 1:0] address,
    output logic [                            WIDTH-1:0] data
);
  logic [WIDTH-1:0] words[DEPTH];

  initial begin
    string folder;
    if (!$value$plusargs("rom=%s", folder)) $fatal(1, "+rom=DIR is missing");
    $readmemh($sformatf("%s/%s.%0d.hex", folder, NAME, id), words);
  end

  always_ff @(posedge clk) data <= words[address];
endmodule
