"""Layout against netlist: transistors and nets found in the shapes, and compared with the intended.

klayout finds the devices: a gate is where poly crosses diffusion, its kind is the implant's. Names
come from a tile's terminals alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio.layout.rules import Rules
from intaglio.verify.rules import klayout

MODELS = {"n": "sky130_fd_pr__nfet_01v8", "p": "sky130_fd_pr__pfet_01v8"}
CONTACTS = {
    "licon": ("n_ends", "p_ends", "ntap", "ptap", "poly", "li1"), "mcon": ("li1", "met1"),
    "via": ("met1", "met2"), "via2": ("met2", "met3"),
}  # fmt: skip
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Terminal:
    """A named place on a layer, nm."""

    name: str
    layer: str
    x: int
    y: int


def extract(layers: Mapping[str, Any], terminals: list[Terminal], name: str, r: Rules) -> Any:
    """The netlist of merged layers (see :func:`intaglio.verify.rules.regions`), as klayout's.

    Equal transistors side by side between the same nets are one.
    """
    kdb = klayout()
    found = kdb.LayoutToNetlist(name, r.grid / 1000 / r.grid)
    gates = layers["gate"]
    made = dict(layers) | {
        "n_gate": gates & layers["nsdm"], "p_gate": gates & layers["psdm"],
        "n_ends": layers["ndiff"] - gates, "p_ends": layers["pdiff"] - gates,
    }  # fmt: skip
    whole = kdb.Region()
    for region in layers.values():
        whole += kdb.Region(region.bbox())
    made["bulk"] = kdb.Region(whole.bbox()) - layers["nwell"]
    for key in (
        "n_gate", "p_gate", "n_ends", "p_ends", "ntap", "ptap", "poly", "nwell", "bulk", *CONTACTS,
        "li1", "met1", "met2", "met3",
    ):  # fmt: skip
        found.register(made[key], key)
    for kind, well in (("n", "bulk"), ("p", "nwell")):
        ends = made[f"{kind}_ends"]
        found.extract_devices(
            kdb.DeviceExtractorMOS4Transistor(MODELS[kind]),
            {"SD": ends, "G": made[f"{kind}_gate"], "W": made[well], "tS": ends, "tD": ends,
             "tG": made["poly"], "tW": made[well]},
        )  # fmt: skip
    connect(kdb, found, made)
    texts: dict[str, Any] = {}
    for each in terminals:
        text = kdb.Text(each.name, kdb.Trans(each.x, each.y))
        texts.setdefault(each.layer, kdb.Texts()).insert(text)
    for layer, named in texts.items():
        found.register(named, f"{layer}_names")
        found.connect(made[layer], named)
    found.extract_netlist()
    netlist = found.netlist().dup()
    for circuit in netlist.each_circuit():
        circuit.combine_devices()
        circuit.purge_nets()
    return netlist


def connect(kdb: Any, found: Any, made: Mapping[str, Any]) -> None:
    """Which layers lead into each other."""
    for layer in ("n_ends", "p_ends", "poly", "nwell", "bulk", "li1", "met1", "met2", "met3"):
        found.connect(made[layer])
    found.connect(made["nwell"], made["ntap"])
    found.connect(made["bulk"], made["ptap"])
    for cut, layers in CONTACTS.items():
        found.connect(made[cut])
        for layer in layers:
            found.connect(made[cut], made[layer])


def read_netlist(path: Path, top: str) -> Any:
    """An intended netlist of SPICE text, all in one circuit."""
    kdb = klayout()
    netlist = kdb.Netlist()
    netlist.read(str(path), kdb.NetlistSpiceReader())
    for circuit in list(netlist.each_circuit()):
        if circuit.name.upper() != top.upper():
            netlist.flatten_circuit(circuit)
    netlist.purge_nets()
    return netlist


def differences(drawn: Any, intended: Any) -> list[str]:
    """How a netlist that was drawn differs from the intended one; nothing where they are equal."""
    kdb = klayout()
    found: list[str] = []

    class Log(kdb.GenericNetlistCompareLogger):
        """Keeps what does not match."""

        def net_mismatch(self, one: Any, other: Any, message: str) -> None:
            found.append(f"net {name_of(one)} against {name_of(other)}")

        def device_mismatch(self, one: Any, other: Any, message: str) -> None:
            found.append(f"transistor {name_of(one)} against {name_of(other)}")

        def match_devices_with_different_parameters(self, one: Any, other: Any) -> None:
            found.append(f"transistor {name_of(one)} has another size than {name_of(other)}")

        def pin_mismatch(self, one: Any, other: Any, message: str) -> None:
            found.append(f"terminal {name_of(one)} against {name_of(other)}")

    log = Log()  # klayout does not keep it
    comparer = kdb.NetlistComparer(log)
    comparer.max_depth, comparer.max_branch_complexity = 500, 10_000
    pair = next(drawn.each_circuit()), next(intended.each_circuit())
    for net in list(pair[0].each_net()):
        other = pair[1].net_by_name(net.name.upper()) if net.name else None
        if other is not None:
            comparer.same_nets(net, other)
    equal = comparer.compare(drawn, intended)
    if not equal and not found:
        found.append("the netlists do not match")
    return found


def name_of(each: Any) -> str:
    """What a net or device is called."""
    return "nothing" if each is None else each.expanded_name()
