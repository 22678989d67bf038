// Shows one beat of an operation's result to a simulation; in silicon it is nothing.
//
// `fire`: the beat is transferred at this clock edge. `layer`: 0xFFFF for the embedding, the number
// of layers for the final norm and the logits. `OP`: the operation's number in
// intaglio.hardware.port.PROBES. `data`: COUNT signed elements of BITS bits, the first one lowest.
module probe #(
    parameter int OP = 0,
    parameter int COUNT = 1,
    parameter int BITS = 32
) (
    input logic                  clk,
    input logic                  fire,
    input logic [          15:0] layer,
    input logic [           7:0] slot,
    input logic [          19:0] position,
    input logic [COUNT*BITS-1:0] data
);
`ifdef VERILATOR
  // an imported function has one width for all: the narrower of these that holds the beat
  import "DPI-C" function void intaglio_probe(
    input int               op,
    input int               count,
    input int               bits,
    input shortint unsigned layer,
    input byte unsigned     slot,
    input int unsigned      position,
    input bit [511:0]       data
  );
  import "DPI-C" function void intaglio_probe_wide(
    input int               op,
    input int               count,
    input int               bits,
    input shortint unsigned layer,
    input byte unsigned     slot,
    input int unsigned      position,
    input bit [4095:0]      data
  );
  if (COUNT * BITS <= 512) begin : narrow
    always_ff @(posedge clk)
      if (fire) intaglio_probe(OP, COUNT, BITS, layer, slot, 32'(position), 512'(data));
  end else begin : wide
    always_ff @(posedge clk)
      if (fire) intaglio_probe_wide(OP, COUNT, BITS, layer, slot, 32'(position), 4096'(data));
  end
`endif
endmodule
