"""The simulated chip against the integer model: every operation of every position, bit for bit."""

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio.errors import Deadline
from intaglio.golden.adapter import Adapter
from intaglio.golden.model import IntModel
from intaglio.golden.sample import Sampling
from intaglio.plan.chip import ChipPlan
from intaglio.verify.simulation import (
    DEADLINE,
    Accepted,
    Difference,
    Different,
    Result,
    Seen,
    Simulation,
)
from intaglio.verify.trace import Request, TraceFile, create, op_sizes, record

Progress = Callable[[Result], None]
"""Hears every token as the chip returns it."""

NOTHING = Seen(0, 0, 0, 0)
SLACK = 10_000  # cycles that a run may take beyond twice its plan before it counts as stuck


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a comparison.

    ``equal``: every probe of every position, and every token, was as the integer model says.
    ``positions``: prompt and generated tokens, of all slots. ``generated``: tokens the chip
    returned. ``first_difference``: None when equal. ``seconds``: of simulation. Cycles are from the
    first token's command to the last result; ``cycles_per_token``: between results.
    ``transcripts``: by slot, the generated tokens as the chip returned them.
    """

    equal: bool
    positions: int
    generated: int
    first_difference: Difference | None
    seconds: float
    planned_cycles: int | None
    simulated_cycles: int
    cycles_per_token: float | None
    transcripts: tuple[tuple[int, ...], ...]

    @property
    def simulated_tokens_per_second(self) -> float:
        """Positions over simulation time."""
        return self.positions / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        difference = self.first_difference
        return {
            "equal": self.equal,
            "positions": self.positions,
            "generated": self.generated,
            "first_difference": difference.as_dict() if difference else None,
            "simulated_tokens_per_second": self.simulated_tokens_per_second,
            "cycles": {"planned": self.planned_cycles, "simulated": self.simulated_cycles},
            "cycles_per_token": self.cycles_per_token,
        }


def verify(
    model: IntModel,
    executable: Path,
    rom: Path,
    prompt: Sequence[int],
    count: int,
    sampling: Sampling | None = None,
    *,
    planned_cycles: int | Callable[[int, int], int] | None = None,
    adapter: str | None = None,
    **options: Any,
) -> Verdict:
    """Generate ``count`` tokens after ``prompt`` on the chip and compare all it computes.

    ``planned_cycles``: of the whole run, or a function of prompt and generated tokens.
    ``adapter``: the name of one of ``adapters``. ``options``: as of :func:`verify_together`.
    """
    request = Request(tuple(prompt), count, sampling or Sampling(), adapter)
    if callable(planned_cycles):
        planned_cycles = planned_cycles(len(prompt), count)
    return verify_together(
        model, executable, rom, [request], planned_cycles=planned_cycles, **options
    )


def verify_together(
    model: IntModel,
    executable: Path,
    rom: Path,
    requests: Sequence[Request],
    *,
    planned_cycles: int | None = None,
    deadline: int | None = None,
    progress: Progress | None = None,
    stall: int | None = None,
    waves: Path | None = None,
    window: tuple[int, int] | None = None,
    adapters: Mapping[str, Adapter] | None = None,
    plan: ChipPlan | None = None,
) -> Verdict:
    """Run several users at once, each in its own slot; each must get what it would get alone.

    ``adapters``: by name, written into the side memory of the chip of ``plan`` before the first
    token, in their order. The integer model runs beside the simulation, and the simulation stops
    at the first difference. Other arguments: as of :class:`~intaglio.verify.simulation.Simulation`.
    """
    if deadline is None:
        deadline = DEADLINE if planned_cycles is None else 2 * planned_cycles + SLACK
    with tempfile.TemporaryDirectory(prefix="intaglio-") as folder:
        path = Path(folder) / "trace"
        with create(path, model.architecture, requests) as file:
            golden = GoldenThread(model, requests, file, adapters)
            with (
                golden,
                Simulation(
                    executable, rom, deadline=deadline, stall=stall, expectation=path,
                    waves=waves, window=window,
                ) as simulation,
            ):  # fmt: skip
                for number, adapter in enumerate((adapters or {}).values()):
                    if plan is None:
                        raise ValueError("adapters must come with the chip's plan")
                    simulation.load(plan, adapter, number)
                places = {name: number for number, name in enumerate(adapters or {})}
                results, difference = _simulate(model, simulation, requests, file, progress, places)
    accepted = simulation.accepted
    difference = difference or _wrong_result(model, requests, results, golden.tokens)
    return _verdict(requests, results, accepted, difference, simulation.seconds, planned_cycles)


class GoldenThread:
    """The integer model, running beside the simulation; leaving the context ends or joins it."""

    def __init__(
        self,
        model: IntModel,
        requests: Sequence[Request],
        file: TraceFile,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        self.tokens: list[list[int]] = []
        self._arguments = (model, requests, file, adapters)
        self._cancelled = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        model, requests, file, adapters = self._arguments
        try:
            self.tokens = record(model, requests, file, lambda *_: self._cancelled, adapters)
        except BaseException as error:
            self._error = error
        finally:
            file.finish()

    def __enter__(self) -> "GoldenThread":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._cancelled = True
        self._thread.join()
        if self._error:
            raise self._error


def _simulate(
    model: IntModel,
    simulation: Simulation,
    requests: Sequence[Request],
    file: TraceFile,
    progress: Progress | None,
    places: Mapping[str, int],
) -> tuple[list[Result], Difference | None]:
    """Run the requests; return what came back and the first difference.

    ``places``: in side memory, of the adapters by name.
    """
    for slot, request in enumerate(requests):
        limit = len(request.prompt) + request.count
        simulation.configure(slot, request.sampling, limit=limit)
    for position in range(max(len(request.prompt) for request in requests)):
        for slot, request in enumerate(requests):
            if position < len(request.prompt):
                last = position == len(request.prompt) - 1
                simulation.send(
                    slot, request.prompt[position : position + 1], position, last=last,
                    adapter=None if request.adapter is None else places[request.adapter],
                )  # fmt: skip
    results: list[Result] = []
    try:
        for result in simulation.results(sum(request.count for request in requests)):
            results.append(result)
            if progress:
                progress(result)
            if result.final and result.position < _last(requests[result.slot]):
                return results, None  # the chip stopped too early: no more would come
        results += [r for r in simulation.settle() if isinstance(r, Result)]
    except Different as error:
        return results, error.difference
    except Deadline:
        where = stuck(model, simulation.seen(), simulation.accepted, results)
        return results, _with_expected(where, file)
    return results, _unseen(model, requests, simulation.seen(), file)


def _last(request: Request) -> int:
    """The position of the last token of a request."""
    return len(request.prompt) + request.count - 1


# What an operation's result is made from, in the order in which the chip makes it: beats pass one
# by one (FLOWS), or the whole vector must be there first.
FLOWS, WHOLE = True, False
MADE_FROM: dict[str, dict[str, bool]] = {
    "q": {"norm_attention": WHOLE}, "k": {"q": WHOLE}, "v": {"k": WHOLE},
    "rotary_q": {"q": FLOWS}, "rotary_k": {"k": FLOWS, "rotary_q": WHOLE},
    "attention": {"v": WHOLE, "rotary_k": WHOLE}, "attention_shrink": {"attention": WHOLE},
    "o": {"attention_shrink": WHOLE}, "residual_attention": {"o": FLOWS},
    "norm_mlp": {"residual_attention": WHOLE}, "gate": {"norm_mlp": WHOLE}, "up": {"gate": FLOWS},
    "product": {"up": FLOWS}, "product_shrink": {"product": WHOLE},
    "down": {"product_shrink": WHOLE}, "residual_mlp": {"down": FLOWS},
    "logits": {"norm": WHOLE}, "token": {"logits": WHOLE},
}  # fmt: skip


def stuck(
    model: IntModel,
    seen: dict[tuple[int, str], Seen],
    accepted: Sequence[Accepted],
    results: Sequence[Result],
) -> Difference:
    """Name the operation at which the chip stands still: what it needs is there, it is not.

    Of several, the last in the chain: those before it only wait for it.
    """
    sizes = op_sizes(model.architecture)
    for stage in reversed(range(len(sizes))):
        for op, size in reversed(sizes[stage].items()):
            here = seen.get((stage - 1, op), NOTHING)
            waits = [
                _waits(here.total, size, seen.get((layer, source), NOTHING), length, flows)
                for layer, source, flows in _sources(stage - 1, op)
                for length in (sizes[layer + 1][source],)
            ]
            if waits and not any(waits):
                layer, source, _ = _sources(stage - 1, op)[0]
                at = here if here.element else seen[layer, source]
                return _difference(at.slot, at.position, stage - 1, op, here.element)
    return _entrance(seen, len(sizes) - 2, accepted, results)


def _waits(total: int, size: int, source: Seen, length: int, flows: bool) -> bool:
    """Whether an operation with ``total`` elements, ``size`` to a position, lacks its source's."""
    enough = source.total if flows else source.total // length * length
    return total * length >= enough * size


def _sources(layer: int, op: str) -> list[tuple[int, str, bool]]:
    """Layers and operations that ``op`` is made from, and if they flow; none at an entrance."""
    if op == "norm_attention":
        return [(layer - 1, "residual_mlp", WHOLE) if layer else (-1, "embedding", WHOLE)]
    return [(layer, name, flows) for name, flows in MADE_FROM.get(op, {}).items()]


def _entrance(
    seen: dict[tuple[int, str], Seen],
    final: int,
    accepted: Sequence[Accepted],
    results: Sequence[Result],
) -> Difference:
    """Where nothing is stuck inside: the head or the embedding has not begun, or stands still."""
    for layer, op in ((final, "norm"), (-1, "embedding")):
        here = seen.get((layer, op))
        if here and here.element:
            return _difference(here.slot, here.position, layer, op, here.element)
    entered = [(a.cycle, a.slot, a.position) for a in accepted]
    entered += [(r.cycle, r.slot, r.position) for r in results if not r.final]
    _, slot, position = max(entered, default=(0, 0, 0))
    shown = seen.get((-1, "embedding"))
    if shown and (shown.slot, shown.position) == (slot, position):
        return _difference(slot, position, final, "norm", 0)
    return _difference(slot, position, -1, "embedding", 0)


def _difference(slot: int, position: int, layer: int, op: str, element: int) -> Difference:
    return Difference(slot, position, layer, op, element, None, None)


def _with_expected(where: Difference, file: TraceFile) -> Difference:
    expected = file.expected(where.slot, where.layer, where.op, where.token, where.element)
    return Difference(where.slot, where.token, where.layer, where.op, where.element, expected, None)


def _unseen(
    model: IntModel,
    requests: Sequence[Request],
    seen: dict[tuple[int, str], Seen],
    file: TraceFile,
) -> Difference | None:
    """The first operation of which a probe showed less than all; None when all was compared."""
    every = sum(request.positions for request in requests)
    wanted = sum(request.count for request in requests)
    sizes = op_sizes(model.architecture)
    for stage, ops in enumerate(sizes):
        for op, size in ops.items():
            positions = wanted if stage == len(sizes) - 1 else every
            shown = seen.get((stage - 1, op), NOTHING)
            if shown.total != positions * size:
                where = _difference(shown.slot, shown.position, stage - 1, op, shown.element)
                return _with_expected(where, file)
    return None


def _wrong_result(
    model: IntModel,
    requests: Sequence[Request],
    results: Sequence[Result],
    tokens: Sequence[Sequence[int]],
) -> Difference | None:
    """The first result whose position, token or mark as the last is not golden's."""
    final, count = model.architecture.layers, [0] * len(requests)
    for result in results:
        slot, index = result.slot, count[result.slot]
        count[slot] += 1
        position = len(requests[slot].prompt) + index
        if index >= requests[slot].count:
            return Difference(slot, position - 1, final, "token", 0, None, result.token)
        for name, expected, got in (
            ("position", position, result.position),
            ("token", tokens[slot][index], result.token),
            ("final", int(position == _last(requests[slot])), int(result.final)),
        ):
            if expected != got:
                return Difference(slot, position - 1, final, name, 0, expected, got)
    return None


def _verdict(
    requests: Sequence[Request],
    results: Sequence[Result],
    accepted: Sequence[Accepted],
    difference: Difference | None,
    seconds: float,
    planned_cycles: int | None,
) -> Verdict:
    first, last = (results[0].cycle, results[-1].cycle) if results else (0, 0)
    return Verdict(
        equal=difference is None,
        positions=sum(len(request.prompt) for request in requests) + len(results),
        generated=len(results),
        first_difference=difference,
        seconds=seconds,
        planned_cycles=planned_cycles,
        simulated_cycles=last - accepted[0].cycle if results and accepted else 0,
        cycles_per_token=(last - first) / (len(results) - 1) if len(results) > 1 else None,
        transcripts=tuple(
            tuple(result.token for result in results if result.slot == slot)
            for slot in range(len(requests))
        ),
    )
