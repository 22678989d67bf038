"""Parts of an outline: matrices without weights, copies of each, their rows and fabrics."""

from collections.abc import Mapping

from intaglio.architecture import Architecture
from intaglio.errors import BadInput
from intaglio.golden.number import Widths
from intaglio.plan.chip import head_fabric, layer_fabrics
from intaglio.plan.preset import Preset
from intaglio.plan.process import Process
from intaglio.plan.target import target
from intaglio.plan.tiling import (
    DIGITS,
    GROUPS,
    FabricPlan,
    Shape,
    fabric_plan,
    group_rows,
    lanes_for,
)

HEAD_BITS = 8  # of head and router where nothing else is said

Bits = int | Mapping[str, int]
Rows = int | Mapping[str, int] | None


def width_of(bits: Bits, index: int | None, name: str) -> int:
    """The width of a matrix of layer ``index``, of the head where that is None."""
    special = {"head", "router"}
    if isinstance(bits, int):
        width = HEAD_BITS if name in special else bits
    else:
        fallback = {"query_down": bits.get("q"), "key_up": bits.get("k")}.get(name)
        width = bits.get(f"layers.{index}.{name}", bits.get(name, fallback))
        if width is None and name in special:
            width = HEAD_BITS
    if width not in DIGITS:
        raise BadInput(f"bits of {name} must be one of {', '.join(map(str, DIGITS))}, not {width}")
    return width


def shape(bits: Bits, index: int | None, name: str, inputs: int, outputs: int) -> Shape:
    """A matrix of the width that is wanted."""
    digit, digits = DIGITS[width_of(bits, index, name)]
    return Shape(digit, inputs, outputs, inputs if digits == 2 else 0)


def layer_shapes(
    a: Architecture, preset: Preset | None, bits: Bits, index: int
) -> dict[str, Shape]:
    """The matrices of a layer: the seven, then those beside them."""
    sizes = {
        "q": (a.width, a.query_width), "k": (a.width, a.kv_width), "v": (a.width, a.kv_width),
        "o": (a.query_width, a.width), "gate": (a.width, a.inner), "up": (a.width, a.inner),
        "down": (a.inner, a.width),
    }  # fmt: skip
    latent, experts = (preset.latent, preset.experts) if preset else (None, None)
    if latent:
        sizes |= {
            "q": (latent.query_rank, a.heads * (latent.plain + latent.rotary)),
            "k": (a.width, latent.stored),
            "v": (latent.kv_rank, latent.value),
            "o": (a.heads * latent.value, a.width),
            "query_down": (a.width, latent.query_rank),
            "key_up": (latent.plain, latent.kv_rank),
        }
    if experts and index >= experts.dense_layers:
        sizes["router"] = (a.width, experts.stored)
    return {name: shape(bits, index, name, *size) for name, size in sizes.items()}


def counts(a: Architecture, preset: Preset | None) -> tuple[dict[str, int], dict[str, int]]:
    """How many of each matrix a layer of a mixture stores, and how many work for one token."""
    names = [name for group in GROUPS.values() for name in group]
    copies = dict.fromkeys([*names, "router", "query_down", "key_up"], 1)
    if preset and preset.latent:
        copies |= {"v": a.heads, "key_up": a.heads}
    active = dict(copies)
    if preset and preset.experts:
        e = preset.experts
        copies |= dict.fromkeys(("gate", "up", "down"), e.stored + e.shared)
        active |= dict.fromkeys(("gate", "up", "down"), e.active + e.shared)
        if e.dense_inner and e.dense_inner // a.inner != active["down"]:
            raise BadInput(
                f"{preset.name}: dense_inner must be inner times the {active['down']} experts at "
                f"work, not {e.dense_inner}"
            )
    return copies, active


def rows_of(
    part: Mapping[str, Shape], copies: Mapping[str, int], rows: Rows, process: Process | None
) -> dict[str, int]:
    """Rows by group, and of every matrix beside the seven by its name.

    With a sum given, all steps that follow each other share it, copies counted as outputs.
    """
    beside = [name for name in part if not any(name in names for names in GROUPS.values())]
    if isinstance(rows, Mapping):
        return {**dict.fromkeys(beside, rows["qkv"]), **rows}
    total = rows or (process.rows if process else target("generic").rows)
    sizes = {
        step: (1, sum(part[name].inputs * part[name].outputs * copies[name] for name in names))
        for step, names in {**GROUPS, **{name: (name,) for name in beside}}.items()
    }
    return group_rows(sizes, total)


def fabrics_of(
    part: Mapping[str, Shape],
    copies: Mapping[str, int],
    rows: Mapping[str, int],
    widths: Widths,
    lanes: int | None,
) -> tuple[dict[str, FabricPlan], dict[str, FabricPlan]]:
    """The seven fabrics of a layer, and those beside them."""
    most = max(matrix.inputs for matrix in part.values())
    seven = layer_fabrics(part, widths, rows, lanes, most)
    others = {
        name: fabric_plan(
            matrix, min(lanes, most) if lanes else lanes_for(matrix, rows[name], most),
            widths.norm, most,
        )
        for name, matrix in part.items()
        if name not in seven
    }  # fmt: skip
    return seven, others


def head_of(
    a: Architecture,
    bits: Bits,
    rows: Rows,
    process: Process | None,
    lanes: int | None,
    widths: Widths,
) -> FabricPlan:
    """The head's fabric."""
    matrix = shape(bits, None, "head", a.width, a.vocabulary)
    if isinstance(rows, Mapping):
        own = rows.get("head", sum(rows[group] for group in GROUPS) // len(GROUPS))
        total = own * len(GROUPS)
    else:
        total = rows or (process.rows if process else target("generic").rows)
    return head_fabric(matrix, widths, total, lanes, max(a.width, a.inner))
