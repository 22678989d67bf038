"""A chip's fabrics as gates in place of their contract models: what a netlist is made of.

Every fabric of another shape is a module of its own, of product banks, counters and accumulators.
Its cells are the module ``<fabric>_cells``, and ROMs have modules too, which are written where
tiles are known. The contract models' modules keep names, parameters and ports, and choose by their
parameters.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from amaranth.back import verilog

from intaglio.hardware.fabric import INDEX_BITS, module_name
from intaglio.hardware.library import Library
from intaglio.hardware.select import Select
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import FabricPlan

CELLS, MAP, START = "selection", "map", "start_values"
"""Instances in a fabric as gates."""


@dataclass(frozen=True, slots=True)
class Kind:
    """All fabrics of one matrix' name and one shape. ``module``: what they are called."""

    matrix: str
    fabric: FabricPlan
    module: str

    @property
    def cells(self) -> str:
        """The module of its cells."""
        return f"{self.module}_cells"

    @property
    def path(self) -> str:
        """The instance of the fabric in the module that a chip places."""
        return f"{self.module}.chosen"


def kinds(plan: ChipPlan) -> dict[tuple[str, FabricPlan], Kind]:
    """Every kind of fabric of a chip, in the order of the chain."""
    found: dict[tuple[str, FabricPlan], Kind] = {}
    for name, fabric in [*(each for layer in plan.layers for each in layer.items()),
                         ("head", plan.head)]:  # fmt: skip
        number = sum(kind.matrix == name for kind in found.values())
        found.setdefault((name, fabric), Kind(name, fabric, f"{name}_{number}_gates"))
    return found


def structure(plan: ChipPlan) -> dict[str, str]:
    """The Verilog of all fabrics by file name; of their cells there are only instances."""
    library, texts = Library(), {}
    made = list(kinds(plan).values())
    for kind in made:
        gates = Select(
            name=kind.matrix, fabric=kind.fabric, beat=plan.beat, cells=kind.cells,
            library=library,
        )  # fmt: skip
        texts[f"{kind.module}.v"] = verilog.convert(
            gates, name=kind.module, emit_src=False, strip_internal_attrs=True
        )
    texts |= {f"{name}.v": text for name, text in library.texts().items()}
    shapes = sorted({(f.bits, f.lanes, f.activation) for f in (kind.fabric for kind in made)})
    for shape in shapes:
        mine = [k for k in made if (k.fabric.bits, k.fabric.lanes, k.fabric.activation) == shape]
        texts[f"{module_name(*shape)}.v"] = "\n".join(choice(shape, mine)) + "\n"
    return texts


def choice(shape: tuple[int, int, int], made: list[Kind]) -> Iterator[str]:
    """The module of a contract model, which places the fabric that its parameters name."""
    index = INDEX_BITS - 1
    yield f"// Fabrics of {shape[1]} lanes, {shape[0]}-bit codes and {shape[2]}-bit activations."
    yield f"module {module_name(*shape)} #("
    yield '    parameter NAME = "", parameter INPUTS = 0, parameter COLUMNS = 0,'
    yield "    parameter ROWS = 0, parameter EXTRA = 0, parameter SHIFT = 0,"
    yield "    parameter ACCUMULATOR = 1, parameter BEAT = 1"
    yield ") ("
    yield f"    input wire clk, read_clk, rst, load, start, read, input wire [{index}:0] id,"
    yield f"    input wire [{index}:0] load_index, read_index,"
    yield f"    input wire [BEAT*{shape[2]}-1:0] load_data,"
    yield "    output wire [BEAT*ACCUMULATOR-1:0] read_data"
    yield ");"
    yield "  generate"
    for kind in made:
        yield f"    if ({condition(kind)}) begin : {kind.module}"
        yield f"      {kind.module} chosen ({CONNECTED});"
        yield "    end"
    yield "  endgenerate"
    yield "endmodule"


@dataclass(frozen=True, slots=True)
class RomKind:
    """All ROMs of one name and one size, bits and words. ``module``: what reads them."""

    name: str
    width: int
    words: int
    module: str


def rom_choice(made: Iterable[RomKind]) -> str:
    """The Verilog of the ROMs' contract model, which places what reads the one it is told."""
    lines = [
        'module rom #(parameter NAME = "", parameter WIDTH = 1, parameter DEPTH = 1) (',
        "    input wire clk, input wire [15:0] id,",
        "    input wire [(DEPTH == 1 ? 1 : $clog2(DEPTH)) - 1:0] address,",
        "    output wire [WIDTH-1:0] data", ");", "  generate",
    ]  # fmt: skip
    for kind in made:
        sizes = f"WIDTH == {kind.width} && DEPTH == {kind.words}"
        lines += [
            f'    if (NAME == "{kind.name}" && {sizes}) begin : {kind.module}',
            f"      {kind.module} chosen (.clk(clk), .id(id), .address(address), .data(data));",
            "    end",
        ]
    return "\n".join([*lines, "  endgenerate", "endmodule", ""])


CONNECTED = ", ".join(
    f".{name}({name})"
    for name in (
        "clk", "read_clk", "rst", "load", "start", "read", "id", "load_index", "read_index",
        "load_data", "read_data",
    )
)  # fmt: skip


def condition(kind: Kind) -> str:
    """Whether the parameters are those of a kind of fabric."""
    f = kind.fabric
    values = {
        "INPUTS": f.inputs, "COLUMNS": f.outputs, "ROWS": f.rows, "EXTRA": f.extra_rows,
        "SHIFT": f.extra_shift, "ACCUMULATOR": f.accumulator,
    }  # fmt: skip
    return f'NAME == "{kind.matrix}"' + "".join(f" && {k} == {v}" for k, v in values.items())
