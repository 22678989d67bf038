"""Chips of random models, emitted and built, for the tests of whole chips."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from intaglio.golden.model import IntModel
from intaglio.hardware.emit import TOP, emit
from intaglio.hardware.images import write_images
from intaglio.plan.chip import ChipPlan, make_plan
from intaglio.verify.assemble import assemble
from intaglio.verify.simulation import HARNESS, write_layout
from intaglio.verify.verilator import build


@dataclass(frozen=True)
class Chip:
    """A model, its plan, the program that simulates its RTL, its ROM images."""

    model: IntModel
    plan: ChipPlan
    executable: Path
    rom: Path


def build_chip(
    folder: Path,
    model: IntModel,
    *,
    edit: Callable[[str], str] | None = None,
    whole: bool = False,
    **options,
) -> Chip:
    """A chip in ``folder``.

    ``edit`` changes the Verilog of what is made in Amaranth, file by file. ``whole``: one program
    from the top module instead of parts. ``options``: the plan's.
    """
    plan = make_plan(model, **options)
    rtl, rom, work = folder / "rtl", folder / "rom", folder / "build"
    sources = emit(plan, rtl)
    if edit:
        for path in sorted(rtl.glob("*.v")):
            path.write_text(edit(path.read_text()))
    write_images(model, plan, rom)
    work.mkdir()
    write_layout(work, plan.beat, plan.architecture.vocabulary, plan)
    if whole:
        return Chip(model, plan, build(sources, TOP, HARNESS, work), rom)
    return Chip(model, plan, assemble(rtl, HARNESS, work), rom)


BLOCKS = {
    "norm_attention": 0, "q": 1, "rotary_q": 2, "attention": 3, "attention_shrink": 4, "o": 5,
    "residual_attention": 6, "norm_mlp": 7, "gate": 8, "product": 9, "product_shrink": 10,
    "down": 11, "residual_mlp": 12,
}  # fmt: skip
"""Blocks of a layer in their order, by the operation they give first."""

TABLES = {"gate": "gate", "attention.exponential": "exp2", "norm": "root", "rotary.sines": "sine"}
"""Modules with a function table, and what the test calls it."""

NOTHING, HANG, LOSE, TABLE = range(4)
PLUG = """
  reg [63:0] fault [0:0];
  string fault_folder;
  initial begin
    fault[0] = 0;
    if ($value$plusargs("rom=%s", fault_folder)) $readmemh({fault_folder, "/fault.hex"}, fault);
  end
"""


@dataclass(frozen=True)
class Fault:
    """What a chip made by :func:`with_faults` does wrong.

    ``HANG``, ``LOSE``: block ``place`` of ``layer`` stands still at ``position``, or loses the
    first beat of it. ``TABLE``: entry ``index`` of table ``place`` has ``bit`` flipped.
    """

    kind: int = NOTHING
    place: int = 0
    index: int = 0
    position: int = 0
    layer: int = 0
    bit: int = 0

    def write(self, folder: Path) -> None:
        """Put it where the chip reads it, beside the ROM images."""
        word = (
            self.kind | self.place << 4 | self.index << 12 | self.position << 24 | self.layer << 44
            | self.bit << 56
        )  # fmt: skip
        (folder / "fault.hex").write_text(f"{word:x}\n")


def with_faults(text: str) -> str:
    """The Verilog with every fault of :class:`Fault` built in, asleep until its file names one."""
    text = re.sub(r"^module layer\(.*?^endmodule", _faulty_layer, text, flags=re.M | re.S)
    for number, module in enumerate(TABLES):
        pattern = rf"^module \\?{re.escape(module)}\s*\(.*?^endmodule"
        text = re.sub(pattern, functools.partial(_faulty_table, number), text, flags=re.M | re.S)
    return text


def _after_ports(module: str, plug: str) -> str:
    end = module.index(");") + 2
    return module[:end] + plug + module[end:]


def _faulty_layer(match: re.Match[str]) -> str:
    """Every block's valid passes a gate."""
    module, plug = match[0], PLUG
    placed = re.findall(r"^  (\w+) \\U\$(\d+)  \((.*?)^  \);", module, re.M | re.S)
    blocks = sorted((int(at), body) for _, at, body in placed if ".o__valid(" in body)
    assert len(blocks) == len(BLOCKS)
    for number, (_, body) in enumerate(blocks):
        valid = re.search(r"\.o__valid\((.*?)\)", body)
        ready = re.search(r"\.o__ready\((.*?)\)", body)
        assert valid
        assert ready
        plug += f"""
  wire valid_{number};
  reg lost_{number} = 0;
  wire here_{number} = fault[0][11:4] == {number} && header[35:16] == fault[0][43:24]
    && id[11:0] == fault[0][55:44];
  wire hides_{number} = here_{number} && (fault[0][3:0] == {HANG}
    || (fault[0][3:0] == {LOSE} && !lost_{number}));
  assign {valid[1]} = valid_{number} & ~hides_{number};
  always @(posedge clk) if (valid_{number} && {ready[1]} && here_{number}) lost_{number} <= 1;
"""
        module = module.replace(body, body.replace(valid[0], f".o__valid(valid_{number})"))
    return module.removesuffix("endmodule") + plug + "endmodule"


def _faulty_table(number: int, match: re.Match[str]) -> str:
    """After its contents are set, an entry of the table is changed."""
    wake = f"if (fault[0][3:0] == {TABLE} && fault[0][11:4] == {number})"
    change = r"\\table [fault[0][23:12]] = \\table [fault[0][23:12]] ^ (64'd1 << fault[0][63:56]);"
    read = '$readmemh({fault_folder, "/fault.hex"}, fault);'
    module, count = re.subn(
        r"(  initial begin\n)((?:    \\table \[\d+\] = .*\n)+)",
        rf'\1    if ($value$plusargs("rom=%s", fault_folder)) {read}\n\2    {wake} {change}\n',
        match[0],
    )
    assert count >= 1
    return _after_ports(module, "\n  reg [63:0] fault [0:0];\n  string fault_folder;\n")
