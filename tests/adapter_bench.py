# amaranth: UnusedElaboratable=no
"""Linear blocks with adapters in Verilator: side memory is written between the vectors."""

import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from fabric_bench import HARNESS
from linear_bench import NUMBER, VERILOG, Group, Run, random_group, write_rom
from random_adapter import random_low_rank
from streams import encode

from intaglio.golden.adapter import LowRank
from intaglio.hardware.adapted import Adapted, group_write_layout
from intaglio.hardware.fabric import fabric_sources
from intaglio.hardware.images import hex_words
from intaglio.hardware.library import Library
from intaglio.hardware.side_memory import side_memory_writes
from intaglio.plan.adapter import AdapterPlan
from intaglio.verify.verilator import build

DRIVER = """
// Before each vector: the writes that are due. Then the vector, with its adapter or none; the next
// when the last beat has left. Prints every transfer with its cycle. `stalls`: both ends wait at
// random. The block's clock runs only when its contract says so.
module driver #(
    parameter string NAME, parameter int PUSHES, PULLS, VECTORS, WRITES, IN, OUT, WRITE, COUNT
) (
    input logic clk, rst, stalls, busy,
    output logic [IN-1:0] i_payload, output logic i_valid, input logic i_ready,
    input logic [OUT-1:0] o_payload, input logic o_valid, output logic o_ready,
    output logic [WRITE-1:0] write_payload, output logic write_valid, input logic write_ready,
    output logic [4:0] lift, output logic enable, output logic [COUNT-1:0] number,
    output logic gated, done
);
  logic [IN-1:0] words [VECTORS*PUSHES];
  logic [4:0] lifts [VECTORS];
  logic [COUNT:0] choices [VECTORS];  // the number above whether there is one
  logic [WRITE-1:0] writes [WRITES];
  logic [15:0] due [WRITES];
  int vector, pushed, pulled, cycle, written;
  logic offered, waited, writing;
  logic [OUT-1:0] held;
  initial begin
    string folder;
    void'($value$plusargs("rom=%s", folder));
    $readmemh($sformatf("%s/%s_input.hex", folder, NAME), words);
    $readmemh($sformatf("%s/%s_lift.hex", folder, NAME), lifts);
    $readmemh($sformatf("%s/%s_choice.hex", folder, NAME), choices);
    $readmemh($sformatf("%s/%s_write.hex", folder, NAME), writes);
    $readmemh($sformatf("%s/%s_due.hex", folder, NAME), due);
  end
  assign done = vector >= VECTORS;
  assign writing = !done && written < WRITES && 32'(due[written < WRITES ? written : 0]) == vector;
  assign write_valid = writing && !rst;
  assign write_payload = writes[written < WRITES ? written : 0];
  assign i_valid = offered && pushed < PUSHES && !done && !writing;
  assign i_payload = words[done ? 0 : vector * PUSHES + (pushed < PUSHES ? pushed : 0)];
  assign lift = lifts[done ? 0 : vector];
  assign {number, enable} = choices[done ? 0 : vector];
  clock_gate gate (.clk, .rst, .gated_rst(), .enable(busy | i_valid | write_valid), .gated);
  always_ff @(posedge clk)
    if (rst) begin
      vector <= 0; pushed <= 0; pulled <= 0; cycle <= 0; offered <= 0; o_ready <= 0; waited <= 0;
      written <= 0;
    end else begin
      cycle <= cycle + 1;
      if (write_valid && write_ready) written <= written + 1;
      offered <= (i_valid && !i_ready) || !stalls || $urandom_range(2) == 0;
      o_ready <= !stalls || $urandom_range(2) == 0;
      if (i_valid && i_ready) begin
        pushed <= pushed + 1;
        $display("%s push %0d %0d", NAME, vector, cycle);
      end
      if (o_valid && o_ready) begin
        pulled <= pulled + 1;
        $display("%s pull %0d %0d %h", NAME, vector, cycle, o_payload);
        if (pulled == PULLS - 1) begin pushed <= 0; pulled <= 0; vector <= vector + 1; end
      end
      if (o_valid && (!busy || pulled == PULLS || done)) $display("%s fault valid", NAME);
      if (waited && (!o_valid || o_payload != held)) $display("%s fault unstable", NAME);
      if (pushed == PUSHES && i_ready) $display("%s fault ready too early", NAME);
      waited <= o_valid && !o_ready;
      held <= o_payload;
    end
endmodule
"""


@dataclass(frozen=True)
class Load:
    """Parts (None: no additions) written to place ``number`` before vector ``due``."""

    due: int
    number: int
    parts: tuple[LowRank | None, ...]


@dataclass(eq=False)
class AdaptedGroup:
    """A Linear with adapters: their shapes, what is loaded, and what each vector chooses."""

    group: Group
    shapes: tuple[AdapterPlan, ...]
    loads: list[Load] = field(default_factory=list)
    choices: list[int | None] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.group.name

    @property
    def parameters(self) -> dict:
        return {**self.group.parameters, "adapters": self.shapes}

    @cached_property
    def block(self) -> Adapted:
        """The block for its figures; the library elaborates another one."""
        return Adapted(library=Library(), **self.parameters)

    def parts(self, vector: int) -> tuple[LowRank | None, ...]:
        """What is added to each matrix at a vector."""
        number, found = self.choices[vector], (None,) * len(self.shapes)
        for load in self.loads:
            if load.due <= vector and load.number == number:
                found = load.parts
        return found


def adapted_group(
    seed: int, name: str, inputs: int, members: list[dict], *, rank: int, lanes: list[int],
    count: int = 1, loads: list[tuple[int, int, list[int]]], choices: list[int | None], **options,
) -> AdaptedGroup:  # fmt: skip
    """As ``random_group``. ``loads``: before which vector, where, of which ranks (0: no part)."""
    group = random_group(seed, name, inputs, members, vectors=len(choices), **options)
    rng = np.random.default_rng(seed)
    beat, activation = group.beat, group.activation
    shapes = tuple(
        AdapterPlan(inputs, each.matrix.outputs, rank, lane, beat, activation, count)
        for each, lane in zip(group.members, lanes, strict=True)
    )
    source = 2.0 ** (activation - 2)
    made = [
        Load(due, number, tuple(
            random_low_rank(rng, each.matrix, r, source=source) if r else None
            for each, r in zip(group.members, ranks, strict=True)
        ))
        for due, number, ranks in loads
    ]  # fmt: skip
    return AdaptedGroup(group, shapes, made, choices)


def simulate(groups: list[AdaptedGroup], folder: Path, *, stalls: bool) -> dict[str, list[Run]]:
    """Run all groups; by name, what was seen of every vector."""
    program, rom = folder / "obj" / "Vbench", folder / "rom"
    if not program.exists():
        prepare(groups, folder)
    done = subprocess.run(
        [program, f"+rom={rom}", *(["+stalls"] if stalls else []), "+verilator+seed+1"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "fault" not in done.stdout, done.stdout[:2000]
    runs = {group.name: [Run() for _ in group.choices] for group in groups}
    for line in done.stdout.splitlines():
        name, kind, vector, *rest = line.split()
        run = runs[name][int(vector)]
        if kind == "push":
            run.pushes.append(int(rest[0]))
        else:
            run.pulls.append(int(rest[0]))
            run.beats.append(int(rest[1], 16))
    return runs


def prepare(groups: list[AdaptedGroup], folder: Path) -> None:
    """Write sources, images and writes, and build."""
    rom, library = folder / "rom", Library()
    rom.mkdir()
    bench, fabrics = [], []
    for number, group in enumerate(groups):
        fabrics += group.group.block.fabrics
        bench.append(instance(group, library, number))
        write_rom(group.group, rom)
        write_choices(group, rom)
    (folder / "adapted.v").write_text("\n".join(library.texts().values()))
    (folder / "bench.sv").write_text(
        "module bench (input logic clk, rst, output logic done);\n"
        f"  logic [{len(groups) - 1}:0] done_each;\n  assign done = &done_each;\n"
        '  logic stalls;\n  initial stalls = $test$plusargs("stalls") != 0;\n'
        f"{''.join(bench)}endmodule\n{DRIVER}"
    )
    (folder / "harness.cpp").write_text(HARNESS)
    sources = fabric_sources(fabrics)
    for name, text in sources.items():
        (folder / name).write_text(text)
    files = [folder / name for name in ("adapted.v", "bench.sv", *sources)]
    files += [VERILOG / "rom.sv", VERILOG / "clock_gate.sv"]
    build(files, "bench", folder / "harness.cpp", folder)


def writes(group: AdaptedGroup) -> list[tuple[int, int]]:
    """Every write: before which vector, and its bits."""
    layout = group_write_layout(group.shapes)
    return [
        (load.due, encode(layout, {"matrix": matrix, **write}))
        for load in group.loads
        for matrix, (part, shape) in enumerate(zip(load.parts, group.shapes, strict=True))
        for write in side_memory_writes(part, shape, load.number)
    ]


def write_choices(group: AdaptedGroup, rom: Path) -> None:
    due, payloads = zip(*writes(group), strict=True)
    choices = [0 if number is None else 2 * number + 1 for number in group.choices]
    (rom / f"{group.name}_write.hex").write_text("".join(f"{p:x}\n" for p in payloads))
    for name, values in (("due", due), ("choice", choices)):
        words = np.array(values, np.uint64)[:, None]
        (rom / f"{group.name}_{name}.hex").write_bytes(hex_words(words, 16))


def instance(group: AdaptedGroup, library: Library, number: int) -> str:
    plain, n = group.group, number
    name = library.name(Adapted, library=library, **group.parameters)
    wide_in = plain.beat * plain.activation
    together = len(plain.members) if plain.order == "parallel" else 1
    wide_out = plain.beat * plain.block.to.bits * together
    wide_write = group_write_layout(group.shapes).size
    count = max((group.shapes[0].count - 1).bit_length(), 1)
    return f"""
  logic [{wide_in - 1}:0] i_payload_{n};
  logic [{wide_out - 1}:0] o_payload_{n};
  logic [{wide_write - 1}:0] write_payload_{n};
  logic i_valid_{n}, i_ready_{n}, o_valid_{n}, o_ready_{n}, write_valid_{n}, write_ready_{n};
  logic busy_{n}, gated_{n}, enable_{n};
  logic [{count - 1}:0] number_{n};
  logic [4:0] lift_{n};
  driver #(
    .NAME("{group.name}"), .PUSHES({plain.block.inputs // plain.beat}), .PULLS({plain.pulls}),
    .VECTORS({len(group.choices)}), .WRITES({len(writes(group))}), .IN({wide_in}),
    .OUT({wide_out}), .WRITE({wide_write}), .COUNT({count})
  ) driver_{n} (
    .clk, .rst, .stalls, .busy(busy_{n}), .lift(lift_{n}), .gated(gated_{n}),
    .enable(enable_{n}), .number(number_{n}),
    .i_payload(i_payload_{n}), .i_valid(i_valid_{n}), .i_ready(i_ready_{n}),
    .write_payload(write_payload_{n}), .write_valid(write_valid_{n}),
    .write_ready(write_ready_{n}),
    .o_payload(o_payload_{n}), .o_valid(o_valid_{n}), .o_ready(o_ready_{n}), .done(done_each[{n}])
  );
  {name} adapted_{n} (
    .root(clk), .clk(gated_{n}), .rst, .id(16'd{NUMBER}), .lift(lift_{n}), .busy(busy_{n}),
    .enable(enable_{n}), .number(number_{n}),
    .write__payload(write_payload_{n}), .write__valid(write_valid_{n}),
    .write__ready(write_ready_{n}),
    .i__payload(i_payload_{n}), .i__valid(i_valid_{n}), .i__ready(i_ready_{n}),
    .o__payload(o_payload_{n}), .o__valid(o_valid_{n}), .o__ready(o_ready_{n})
  );
"""
