"""Speed of simulated fabrics: `python benchmarks/fabric_simulation.py [SHAPE ...]`.

Builds all fabrics of a chip (no norms, attention or sampler) with random codes and runs tokens
through them, one group of a layer at a time, each layer's clock gated. Prints one
line per shape: with and without loading and reading. One core.
"""

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from intaglio.golden.number import accumulator_bits
from intaglio.hardware.fabric import cycles, fabric_sources, module_name
from intaglio.hardware.images import hex_bytes
from intaglio.plan.tiling import GROUPS, FabricPlan
from intaglio.verify.verilator import build

BEAT = 16
SECONDS = 4.0  # of simulation per figure


@dataclass(frozen=True)
class Shape:
    """A chip's matrices; all of ``bits``, all with ``lanes``."""

    width: int
    kv_width: int
    inner: int
    vocabulary: int
    layers: int
    lanes: int
    bits: int = 4
    extra_rows: int = 0

    def fabric(self, inputs: int, outputs: int, activation: int) -> FabricPlan:
        shift = self.bits if self.extra_rows else 0
        largest = (15 << shift) + 15
        accumulator = accumulator_bits(inputs, largest, activation)
        return FabricPlan(
            self.bits, inputs, outputs, self.lanes, self.extra_rows, shift, activation, accumulator
        )

    def groups(self) -> list[dict[str, FabricPlan]]:
        """The fabrics that run at the same time, in the order of a token."""
        w, kv, n = self.width, self.kv_width, self.inner
        sizes = {
            "q": (w, w, 8), "k": (w, kv, 8), "v": (w, kv, 8), "o": (w, w, 8),
            "gate": (w, n, 8), "up": (w, n, 8), "down": (n, w, 10),
        }  # fmt: skip
        layer = [{name: self.fabric(*sizes[name]) for name in names} for names in GROUPS.values()]
        return layer * self.layers + [{"head": self.fabric(w, self.vocabulary, 8)}]


SHAPES = {
    "bundled": Shape(192, 64, 512, 1024, 3, 16),
    "bundled-64": Shape(192, 64, 512, 1024, 3, 64),
    "bundled-3bit": Shape(192, 64, 512, 1024, 3, 16, bits=3),
    "bundled-extra": Shape(192, 64, 512, 1024, 3, 16, bits=3, extra_rows=4),
    "smollm2": Shape(576, 192, 1536, 49152, 30, 16),
    "smollm2-64": Shape(576, 192, 1536, 49152, 30, 64),
}

HARNESS = """
#include <ctime>
#include <cstdio>
#include <cstdlib>
#include "Vbench.h"
int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vbench bench{&context};
    const double seconds = std::atof(argv[2]);
    auto cycle = [&] { for (int clk = 0; clk < 2; ++clk) bench.clk = clk, bench.eval(); };
    std::clock_t begin = std::clock();  // the processor's time: others may use it too
    auto since = [&] { return double(std::clock() - begin) / CLOCKS_PER_SEC; };
    bench.rst = 1, cycle(), cycle(), bench.rst = 0;
    const double start = since();
    for (int serving = 0; serving < 2; ++serving) {
        bench.serving = serving;
        long cycles = 0, first = bench.tokens;
        begin = std::clock();
        while (since() < seconds || bench.tokens == first) {
            for (const long token = bench.tokens; bench.tokens == token; ++cycles) cycle();
        }
        std::printf("%ld %ld %f %f\\n", long(bench.tokens - first), cycles, since(), start);
    }
}
"""


def bench_text(groups: list[dict[str, FabricPlan]]) -> str:
    """The top: which group is at work, what it does, and its fabrics behind a gated clock."""
    places, tables = [], []
    for number, group in enumerate(groups):
        loads = next(iter(group.values())).inputs // BEAT
        reads = max(-(-fabric.outputs // BEAT) for fabric in group.values())
        wait = max(cycles(fabric) for fabric in group.values())
        for name, value in (("loads", loads), ("reads", reads), ("waits", wait)):
            tables.append(f"    {name}[{number}] = {value};")
        if number % len(GROUPS) == 0:
            places.append(
                f"  wire clk_{number};\n"
                f"  clock_gate opened_{number} (.clk, .rst, .gated_rst(), "
                f".enable(turn / {len(GROUPS)} == {number // len(GROUPS)}), .gated(clk_{number}));"
            )
        clock = f"clk_{number - number % len(GROUPS)}"
        for name, f in group.items():
            bits = BEAT * f.accumulator
            places.append(
                f"  logic [{bits - 1}:0] sums_{name}_{number};\n"
                f"  logic [31:0] check_{name}_{number};\n"
                f"  always_ff @(posedge {clock}) if (read && turn == {number}) "
                f"check_{name}_{number} <= check_{name}_{number} + sums_{name}_{number}[31:0];\n"
                f'  {module_name(f.bits, f.lanes, f.activation)} #(.NAME("{name}"), '
                f".INPUTS({f.inputs}), .COLUMNS({f.outputs}), .ROWS({f.rows}), "
                f".EXTRA({f.extra_rows}), "
                f".SHIFT({f.extra_shift}), .ACCUMULATOR({f.accumulator}), .BEAT({BEAT})"
                f") {name}_{number} (\n"
                f"    .clk({clock}), .read_clk({clock}), .rst, .id(16'd{number}), "
                f".load(load && turn == {number}), .load_index(16'(count)), "
                f".load_data({BEAT * f.activation}'(noise)),\n"
                f"    .start(start && turn == {number}), "
                f".read(read && turn == {number}), .read_index(16'(count)), "
                f".read_data(sums_{name}_{number}));"
            )
    checks = " ^ ".join(f"check_{n}_{i}" for i, group in enumerate(groups) for n in group)
    return f"""
module bench (input logic clk, rst, serving, output int tokens, output logic [31:0] check);
  localparam int GROUPS = {len(groups)};
  int loads [GROUPS], reads [GROUPS], waits [GROUPS];
  int turn, count;
  logic [159:0] noise;
  enum logic [1:0] {{LOAD, RUN, READ}} state;
  initial begin
{chr(10).join(tables)}
  end
  wire load = state == LOAD && (serving || count == 0);
  wire last = serving ? count == loads[turn] - 1 : count == 0;
  wire start = state == LOAD && last;
  wire read = state == READ && serving;
  assign check = tokens == 0 ? 0 : {checks};
  always_ff @(posedge clk)
    if (rst) begin
      turn <= 0; count <= 0; state <= LOAD; tokens <= 0; noise <= 160'h123456789abcdef123456789;
    end else begin
      count <= count + 1;
      if (load) noise <= {{noise[158:0], noise[159] ^ noise[134]}};
      case (state)
        LOAD: if (last) begin state <= RUN; count <= 1; end
        RUN: if (count == waits[turn] - 1) begin state <= READ; count <= 0; end
        default:
          if (!serving || count == reads[turn] - 1) begin
            state <= LOAD; count <= 0;
            turn <= turn == GROUPS - 1 ? 0 : turn + 1;
            if (turn == GROUPS - 1) tokens <= tokens + 1;
          end
      endcase
    end
{chr(10).join(places)}
endmodule
"""


def write_rom(groups: list[dict[str, FabricPlan]], folder: Path) -> int:
    """Random images; returns the number of weights."""
    rng, weights = np.random.default_rng(0), 0
    folder.mkdir()
    for number, group in enumerate(groups):
        for name, f in group.items():
            words = (f.rows + f.extra_rows) * f.lanes * f.bits * -(-f.outputs // 64)
            code = rng.integers(0, 256, (words, 8), dtype=np.uint8)
            (folder / f"{name}.{number}.hex").write_bytes(hex_bytes(code))
            starts = rng.integers(0, 256, (f.outputs, 2), dtype=np.uint8)
            (folder / f"{name}_start.{number}.hex").write_bytes(hex_bytes(starts))
            if f.extra_rows:
                maps = np.zeros((f.extra_rows, 1), np.uint8)
                (folder / f"{name}_map.{number}.hex").write_bytes(hex_bytes(maps))
            weights += f.inputs * f.outputs
    return weights


def measure(name: str, folder: Path) -> str:
    """Build and run a shape; one line of the table."""
    groups = SHAPES[name].groups()
    weights = write_rom(groups, folder / "rom")
    sources = {
        **fabric_sources(fabric for group in groups for fabric in group.values()),
        "bench.sv": bench_text(groups),
    }
    for file, text in sources.items():
        (folder / file).write_text(text)
    (folder / "harness.cpp").write_text(HARNESS)
    verilog = Path(sys.modules[FabricPlan.__module__].__file__ or "").parents[1]
    paths = [folder / file for file in sources]
    paths.append(verilog / "hardware" / "verilog" / "clock_gate.sv")
    begin = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    program = build(paths, "bench", folder / "harness.cpp", folder)
    wall = time.monotonic() - begin
    processor = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    done = subprocess.run(
        ["/usr/bin/env", str(program), f"+rom={folder / 'rom'}", str(SECONDS)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    bare, served = [[float(x) for x in line.split()] for line in done.stdout.splitlines()]
    row = [
        name, f"{weights / 1e6:.2f} M", f"{bare[1] / bare[0]:,.0f}",
        f"{bare[2] / bare[1] * 1e9:,.0f}", f"{bare[0] / bare[2]:,.1f}",
        f"{served[0] / served[2]:,.1f}", f"{processor:.0f}", f"{wall:.0f}", f"{bare[3]:.2f}",
    ]  # fmt: skip
    return "| " + " | ".join(row) + " |"


def main() -> None:
    """Measure the shapes on the command line, or all."""
    print("| shape | weights | cycles/token | ns/cycle | tokens/s | tokens/s with load and read "
          "| build, CPU s | build, s | start, s |")  # fmt: skip
    print("|" + "---|" * 9)
    for name in sys.argv[1:] or list(SHAPES):
        with tempfile.TemporaryDirectory() as folder:
            print(measure(name, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
