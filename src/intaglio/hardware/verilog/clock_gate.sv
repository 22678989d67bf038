// A clock that runs while `enable` or a reset is high, and the reset of what it clocks.
//
// The gate opens and closes on the falling edge. The reset is registered by the gated clock itself,
// so that nothing behind the gate depends on another clock's registers; `rst` must be high for two
// cycles.
module clock_gate (
    input  logic clk,
    input  logic rst,
    input  logic enable,
    output logic gated,
    output logic gated_rst
);
  logic open, held;
  assign gated = clk & open;
  assign gated_rst = held;
  initial held = 0;
  always_ff @(negedge clk) open <= enable | rst | held;
  always_ff @(posedge gated) held <= rst;
endmodule
