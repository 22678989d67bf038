"""Speed of simulated fabrics: `python benchmarks/fabric_simulation.py [SHAPE ...]`.

The fabrics of a layer are a program part, as in a chip's simulator, and there are as many of them
as layers; the head is another. Tokens with random codes and activations go through all, one group
of a layer at a time; no norms, attention or sampler. Prints one line per shape: cycles only, and
with loading and reading. One core, processor time.
"""

import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import intaglio.hardware.fabric
from intaglio.golden.number import accumulator_bits
from intaglio.hardware.fabric import DRAIN, cycles, fabric_sources, module_name
from intaglio.hardware.images import hex_bytes
from intaglio.plan.tiling import GROUPS, FabricPlan
from intaglio.verify.verilator import build

BEAT = 16
SECONDS = 3.0  # of simulation per figure
GATE = Path(intaglio.hardware.fabric.__file__).parent / "verilog" / "clock_gate.sv"
Group = dict[str, FabricPlan]


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

    @property
    def layer(self) -> list[Group]:
        """The fabrics of a layer, those that run at the same time together."""
        w, kv, n = self.width, self.kv_width, self.inner
        sizes = {
            "q": (w, w, 8), "k": (w, kv, 8), "v": (w, kv, 8), "o": (w, w, 8),
            "gate": (w, n, 8), "up": (w, n, 8), "down": (n, w, 10),
        }  # fmt: skip
        return [{name: self.fabric(*sizes[name]) for name in names} for names in GROUPS.values()]

    @property
    def head(self) -> list[Group]:
        return [{"head": self.fabric(self.width, self.vocabulary, 8)}]


SHAPES = {
    "bundled": Shape(192, 64, 512, 1024, 3, 16),
    "bundled, 64 lanes": Shape(192, 64, 512, 1024, 3, 64),
    "bundled, 3 bits": Shape(192, 64, 512, 1024, 3, 16, bits=3),
    "bundled, 3 bits, 4 extra rows": Shape(192, 64, 512, 1024, 3, 16, bits=3, extra_rows=4),
    "SmolLM2": Shape(576, 192, 1536, 49152, 30, 16),
    "SmolLM2, 64 lanes": Shape(576, 192, 1536, 49152, 30, 64),
}

HARNESS = """
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <vector>
#include "Vbench.h"
int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    const int copies = std::atoi(argv[2]);
    const double seconds = std::atof(argv[3]);
    std::clock_t begin = std::clock();  // the processor's time: others may use it too
    auto since = [&] { return double(std::clock() - begin) / CLOCKS_PER_SEC; };
    auto cycle = [](Vbench& part) {
        for (int clk = 0; clk < 2; ++clk) part.clk = clk, part.eval();
    };
    std::vector<std::unique_ptr<Vbench>> parts;
    for (int copy = 0; copy < copies; ++copy) {
        parts.push_back(std::make_unique<Vbench>(&context));
        parts.back()->id = copy;
        parts.back()->rst = 1;
        cycle(*parts.back()), cycle(*parts.back());
        parts.back()->rst = 0;
    }
    const double start = since();
    for (int serving = 0; serving < 2; ++serving) {
        long cycles = 0, tokens = 0;
        begin = std::clock();
        for (; since() < seconds || tokens == 0; ++tokens)
            for (auto& part : parts) {
                part->serve = serving;
                const int passes = part->passes;
                for (; part->passes == passes; ++cycles) cycle(*part);
            }
        std::printf("%ld %ld %f %f\\n", tokens, cycles, since(), start);
    }
}
"""

CONTROL = """
module bench (input logic clk, rst, serve, input logic [15:0] id, output int passes,
              output logic [31:0] check);
  int loads [GROUPS], reads [GROUPS], waits [GROUPS], tails [GROUPS];
  int turn, count;
  logic [255:0] noise;
  enum logic [1:0] {LOAD, RUN, READ} state;
  initial begin
TABLES
  end
  wire load = state == LOAD;
  wire last = count == (serve ? loads[turn] - 1 : 0);
  wire start = load && count == 0;
  // without serving one load, of the last beat, stands for all
  wire [15:0] load_index = 16'(serve ? count : loads[turn] - 1);
  wire read = state == READ && serve;
  assign check = passes == 0 ? 0 : CHECKS;
  always_ff @(posedge clk)
    if (rst) begin
      turn <= 0; count <= 0; state <= LOAD; passes <= 0; noise <= {64{4'hb}};
    end else begin
      count <= count + 1;
      if (load) noise <= {noise[254:0], noise[255] ^ noise[245]};
      case (state)
        LOAD: if (last) begin state <= RUN; count <= 1; end
        RUN:
          if (count == (serve ? tails[turn] : waits[turn]) - 1) begin
            state <= READ; count <= 0;
          end
        default:
          if (!serve || count == reads[turn] - 1) begin
            state <= LOAD; count <= 0;
            turn <= turn == GROUPS - 1 ? 0 : turn + 1;
            if (turn == GROUPS - 1) passes <= passes + 1;
          end
      endcase
    end
FABRICS
endmodule
"""


def bench_text(groups: list[Group]) -> str:
    """A layer's fabrics, and what says which group is at work and what it does."""
    places, tables, checks = [], [], []
    for number, group in enumerate(groups):
        loads = next(iter(group.values())).inputs // BEAT
        reads = max(-(-fabric.outputs // BEAT) for fabric in group.values())
        wait = max(fabric.cycles + DRAIN for fabric in group.values())
        tail = max(cycles(fabric, BEAT) for fabric in group.values())
        sizes = {"loads": loads, "reads": reads, "waits": wait, "tails": tail}
        for table, value in sizes.items():
            tables.append(f"    {table}[{number}] = {value};")
        places.append(
            f"  wire clk_{number}, rst_{number};\n"
            f"  clock_gate opened_{number} (.clk, .rst, .enable(turn == {number}), "
            f".gated(clk_{number}), .gated_rst(rst_{number}));"
        )
        for name, fabric in group.items():
            places.append(place(number, name, fabric))
            checks.append(f"check_{name}")
    text = CONTROL.replace("TABLES", "\n".join(tables)).replace("FABRICS", "\n".join(places))
    return text.replace("CHECKS", " ^ ".join(checks)).replace("GROUPS", str(len(groups)))


def place(number: int, name: str, f: FabricPlan) -> str:
    """One fabric; its sums are used, or Verilator leaves them out."""
    return f"""
  logic [{BEAT * f.accumulator - 1}:0] sums_{name};
  logic [31:0] check_{name};
  always_ff @(posedge clk_{number}) if (read) check_{name} <= check_{name} + sums_{name}[31:0];
  {module_name(f.bits, f.lanes, f.activation)} #(
    .NAME("{name}"), .INPUTS({f.inputs}), .COLUMNS({f.outputs}), .ROWS({f.rows}),
    .EXTRA({f.extra_rows}), .SHIFT({f.extra_shift}), .ACCUMULATOR({f.accumulator}), .BEAT({BEAT})
  ) {name} (
    .clk(clk_{number}), .read_clk(clk_{number}), .rst(rst_{number}), .id, .load, .start, .read,
    .load_index, .load_data(noise[{BEAT * f.activation - 1}:0]),
    .read_index(16'(count)), .read_data(sums_{name})
  );"""


def write_rom(groups: list[Group], copies: int, folder: Path) -> int:
    """Random images; returns the number of weights."""
    rng, weights = np.random.default_rng(0), 0
    folder.mkdir()
    for copy in range(copies):
        for name, f in (pair for group in groups for pair in group.items()):
            words = (f.rows + f.extra_rows) * f.lanes * f.bits * -(-f.outputs // 64)
            code = rng.integers(0, 256, (words, 8), dtype=np.uint8)
            (folder / f"{name}.{copy}.hex").write_bytes(hex_bytes(code))
            starts = rng.integers(0, 256, (f.outputs, 2), dtype=np.uint8)
            (folder / f"{name}_start.{copy}.hex").write_bytes(hex_bytes(starts))
            if f.extra_rows:
                maps = np.zeros((f.extra_rows, 1), np.uint8)
                (folder / f"{name}_map.{copy}.hex").write_bytes(hex_bytes(maps))
            weights += f.inputs * f.outputs
    return weights


def measure(groups: list[Group], copies: int, folder: Path) -> np.ndarray:
    """Per token: weights, cycles, seconds, seconds with load and read; of all: start and build."""
    weights = write_rom(groups, copies, folder / "rom")
    sources = {
        **fabric_sources(fabric for group in groups for fabric in group.values()),
        "bench.sv": bench_text(groups),
    }
    for file, text in sources.items():
        (folder / file).write_text(text)
    (folder / "harness.cpp").write_text(HARNESS)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    paths = [*(folder / file for file in sources), GATE]
    program = build(paths, "bench", folder / "harness.cpp", folder)
    built = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    done = subprocess.run(
        [program, f"+rom={folder / 'rom'}", str(copies), str(SECONDS)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (tokens, count, bare, start), (served_tokens, _, served, _) = (
        [float(x) for x in line.split()] for line in done.stdout.splitlines()
    )
    return np.array([weights, count / tokens, bare / tokens, served / served_tokens, start, built])


def row(name: str) -> str:
    """Build and run a shape; its line of the table."""
    shape, total = SHAPES[name], np.zeros(6)
    for groups, copies in ((shape.layer, shape.layers), (shape.head, 1)):
        with tempfile.TemporaryDirectory() as folder:
            total += measure(groups, copies, Path(folder))
    weights, count, bare, served, start, built = total
    cells = [
        name, f"{weights / 1e6:.2f} M", f"{count:,.0f}", f"{bare / count * 1e9:,.0f}",
        f"{1 / bare:,.1f}", f"{1 / served:,.1f}", f"{start:.2f}", f"{built:.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure the shapes on the command line, or all."""
    print("| shape | weights | cycles/token | ns/cycle | tokens/s | tokens/s with load and read "
          "| start, s | build, CPU s |")  # fmt: skip
    print("|" + "---|" * 8)
    for name in sys.argv[1:] or list(SHAPES):
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
