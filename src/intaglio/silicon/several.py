"""A chip of several dies: what its links add to time, power and area.

The chain is cut by :mod:`intaglio.silicon.partition`. Residuals cross as they are, 32 bits an
element; a layer cut by columns holds the heads and the columns, or the experts, of each of its
dies, and gathers what all need: the heads' means, the residual, and what goes into down (of
experts: the sums of each die, scattered and gathered).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from intaglio.golden.number import RESIDUAL
from intaglio.quantity import numbers
from intaglio.silicon.derived import Figure, derive, nested
from intaglio.silicon.partition import Partition, Station, partition
from intaglio.silicon.physical import POWERS

if TYPE_CHECKING:
    from intaglio.plan.outline import Outline
    from intaglio.silicon.physical import Physical

FROM_LINKS = ("link_bandwidth", "link_energy", "link_latency", "link_area")
BANDWIDTH = 2.0
"""Tbit/s of a link to a neighbour: a residual takes about as long as the link's latency."""
UNITS = {
    "dies": "die", "area_mm2": "mm2", "die_mm2": "mm2", "area_pads": "mm2", "area_links": "mm2",
    "link_seconds": "s", "link_w": "W",
    "link_lanes": "1", "tokens_per_second_per_user": "1/s", "tokens_per_second_end_to_end": "1/s",
    "tokens_per_second_all": "1/s", "tokens_per_second_full": "1/s",
    "prompt_tokens_per_second": "1/s", "first_token_seconds": "s",
    "power_w": "W", "power_all_w": "W", "power_full_w": "W",
    "millijoule_per_token": "mJ", "millijoule_per_token_full": "mJ",
}  # fmt: skip
CUT_KINDS = {"links": "links between dies"}
"""What the area of several dies has beside the kinds of one."""

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Several:
    """A chip cut into dies: how, and the figures that this changes."""

    cut: Partition
    figures: dict[str, Figure]


def several(physical: "Physical", limit: float) -> Several:
    """The chip on dies of at most ``limit`` mm², pads and links included.

    Raises :class:`DoesNotFit` where not even columns fit.
    """
    process = physical.process
    inputs = {**physical.inputs, **{name: process[name] for name in FROM_LINKS}}
    source = f"silicon.several: silicon.physical, links of {BANDWIDTH:g} Tbit/s, {process.name}"
    cut = cut_at(physical, limit, numbers(inputs))
    made = derive(lambda x: figures(physical, limit, x), inputs, UNITS, source)
    leak = {"leakage_w": physical.figures["leakage_w"]}
    made = {name: figure for name, figure in nested({**made, **leak}, POWERS).items()
            if name in UNITS}  # fmt: skip
    return Several(cut, made)


def room_of(limit: float, x: Numbers) -> float:
    """mm² inside the pad ring of a die of ``limit`` mm²."""
    return max(math.sqrt(limit) - 2 * x["pad_ring"], 0.0) ** 2


def cut_at(physical: "Physical", limit: float, x: Numbers) -> Partition:
    """The chain cut into dies, their areas inside the pad ring."""
    areas = physical.stations_at(x)
    areas["embedding"] += areas.pop("port")
    layer = gathered(physical.outline)
    stations = [
        Station(name if name in ("embedding", "head") else f"layer {name}",
                area * (1 + x["wiring_share"]), layer if name.isdigit() else ())
        for name, area in areas.items()
    ]  # fmt: skip
    return partition(stations, room_of(limit, x), link=BANDWIDTH * x["link_area"])


def gathered(outline: "Outline") -> tuple[int, ...]:
    """Bits of the vectors that a layer cut by columns gathers."""
    plan = outline.plan
    a, residual = plan.architecture, plan.architecture.width * RESIDUAL.bits
    means = a.heads * outline.mean_width() * plan.widths.attention
    if outline.active["down"] > 1:
        return means, residual, residual, residual
    return means, residual, a.inner * plan.widths.product, residual


def figures(physical: "Physical", limit: float, x: Numbers) -> dict[str, float]:
    """Every figure at these numbers."""
    cut, cycles, clock = cut_at(physical, limit, x), physical.cycles, physical.silicon.clock(x)
    own = physical.silicon.figures(x)
    residual = physical.outline.plan.architecture.width * RESIDUAL.bits
    bandwidth, latency = BANDWIDTH * 1e12, x["link_latency"] * 1e-9
    link = cut.crossing_seconds(residual, bandwidth, latency)
    layers = len(physical.outline.plan.layers)
    within = replace(cut, boundaries=0).crossing_seconds(residual, bandwidth, latency) / layers
    late = physical.silicon.redrives(x)
    busy = max((cycles.layer + late.layer) / clock + within, (cycles.head + late.head) / clock)
    interval = max(busy, residual / bandwidth)
    token = (cycles.token + late.token) / clock + link
    waited = late.layer / clock + within
    first = (cycles.first + late.token) / clock + link + (cycles.prompt - 1) * waited
    ring = 2 * x["pad_ring"]
    dies = [(math.sqrt(die.area) + ring) ** 2 for die in cut.dies]
    issued = physical.choices.issue_rate
    first += (cycles.prompt - 1) * interval * (1 / issued - 1)
    full = issued * max(1 / interval, 1 / token)
    rates = {"": min(1 / token, full), "_full": full}
    rates["_all"] = min(full, rates[""] * physical.outline.plan.slots)
    carried = cut.crossing_bits(residual) * x["link_energy"] * 1e-9  # mJ
    energy = own["dynamic_millijoule"] + carried
    watts = {name: energy * rate / 1e3 + own["leakage_w"] for name, rate in rates.items()}
    return {
        "dies": float(len(dies)), "area_mm2": sum(dies), "die_mm2": max(dies),
        "area_pads": sum(dies) - cut.area,
        "area_links": 2 * BANDWIDTH * x["link_area"] * len(dies) if len(dies) > 1 else 0.0,
        "link_seconds": link, "link_w": carried * rates[""] / 1e3,
        "link_lanes": float(math.ceil(BANDWIDTH * 1e3 / x["link_bandwidth"])),
        "tokens_per_second_per_user": rates[""], "tokens_per_second_all": rates["_all"],
        "tokens_per_second_full": rates["_full"],
        "tokens_per_second_end_to_end": cycles.output / (first + (cycles.output - 1) / rates[""]),
        "prompt_tokens_per_second": cycles.prompt / first, "first_token_seconds": first,
        "power_w": watts[""], "power_all_w": watts["_all"], "power_full_w": watts["_full"],
        "millijoule_per_token": watts[""] / rates[""] * 1e3,
        "millijoule_per_token_full": watts["_full"] / rates["_full"] * 1e3,
    }  # fmt: skip
