"""What the market says: the data files of ``market/``, read and checked.

Every figure in them is a quantity; a file's keys and units are fixed, so that nothing is missing or
misspelt in silence.
"""

from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from intaglio.errors import BadInput
from intaglio.quantity import Quantity, quantity, read_yaml


@cache
def table(name: str) -> dict[str, Any]:
    """The mapping in ``market/NAME.yaml``."""
    return read_yaml(Path(str(files("intaglio") / "market" / f"{name}.yaml")))


def figure(values: Any, unit: str, place: str) -> Quantity:
    """The quantity stated at ``place``, which must have ``unit``."""
    read = quantity(values, place)
    if read.unit != unit:
        raise BadInput(f"{place}: unit must be {unit}, not {read.unit}")
    return read


def figures(
    values: Mapping[str, Any],
    units: Mapping[str, str],
    place: str,
    *,
    beside: Collection[str] = (),
) -> dict[str, Quantity]:
    """The quantities named by ``units``; no other key may be there but those ``beside``."""
    if missing := [name for name in units if name not in values]:
        raise BadInput(f"{place}: has no {', '.join(missing)}")
    if unknown := {str(name) for name in values} - set(units) - set(beside):
        raise BadInput(f"{place}: unknown key {', '.join(sorted(unknown))}")
    return {name: figure(values[name], unit, f"{place}: {name}") for name, unit in units.items()}


@cache
def economics() -> dict[str, Quantity]:
    """What money, power and hours are, by name: ``market/economics.yaml``."""
    units = {
        "utilisation": "1", "electricity": "USD/kWh", "pue": "1", "years": "a", "upkeep": "1/a",
        "idle": "1", "margin": "1", "clustering": "1", "prompt_share": "1", "model_cost": "USD",
    }  # fmt: skip
    return figures(table("economics"), units, "economics.yaml", beside={"design_cost"})


@cache
def packaging() -> dict[str, Quantity]:
    """What becomes of a die until it is a card: ``market/packaging.yaml``."""
    units = {"test_price": "USD", "package_yield": "1", "board_price": "USD", "host_price": "USD"}
    return figures(table("packaging"), units, "packaging.yaml")


@cache
def host() -> dict[str, Quantity]:
    """What a token costs that the host chooses: ``market/host.yaml``."""
    return figures(table("host"), {"link_rate": "B/s", "round_trip": "s", "choice": "s"},
                   "host.yaml")  # fmt: skip


def design_cost(node: float) -> Quantity:
    """USD that the design of a shape costs at a ``node`` of so many nm: that of the nearest one."""
    if not node > 0:
        raise BadInput(f"node must be positive, not {node:g} nm")
    known = table("economics")["design_cost"]
    nearest = min(known, key=lambda key: max(key / node, node / key))
    return figure(known[nearest], "USD", f"economics.yaml: design_cost: {nearest}")
