"""Liberty: what timing and power tools know of a tile, from simulated reads.

The numbers are those of ``targets/circuit/PROCESS.yaml``, simulated for tiles of some numbers of
rows; a tile takes those of the next larger number, and is no wider than the simulated ones. To a
tool a tile is clocked by ``precharge_n``: with its rising edge, when ``bit_n`` and ``row`` are
there, outputs that read a 1 rise; with its falling edge they return to 0.

Times in ns, loads in fF, so that Liberty's unit of energy is the fJ. What was not simulated is not
stated: leakage, and outputs' least delays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from intaglio.errors import BadInput
from intaglio.plan.target import target_folder
from intaglio.quantity import read_yaml

CONDITIONS = ("typical", "slow", "fast")
LOWER, UPPER, HALF = 20, 80, 50  # % of the supply
OUTPUT = "output"
"""The template of tables by slew and load."""


@dataclass(frozen=True, slots=True)
class Macro:
    """A tile as its neighbours see it. ``area``: um2."""

    name: str
    bits: int
    rows: int
    lanes: int
    columns: int
    area: float

    @property
    def lines(self) -> int:
        """Product lines of a lane."""
        return 1 << self.bits


@cache
def tables(process: str = "sky130") -> dict[str, Any]:
    """The simulated reads of a process. Raises :class:`BadInput` where there are none."""
    path = target_folder() / "circuit" / f"{process}.yaml"
    if not path.is_file():
        raise BadInput(f"reads of tiles were simulated on sky130, not {process!r}")
    return read_yaml(path)


def reads(macro: Macro, condition: str, process: str = "sky130") -> Mapping[str, Any]:
    """The simulated numbers that hold for a tile."""
    found = tables(process)
    if condition not in found["conditions"]:
        raise BadInput(f"condition must be one of {', '.join(CONDITIONS)}, not {condition!r}")
    if macro.columns > found["columns"]:
        raise BadInput(
            f"{macro.name}: tiles of up to {found['columns']} columns were simulated, "
            f"not {macro.columns}"
        )
    fitting = [
        entry for entry in found["tiles"]
        if entry["bits"] == macro.bits and entry["condition"] == condition
        and entry["rows"] >= macro.rows
    ]  # fmt: skip
    if not fitting:
        raise BadInput(f"{macro.name}: no tile of {macro.bits} bits and {macro.rows} rows was "
                       "simulated")  # fmt: skip
    return min(fitting, key=lambda entry: entry["rows"])


def is_simulated(macro: Macro, process: str = "sky130") -> bool:
    """Whether there are numbers for a tile: it is no wider and has no more rows than they reach."""
    found = tables(process)
    return macro.columns <= found["columns"] and any(
        entry["bits"] == macro.bits and entry["rows"] >= macro.rows for entry in found["tiles"]
    )


def liberty(macro: Macro, condition: str = "slow", process: str = "sky130") -> str:
    """The library of one tile under one condition."""
    found, own = tables(process), reads(macro, condition, process)
    at = found["conditions"][condition]
    name = f"{macro.name}_{condition}"
    lines = [
        f"/* Intaglio, simulated: {found['source']}; {macro.bits}-bit cells, {own['rows']} rows */",
        f"library ({name}) {{",
        *indented(header(at, found)),
        *indented(group(f"cell ({macro.name})", cell(macro, own, found))),
        "}",
    ]
    return "\n".join(lines) + "\n"


def header(at: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Units, thresholds, the condition, templates."""
    thresholds = [
        f"{kind}_threshold_pct_{edge} : {value};"
        for kind, values in (
            ("slew_lower", (LOWER, LOWER)), ("slew_upper", (UPPER, UPPER)),
            ("input", (HALF, HALF)), ("output", (HALF, HALF)),
        )
        for edge, value in zip(("rise", "fall"), values, strict=True)
    ]  # fmt: skip
    conditions = [
        "process : 1;", f"temperature : {at['celsius']:g};", f"voltage : {at['volts']:g};",
    ]  # fmt: skip
    return [
        "technology (cmos);",
        "delay_model : table_lookup;",
        'time_unit : "1ns";',
        'voltage_unit : "1V";',
        'current_unit : "1uA";',
        'leakage_power_unit : "1nW";',
        'pulling_resistance_unit : "1kohm";',
        "capacitive_load_unit (1, ff);",
        *thresholds,
        "slew_derate_from_library : 1;",
        f"nom_process : 1;\nnom_temperature : {at['celsius']:g};\nnom_voltage : {at['volts']:g};",
        *group(f"operating_conditions ({at['corner']})", conditions),
        f"default_operating_conditions : {at['corner']};",
        "voltage_map (VPWR, " + f"{at['volts']:g});",
        "voltage_map (VGND, 0);",
        *group(
            f"lu_table_template ({OUTPUT})",
            [
                "variable_1 : input_net_transition;",
                "variable_2 : total_output_net_capacitance;",
                f'index_1 ("{row(found["slews"])}");',
                f'index_2 ("{row(found["loads"])}");',
            ],
        ),
    ]


def cell(macro: Macro, own: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The tile's area, supplies and buses."""
    lanes, columns = macro.lanes, macro.columns
    return [
        f"area : {macro.area:g};",
        "dont_touch : true;",
        "interface_timing : true;",
        *group("pg_pin (VPWR)", ["pg_type : primary_power;", "voltage_name : VPWR;"]),
        *group("pg_pin (VGND)", ["pg_type : primary_ground;", "voltage_name : VGND;"]),
        *bus("row", macro.rows, "input", row_pins(macro, own)),
        *bus("bit_n", lanes * macro.lines, "input", bit_pins(macro, own)),
        *bus("precharge_n", 2 * lanes, "input", precharge_pins(own)),
        *bus("out", lanes * columns, "output", output_pins(macro, own, found)),
    ]


def bus(name: str, width: int, direction: str, body: Sequence[str]) -> list[str]:
    """A type and a bus of it."""
    kind = [
        "base_type : array;", "data_type : bit;", f"bit_width : {width};",
        f"bit_from : {width - 1};", "bit_to : 0;", "downto : true;",
    ]  # fmt: skip
    head = [f"bus_type : {name}_type;", f"direction : {direction};"]
    return [*group(f"type ({name}_type)", kind), *group(f"bus ({name})", [*head, *body])]


def row_pins(macro: Macro, own: Mapping[str, Any]) -> list[str]:
    """A row's pin goes to every lane; its word lines must be up, or down, before the next read."""
    return [
        f"capacitance : {own['row_load'] * macro.lanes:g};",
        *constraint("setup_rising", "precharge_n[0]", own["word"]),
        *constraint("hold_falling", "precharge_n[0]", 0.0),
        *power(own["word_energy"] * macro.lanes),
    ]


def bit_pins(macro: Macro, own: Mapping[str, Any]) -> list[str]:
    """A lane's product bits drive a gate in every row; they are there with the rising edge."""
    body = [f"capacitance : {own['bit_load'] * macro.rows:g};"]
    for lane in range(macro.lanes):
        ends = f"{(lane + 1) * macro.lines - 1}:{lane * macro.lines}"
        clock = f"precharge_n[{2 * lane}]"
        body += group(
            f"pin (bit_n[{ends}])",
            [*constraint("setup_rising", clock, 0.0), *constraint("hold_falling", clock, 0.0)],
        )
    return body


def precharge_pins(own: Mapping[str, Any]) -> list[str]:
    """One of the two strips of a lane; low and high for as long as the phases take."""
    longest = max(max(values) for values in own["read"])
    return [
        f"capacitance : {own['precharge_load'] / 2:g};",
        "clock : true;",
        f"min_pulse_width_low : {own['precharge']:g};",
        f"min_pulse_width_high : {longest:g};",
        f"min_period : {own['precharge'] + longest:g};",
    ]


def output_pins(macro: Macro, own: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The columns' bits of every lane: up by the read's time, down in precharge."""
    body = [f"max_capacitance : {found['loads'][-1]:g};"]
    for lane in range(macro.lanes):
        ends = f"{(lane + 1) * macro.columns - 1}:{lane * macro.columns}"
        related = f'related_pin : "precharge_n[{2 * lane}] precharge_n[{2 * lane + 1}]";'
        rise = [related, "timing_type : rising_edge;", "timing_sense : non_unate;"]
        fall = [related, "timing_type : falling_edge;", "timing_sense : non_unate;"]
        rise += table("cell_rise", own["read"], found)
        rise += table("rise_transition", own["rise"], found)
        fall += table("cell_fall", own["read_back"], found)
        fall += table("fall_transition", own["fall"], found)
        pin = [*group("timing ()", rise), *group("timing ()", fall)]
        pin += power(own["sum_energy"] + own["sense_energy"])
        body += group(f"pin (out[{ends}])", pin)
    return body


def constraint(kind: str, related: str, value: float) -> list[str]:
    """A setup or hold that is the same at every slew."""
    body = [f'related_pin : "{related}";', f"timing_type : {kind};"]
    for edge in ("rise", "fall"):
        body += group(f"{edge}_constraint (scalar)", [f'values ("{value:g}");'])
    return group("timing ()", body)


def power(energy: float) -> list[str]:
    """The energy of a pin that rises and falls again, all of it with the rise."""
    return group(
        "internal_power ()",
        [
            *group("rise_power (scalar)", [f'values ("{energy:g}");']),
            *group("fall_power (scalar)", ['values ("0");']),
        ],
    )


def table(name: str, values: Sequence[Sequence[float]], found: Mapping[str, Any]) -> list[str]:
    """A table by slew and load."""
    assert len(values) == len(found["slews"]), name
    rows = ", ".join(f'"{row(line)}"' for line in values)
    return group(f"{name} ({OUTPUT})", [f"values ({rows});"])


def row(values: Sequence[float]) -> str:
    """Numbers of a table."""
    return ", ".join(f"{value:g}" for value in values)


def group(head: str, body: Sequence[str]) -> list[str]:
    """A group and what is in it."""
    return [f"{head} {{", *indented(body), "}"]


def indented(lines: Sequence[str]) -> list[str]:
    """One step to the right."""
    return [f"  {part}" for line in lines for part in line.split("\n")]
