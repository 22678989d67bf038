"""The ROM model: words of its image, one cycle after their address."""

import subprocess

import numpy as np
import pytest
from fabric_bench import VERILOG

from intaglio.hardware.images import hex_words
from intaglio.verify.verilator import build

SIZES = {"narrow": (88, 5), "bit": (1, 9), "single": (70, 1), "word": (32, 64)}

BENCH = """
module bench (input logic clk, output logic done);
  int cycle = 0;
  assign done = cycle == 70;
  always_ff @(posedge clk) cycle <= cycle + 1;
{}
endmodule
"""
ROM = """
  logic [{top}:0] data_{name};
  rom #(.NAME("{name}"), .WIDTH({width}), .DEPTH({depth})) rom_{name} (
    .clk, .id(16'd12), .address({bits}'(cycle)), .data(data_{name}));
  always_ff @(posedge clk)
    if (cycle > 0 && cycle <= {depth}) $display("{name} %h", data_{name});
"""
HARNESS = """
#include "Vbench.h"
int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vbench bench{&context};
    while (!bench.done)
        for (int clk = 0; clk < 2; ++clk) bench.clk = clk, bench.eval();
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rom")
    roms = [
        ROM.format(
            name=name, width=width, depth=depth, top=width - 1,
            bits=max((depth - 1).bit_length(), 1),
        )
        for name, (width, depth) in SIZES.items()
    ]  # fmt: skip
    (folder / "bench.sv").write_text(BENCH.format("".join(roms)))
    (folder / "harness.cpp").write_text(HARNESS)
    sources = [folder / "bench.sv", VERILOG / "rom.sv"]
    return build(sources, "bench", folder / "harness.cpp", folder)


def test_words_come_a_cycle_after_their_address(program, tmp_path):
    rng, expected = np.random.default_rng(0), {}
    for name, (width, depth) in SIZES.items():
        bits = rng.integers(0, 2, (depth, width), dtype=np.uint64)
        (tmp_path / f"{name}.12.hex").write_bytes(hex_words(bits, 1))
        expected[name] = [sum(int(bit) << i for i, bit in enumerate(word)) for word in bits]
    done = subprocess.run(
        [program, f"+rom={tmp_path}"], capture_output=True, text=True, check=True
    )  # fmt: skip
    found: dict[str, list[int]] = {}
    for line in done.stdout.splitlines():
        name, word = line.split()
        found.setdefault(name, []).append(int(word, 16))
    assert found == expected


def test_without_a_folder_it_stops(program):
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode != 0
    assert "+rom=DIR is missing" in done.stdout + done.stderr
