"""The expected trace: what golden says every probe of a run must show, in one mapped file.

The file is native-endian, made for one machine's run: a head of 32-bit words, a table with the
place of every operation within a position's record, the number of positions written so far per
slot, one byte per position that says whether its final norm and logits are wanted, and the records:
int32 [slots, positions, record]. The reader may follow while it is written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from intaglio.architecture import Architecture
from intaglio.errors import BadInput
from intaglio.golden.adapter import Adapter
from intaglio.golden.forward import Golden
from intaglio.golden.model import IntModel
from intaglio.golden.sample import Sampling, sample
from intaglio.hardware.port import PROBES

MAGIC = np.frombuffer(b"INTAGLIO", np.uint32)
FORMAT = 1
OPS = (*PROBES, "token")
"""Operations of the file by number: the probes, then the chosen token."""

BLOCK = 64  # prompt positions that golden runs at once
HEAD_WORDS = 14
FINISHED = 8  # the head's word that says that no more positions will come
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Request:
    """What one slot is asked: ``count`` tokens after ``prompt``.

    ``adapter``: the name of the one that is on, or None.
    """

    prompt: tuple[int, ...]
    count: int
    sampling: Sampling = field(default_factory=Sampling)
    adapter: str | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise BadInput("prompt must have at least one token")
        if self.count < 1:
            raise BadInput(f"tokens to generate must be at least 1, not {self.count}")

    @property
    def positions(self) -> int:
        """Positions that run through the layers: the last token is only returned."""
        return len(self.prompt) + self.count - 1


def op_sizes(architecture: Architecture) -> list[dict[str, int]]:
    """Elements per position of every operation, by stage: embedding, layers, final norm and head.

    Layer ``l`` of golden's trace is stage ``l + 1``.
    """
    a = architecture
    wide, inner = a.width, a.inner
    layer = {
        "norm_attention": wide, "q": a.query_width, "k": a.kv_width, "v": a.kv_width,
        "rotary_q": a.query_width, "rotary_k": a.kv_width, "attention": a.query_width,
        "attention_shrink": a.query_width, "o": wide, "residual_attention": wide,
        "norm_mlp": wide, "gate": inner, "up": inner, "product": inner, "product_shrink": inner,
        "down": wide, "residual_mlp": wide,
    }  # fmt: skip
    final = {"norm": wide, "logits": a.vocabulary, "token": 1}
    return [{"embedding": wide}, *([layer] * a.layers), final]


class TraceFile:
    """Writes an expected trace of ``slots`` users and ``positions`` positions each."""

    def __init__(self, path: Path, sizes: list[dict[str, int]], slots: int, positions: int) -> None:
        places = np.zeros((len(sizes), len(OPS), 2), np.uint32)
        record = 0
        for stage, ops in enumerate(sizes):
            for op, count in ops.items():
                places[stage, OPS.index(op)] = record, count
                record += count
        table = 4 * HEAD_WORDS
        available = table + places.nbytes
        heads = available + 4 * slots
        rows = -(-(heads + slots * positions) // PAGE) * PAGE
        head = np.array(
            [*MAGIC, FORMAT, len(sizes) - 2, slots, positions, len(OPS), record, 0, table,
             available, heads, rows, 0], np.uint32,
        )  # fmt: skip
        with path.open("wb") as stream:
            stream.write(head.tobytes() + places.tobytes())
            stream.truncate(rows + 4 * slots * positions * record)
        self.path, self._places = path, places
        self._head = np.memmap(path, np.uint32, "r+", 0, HEAD_WORDS)
        self._available = np.memmap(path, np.uint32, "r+", available, slots)
        self._heads = np.memmap(path, np.uint8, "r+", heads, (slots, positions))
        self._rows = np.memmap(path, np.int32, "r+", rows, (slots, positions, record))

    def write(self, slot: int, layer: int, op: str, position: int, values: np.ndarray) -> None:
        """Put ``values`` [T, n] of an operation at ``position`` onwards, as golden traces them."""
        offset, count = (int(word) for word in self._places[layer + 1, OPS.index(op)])
        if values.shape[1] != count:
            raise ValueError(f"{op} must have {count} elements, not {values.shape[1]}")
        self._rows[slot, position : position + len(values), offset : offset + count] = values
        if layer == len(self._places) - 2:
            self._heads[slot, position : position + len(values)] = 1

    def publish(self, slot: int, positions: int) -> None:
        """Let the reader see everything up to ``positions``."""
        self._available[slot] = positions

    def expected(self, slot: int, layer: int, op: str, position: int, element: int) -> int | None:
        """One value, or None where it is not written."""
        offset, count = (int(word) for word in self._places[layer + 1, OPS.index(op)])
        if element >= count or position >= self._available[slot]:
            return None
        if layer == len(self._places) - 2 and not self._heads[slot, position]:
            return None
        return int(self._rows[slot, position, offset + element])

    def finish(self) -> None:
        """Tell the reader that no more positions will come."""
        self._head[FINISHED] = 1

    def __enter__(self) -> "TraceFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish()


def create(path: Path, architecture: Architecture, requests: Sequence[Request]) -> TraceFile:
    """An empty trace for ``requests``, one per slot."""
    positions = max(request.positions for request in requests)
    return TraceFile(path, op_sizes(architecture), len(requests), positions)


def record(
    model: IntModel,
    requests: Sequence[Request],
    file: TraceFile | None = None,
    chosen: Callable[[int, int], bool | None] | None = None,
    adapters: Mapping[str, Adapter] | None = None,
) -> list[list[int]]:
    """Run golden over each request in its own slot; return the generated tokens of every slot.

    Everything goes to ``file`` as it is computed: the memory used does not grow with the length.
    ``chosen(slot, token)`` hears of every token; what it returns as True ends the run early.
    """
    context = max(request.positions for request in requests)
    if context > model.architecture.context:
        raise BadInput(
            f"prompt and generated tokens must fit the context of {model.architecture.context} "
            f"positions, not {context}"
        )
    golden = Golden(model, len(requests), context, adapters)
    tokens: list[list[int]] = [[] for _ in requests]
    for slot, request in enumerate(requests):
        tokens[slot].append(_start(golden, request, slot, file))
        if chosen and chosen(slot, tokens[slot][-1]):
            return tokens
    for turn in range(1, max(request.count for request in requests)):
        for slot, request in enumerate(requests):
            if turn >= request.count:
                continue
            position = len(request.prompt) + turn - 1
            block = np.array([tokens[slot][-1]], np.int64)
            tokens[slot].append(_run(golden, block, position, slot, request, file))
            if chosen and chosen(slot, tokens[slot][-1]):
                return tokens
    return tokens


def _start(golden: Golden, request: Request, slot: int, file: TraceFile | None) -> int:
    """Run the prompt, in blocks; return the token after it."""
    prompt = np.array(request.prompt, np.int64)
    last = (len(prompt) - 1) // BLOCK * BLOCK
    for start in range(0, last, BLOCK):
        _run(golden, prompt[start : start + BLOCK], start, slot, request, file, wanted=False)
    return _run(golden, prompt[last:], last, slot, request, file)


def _run(
    golden: Golden,
    tokens: np.ndarray,
    position: int,
    slot: int,
    request: Request,
    file: TraceFile | None,
    *,
    wanted: bool = True,
) -> int:
    """Run ``tokens`` from ``position``; return the token after the last, if it is ``wanted``."""

    def trace(layer: int, op: str, start: int, values: np.ndarray) -> None:
        if file:
            file.write(slot, layer, op, start, values)

    end, token = position + len(tokens), -1
    x = golden.residual(tokens, position, slot, trace, request.adapter)
    if wanted:
        logits = golden.logits(x[-1:], end - 1, trace)
        token = sample(logits[0], request.sampling, end - 1)
        trace(len(golden.model.layers), "token", end - 1, np.array([[token]]))
    if file:
        file.publish(slot, end)
    return token
