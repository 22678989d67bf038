// A clock that runs while `enable` is high; the enable is taken on the falling edge.
module clock_gate (
    input  logic clk,
    input  logic enable,
    output logic gated
);
  logic open;
  always_ff @(negedge clk) open <= enable;
  assign gated = clk & open;
endmodule
