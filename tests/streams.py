"""Drive a block's streams in Amaranth's simulator: stalls, deadline, cycles, the rules of a stream.

A payload is written and read as plain values: a list for an array, a dict for a struct, an integer
otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.hdl import EnableInserter, Module, Shape, Value
from amaranth.lib import data, stream, wiring
from amaranth.sim import Simulator


@dataclass
class Job:
    """One vector's work: begins when all that the job before pulls has been pulled.

    ``push``: payloads by stream. ``pull``: number of payloads by stream. ``settings``: ports held
    from the job's first cycle on. ``strobes``: ports that are 1 in the job's first cycle only.
    """

    push: Mapping[str, Iterable] = field(default_factory=dict)
    pull: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, int] = field(default_factory=dict)
    strobes: Sequence[str] = ()


@dataclass
class Flow:
    """What passed one stream: ``payloads``, the ``cycles`` of their transfers, what was ``seen``.

    ``seen``: by watched port, its value at each transfer.
    """

    payloads: list = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    seen: dict[str, list[int]] = field(default_factory=dict)

    @property
    def array(self) -> np.ndarray:
        """The payloads' elements in order: int64, one dimension."""
        return np.array(self.payloads, np.int64).reshape(-1)


def beats(values: np.ndarray | Sequence[int], beat: int) -> list[list[int]]:
    """A vector as payloads of ``beat`` elements."""
    return np.asarray(values, np.int64).reshape(-1, beat).tolist()


def gap(flows: Mapping[str, Flow], source: str = "i", sink: str = "o") -> int:
    """Cycles from the last transfer of ``source`` to the first of ``sink``."""
    return flows[sink].cycles[0] - flows[source].cycles[-1]


def encode(shape: Any, value: Any) -> int:
    """The bits of a payload."""
    if isinstance(shape, data.ArrayLayout):
        width = Shape.cast(shape.elem_shape).width
        return sum(encode(shape.elem_shape, v) << i * width for i, v in enumerate(value))
    if isinstance(shape, data.StructLayout):
        assert set(value) == set(shape.members), f"{sorted(value)} for {shape}"
        return sum(encode(shape.members[k], v) << shape[k].offset for k, v in value.items())
    return int(value) & (1 << Shape.cast(shape).width) - 1


def decode(shape: Any, bits: int) -> Any:
    """Inverse of :func:`encode`."""
    if isinstance(shape, data.ArrayLayout):
        width = Shape.cast(shape.elem_shape).width
        return [decode(shape.elem_shape, bits >> i * width) for i in range(shape.length)]
    if isinstance(shape, data.StructLayout):
        return {k: decode(s, bits >> shape[k].offset) for k, s in shape.members.items()}
    plain = Shape.cast(shape)
    bits &= (1 << plain.width) - 1
    return bits - (1 << plain.width) if plain.signed and bits >> plain.width - 1 else bits


def run(
    block: wiring.Component,
    jobs: Sequence[Job],
    *,
    stall: float = 0.0,
    seed: int = 0,
    deadline: int = 10_000,
    gated: bool = False,
    watch: Sequence[str] = (),
    asleep: Sequence[str] = (),
    quiet: int = 8,
) -> list[dict[str, Flow]]:
    """Run ``jobs`` through ``block``; return the flows of each job by stream.

    ``stall``: chance that a source waits before a payload, and that a sink is not ready. ``gated``:
    stop the block's clock whenever its ``busy``, its inputs' valids and its strobes are low.
    ``asleep``: sinks that may be valid while the block is not busy: it wakes when they are ready.
    ``quiet``: cycles after the last job in which nothing may come. Raises AssertionError past
    ``deadline`` cycles in all, or where the block breaks a stream's rules.
    """
    results: list[dict[str, Flow]] = []
    bench = _Bench(block, np.random.default_rng(seed), stall, watch, asleep, quiet)

    async def testbench(ctx):
        cycle = 0
        for job in jobs:
            flows, cycle = await bench.job(ctx, job, cycle, deadline)
            results.append(flows)
        await bench.rest(ctx, cycle)

    strobes = [getattr(block, name) for name in {name for job in jobs for name in job.strobes}]
    simulator = Simulator(_gated(block, strobes) if gated else block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return results


def _ports(block: wiring.Component, flow: wiring.Flow) -> dict[str, Any]:
    """The block's streams of one direction."""
    return {
        name: getattr(block, name)
        for name, member in block.signature.members.items()
        if member.is_signature
        and isinstance(member.signature, stream.Signature)
        and member.flow == flow
    }


def _gated(block: wiring.Component, strobes: Sequence[Value]) -> Module:
    """``block`` with its clock stopped whenever the contract allows it."""
    m = Module()
    valids = [port.valid for port in _ports(block, wiring.In).values()]
    enable = block.busy  # type: ignore[attr-defined]
    for signal in [*valids, *strobes]:
        enable = enable | signal
    m.submodules.block = EnableInserter({"sync": enable})(block)
    return m


class _Bench:
    """One simulation's state between cycles; all streams step together."""

    def __init__(self, block, rng, stall: float, watch, asleep, quiet: int) -> None:
        self.block, self.rng, self.stall = block, rng, stall
        self.watch, self.asleep, self.quiet = watch, asleep, quiet
        self.sources, self.sinks = _ports(block, wiring.In), _ports(block, wiring.Out)
        self.shapes = {
            name: port.signature.members["payload"].shape
            for name, port in {**self.sources, **self.sinks}.items()
        }
        self.values: dict[int, int] = {}  # by id of a signal: what it was set to
        self.held: dict[str, int] = {}  # by sink: a payload that waited

    def set(self, ctx, signal, value: int) -> None:
        """Set a signal that changes."""
        if self.values.get(id(signal)) != value:
            self.values[id(signal)] = value
            ctx.set(Value.cast(signal), value)

    def go(self) -> bool:
        return self.stall == 0 or self.rng.random() >= self.stall

    async def job(self, ctx, job: Job, cycle: int, deadline: int) -> tuple[dict[str, Flow], int]:
        pushes = {k: [encode(self.shapes[k], v) for v in vs] for k, vs in job.push.items()}
        wanted = dict(job.pull)
        flows = {name: Flow() for name in (*pushes, *wanted)}
        offered: set[str] = set()
        for name, value in job.settings.items():
            self.set(ctx, getattr(self.block, name), value)
        first = True
        while any(len(flows[k].payloads) < len(vs) for k, vs in pushes.items()) or any(
            len(flows[k].payloads) < n for k, n in wanted.items()
        ):
            counts = {name: (len(flow.payloads), flow.cycles[-3:]) for name, flow in flows.items()}
            assert cycle < deadline, f"deadline of {deadline} cycles passed: {counts}"
            for name in job.strobes:
                self.set(ctx, getattr(self.block, name), int(first))
            first = False
            for name, values in pushes.items():
                done = len(flows[name].payloads)
                if done < len(values) and name not in offered and self.go():
                    offered.add(name)
                    self.set(ctx, self.sources[name].payload, values[done])
                self.set(ctx, self.sources[name].valid, int(name in offered))
            for name, sink in self.sinks.items():
                more = name in wanted and len(flows[name].payloads) < wanted[name]
                self.set(ctx, sink.ready, int(more and self.go()))
            offered -= set(await self.cycle(ctx, flows, cycle))
            cycle += 1
        for name in pushes:
            self.set(ctx, self.sources[name].valid, 0)
        for name in job.strobes:
            self.set(ctx, getattr(self.block, name), 0)
        return flows, cycle

    async def rest(self, ctx, cycle: int) -> None:
        """Nothing more may come."""
        for source in self.sources.values():
            self.set(ctx, source.valid, 0)
        for sink in self.sinks.values():
            self.set(ctx, sink.ready, 1)
        for step in range(self.quiet):
            await self.cycle(ctx, {}, cycle + step)

    async def cycle(self, ctx, flows: dict[str, Flow], cycle: int) -> list[str]:
        """One clock cycle; records transfers, returns the sources' names among them."""
        sources, sinks = list(self.sources), list(self.sinks)
        busy = getattr(self.block, "busy", None)
        watched = [getattr(self.block, name) for name in self.watch]
        sampled = iter(
            (
                await ctx.tick().sample(
                    *(self.sources[k].ready for k in sources),
                    *(self.sinks[k].valid for k in sinks),
                    *(Value.cast(self.sinks[k].payload) for k in sinks),
                    *([busy] if busy is not None else []),
                    *watched,
                )
            )[2:]
        )
        ready = {k: next(sampled) for k in sources}
        valid = {k: next(sampled) for k in sinks}
        payload = {k: next(sampled) for k in sinks}
        is_busy = next(sampled) if busy is not None else 1
        seen = {k: next(sampled) for k in self.watch}
        taken = [k for k in sources if ready[k] and self.values.get(id(self.sources[k].valid))]
        for name in taken:
            bits = self.values[id(self.sources[name].payload)]
            self.record(flows, name, cycle, bits, seen)
        for name in sinks:
            if name in self.held:
                kept = valid[name] and payload[name] == self.held[name]
                assert kept, f"cycle {cycle}: {name} changed while it waited"
            awake = is_busy or not valid[name] or name in self.asleep
            assert awake, f"cycle {cycle}: {name} is valid while not busy"
            self.held.pop(name, None)
            if valid[name] and self.values.get(id(self.sinks[name].ready)):
                self.record(flows, name, cycle, payload[name], seen)
            elif valid[name]:
                self.held[name] = payload[name]
        return taken

    def record(self, flows, name: str, cycle: int, bits: int, seen: dict[str, int]) -> None:
        assert name in flows, f"cycle {cycle}: {name} gave a payload that no job expects"
        flows[name].payloads.append(decode(self.shapes[name], bits))
        flows[name].cycles.append(cycle)
        for port, value in seen.items():
            flows[name].seen.setdefault(port, []).append(value)
