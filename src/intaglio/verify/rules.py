"""Design rules: whether a layout keeps every rule of its process' file, by klayout's geometry.

klayout is an extra: nothing that compiles, engraves or reads masks needs it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intaglio.errors import ToolMissing
from intaglio.layout.rules import Rule, Rules

BY_CONSTRUCTION = ("channel width", "reach")
"""Checks that are not made here: the drawing takes its sizes from these rules."""
NM = 1000


def klayout() -> Any:
    """The geometry of klayout. Raises :class:`ToolMissing` where it is not installed."""
    try:
        import klayout.db
    except ImportError:
        raise ToolMissing("klayout is not installed", hint="pip install klayout") from None
    return klayout.db


def regions(files: Mapping[Path, str], r: Rules) -> dict[str, Any]:
    """Every layer of cells on top of each other, merged, in nm; derived layers with them.

    ``files``: layout files and the name of the cell of each.
    """
    kdb = klayout()
    found = {name: kdb.Region() for name in r.layers}
    for path, cell in files.items():
        layout = kdb.Layout()
        layout.read(str(path))
        scale = kdb.ICplxTrans(round(layout.dbu * NM))
        for name, numbers in r.layers.items():
            index = layout.find_layer(*numbers)
            if index is not None:
                shapes = kdb.Region(layout.cell(cell).begin_shapes_rec(index))
                found[name] += shapes.transformed(scale)
    return derive({name: region.merged() for name, region in found.items()}, r)


def derive(layers: dict[str, Any], r: Rules) -> dict[str, Any]:
    """The same layers, and those made of them."""
    for name, (left, operator, right) in r.derived.items():
        one, other = layers[left], layers[right]
        made = {"&": one.__and__, "|": one.__or__, "-": one.__sub__}[operator](other)
        layers[name] = made.merged()
    return layers


def violations(layers: Mapping[str, Any], rule: Rule) -> int:
    """How often a rule is broken."""
    kdb, own, value = klayout(), layers[rule.layer], rule.value
    other = layers[rule.of] if rule.of else kdb.Region()
    if rule.check == "width":
        return own.width_check(value).count()
    if rule.check == "area":
        return sum(polygon.area() < value for polygon in own.each())
    if rule.check == "hole area":
        return sum(polygon.area() < value for polygon in own.holes().each())
    if rule.check == "size":
        return sum({p.bbox().width(), p.bbox().height()} != {value} for p in own.each())
    if rule.check == "spacing":
        return apart(layers, rule, own, other)
    if rule.check == "extension":  # own beyond the gate, which may lie either way
        return layers["gate"].not_inside(along(own, value)).not_inside(across(own, value)).count()
    if rule.check == "enclosure":
        inner = other.interacting(own) if "licon" in str(rule.of) else other
        near = inner.enclosed_check(own, value).count() if value else 0
        return inner.not_inside(own).count() + near
    if rule.check == "enclosure of two opposite sides":
        inner = other.interacting(own)
        return inner.not_inside(along(own, value)).not_inside(across(own, value)).count()
    raise ValueError(f"{rule.name}: {rule.check} holds by construction and is not checked")


def along(region: Any, length: int) -> Any:
    """A region without its outer ``length`` on the left and right."""
    return region.sized(-length, 0, 2)


def across(region: Any, length: int) -> Any:
    """A region without its outer ``length`` above and below."""
    return region.sized(0, -length, 2)


def apart(layers: Mapping[str, Any], rule: Rule, own: Any, other: Any) -> int:
    """How often shapes come too near to each other, or to those of another layer."""
    if rule.of is None:
        both = layers["active"] if rule.layer == "diff" else own
        return both.space_check(rule.value).count()
    over = 0 if rule.layer == "poly" else (own & other).count()  # poly on diff is a gate
    return own.separation_check(other, rule.value).count() + over
