"""Rules: the mask layers and design rules of a process, read from its file, in nanometres."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from intaglio.errors import BadInput
from intaglio.quantity import is_number, read_yaml

KEYS = {"process", "grid", "programmable", "sources", "layers", "derived", "tracks", "rules"}
CHECKS = {
    "width",
    "channel width",
    "spacing",
    "size",
    "enclosure",
    "enclosure of two opposite sides",
    "extension",
    "area",
    "hole area",
    "reach",
}
AREAS = {"area", "hole area"}
OPERATORS = ("&", "|", "-")  # fmt: skip
PAIRED = CHECKS & {"enclosure", "enclosure of two opposite sides", "extension", "reach"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One published rule. ``value``: nm, of an area nm². ``of``: the second layer, if any."""

    name: str
    check: str
    layer: str
    value: int
    source: str
    of: str | None = None


@dataclass(frozen=True)
class Rules:
    """What a process' layout must keep.

    ``layers``: GDS layer and datatype by name. ``derived``: layers made of those before them, as
    (left, operator, right). ``programmable``: the layer that holds the model. ``tracks``: of a
    router's wires of a layer, their pitch and the first one's distance from the origin, nm.
    """

    process: str
    grid: int
    programmable: str
    layers: dict[str, tuple[int, int]]
    derived: dict[str, tuple[str, str, str]]
    tracks: dict[str, tuple[int, int]]
    rules: dict[str, Rule]

    def __getitem__(self, name: str) -> int:
        """The value of the rule of that published name, nm or nm²."""
        return self.rules[name].value


def rules_path(process: str) -> Path:
    """The rule file of a process of the package."""
    return Path(str(files("intaglio") / "layout" / f"{process}.yaml"))


@cache
def rules(process: str = "sky130") -> Rules:
    """The rules of a process that cells can be drawn on."""
    if not rules_path(process).is_file():
        raise BadInput(f"masks can be drawn on sky130, not {process!r}")
    return read_rules(rules_path(process))


def read_rules(path: Path) -> Rules:
    """Read a rule file. Raises :class:`BadInput` naming file and key."""
    values = read_yaml(path)
    check_keys(values, KEYS, set(), path.name)
    sources = values["sources"]
    if not isinstance(sources, Mapping):
        raise BadInput(f"{path.name}: sources must be a mapping")
    layers = {
        name: read_layer(entry, sources, f"{path.name}: layers: {name}")
        for name, entry in entries(values, "layers", path)
    }
    if values["programmable"] not in layers:
        raise BadInput(f"{path.name}: programmable must be a layer, not {values['programmable']!r}")
    grid = in_nm(values["grid"], 1000, f"{path.name}: grid")
    if not grid:
        raise BadInput(f"{path.name}: grid must be above 0")
    derived = read_derived(values, layers, path)
    tracks = {
        name: read_track(entry, sources, f"{path.name}: tracks: {name}")
        for name, entry in entries(values, "tracks", path)
    }
    known = {*layers, *derived}
    found = {
        name: read_rule(name, entry, known, sources, f"{path.name}: rules: {name}")
        for name, entry in entries(values, "rules", path)
    }
    return Rules(
        str(values["process"]), grid, values["programmable"], layers, derived, tracks, found
    )


def entries(values: Mapping[str, Any], key: str, path: Path) -> list[tuple[str, Any]]:
    """The named entries below a key."""
    if not isinstance(values[key], Mapping):
        raise BadInput(f"{path.name}: {key} must be a mapping")
    return [(str(name), entry) for name, entry in values[key].items()]


def check_keys(values: Any, wanted: set[str], optional: set[str], place: str) -> None:
    """Raise :class:`BadInput` naming the place unless ``values`` has the wanted keys."""
    if not isinstance(values, Mapping):
        raise BadInput(f"{place}: must be a mapping")
    found = {str(key) for key in values}
    if missing := wanted - found:
        raise BadInput(f"{place}: has no {', '.join(sorted(missing))}")
    if unknown := found - wanted - optional:
        raise BadInput(f"{place}: unknown key {', '.join(sorted(unknown))}")


def check_source(entry: Mapping[str, Any], sources: Mapping[str, Any], place: str) -> None:
    """Raise :class:`BadInput` unless an entry names one of the file's sources."""
    if entry["source"] not in sources:
        raise BadInput(f"{place}: source must be one of the file's, not {entry['source']!r}")


def read_layer(entry: Any, sources: Mapping[str, Any], place: str) -> tuple[int, int]:
    """GDS layer and datatype."""
    check_keys(entry, {"gds", "source"}, set(), place)
    check_source(entry, sources, place)
    gds = entry["gds"]
    if not isinstance(gds, list) or len(gds) != 2 or not all(type(n) is int for n in gds):
        raise BadInput(f"{place}: gds must be a layer and a datatype, not {gds!r}")
    return gds[0], gds[1]


def read_derived(
    values: Mapping[str, Any], layers: Mapping[str, Any], path: Path
) -> dict[str, tuple[str, str, str]]:
    """The layers made of two others each."""
    found: dict[str, tuple[str, str, str]] = {}
    for name, entry in entries(values, "derived", path):
        for operator in OPERATORS:
            left, middle, right = str(entry).partition(f" {operator} ")
            if middle and all(part in layers or part in found for part in (left, right)):
                found[name] = left, operator, right
        if name not in found:
            raise BadInput(
                f"{path.name}: derived: {name}: must join two known layers by & | or -: {entry!r}"
            )
    return found


def read_track(entry: Any, sources: Mapping[str, Any], place: str) -> tuple[int, int]:
    """Pitch and offset of a router's tracks, nm."""
    check_keys(entry, {"pitch", "offset", "source"}, set(), place)
    check_source(entry, sources, place)
    pitch, offset = (in_nm(entry[key], 1000, f"{place}: {key}") for key in ("pitch", "offset"))
    if offset >= pitch:
        raise BadInput(f"{place}: offset must be below the pitch, not {entry['offset']!r}")
    return pitch, offset


def read_rule(
    name: str,
    entry: Any,
    layers: Collection[str],
    sources: Mapping[str, Any],
    place: str,
) -> Rule:
    """One rule, its value in nm or nm²."""
    check_keys(entry, {"check", "layer", "value", "source"}, {"of"}, place)
    check_source(entry, sources, place)
    if entry["check"] not in CHECKS:
        raise BadInput(f"{place}: check must be one of {sorted(CHECKS)}, not {entry['check']!r}")
    if entry["check"] in PAIRED and "of" not in entry:
        raise BadInput(f"{place}: has no of")
    for key in ("layer", "of"):
        if key in entry and entry[key] not in layers:
            raise BadInput(f"{place}: {key} must be one of the file's layers, not {entry[key]!r}")
    scale = 1_000_000 if entry["check"] in AREAS else 1000
    value = in_nm(entry["value"], scale, place)
    return Rule(name, entry["check"], entry["layer"], value, entry["source"], entry.get("of"))


def in_nm(value: Any, scale: int, place: str) -> int:
    """A length in µm as whole nanometres (``scale`` 1000), or an area as nm²."""
    if not is_number(value) or value < 0 or abs(value * scale - round(value * scale)) > 1e-6:
        raise BadInput(f"{place}: value must be a whole number of nm and not negative: {value!r}")
    return round(value * scale)
