"""The Verilog modules of a design: each is elaborated and emitted once, however often it is placed.

Amaranth emits a copy of a module for every instance of a component. Here a component becomes a
module of its own, named by its class, and is placed as an ``Instance`` with its own clock.
"""

from collections.abc import Hashable
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import Instance, Module, Value
from amaranth.lib import wiring


class Library:
    """Collects modules; :meth:`texts` is their Verilog."""

    def __init__(self) -> None:
        self._components: dict[Hashable, tuple[str, wiring.Component]] = {}
        self._counts: dict[str, int] = {}
        self._texts: dict[str, str] = {}

    def name(self, kind: type[wiring.Component], **parameters: Hashable) -> str:
        """The module name of ``kind`` with these construction parameters; emits it when new."""
        return self._entry(kind, parameters)[0]

    def place(
        self,
        m: Module,
        kind: type[wiring.Component],
        *,
        clock: Value,
        reset: Value,
        **parameters: Any,
    ) -> Any:
        """Place an instance; return its interface, to be connected like the component itself."""
        name, component = self._entry(kind, parameters)
        interface = component.signature.create(path=(name,))
        ports: dict[str, Any] = {"i_clk": clock, "i_rst": reset}
        for path, member, value in component.signature.flatten(interface):
            direction = "i" if member.flow == wiring.In else "o"
            ports[f"{direction}_{'__'.join(str(part) for part in path)}"] = Value.cast(value)
        m.submodules += Instance(name, **ports)
        return interface

    def texts(self) -> dict[str, str]:
        """The Verilog of every emitted module by its name."""
        return dict(self._texts)

    def _entry(
        self, kind: type[wiring.Component], parameters: dict[str, Any]
    ) -> tuple[str, wiring.Component]:
        key = (kind, tuple(sorted((k, _frozen(v)) for k, v in parameters.items())))
        if key not in self._components:
            stem = kind.__name__.lower()
            number = self._counts.get(stem, 0)
            self._counts[stem] = number + 1
            name = f"{stem}_{number}" if number else stem
            component = kind(**parameters)
            self._components[key] = (name, component)
            self._texts[name] = verilog.convert(
                component, name=name, emit_src=False, strip_internal_attrs=True
            )
        return self._components[key]


def _frozen(value: Any) -> Hashable:
    """A key for a parameter: by value, or by identity where it has no hash."""
    if isinstance(value, dict):
        return tuple(sorted((k, _frozen(v)) for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(v) for v in value)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
