"""The simulated chip as a Python object: send tokens, iterate over what comes back.

The program behind it is the Verilated ``chip`` with ``harness.cpp``. Simulated time passes only
while results are waited for, so every run of the same commands takes the same cycles.
"""

import dataclasses
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from amaranth.lib import data

from intaglio.errors import BadInput, BadPackage, Deadline, Mismatch, ToolMissing
from intaglio.golden.adapter import Adapter
from intaglio.golden.number import LOGIT
from intaglio.golden.sample import Sampling
from intaglio.hardware.port import (
    ADAPTED,
    ADAPTER_BITS,
    COMMAND,
    EPOCH_BITS,
    HEADER,
    POSITION_BITS,
    RESULT,
    SLOT_BITS,
    TOKEN_BITS,
    command_layout,
    header_layout,
    logits_layout,
)
from intaglio.hardware.side_memory import chip_writes
from intaglio.plan.chip import ChipPlan
from intaglio.verify.trace import OPS

HARNESS = Path(__file__).with_name("harness.cpp")
LAYOUT = "chip_layout.h"
DEADLINE = 10_000_000  # cycles without a transfer at the port

COMMAND_WORDS = struct.Struct("=BBBBIIIIIQQ")
REPLY_WORDS = struct.Struct("=BBBBIiiiiiiQQ")
SEEN_WORDS = struct.Struct("=QIII4x")
TOKEN, SETTINGS, RUN, SETTLE, COUNTS, QUIT, WRITE = range(7)
ACCEPTED, RESULT_TOKEN, LOGITS, STOPPED, DIFFERENCE, TOTALS = range(6)
ENOUGH, SETTLED, LATE, DIFFERENT, FINISHED = range(5)
VALUE, UNEXPECTED, MISSING = range(3)


@dataclass(frozen=True, slots=True)
class Result:
    """A generated token: ``position`` is its own; ``final``: the slot generates no more."""

    slot: int
    epoch: int
    position: int
    token: int
    final: bool
    cycle: int


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """Logits of a position in host sampling mode: int32 [vocabulary]; ``cycle`` of the last."""

    slot: int
    epoch: int
    position: int
    values: np.ndarray
    cycle: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A token command that the chip has taken, and when."""

    slot: int
    epoch: int
    position: int
    token: int
    cycle: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What a probe has shown: ``total`` elements, all as expected.

    ``element``: the next one of ``position`` of ``slot``, 0 when the position is complete.
    """

    total: int
    element: int
    slot: int
    position: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a probe first differs from the expected trace.

    ``token``: the position. ``layer``: -1 for the embedding, the number of layers for final norm,
    logits and the chosen token. ``expected``, ``got``: None where there is none.
    """

    slot: int
    token: int
    layer: int
    op: str
    element: int
    expected: int | None
    got: int | None

    def __str__(self) -> str:
        return (
            f"token {self.token}, slot {self.slot}, layer {self.layer}, {self.op}, element "
            f"{self.element}: expected {_shown(self.expected)}, got {_shown(self.got)}"
        )

    def as_dict(self) -> dict[str, int | str | None]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)


def _shown(value: int | None) -> str:
    return "nothing" if value is None else str(value)


class Different(Mismatch):
    """The simulation stopped at a :class:`Difference`."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(f"the chip differs from the integer model at {difference}")
        self.difference = difference


def layout_header(beat: int, vocabulary: int, plan: ChipPlan | None = None) -> str:
    """The C++ header that tells the harness where the fields of the port's words are.

    ``plan``: of a chip with side memory.
    """
    command, header = COMMAND, HEADER
    if plan:
        command, header = command_layout(plan), header_layout(plan)
    logits = logits_layout(beat, LOGIT.bits, header)
    words = {"command": command, "result": RESULT, "logits": logits}
    lines = [
        "// Fields of the host port's words, generated from intaglio.hardware.port.",
        "#pragma once",
        "namespace layout {",
        "struct Field {",
        "    unsigned offset, width;",
        "};",
        f"constexpr unsigned BEAT = {beat}, VOCABULARY = {vocabulary}, LOGIT_BITS = {LOGIT.bits};",
    ]
    for word, layout in words.items():
        for name, offset, width in _fields(layout, word):
            lines.append(f"constexpr Field {name}{{{offset}, {width}}};")
    for name in ADAPTED:
        if name not in command.members:  # no bits: nothing is set
            lines.append(f"constexpr Field command_{name}{{0, 0}};")
    return "\n".join([*lines, "}  // namespace layout", ""])


def _fields(layout: data.StructLayout, prefix: str, base: int = 0) -> Iterator[tuple]:
    for name, place in layout:
        if isinstance(place.shape, data.StructLayout):
            yield from _fields(place.shape, f"{prefix}_{name}", base + place.offset)
        else:
            yield f"{prefix}_{name}", base + place.offset, place.width


def write_layout(folder: Path, beat: int, vocabulary: int, plan: ChipPlan | None = None) -> Path:
    """Write ``chip_layout.h`` into ``folder``, where the harness is compiled."""
    path = folder / LAYOUT
    path.write_text(layout_header(beat, vocabulary, plan))
    return path


class Simulation:
    """A running chip.

    ``deadline``: cycles without a transfer at the port after which :class:`Deadline` is raised.
    ``stall``: seed of random delays at the port. ``expectation``: an expected trace that every
    probe is compared with; :class:`Different` at the first difference. ``waves``: FST file of the
    cycles ``window``.
    """

    def __init__(
        self,
        executable: Path,
        rom: Path,
        *,
        deadline: int = DEADLINE,
        stall: int | None = None,
        expectation: Path | None = None,
        waves: Path | None = None,
        window: tuple[int, int] | None = None,
    ) -> None:
        if not rom.is_dir():
            raise BadPackage(f"{rom}: no such folder of ROM images", hint="compile the chip again")
        options = [f"+rom={rom}", f"+deadline={deadline}"]
        if stall is not None:
            options.append(f"+stall={stall + 1}")
        if expectation:
            options.append(f"+expect={expectation}")
        if waves:
            first, end = window or (0, 1 << 62)
            options += [f"+waves={waves}", f"+waves_from={first}", f"+waves_to={end}"]
        self.deadline = deadline
        self.cycle = 0
        """Cycles since reset."""
        self.seconds = 0.0
        """Time spent simulating, waiting for commands and for the expected trace not counted."""
        self.accepted: list[Accepted] = []
        self._epochs: dict[int, int] = {}
        self._outgoing = bytearray()
        self._running = False
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [str(executable), *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._messages,
                bufsize=0,
            )
        except OSError as error:
            self._messages.close()
            raise ToolMissing(
                f"{executable}: cannot run the simulation: {error.strerror}",
                hint="build it first",
            ) from None
        assert self._process.stdin
        assert self._process.stdout
        self._input = self._process.stdin
        self._replies = os.fdopen(os.dup(self._process.stdout.fileno()), "rb", 1 << 16)

    def __enter__(self) -> "Simulation":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the program; a waves file is completed when it is idle."""
        process = self._process
        if process.poll() is None and not self._running:
            try:
                self._command(QUIT)
                self._flush()
                process.wait(10)
            except (OSError, subprocess.TimeoutExpired):
                pass
        if process.poll() is None:
            process.kill()
            process.wait()
        self._replies.close()
        for stream in (self._input, process.stdout, self._messages):
            if stream:
                stream.close()

    def configure(
        self,
        slot: int,
        sampling: Sampling | None = None,
        *,
        limit: int = (1 << POSITION_BITS) - 1,
        stop: int | None = None,
        host: bool = False,
        epoch: int | None = None,
    ) -> None:
        """Set a slot: no token is generated for position ``limit`` or beyond, or after ``stop``.

        ``host``: logits are returned and no token is chosen. A new ``epoch`` makes the chip drop
        what it still computes for the old one.
        """
        chosen = sampling or Sampling()
        _check("slot", slot, SLOT_BITS)
        _check("limit", limit, POSITION_BITS)
        _check("stop", stop or 0, TOKEN_BITS)
        if epoch is not None:
            _check("epoch", epoch, EPOCH_BITS)
            self._epochs[slot] = epoch
        self._command(
            SETTINGS,
            slot,
            self._epochs.get(slot, 0),
            host | (stop is not None) << 1,
            limit,
            stop or 0,
            (chosen.beta, chosen.top_k, chosen.top_p, chosen.seed),
        )

    def send(
        self,
        slot: int,
        tokens: Sequence[int],
        position: int = 0,
        *,
        last: bool = True,
        adapter: int | None = None,
    ) -> None:
        """Queue ``tokens`` from ``position`` on; ``last``: a token is wanted after the last one.

        ``adapter``: the place in side memory of the one with which they, and what is generated
        after them, are run.
        """
        _check("slot", slot, SLOT_BITS)
        _check("position", position + len(tokens), POSITION_BITS)
        _check("token", max(tokens), TOKEN_BITS)
        _check("token", min(tokens), TOKEN_BITS)
        _check("adapter", adapter or 0, ADAPTER_BITS)
        epoch, adapted = self._epochs.get(slot, 0), (adapter is not None) << 1
        for index, token in enumerate(tokens):
            wanted = last and index == len(tokens) - 1
            self._command(
                TOKEN, slot, epoch, wanted | adapted, position + index, token,
                (adapter or 0, 0, 0, 0),
            )  # fmt: skip

    def load(self, plan: ChipPlan, adapter: Adapter | None, number: int = 0) -> None:
        """Queue the writes that put an adapter (None: no additions) at a place in side memory.

        Raises :class:`BadInput` where the chip has no such place.
        """
        if not plan.adapter_rank or not 0 <= number < plan.adapter_count:
            places = plan.adapter_count if plan.adapter_rank else 0
            raise BadInput(f"the chip holds {places} adapters; there is no number {number}")
        layout = command_layout(plan)
        offsets = {name: offset for name, offset, _ in _fields(layout, "")}
        size = -(-layout.size // 32)
        for write in chip_writes(adapter, plan, number):
            word = 1 << offsets["_write"]
            for name, value in write.items():
                word |= value << offsets[f"_side_{name}"]
            self._command(WRITE, amount=size)
            self._outgoing += word.to_bytes(4 * size, "little")

    def run(self, results: int = 1) -> Iterator[Result | Logits]:
        """Yield what the chip returns, as it comes, until there are ``results`` of it."""
        self._drain()
        self._command(RUN, amount=results)
        self._flush()
        self._running = True
        yield from self._until_stopped()

    def results(self, count: int) -> Iterator[Result]:
        """Like :meth:`run`, where no slot is in host sampling mode."""
        for result in self.run(count):
            if not isinstance(result, Result):
                raise BadInput(f"slot {result.slot} must not be in host sampling mode")
            yield result

    def logits(self) -> Logits:
        """The next logits, where every slot that runs is in host sampling mode."""
        (logits,) = self.run()
        if not isinstance(logits, Logits):
            raise BadInput(f"slot {logits.slot} must be in host sampling mode")
        return logits

    def settle(self) -> list[Result | Logits]:
        """Run until nothing is inside the chip; return what it returned."""
        self._drain()
        self._command(SETTLE)
        self._flush()
        self._running = True
        return list(self._until_stopped())

    def seen(self) -> dict[tuple[int, str], Seen]:
        """What the probes have shown, by (layer, operation); empty without an expected trace."""
        self._drain()
        self._command(COUNTS)
        self._flush()
        count = self._reply()[-1]
        words = SEEN_WORDS.iter_unpack(self._read(SEEN_WORDS.size * count))
        return {
            (index // len(OPS) - 1, OPS[index % len(OPS)]): Seen(*word)
            for index, word in enumerate(words)
            if word[0]
        }

    def _command(
        self,
        kind: int,
        slot: int = 0,
        epoch: int = 0,
        flags: int = 0,
        position: int = 0,
        token: int = 0,
        sampling: tuple[int, int, int, int] = (0, 0, 0, 0),
        amount: int = 0,
    ) -> None:
        self._outgoing += COMMAND_WORDS.pack(
            kind, slot, epoch, flags, position, token, *sampling, amount
        )

    def _flush(self) -> None:
        outgoing, self._outgoing = memoryview(self._outgoing), bytearray()
        try:
            while outgoing:
                outgoing = outgoing[self._input.write(outgoing) or 0 :]
        except BrokenPipeError:
            raise self._ended() from None

    def _drain(self) -> None:
        """Finish a run whose results nobody took."""
        if self._running:
            for _ in self._until_stopped():
                pass

    def _until_stopped(self) -> Iterator[Result | Logits]:
        difference = None
        while self._running:
            kind, slot, epoch, flags, position, token, *where, cycle, extra = self._reply()
            self.cycle = cycle
            if kind == ACCEPTED:
                self.accepted.append(Accepted(slot, epoch, position, token, cycle))
            elif kind == RESULT_TOKEN:
                yield Result(slot, epoch, position, token, bool(flags), cycle)
            elif kind == LOGITS:
                values = np.frombuffer(self._read(4 * extra), np.int32)
                yield Logits(slot, epoch, position, values, cycle)
            elif kind == DIFFERENCE:
                difference = _difference(slot, position, flags, *where)
            else:
                self._running = False
                self.seconds = extra / 1e9
                self._stopped(flags, difference)

    def _stopped(self, reason: int, difference: Difference | None) -> None:
        if difference:
            raise Different(difference)
        if reason == LATE:
            raise Deadline(
                f"no token, command or logits passed the port for {self.deadline} cycles, "
                f"up to cycle {self.cycle}"
            )
        if reason == FINISHED:
            raise BadPackage(f"the chip called $finish at cycle {self.cycle}")

    def _reply(self) -> tuple[int, ...]:
        return REPLY_WORDS.unpack(self._read(REPLY_WORDS.size))

    def _read(self, size: int) -> bytes:
        read = self._replies.read(size)
        if len(read) < size:
            self._running = False
            raise self._ended()
        return read

    def _ended(self) -> BadPackage:
        """What the program said before it ended by itself."""
        code = self._process.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in lines if line.strip()), f"exit status {code}")
        return BadPackage(f"the simulation ended: {said}", hint="compile the chip again")


def _difference(
    slot: int, position: int, fault: int, layer: int, op: int, element: int, expected: int, got: int
) -> Difference:
    name = OPS[op] if 0 <= op < len(OPS) else f"operation {op}"
    return Difference(
        slot,
        position,
        layer,
        name,
        element,
        None if fault == UNEXPECTED else expected,
        None if fault == MISSING else got,
    )


def _check(name: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise BadInput(f"{name} must be from 0 to {(1 << bits) - 1}, not {value}")
