# amaranth: UnusedElaboratable=no
"""Linear blocks in Verilator, each with a driver in Verilog that stalls both ends."""

import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from fabric_bench import HARNESS
from random_model import random_matrix

from intaglio.golden.model import Matrix
from intaglio.golden.number import Int
from intaglio.hardware.fabric import fabric_sources
from intaglio.hardware.images import hex_words, matrix_images
from intaglio.hardware.library import Library
from intaglio.hardware.linear import Linear
from intaglio.plan.tiling import fabric_plan
from intaglio.verify.verilator import build

VERILOG = Path(__file__).parents[1] / "src" / "intaglio" / "hardware" / "verilog"
NUMBER = 5

DRIVER = """
// Pushes VECTORS vectors, each when the one before has left, and prints every transfer with its
// cycle. `stalls`: both ends wait at random. The block's clock runs only when its contract says so,
// or `always`.
module driver #(
    parameter string NAME, parameter int PUSHES, PULLS, VECTORS, IN, OUT
) (
    input logic clk, rst, stalls, always_, busy,
    output logic [IN-1:0] i_payload, output logic i_valid, input logic i_ready,
    input logic [OUT-1:0] o_payload, input logic o_valid, output logic o_ready,
    output logic [4:0] lift, output logic gated, done
);
  logic [IN-1:0] words [VECTORS*PUSHES];
  logic [4:0] lifts [VECTORS];
  int vector, pushed, pulled, cycle;
  logic offered, waited;
  logic [OUT-1:0] held;
  initial begin
    string folder;
    void'($value$plusargs("rom=%s", folder));
    $readmemh($sformatf("%s/%s_input.hex", folder, NAME), words);
    $readmemh($sformatf("%s/%s_lift.hex", folder, NAME), lifts);
  end
  assign done = vector >= VECTORS;
  assign i_valid = offered && pushed < PUSHES && !done;
  assign i_payload = words[done ? 0 : vector * PUSHES + (pushed < PUSHES ? pushed : 0)];
  assign lift = lifts[done ? 0 : vector];
  clock_gate gate (.clk, .rst, .gated_rst(), .enable(busy | i_valid | always_), .gated);
  always_ff @(posedge clk)
    if (rst) begin
      vector <= 0; pushed <= 0; pulled <= 0; cycle <= 0; offered <= 0; o_ready <= 0; waited <= 0;
    end else begin
      cycle <= cycle + 1;
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
class Member:
    """One matrix of a group: its image name, itself, its lanes and output range."""

    name: str
    matrix: Matrix
    lanes: int
    to: Int


@dataclass(eq=False)
class Group:
    """A Linear block, vectors for it and what was taken off them."""

    name: str
    members: tuple[Member, ...]
    order: str
    beat: int
    activation: int
    vectors: np.ndarray
    lifts: np.ndarray

    @property
    def parameters(self) -> dict:
        matrices = tuple(
            (e.name, fabric_plan(e.matrix, e.lanes, self.activation), e.to) for e in self.members
        )
        return {"matrices": matrices, "order": self.order, "beat": self.beat}

    @cached_property
    def block(self) -> Linear:
        """The block for its figures; the library elaborates another one."""
        return Linear(**self.parameters)

    @property
    def pulls(self) -> int:
        beats = self.block.columns
        return sum(beats) if self.order == "sequence" else beats[0]


@dataclass
class Run:
    """What a driver saw of one vector: the cycles of its transfers, the beats that came out."""

    pushes: list[int] = field(default_factory=list)
    pulls: list[int] = field(default_factory=list)
    beats: list[int] = field(default_factory=list)


def random_group(
    seed: int, name: str, inputs: int, members: list[dict], *, order: str = "sequence",
    beat: int = 4, activation: int = 8, vectors: int = 2, lift: int = 0,
) -> Group:  # fmt: skip
    """Random matrices whose outputs sometimes saturate; a member's sizes are a dict."""
    rng = np.random.default_rng(seed)
    low = -(1 << activation - 1)
    made = []
    for index, member in enumerate(members):
        matrix = random_matrix(
            rng, inputs, member["outputs"], source=-low / 2, target=2.0 ** (member["to"] - 2),
            bits=member.get("bits", 4), extras=member.get("extras", 0), least_shift=lift,
        )  # fmt: skip
        made.append(Member(f"{name}_{index}", matrix, member["lanes"], Int(member["to"])))
    x = rng.integers(low, -low, (vectors, inputs))
    x[0] = np.where(made[0].matrix.codes[:, 0] >> made[0].matrix.bits - 1, low, -low - 1)
    lifts = rng.integers(0, lift + 1, vectors)
    return Group(name, tuple(made), order, beat, activation, x, lifts)


def simulate(
    groups: list[Group], folder: Path, *, stalls: bool, always: bool = False
) -> dict[str, list[Run]]:
    """Run all groups; by name, what was seen of every vector. ``always``: no clock stops."""
    program, rom = folder / "obj" / "Vbench", folder / "rom"
    if not program.exists():
        prepare(groups, folder)
    options = [*(["+stalls"] if stalls else []), *(["+always"] if always else [])]
    done = subprocess.run(
        [program, f"+rom={rom}", *options, "+verilator+seed+1"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "fault" not in done.stdout, done.stdout[:2000]
    runs = {group.name: [Run() for _ in group.vectors] for group in groups}
    for line in done.stdout.splitlines():
        name, kind, vector, *rest = line.split()
        run = runs[name][int(vector)]
        if kind == "push":
            run.pushes.append(int(rest[0]))
        else:
            run.pulls.append(int(rest[0]))
            run.beats.append(int(rest[1], 16))
    return runs


def prepare(groups: list[Group], folder: Path) -> None:
    """Write sources and images, and build."""
    rom, library = folder / "rom", Library()
    rom.mkdir()
    bench, fabrics = [], []
    for number, group in enumerate(groups):
        fabrics += group.block.fabrics
        bench.append(instance(group, library, number))
        write_rom(group, rom)
    (folder / "linear.v").write_text("\n".join(library.texts().values()))
    (folder / "bench.sv").write_text(
        "module bench (input logic clk, rst, output logic done);\n"
        f"  logic [{len(groups) - 1}:0] done_each;\n  assign done = &done_each;\n"
        "  logic stalls, always_;\n"
        '  initial stalls = $test$plusargs("stalls") != 0;\n'
        '  initial always_ = $test$plusargs("always") != 0;\n'
        f"{''.join(bench)}endmodule\n{DRIVER}"
    )
    (folder / "harness.cpp").write_text(HARNESS)
    sources = fabric_sources(fabrics)
    for name, text in sources.items():
        (folder / name).write_text(text)
    files = [folder / name for name in ("linear.v", "bench.sv", *sources)]
    files += [VERILOG / "rom.sv", VERILOG / "clock_gate.sv"]
    build(files, "bench", folder / "harness.cpp", folder)


def instance(group: Group, library: Library, number: int) -> str:
    block = group.block
    name = library.name(Linear, **group.parameters)
    wide_in = group.beat * group.activation
    wide_out = group.beat * block.to.bits * (
        len(group.members) if group.order == "parallel" else 1
    )  # fmt: skip
    n = number
    return f"""
  logic [{wide_in - 1}:0] i_payload_{n};
  logic [{wide_out - 1}:0] o_payload_{n};
  logic i_valid_{n}, i_ready_{n}, o_valid_{n}, o_ready_{n}, busy_{n}, gated_{n};
  logic [4:0] lift_{n};
  driver #(
    .NAME("{group.name}"), .PUSHES({block.inputs // group.beat}), .PULLS({group.pulls}),
    .VECTORS({len(group.vectors)}), .IN({wide_in}), .OUT({wide_out})
  ) driver_{n} (
    .clk, .rst, .stalls, .always_, .busy(busy_{n}), .lift(lift_{n}), .gated(gated_{n}),
    .i_payload(i_payload_{n}), .i_valid(i_valid_{n}), .i_ready(i_ready_{n}),
    .o_payload(o_payload_{n}), .o_valid(o_valid_{n}), .o_ready(o_ready_{n}), .done(done_each[{n}])
  );
  {name} linear_{n} (
    .clk(gated_{n}), .rst, .id(16'd{NUMBER}), .lift(lift_{n}), .busy(busy_{n}),
    .i__payload(i_payload_{n}), .i__valid(i_valid_{n}), .i__ready(i_ready_{n}),
    .o__payload(o_payload_{n}), .o__valid(o_valid_{n}), .o__ready(o_ready_{n})
  );
"""


def write_rom(group: Group, rom: Path) -> None:
    for (name, fabric, _), member in zip(group.block.matrices, group.members, strict=True):
        for file, text in matrix_images(name, NUMBER, member.matrix, fabric, group.beat):
            (rom / file).write_bytes(text)
    words = group.vectors.astype(np.int64).view(np.uint64).reshape(-1, group.beat)
    (rom / f"{group.name}_input.hex").write_bytes(hex_words(words, group.activation))
    lifts = group.lifts.astype(np.uint64)[:, None]
    (rom / f"{group.name}_lift.hex").write_bytes(hex_words(lifts, 5))


def outputs(group: Group, run: Run) -> list[np.ndarray]:
    """The outputs of every matrix, padding included: int64 [columns * beat]."""
    block, beat = group.block, group.beat
    bits = block.to.bits
    if group.order == "sequence":
        ends = np.cumsum([0, *block.columns])
        parts = [run.beats[a:b] for a, b in pairwise(ends)]
    else:
        parts = [
            [word >> index * beat * bits for word in run.beats]
            for index in range(len(group.members))
        ]
    found = []
    for words in parts:
        values = [word >> bits * lane & (1 << bits) - 1 for word in words for lane in range(beat)]
        wide = np.array(values, np.int64)
        found.append(wide - ((wide >> bits - 1) << bits))
    return found
