"""A chip's Verilog, from its plan alone: nothing of the model is in it."""

import shutil
from pathlib import Path

from amaranth.back import verilog

from intaglio.hardware.chain import Chain
from intaglio.hardware.fabric import fabric_sources
from intaglio.hardware.library import Library
from intaglio.plan.chip import ChipPlan

TOP = "chip"
MODELS = Path(__file__).with_name("verilog")


def emit(plan: ChipPlan, folder: Path) -> list[Path]:
    """Write the Verilog of ``plan`` into ``folder``; return the files, top module ``chip``.

    ``chip.v`` holds everything made in Amaranth; beside it stand the simulation models of fabrics,
    ROM and clock gate, and the probes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    library = Library()
    chain = Chain(library=library, plan=plan)
    top = verilog.convert(chain, name=TOP, emit_src=False, strip_internal_attrs=True)
    (folder / f"{TOP}.v").write_text(f"{library.text()}\n{top}", "utf-8")
    fabrics = [fabric for layer in plan.layers for fabric in layer.values()]
    for name, text in fabric_sources([*fabrics, plan.head]).items():
        (folder / name).write_text(text, "utf-8")
    for model in sorted(MODELS.glob("*.sv")):
        shutil.copyfile(model, folder / model.name)
    return sorted(path for path in folder.iterdir() if path.suffix in (".v", ".sv"))
