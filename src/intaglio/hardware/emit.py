"""A chip's Verilog, from its plan alone: nothing of the model is in it."""

import json
import shutil
from pathlib import Path

from amaranth.back import verilog

from intaglio.hardware.chain import Chain, Ends, layer_parameters
from intaglio.hardware.fabric import fabric_sources
from intaglio.hardware.layer import Layer
from intaglio.hardware.library import Library
from intaglio.plan.chip import ChipPlan

TOP = "chip"
STATIONS = "stations.json"
MODELS = Path(__file__).with_name("verilog")


def emit(plan: ChipPlan, folder: Path) -> list[Path]:
    """Write the Verilog of ``plan`` into ``folder``; return the files, top module ``chip``.

    A file for every module made in Amaranth; beside them the simulation models of fabrics, ROM and
    clock gate, and the probes. ``stations.json`` names the modules along the chain: ``ends``, and
    ``layers`` in their order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    library = Library()
    chain = Chain(library=library, plan=plan)
    top = verilog.convert(chain, name=TOP, emit_src=False, strip_internal_attrs=True)
    texts = {f"{name}.v": text for name, text in {**library.texts(), TOP: top}.items()}
    fabrics = [fabric for layer in plan.layers for fabric in layer.values()]
    texts |= fabric_sources([*fabrics, plan.head])
    texts[STATIONS] = json.dumps(stations(library, plan), indent=1) + "\n"
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    for model in sorted(MODELS.glob("*.sv")):
        shutil.copyfile(model, folder / model.name)
    return sorted(path for path in folder.iterdir() if path.suffix in (".v", ".sv"))


def stations(library: Library, plan: ChipPlan) -> dict[str, str | list[str]]:
    """The modules along the chain."""
    return {
        "ends": library.name(Ends, library=library, plan=plan),
        "layers": [
            library.name(Layer, **layer_parameters(library, plan, fabrics))
            for fabrics in plan.layers
        ],
    }
