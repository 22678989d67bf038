"""The twin on arrays: NumPy, or PyTorch on a GPU; one text for both."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from intaglio.golden.adapter import Adapter, Key, LowRank
from intaglio.golden.model import IntModel, Layer, Matrix
from intaglio.golden.number import (
    ADDEND_SHIFT,
    GATE,
    KEY,
    LATENT,
    LOGIT,
    RESIDUAL,
    ROTARY,
    UP,
    VALUE,
    Int,
)
from intaglio.golden.sample import Sampling
from intaglio.twin.choice import choose
from intaglio.twin.functions import Functions, round_shift
from intaglio.twin.namespace import Arrays, FloatProduct, arrays_of

FIRST_POSITIONS = 64  # a memory grows from these by doubling
SCORES = 1 << 22  # scores of one step of attention, of all its rows and heads
LOGITS = 1 << 24  # logits of one step of the head


class Memory:
    """Keys and values of one sequence: int8 [layers, kv_heads, positions, head_width] each.

    Grows as positions are reserved, up to ``context``. ``additions``: of the sequence's adapter.
    """

    def __init__(
        self, arrays: Arrays, model: IntModel, context: int, additions: "Additions"
    ) -> None:
        a = model.architecture
        self.arrays, self.context, self.additions = arrays, context, additions
        shape = (a.layers, a.kv_heads, min(FIRST_POSITIONS, context), a.head_width)
        self.keys, self.values = arrays.zeros(*shape), arrays.zeros(*shape)

    @property
    def positions(self) -> int:
        """Positions there is room for."""
        return self.keys.shape[2]

    def reserve(self, length: int) -> None:
        """Make room for ``length`` positions, at most the context; what is stored stays."""
        if length > self.positions:
            room = min(max(length, 2 * self.positions), self.context)
            self._move(room, self.positions)

    def fork(self, length: int) -> "Memory":
        """A copy of the first ``length`` positions, for a sequence that begins alike."""
        other = copy(self)
        other._move(max(length, min(FIRST_POSITIONS, self.context)), length)
        return other

    def _move(self, room: int, kept: int) -> None:
        """To new arrays with ``room`` positions, the first ``kept`` copied."""
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = self.arrays.zeros(*old.shape[:2], room, old.shape[3])
            new[:, :, :kept] = old[:, :, :kept]
            setattr(self, name, new)


class Addition:
    """What an adapter adds to one matrix."""

    def __init__(self, functions: Functions, part: LowRank, activation: int) -> None:
        arrays = functions.arrays
        self.functions = functions
        self.down = FloatProduct(arrays, part.down, activation)
        self.up = FloatProduct(arrays, part.up, LATENT.bits)
        self.narrows = [
            (arrays.integers(multiplier), arrays.integers(shift))
            for multiplier, shift in (
                (part.down_multiplier, part.down_shift),
                (part.up_multiplier, part.up_shift),
            )
        ]
        constants = [array.nbytes for pair in self.narrows for array in pair]
        self.nbytes = self.down.nbytes + self.up.nbytes + sum(constants)

    def __call__(self, x: Any) -> Any:
        """What joins the products [T, outputs] of inputs ``x`` [T, inputs]."""
        down, up = self.narrows
        latent = self.functions.narrow(self.down(x), *down, LATENT)
        return round_shift(self.up(latent) * up[0] << ADDEND_SHIFT, up[1])


Additions = dict[Key, Addition]


class Linear:
    """One matrix: its exact product, then narrowed to ``to``."""

    def __init__(self, functions: Functions, matrix: Matrix, activation: int, to: Int) -> None:
        arrays = functions.arrays
        self.functions, self.to = functions, to
        self.product = arrays.product(matrix, activation)
        self.multiplier = arrays.integers(matrix.multiplier)
        self.shift = arrays.integers(matrix.shift)
        self.nbytes = self.product.nbytes + self.multiplier.nbytes + self.shift.nbytes

    def __call__(self, x: Any, lift: Any = 0, added: "list[tuple[Any, Addition]] | None" = None):
        """Outputs [T, outputs] of ``x`` [T, inputs], whose rows stand for ``x * 2**lift``.

        ``added``: rows, and what joins their products.
        """
        products = self.product(x) * self.multiplier
        for rows, addition in added or ():
            products[rows] += addition(x[rows])
        return self.functions.narrow(products, 1, self.shift - lift, self.to)


class Span:
    """Rows of one sequence within a block: consecutive positions from ``first`` on."""

    def __init__(self, arrays: Arrays, memory: Memory, rows: list[int], first: int) -> None:
        self.memory, self.first, self.end = memory, first, first + len(rows)
        whole = rows[-1] - rows[0] + 1 == len(rows)
        self.rows = slice(rows[0], rows[-1] + 1) if whole else arrays.integers(np.array(rows))
        memory.reserve(self.end)


class ArrayLayer:
    """One layer on an array library."""

    def __init__(self, functions: Functions, model: IntModel, index: int) -> None:
        self.functions, self.arrays = functions, functions.arrays
        self.architecture, self.widths = model.architecture, model.widths
        self.index, self.layer = index, model.layers[index]
        self.linears = linears(functions, self.layer, model)

    def __call__(self, x: Any, spans: list[Span], turns: tuple[Any, Any]) -> Any:
        """The residual [T, width] after the layer; ``turns``: of every row's position."""
        f, layer, widths = self.functions, self.layer, self.widths

        def linear(name: str, x: Any, lift: Any = 0) -> Any:
            return self.linears[name](x, lift, self._added(spans, name))

        normed = f.norm(x, layer.norm_attention, Int(widths.norm))
        q, k, v = (linear(name, normed) for name in "qkv")
        mixed = self._attention(q, k, v, spans, turns)
        small, lift = f.shrink(mixed, Int(widths.attention))
        x = f.add(x, linear("o", small, lift))
        normed = f.norm(x, layer.norm_mlp, Int(widths.norm))
        product = f.gate(linear("gate", normed), linear("up", normed))
        small, lift = f.shrink(product, Int(widths.product))
        return f.add(x, linear("down", small, lift))

    def _added(self, spans: list[Span], name: str) -> list[tuple[Any, Addition]]:
        """What the spans' adapters add to a matrix."""
        found = [(span.rows, span.memory.additions.get((self.index, name))) for span in spans]
        return [(rows, addition) for rows, addition in found if addition]

    def _attention(self, q: Any, k: Any, v: Any, spans: list[Span], turns: tuple[Any, Any]) -> Any:
        """Attention [T, heads * head_width]; stores the rows' keys and values first."""
        count, a, f = len(q), self.architecture, self.functions
        q, k, v = (x.reshape(count, -1, a.head_width) for x in (q, k, v))
        q, k = f.rotate(q, turns, Int(self.widths.query)), f.rotate(k, turns, KEY)
        for span in spans:
            where, memory = slice(span.first, span.end), span.memory
            memory.keys[self.index][:, where] = k[span.rows].swapaxes(0, 1)
            memory.values[self.index][:, where] = v[span.rows].swapaxes(0, 1)
            q[span.rows] = self._attend(q[span.rows], span)
        return q.reshape(count, -1)

    def _attend(self, q: Any, span: Span) -> Any:
        """Attention of a span's queries, so many rows at a time as keep the scores few."""
        step = max(SCORES // (self.architecture.heads * span.end), 1)
        parts = []
        for row in range(0, len(q), step):
            part = q[row : row + step]
            end = span.first + row + len(part)
            keys = span.memory.keys[self.index][:, :end]
            values = span.memory.values[self.index][:, :end]
            shift, bits = self.layer.score_shift, self.widths.query
            parts.append(self.functions.attend(part, keys, values, shift, bits))
        return parts[0] if len(parts) == 1 else self.arrays.xp.concatenate(parts)


def linears(functions: Functions, layer: Layer, model: IntModel) -> dict[str, Linear]:
    """The seven matrices of a layer by name."""
    widths = model.widths
    kinds = {
        "q": (widths.norm, ROTARY),
        "k": (widths.norm, ROTARY),
        "v": (widths.norm, VALUE),
        "o": (widths.attention, RESIDUAL),
        "gate": (widths.norm, GATE),
        "up": (widths.norm, UP),
        "down": (widths.product, RESIDUAL),
    }
    return {name: Linear(functions, m, *kinds[name]) for name, m in layer.matrices()}


class ArrayEngine:
    """The twin's engine on arrays: NumPy (``device`` None), or PyTorch on "cpu" or "cuda".

    ``adapters``: what a sequence can choose from, by name, made for this model. Raises
    :class:`BadInput` for another device, :class:`ToolMissing` without PyTorch or a GPU.
    """

    def __init__(
        self,
        model: IntModel,
        context: int,
        device: str | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        self.model, self.context = model, context
        self.arrays = arrays = arrays_of(device)
        self.name = arrays.name
        self.functions = Functions(arrays)
        self.embedding = arrays.stored(model.embedding)
        self.embedding_multiplier = arrays.integers(model.embedding_multiplier)
        self.rotary = arrays.integers(model.rotary)
        self.layers = [ArrayLayer(self.functions, model, at) for at in range(len(model.layers))]
        self.head = Linear(self.functions, model.head, model.widths.norm, LOGIT)
        self.additions: dict[str | None, Additions] = {None: {}}
        for name, adapter in (adapters or {}).items():
            self.additions[name] = {
                key: Addition(self.functions, part, model.widths.inputs(key[1]))
                for key, part in adapter.parts.items()
            }

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights and constants as they are held, those of adapters too."""
        held = [self.embedding, self.embedding_multiplier, self.rotary, self.head]
        held += [linear for layer in self.layers for linear in layer.linears.values()]
        held += [part for parts in self.additions.values() for part in parts.values()]
        return sum(one.nbytes for one in held)

    @property
    def sequence_bytes(self) -> int:
        """Bytes of the keys and values of one sequence over its whole context."""
        a = self.model.architecture
        return 2 * a.layers * a.kv_width * self.context

    def sequence(self, adapter: str | None = None) -> Memory:
        """The empty memory of one sequence, which runs with that adapter."""
        return Memory(self.arrays, self.model, self.context, self.additions[adapter])

    def forward(
        self,
        sequences: Sequence[Memory],
        tokens: np.ndarray,
        positions: np.ndarray,
        wanted: np.ndarray,
    ) -> np.ndarray:
        """Run rows [R] of any sequences; logits of the ``wanted`` rows: int32 [W, vocabulary].

        Row r is ``tokens[r]`` at ``positions[r]`` of ``sequences[r]``. Rows of one sequence have
        ascending, consecutive positions, and all before those are in its memory.
        """
        out = np.empty((len(wanted), self.model.architecture.vocabulary), np.int32)
        done = 0
        for logits in self._logits(sequences, tokens, positions, wanted):
            out[done : done + len(logits)] = self.arrays.host(logits)
            done += len(logits)
        return out

    def decode(
        self,
        sequences: Sequence[Memory],
        tokens: np.ndarray,
        positions: np.ndarray,
        samplings: Sequence[Sampling],
        count: int,
    ) -> np.ndarray:
        """Run a token of each of B sequences, choose the next, ``count`` times: int32 [count, B].

        The last chosen tokens are not run.
        """
        out = np.empty((count, len(sequences)), np.int32)
        everyone = np.arange(len(sequences))
        for step in range(count):
            done = 0
            for logits in self._logits(sequences, tokens, positions, everyone):
                part = slice(done, done + len(logits))
                out[step, part] = choose(self.arrays, logits, samplings[part], positions[part])
                done = part.stop
            tokens, positions = out[step], positions + 1
        return out

    def _logits(
        self,
        sequences: Sequence[Memory],
        tokens: np.ndarray,
        positions: np.ndarray,
        wanted: np.ndarray,
    ) -> Iterator[Any]:
        """Logits of the wanted rows, in parts: int64 [some, vocabulary] where the arrays are."""
        step = max(LOGITS // self.model.architecture.vocabulary, 1)
        for first in range(0, len(tokens), self.arrays.rows):
            block = slice(first, first + self.arrays.rows)
            x = self._residual(sequences[block], tokens[block], positions[block])
            kept = wanted[(wanted >= first) & (wanted < block.stop)] - first
            for part in range(0, len(kept), step):
                rows = x[self.arrays.integers(kept[part : part + step])]
                yield self.head(
                    self.functions.norm(rows, self.model.norm, Int(self.model.widths.norm))
                )

    def _residual(
        self, sequences: Sequence[Memory], tokens: np.ndarray, positions: np.ndarray
    ) -> Any:
        """Residuals [T, width] of a block of rows after the last layer."""
        rows: dict[int, list[int]] = {}
        for row, memory in enumerate(sequences):
            rows.setdefault(id(memory), []).append(row)
        spans = [
            Span(self.arrays, sequences[at[0]], at, int(positions[at[0]])) for at in rows.values()
        ]
        turns = self.functions.turns(self.arrays.integers(positions), self.rotary)
        index = self.arrays.integers(tokens)
        codes = self.arrays.integers(self.embedding[index])
        shift, multiplier = self.model.embedding_shift, self.embedding_multiplier[index][:, None]
        x = self.functions.narrow(codes, multiplier, shift, RESIDUAL)
        for layer in self.layers:
            x = layer(x, spans, turns)
        return x
