"""Fabrics of many shapes in one simulation, each fed by a small driver in Verilog."""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from random_model import random_matrix

from intaglio.golden.model import Matrix
from intaglio.hardware.fabric import DRAIN, cycles, fabric_sources, module_name
from intaglio.hardware.images import hex_words, matrix_images
from intaglio.plan.tiling import FabricPlan, fabric_plan
from intaglio.verify.verilator import build

VERILOG = Path(__file__).parents[1] / "src" / "intaglio" / "hardware" / "verilog"

DRIVER = """
// Loads VECTORS vectors one after the other, all of them a beat per cycle, then all of them again
// with gaps between the beats. Prints of every load the edges before the last one, and beats of the
// sums with the clock edge that took their `read`, counted from the last load: the first beat at
// each edge until it is due, then every one.
module driver #(
    parameter string NAME, parameter int LOADS, READS, CYCLES, VECTORS, IN, OUT
) (
    input logic clk, rst,
    output logic load, start, read, output logic [15:0] load_index, read_index,
    output logic [IN-1:0] load_data, input logic [OUT-1:0] read_data, output logic done
);
  logic [IN-1:0] words [VECTORS*LOADS];
  int vector, loaded, time_, since, shown;
  logic [15:0] noise;
  initial begin
    string folder;
    void'($value$plusargs("rom=%s", folder));
    $readmemh($sformatf("%s/%s_input.hex", folder, NAME), words);
  end
  // since: edges before the one that ends this cycle, counted from the last load
  assign load = !done && loaded < LOADS && (vector < VECTORS || noise[2:0] == 0);
  assign load_index = 16'(loaded);
  assign load_data = words[vector % VECTORS * LOADS + (load ? loaded : 0)];
  assign start = load && loaded == 0;
  assign read = !done && since > 0 && since < CYCLES + READS;
  assign read_index = since < CYCLES ? 0 : 16'(since - CYCLES);
  assign done = vector >= 2 * VECTORS;
  always_ff @(posedge clk)
    if (rst) begin
      vector <= 0; loaded <= 0; time_ <= 0; since <= 0; shown <= -1; noise <= 1;
    end else begin
      noise <= {noise[14:0], noise[15] ^ noise[13] ^ noise[12] ^ noise[10]};
      shown <= read ? since : -1;
      if (shown >= 0) $display("%s %0d %0d %h", NAME, vector, shown, read_data);
      time_ <= time_ + 1;
      if (load) begin
        loaded <= loaded + 1;
        $display("%s %0d load %0d", NAME, vector, time_);
      end
      if (since != 0) since <= since + 1;
      if (load && loaded == LOADS - 1) since <= 1;
      if (since == CYCLES + READS + 1) begin loaded <= 0; since <= 0; vector <= vector + 1; end
    end
endmodule
"""
HARNESS = """
#include <cstdio>
#include "Vbench.h"
int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vbench bench{&context};
    bench.rst = 1;
    for (long cycle = 0; !bench.done || cycle < 4; ++cycle) {
        if (cycle > 1000000) return 1;
        bench.rst = cycle < 2;
        for (int clk = 0; clk < 2; ++clk) bench.clk = clk, bench.eval();
    }
}
"""


@dataclass(frozen=True)
class Case:
    """A matrix, how it is cut into rows, and vectors to multiply with it."""

    name: str
    matrix: Matrix
    fabric: FabricPlan
    beat: int
    vectors: np.ndarray

    @property
    def reads(self) -> int:
        return -(-self.matrix.outputs // self.beat)

    @property
    def expected(self) -> np.ndarray:
        """The sums of all passes: every vector flowing, then every vector with gaps."""
        return np.tile(self.vectors @ self.matrix.weights(), (2, 1))

    def parameters(self) -> str:
        f = self.fabric
        return (
            f'.NAME("{self.name}"), .INPUTS({f.inputs}), .COLUMNS({f.outputs}), .ROWS({f.rows}), '
            f".EXTRA({f.extra_rows}), .SHIFT({f.extra_shift}), .ACCUMULATOR({f.accumulator}), "
            f".BEAT({self.beat})"
        )


@dataclass
class Pass:
    """One vector through a fabric: when its beats were loaded, and by edge a beat of the sums.

    Edges are counted from the last load. Until the sums are due by the plan it is the first beat.
    """

    loads: list[int] = field(default_factory=list)
    reads: dict[int, int] = field(default_factory=dict)


def random_case(
    seed: int, bits: int, inputs: int, outputs: int, lanes: int, *,
    extras: int = 0, activation: int = 8, beat: int = 4, vectors: int = 2,
) -> Case:  # fmt: skip
    """Random codes and activations, the most negative ones among them."""
    rng = np.random.default_rng(seed)
    matrix = random_matrix(
        rng, inputs, outputs, source=30, target=1000, bits=bits, extras=extras
    )  # fmt: skip
    low = -(1 << activation - 1)
    x = rng.integers(low, -low, (vectors, inputs))
    x[0, : inputs // 2] = low
    name = f"b{bits}n{inputs}m{outputs}l{lanes}e{extras}a{activation}w{beat}"
    return Case(name, matrix, fabric_plan(matrix, lanes, activation), beat, x)


def instance(case: Case, module: str, parameters: str, name: str, number: int) -> str:
    """One driver with its fabric; ``name`` of what it prints is the case's."""
    f, beat = case.fabric, case.beat
    wide_in, wide_out = beat * f.activation, beat * f.accumulator
    driver = (
        f'.NAME("{case.name}"), .LOADS({f.inputs // beat}), .READS({case.reads}), '
        f".CYCLES({cycles(f, beat)}), .VECTORS({len(case.vectors)}), .IN({wide_in}), "
        f".OUT({wide_out})"
    )
    return f"""
  logic load_{number}, start_{number}, read_{number};
  logic [15:0] load_index_{number}, read_index_{number};
  logic [{wide_in - 1}:0] load_data_{number};
  logic [{wide_out - 1}:0] read_data_{number};
  driver #({driver.replace(case.name, name)}) driver_{number} (
    .clk, .rst, .load(load_{number}), .start(start_{number}), .read(read_{number}),
    .load_index(load_index_{number}), .read_index(read_index_{number}),
    .load_data(load_data_{number}), .read_data(read_data_{number}), .done(done_each[{number}]));
  {module} {parameters} fabric_{number} (
    .clk, .read_clk(clk), .rst, .id(16'd7),
    .load(load_{number}), .start(start_{number}), .read(read_{number}),
    .load_index(load_index_{number}), .read_index(read_index_{number}),
    .load_data(load_data_{number}), .read_data(read_data_{number}));
"""


def bench_text(instances: list[str]) -> str:
    return f"""
module bench (input logic clk, rst, output logic done);
  logic [{len(instances) - 1}:0] done_each;
  assign done = &done_each;
{"".join(instances)}
endmodule
{DRIVER}"""


def write_rom(case: Case, folder: Path, name: str | None = None) -> None:
    """Images of a case, and the vectors for its driver."""
    for file, text in matrix_images(name or case.name, 7, case.matrix, case.fabric, case.beat):
        (folder / file).write_bytes(text)
    words = case.vectors.astype(np.int64).view(np.uint64).reshape(-1, case.beat)
    image = hex_words(words, case.fabric.activation)
    (folder / f"{name or case.name}_input.hex").write_bytes(image)


def simulate(
    cases: list[Case], folder: Path, *, structural: dict[str, str] | None = None,
    images: dict[str, str] | None = None,
) -> dict[str, list[Pass]]:  # fmt: skip
    """Run all cases; by name, every pass.

    ``structural``: by case name, the Verilog of its structural fabric, a module of that name;
    what it reads is in the result under ``<name>_gates``. ``images``: more files beside the ROMs'.
    """
    sources = fabric_sources(case.fabric for case in cases)
    instances, rom = [], folder / "rom"
    rom.mkdir()
    for name, text in (images or {}).items():
        (rom / name).write_text(text)
    for case in cases:
        write_rom(case, rom)
        f = case.fabric
        module = module_name(f.bits, f.lanes, f.activation)
        instances.append(
            instance(case, module, f"#({case.parameters()})", case.name, len(instances))
        )
        if structural and case.name in structural:
            write_rom(case, rom, f"{case.name}_gates")
            sources[f"{case.name}_gates.v"] = structural[case.name]
            instances.append(
                instance(case, f"{case.name}_gates", "", f"{case.name}_gates", len(instances))
            )
    sources["bench.sv"] = bench_text(instances)
    for name, text in sources.items():
        (folder / name).write_text(text)
    (folder / "harness.cpp").write_text(HARNESS)
    paths = [folder / name for name in sources]
    if structural:
        paths += [VERILOG / "selection.sv", VERILOG / "rom.sv"]
    program = build(paths, "bench", folder / "harness.cpp", folder)
    done = subprocess.run(
        [program, f"+rom={rom}"], capture_output=True, text=True, check=True, timeout=120
    )
    passes: dict[str, list[Pass]] = {}
    for name, vector, edge, beat in re.findall(r"(\w+) (\d+) (\w+) ([0-9a-f]+)\n", done.stdout):
        mine = passes.setdefault(name, [])
        if int(vector) == len(mine):
            mine.append(Pass())
        if edge == "load":
            mine[-1].loads.append(int(beat))
        else:
            mine[-1].reads[int(edge)] = int(beat, 16)
    return passes


def sums(case: Case, passes: list[Pass]) -> np.ndarray:
    """The sums of all passes: int64 [passes, outputs]; early reads are left out."""
    bits, values = case.fabric.accumulator, []
    for each in passes:
        for edge, beat in each.reads.items():
            if edge >= cycles(case.fabric, case.beat):
                values += [beat >> bits * i & (1 << bits) - 1 for i in range(case.beat)]
    wide = np.array(values, np.int64).reshape(len(passes), -1)[:, : case.matrix.outputs]
    return wide - ((wide >> bits - 1) << bits)


def due(case: Case, loads: list[int]) -> int:
    """Edges from the last load to the first that may read, row by row."""
    f, end = case.fabric, 0
    for row in range(f.rows):
        last = min((row + 1) * f.lanes, f.inputs) - 1
        end = max(end, loads[last // case.beat]) + f.product_bits
    return end + f.extra_rows * f.product_bits + DRAIN - loads[-1]
