"""The chip's forward pass: which operation follows which."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from intaglio.golden import ops
from intaglio.golden.adapter import Adapter, Key, LowRank
from intaglio.golden.model import IntModel, Layer, Matrix
from intaglio.golden.number import GATE, KEY, LATENT, LOGIT, RESIDUAL, ROTARY, UP, VALUE, Int

Trace = Callable[[int, str, int, np.ndarray], None]
"""``trace(layer, op, position, values)``: ``values`` int64 [T, n], first row at ``position``.

``layer`` counts from 0; the embedding is layer -1, final norm and head the layer after the last.
"""

Linears = dict[str, Callable[..., np.ndarray]]
"""By name, what takes ``(x, to, lift)`` of :meth:`Linear.__call__`."""

EXACT_FLOAT32, EXACT_FLOAT64 = 1 << 24, 1 << 53


class Linear:
    """Exact dot products with one matrix, by a float product whose every partial sum is exact."""

    def __init__(self, matrix: Matrix, activation: int) -> None:
        weights = matrix.weights()
        bound = int(np.abs(weights).sum(0).max()) << activation - 1
        assert bound < EXACT_FLOAT64
        self.weights = weights.astype(np.float32 if bound < EXACT_FLOAT32 else np.float64)
        self.multiplier = matrix.multiplier.astype(np.int64)
        self.shift = matrix.shift.astype(np.int64)

    def dot(self, x: np.ndarray) -> np.ndarray:
        """Accumulators [T, outputs] of activations ``x`` [T, inputs]."""
        return np.rint(x.astype(self.weights.dtype) @ self.weights).astype(np.int64)

    def __call__(
        self,
        x: np.ndarray,
        to: Int,
        lift: np.ndarray | None = None,
        addition: "Addition | None" = None,
    ) -> np.ndarray:
        """Narrowed outputs; ``lift`` [T]: the shift by which each row of ``x`` was shrunk."""
        shift = self.shift[None, :]
        if lift is not None:
            shift = shift - lift[:, None]
        addend = 0 if addition is None else addition(x)
        return ops.narrow(self.dot(x), self.multiplier, shift, to, addend)


class Addition:
    """What an adapter adds to one matrix."""

    def __init__(self, part: LowRank) -> None:
        # exact: the adapter's check holds the sums of down, 16 + 7 + 6 bits those of up
        self.down, self.up = part.down.astype(np.float64), part.up.astype(np.float64)
        self.down_multiplier, self.up_multiplier = part.down_multiplier, part.up_multiplier
        self.down_shift, self.up_shift = part.down_shift, part.up_shift

    def latent(self, x: np.ndarray) -> np.ndarray:
        """What passes between the factors, [T, rank], for inputs ``x`` [T, inputs]."""
        dot = np.rint(x.astype(np.float64) @ self.down).astype(np.int64)
        return ops.narrow(dot, self.down_multiplier, self.down_shift, LATENT)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Addends [T, outputs] of the matrix' narrow for its inputs ``x`` [T, inputs]."""
        dot = np.rint(self.latent(x).astype(np.float64) @ self.up).astype(np.int64)
        return ops.addend(dot, self.up_multiplier, self.up_shift)


class Memory:
    """Keys and values of one slot and layer: int64 [kv_heads, context, head_width] each."""

    def __init__(self, kv_heads: int, context: int, head_width: int) -> None:
        self.keys = np.zeros((kv_heads, context, head_width), np.int8)
        self.values = np.zeros((kv_heads, context, head_width), np.int8)


def attend(q: np.ndarray, memory: Memory, position: int, score_shift: int) -> np.ndarray:
    """Attention of queries [T, heads, head_width] at ``position`` onwards: int64, same shape.

    The keys and values of those positions are already in ``memory``.
    """
    count, heads, _ = q.shape
    kv_heads = len(memory.keys)
    end = position + count
    hidden = np.arange(end)[None, :] > position + np.arange(count)[:, None]
    out = np.empty(q.shape, np.int64)
    for head in range(heads):
        at = head // (heads // kv_heads)
        # exact: 16 + 8 bits and the sum over head_width or positions stay far below 2**53
        keys = memory.keys[at, :end].astype(np.float64)
        values = memory.values[at, :end].astype(np.float64)
        dot = np.rint(q[:, head].astype(np.float64) @ keys.T).astype(np.int64)
        scores = ops.score(dot, score_shift)
        largest = np.where(hidden, -(1 << 62), scores).max(-1)
        weights = np.where(hidden, 0, ops.exp2(np.maximum(largest[:, None] - scores, 0)))
        weighted = np.rint(weights.astype(np.float64) @ values).astype(np.int64)
        out[:, head] = ops.mean(weighted, weights.sum(-1))
    return out


class Golden:
    """The integer model as a function of tokens, with the memory of ``slots`` users.

    ``adapters``: what the side memory holds, by name; each call chooses one or none.
    """

    def __init__(
        self,
        model: IntModel,
        slots: int = 1,
        context: int | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        a, widths = model.architecture, model.widths
        self.model = model
        self.context = min(context or a.context, a.context)
        self.linears = [
            {name: Linear(m, widths.inputs(name)) for name, m in layer.matrices()}
            for layer in model.layers
        ]
        self.additions: dict[str | None, dict[Key, Addition]] = {None: {}}
        for name, adapter in (adapters or {}).items():
            adapter.check(model)
            self.additions[name] = {key: Addition(part) for key, part in adapter.parts.items()}
        self.head = Linear(model.head, widths.norm)
        self.memories = [
            [Memory(a.kv_heads, self.context, a.head_width) for _ in model.layers]
            for _ in range(slots)
        ]

    def residual(
        self,
        tokens: np.ndarray,
        position: int = 0,
        slot: int = 0,
        trace: Trace | None = None,
        adapter: str | None = None,
    ) -> np.ndarray:
        """Run ``tokens`` [T] through all layers from ``position`` on: int64 [T, width].

        Positions before ``position`` must have been run in the same slot; their keys and values
        are those of the adapter with which they were run.
        """
        model = self.model
        tokens = np.asarray(tokens, np.int64)
        self._check(tokens, position)
        if adapter not in self.additions:
            names = ", ".join(name for name in self.additions if name is not None)
            raise ValueError(f"adapter must be one of [{names}] or None, not {adapter!r}")
        x = ops.embed(
            model.embedding[tokens],
            model.embedding_multiplier[tokens].astype(np.int64),
            model.embedding_shift,
        )
        trace = trace or (lambda *_: None)
        trace(-1, "embedding", position, x)
        for index in range(len(model.layers)):
            x = self._layer(index, x, position, slot, trace, self._linears(index, adapter))
        return x

    def _linears(self, index: int, adapter: str | None) -> Linears:
        """The matrices of a layer, each with what the adapter adds to it."""
        additions = self.additions[adapter]
        return {
            name: partial(linear, addition=additions.get((index, name)))
            for name, linear in self.linears[index].items()
        }

    def _check(self, tokens: np.ndarray, position: int) -> None:
        vocabulary, end = self.model.architecture.vocabulary, position + len(tokens)
        if position < 0 or end > self.context:
            raise ValueError(
                f"positions must be from 0 to {self.context - 1}, not {position} to {end - 1}"
            )
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocabulary:
            raise ValueError(
                f"tokens must be from 0 to {vocabulary - 1}, not {tokens.min()} to {tokens.max()}"
            )

    def logits(self, x: np.ndarray, position: int = 0, trace: Trace | None = None) -> np.ndarray:
        """Logits [T, vocabulary] (nats, 12 fraction bits) of final residuals ``x`` [T, width]."""
        norm = self.model.norm
        normed = ops.norm(x, norm.epsilon, norm.multiplier, norm.shift, Int(self.model.widths.norm))
        logits = self.head(normed, LOGIT)
        if trace:
            trace(len(self.model.layers), "norm", position, normed)
            trace(len(self.model.layers), "logits", position, logits)
        return logits

    def _layer(
        self, index: int, x: np.ndarray, position: int, slot: int, trace: Trace, linear: Linears
    ) -> np.ndarray:
        layer, widths = self.model.layers[index], self.model.widths

        def show(op: str, values: np.ndarray) -> np.ndarray:
            trace(index, op, position, values.reshape(len(x), -1))
            return values

        norm = layer.norm_attention
        normed = ops.norm(x, norm.epsilon, norm.multiplier, norm.shift, Int(widths.norm))
        show("norm_attention", normed)
        attention = show("attention", self._attention(index, normed, position, slot, trace, linear))
        small, lift = ops.shrink(attention.reshape(len(x), -1), Int(widths.attention))
        show("attention_shrink", small)
        y = show("o", linear["o"](small, RESIDUAL, lift))
        x = show("residual_attention", ops.add(x, y))

        norm = layer.norm_mlp
        normed = ops.norm(x, norm.epsilon, norm.multiplier, norm.shift, Int(widths.norm))
        show("norm_mlp", normed)
        gate = show("gate", linear["gate"](normed, GATE))
        up = show("up", linear["up"](normed, UP))
        product = show("product", ops.gate(gate, up))
        small, lift = ops.shrink(product, Int(widths.product))
        show("product_shrink", small)
        y = show("down", linear["down"](small, RESIDUAL, lift))
        return show("residual_mlp", ops.add(x, y))

    def _attention(
        self,
        index: int,
        normed: np.ndarray,
        position: int,
        slot: int,
        trace: Trace,
        linear: Linears,
    ) -> np.ndarray:
        a, layer = self.model.architecture, self.model.layers[index]
        count = len(normed)

        def heads(op: str, values: np.ndarray, number: int) -> np.ndarray:
            trace(index, op, position, values.reshape(count, -1))
            return values.reshape(count, number, a.head_width)

        q = heads("q", linear["q"](normed, ROTARY), a.heads)
        k = heads("k", linear["k"](normed, ROTARY), a.kv_heads)
        v = heads("v", linear["v"](normed, VALUE), a.kv_heads)
        turned = ops.turn(position + np.arange(count), self.model.rotary)
        q = heads("rotary_q", ops.rotate(q, *turned, Int(self.model.widths.query)), a.heads)
        k = heads("rotary_k", ops.rotate(k, *turned, KEY), a.kv_heads)
        memory = self.memories[slot][index]
        memory.keys[:, position : position + count] = k.transpose(1, 0, 2)
        memory.values[:, position : position + count] = v.transpose(1, 0, 2)
        return attend(q, memory, position, layer.score_shift)


__all__ = ["Addition", "Golden", "Layer", "Linear", "Memory", "Trace", "attend"]
