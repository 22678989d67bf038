# amaranth: UnusedElaboratable=no
"""Fabrics and ROMs made of tiles read what their contract models read, with the masks' codes."""

import subprocess

import numpy as np
import pytest
from amaranth.back import verilog
from fabric_bench import VERILOG, Case, random_case, simulate, sums
from mask_files import RULES

from intaglio.hardware.library import Library
from intaglio.hardware.select import Select
from intaglio.layout import fabric
from intaglio.layout.contents import Rom, fabric_array
from intaglio.layout.fabric import Tile
from intaglio.layout.wrapper import behaviour, cells, image, image_name, reader
from intaglio.plan.place import place
from intaglio.verify.verilator import build

CASES = [
    random_case(1, 2, 16, 6, 4, beat=2),
    random_case(2, 3, 20, 6, 7, extras=9, activation=10, beat=4),
    random_case(3, 4, 12, 3, 1, extras=1, activation=16, beat=4),
    random_case(4, 3, 6, 22, 2, beat=2),
]
COLUMNS = 8  # of a tile here: the last fabric has three beside each other


def tiles_of(case: Case) -> list[Tile]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fabric, "TILE_COLUMNS", COLUMNS)
        return [*fabric.tiles(fabric_array(f"{case.name}_gates", case.fabric), RULES)]


def gates(case: Case) -> str:
    """A fabric down to its tiles, in one text."""
    name, library, own = f"{case.name}_gates", Library(), tiles_of(case)
    block = Select(
        name=name, fabric=case.fabric, beat=case.beat, cells=f"{name}_cells", library=library
    )
    top = verilog.convert(block, name=name, emit_src=False, strip_internal_attrs=True)
    texts = {name: top, "cells": cells(f"{name}_cells", name, own)}
    for part, text in library.texts().items():  # other cases have parts of these names
        texts[part] = text
    texts |= {tile.base: behaviour(tile) for tile in own}
    whole = "`define SIMULATION\n" + "\n".join(texts.values())
    for part in library.texts():
        whole = whole.replace(f"module {part}(", f"module {case.name}_{part}(")
        whole = whole.replace(f"  {part} \\", f"  {case.name}_{part} \\")
    return whole


def images_of(case: Case, change: int = 0) -> dict[str, str]:
    """Every tile's codes; ``change``: of the first one."""
    codes, _ = place(case.matrix, case.fabric)
    codes = codes.copy()
    codes[0, 0, 0] ^= change
    name = f"{case.name}_gates"
    return {image_name(name, 7, tile): image(tile, codes) for tile in tiles_of(case)}


@pytest.fixture(scope="module")
def passes(tmp_path_factory):
    structural = {case.name: gates(case) for case in CASES}
    images = {name: text for case in CASES for name, text in images_of(case).items()}
    return simulate(CASES, tmp_path_factory.mktemp("tiles"), structural=structural, images=images)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_tiles_compute_the_dot_products(passes, case):
    """The sums are golden's, bit for bit, in the cycles of the contract model."""
    own = passes[f"{case.name}_gates"]
    np.testing.assert_array_equal(sums(case, own), case.expected)
    contract = passes[case.name]
    assert [each.loads for each in contract] == [each.loads for each in own]


def test_another_code_in_a_tile_is_another_sum(tmp_path):
    case = CASES[0]
    found = simulate(
        [case], tmp_path, structural={case.name: gates(case)}, images=images_of(case, 1)
    )
    wrong = sums(case, found[f"{case.name}_gates"]) != case.expected
    assert wrong[:, 0].any()
    assert not wrong[:, 1:].any()


ROMS = [
    Rom("one", 1, (("a", 70),)),
    Rom("odd", 7, (("a", 5), ("b", 4)), repeat=2),
    Rom("folded", 90, (("a", 11),), fold=4),
    Rom("banked", 1100, (("a", 3),), repeat=2, fold=2),
]
READING = """
#include <cstdio>
#include "Vbench.h"
// A random address a cycle, and a clock that stands now and then, when the address stands too.
int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vbench bench{&context};
    unsigned noise = 1, reads = 0;
    auto next = [&] { return noise = noise * 1664525u + 1013904223u, noise >> 8; };
    for (int cycle = 0; cycle < 20000; ++cycle) {
        bench.clk = 1, bench.eval();
        if (cycle && bench.differ) return std::printf("cycle %d\\n", cycle), 1;
        for (int pause = next() % 8 ? 0 : 3; pause >= 0; --pause) bench.eval();
        bench.address = next(), bench.eval();
        if (cycle && bench.differ) return std::printf("cycle %d\\n", cycle), 1;
        bench.clk = 0, bench.eval(), ++reads;
    }
    std::printf("%u reads\\n", reads);
}
"""


def test_roms_read_what_their_contract_models_read(tmp_path):
    """Every cycle the word at the address before, whatever its bank, its group and its half."""
    rng, places, texts, differ = np.random.default_rng(1), [], {}, []
    for rom in ROMS:
        made, bits = [*fabric.tiles(rom.array, RULES)], max((rom.words - 1).bit_length(), 1)
        values = [rng.integers(0, 1 << min(size, 62), rom.words * rom.repeat)
                  for _, size in rom.fields]  # fmt: skip
        codes = rom.codes(*values)
        for tile in made:
            texts[tile.base] = behaviour(tile)
            (tmp_path / image_name(rom.name, 7, tile)).write_text(image(tile, codes))
        words = []
        for word in range(rom.words):
            at = total = 0
            for element in range(word * rom.repeat, (word + 1) * rom.repeat):
                for (_, size), field in zip(rom.fields, values, strict=True):
                    total |= int(field[element]) << at
                    at += size
            words.append(f"{total:x}\n")
        (tmp_path / f"{rom.name}.7.hex").write_text("".join(words))
        texts[rom.name] = reader(f"{rom.name}_tiles", rom.name, rom, made)
        own = f"wire [{bits - 1}:0] at_{rom.name} = {bits}'(address % {rom.words});"
        ends = f"[{rom.width - 1}:0]"
        places.append(
            f"  {own} wire {ends} is_{rom.name}, must_{rom.name};\n"
            f"  {rom.name}_tiles tiles_{rom.name} (.clk, .id(16'd7), .address(at_{rom.name}), "
            f".data(is_{rom.name}));\n"
            f'  rom #(.NAME("{rom.name}"), .WIDTH({rom.width}), .DEPTH({rom.words})) '
            f"contract_{rom.name} (.clk, .id(16'd7), .address(at_{rom.name}), "
            f".data(must_{rom.name}));"
        )
        differ.append(f"is_{rom.name} != must_{rom.name}")
    bench = "module bench (input wire clk, input wire [31:0] address, output wire differ);\n"
    bench += "\n".join(places) + f"\n  assign differ = {' || '.join(differ)};\nendmodule\n"
    (tmp_path / "bench.sv").write_text("\n".join([*texts.values(), bench]))
    (tmp_path / "harness.cpp").write_text(READING)
    program = build(
        [tmp_path / "bench.sv", VERILOG / "rom.sv"], "bench", tmp_path / "harness.cpp", tmp_path,
        defines={"SIMULATION": "1"},
    )  # fmt: skip
    done = subprocess.run(
        [program, f"+rom={tmp_path}"], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "20000 reads\n"), done.stdout + done.stderr
