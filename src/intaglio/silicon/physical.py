"""A chip's area, power and speed, from its outline and a process alone.

Every figure is a quantity: its range comes from what is uncertain in the process and in the
circuits, its grade is the worst among what moves it. Cycles are the plan's and exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from intaglio.quantity import Quantity, numbers
from intaglio.silicon.derived import Figure, derive, nested
from intaglio.silicon.fabric import Inputs
from intaglio.silicon.model import KINDS, Silicon, inputs_of, silicon
from intaglio.silicon.request import Choices, Cycles

if TYPE_CHECKING:
    from intaglio.plan.outline import Outline
    from intaglio.plan.process import Process

AREA_UNITS = {"area_mm2": "mm2", "transistors": "1", **{f"area_{kind}": "mm2" for kind in KINDS}}
POWER_UNITS = {
    "power_w": "W", "power_full_w": "W", "power_all_w": "W", "leakage_w": "W",
    "millijoule_per_token": "mJ", "millijoule_per_token_full": "mJ", "dynamic_millijoule": "mJ",
    "hottest_w_per_mm2": "W/mm2", "hottest_single_w_per_mm2": "W/mm2",
    "femtojoule_per_weight": "fJ",
}  # fmt: skip
POWERS = ("leakage_w", "power_w", "power_all_w", "power_full_w")
"""Each a part of the next."""

SPEED_UNITS = {
    "clock_hz": "Hz",
    "tokens_per_second_per_user": "1/s", "tokens_per_second_all": "1/s",
    "tokens_per_second_full": "1/s", "tokens_per_second_end_to_end": "1/s",
    "prompt_tokens_per_second": "1/s", "first_token_seconds": "s",
    "redrive_cycles": "cycle", "redrive_cycles_interval": "cycle",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """Parts of one kind: ``count`` of them on the chip, ``area`` of one. ``layer``: the first."""

    name: str
    kind: str
    layer: int | None
    layers: tuple[int, ...]
    count: float
    area: Quantity

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "name": self.name, "kind": self.kind, "layer": self.layer,
            "layers": list(self.layers), "count": self.count, "area": self.area.as_dict(),
        }  # fmt: skip


@dataclass(frozen=True)
class Physical:
    """A chip's figures on a process."""

    outline: "Outline"
    process: "Process"
    choices: Choices
    silicon: Silicon
    inputs: Mapping[str, Quantity]
    figures: Mapping[str, Figure]

    def _pick(self, units: Mapping[str, str]) -> dict[str, Quantity]:
        return {name: self.figures[name].quantity for name in units}

    @property
    def area(self) -> dict[str, Quantity]:
        """mm2, the whole and by kind; transistors."""
        return self._pick(AREA_UNITS)

    @property
    def power(self) -> dict[str, Quantity]:
        """W, mJ per token, W/mm2."""
        return self._pick(POWER_UNITS)

    @property
    def speed(self) -> dict[str, Quantity]:
        """tokens/s, seconds."""
        return self._pick(SPEED_UNITS)

    @property
    def moves(self) -> dict[str, list[str]]:
        """By figure: the inputs that move it, the strongest first."""
        return {name: list(figure.moves) for name, figure in self.figures.items()}

    @property
    def cycles(self) -> Cycles:
        """Exact cycles of the headline's request."""
        return self.silicon.cycles

    @property
    def cells(self) -> dict[str, str]:
        """The cell of every fabric by its name, of the first layer that has it."""
        made: dict[str, str] = {}
        for part in self.silicon.parts:
            if part.fabric:
                name = part.name.removesuffix(" fabric")
                made.setdefault(name, self.silicon.cells[part.fabric])
        return made

    @property
    def users(self) -> dict[str, float]:
        """``slots``: users whose keys and values there are; ``full``: who would fill the chain."""
        full = self.silicon.users(numbers(self.inputs))
        return {"slots": self.outline.plan.slots, "full": full}

    @cached_property
    def stations(self) -> dict[str, float]:
        """mm2 of every link of the chain at the process' values, see :meth:`stations_at`."""
        return self.stations_at(numbers(self.inputs))

    def stations_at(self, x: Inputs) -> dict[str, float]:
        """mm2 of every link of the chain at these numbers: embedding, layers, head, port.

        What lies between them and around them is not in it.
        """
        layers = len(self.outline.plan.layers)
        made = dict.fromkeys(["embedding", *map(str, range(layers)), "head", "port"], 0.0)
        for part in self.silicon.parts:
            area = self.silicon.work(part, x).area * part.copies / 1e6
            for place in map(str, part.layers):
                made[place] += area
            if not part.layers:
                made[part.kind if part.kind in made else "head"] += area
        return made

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Every kind of part with its area."""
        named = {f"{i}": part for i, part in enumerate(self.silicon.parts)}
        made = derive(
            lambda x: {key: self.silicon.work(part, x).area / 1e6 for key, part in named.items()},
            self.inputs, dict.fromkeys(named, "mm2"), source(self.process),
        )  # fmt: skip
        return tuple(
            Block(
                part.name, part.kind, part.layers[0] if part.layers else None, part.layers,
                part.count, made[key].quantity,
            )
            for key, part in named.items()
        )  # fmt: skip

    def at_context(self, positions: list[int]) -> dict[int, float]:
        """tokens/s of one user by position, at the chip's clock, re-drives included."""
        schedule, clock = self.outline.schedule(), self.figures["clock_hz"].quantity.number
        late = self.figures["redrive_cycles"].quantity.number
        return {position: clock / (schedule.token(position) + late) for position in positions}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        c = self.cycles
        return {
            "figures": {name: figure.as_dict() for name, figure in self.figures.items()},
            "cells": self.cells, "users": self.users,
            "cycles": {
                "prompt": c.prompt, "output": c.output, "first_token": c.first,
                "decode": c.decode, "token": c.token, "interval": c.interval,
            },
        }  # fmt: skip


def source(process: "Process") -> str:
    """Where the figures come from."""
    return (
        f"silicon.physical: exact counts and cycles of the plan; targets {process.name}; "
        "circuits.yaml, cells.yaml"
    )


def figures(outline: "Outline", process: "Process", choices: Choices | None = None) -> Physical:
    """The figures of a chip on a process."""
    choices = choices or Choices()
    model, inputs = silicon(outline, process, choices), inputs_of(process)
    units = {**AREA_UNITS, **POWER_UNITS, **SPEED_UNITS}
    made = nested(derive(model.figures, inputs, units, source(process)), POWERS)
    return Physical(outline, process, choices, model, inputs, made)
