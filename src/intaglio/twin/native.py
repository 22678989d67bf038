"""The native engine: C++ kernels for this processor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intaglio.errors import BadInput
from intaglio.golden.adapter import Adapter
from intaglio.golden.model import MATRICES, IntModel, Matrix, ModelFile, Norm
from intaglio.golden.sample import Sampling
from intaglio.twin import _native
from intaglio.twin.rows import short

MOST_INPUTS = 1 << 19  # sums of bytes stay within 32 bits


def constants(norm: Norm) -> tuple[int, int, int]:
    """A norm as the kernels take it."""
    return norm.epsilon, norm.multiplier, norm.shift


def kernels_here() -> list[str]:
    """The instruction sets that kernels are compiled for and this processor has, best first."""
    return _native.engines()


class NativeEngine:
    """See :class:`intaglio.twin.engine.Engine`.

    ``kernels``: one of :func:`kernels_here`, the best by default. Raises :class:`BadInput` for one
    that this processor has not.
    """

    def __init__(
        self,
        model: IntModel | ModelFile,
        context: int,
        threads: int,
        kernels: str | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        a, w = model.architecture, model.widths
        here = kernels_here()
        self.kernels = here[0] if kernels is None else kernels
        if not isinstance(self.kernels, str) or self.kernels not in here:
            raise BadInput(
                f"kernels must be one of {', '.join(here)}, which this processor has, "
                f"not {short(self.kernels)}"
            )
        self.name = f"native {self.kernels}"
        longest = max(a.inner, a.query_width, a.width)
        if longest > MOST_INPUTS:
            raise BadInput(
                f"the native engine takes matrices of at most {MOST_INPUTS} inputs, not {longest}",
                hint="use the numpy engine",
            )
        shape = (
            a.vocabulary, a.width, a.layers, a.heads, a.kv_heads, a.head_width, a.inner, context,
        )  # fmt: skip
        try:
            self.model = _native.Model(
                self.kernels, threads, shape, (w.norm, w.query, w.attention, w.product),
                np.ascontiguousarray(model.rotary, np.uint32),
                np.ascontiguousarray(model.embedding),
                np.ascontiguousarray(model.embedding_multiplier),
                model.embedding_shift, constants(model.norm),
            )  # fmt: skip
        except RuntimeError as error:
            raise BadInput(f"{threads} threads cannot be started: {error}") from None
        for index, layer in enumerate(model.layers):
            norms = constants(layer.norm_attention), constants(layer.norm_mlp)
            self.model.set_layer(index, *norms, layer.score_shift)
        for name, matrix in model.matrices():
            self._set(name, matrix, a.layers)
        self.adapters: dict[str | None, _native.Adapter | None] = {None: None}
        for name, adapter in (adapters or {}).items():
            self.adapters[name] = self._adapter(adapter)

    def _adapter(self, adapter: Adapter) -> _native.Adapter:
        made = self.model.adapter()
        for (layer, name), part in adapter.parts.items():
            arrays = [
                np.ascontiguousarray(array)
                for array in (
                    part.down, part.down_multiplier, part.down_shift,
                    part.up, part.up_multiplier, part.up_shift,
                )
            ]  # fmt: skip
            self.model.set_part(made, layer, MATRICES.index(name), *arrays)
        return made

    def _set(self, name: str, matrix: Matrix, layers: int) -> None:
        if name == "head":
            index, kind = layers, 0
        else:
            _, number, short = name.split(".")
            index, kind = int(number), MATRICES.index(short)
        self.model.set_matrix(
            index, kind, matrix.bits, np.ascontiguousarray(matrix.codes), matrix.extra_shift,
            np.ascontiguousarray(matrix.extra_inputs), np.ascontiguousarray(matrix.extra_codes),
            np.ascontiguousarray(matrix.multiplier), np.ascontiguousarray(matrix.shift),
        )  # fmt: skip

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights and constants, packed, and of adapters."""
        return self.model.bytes + sum(made.bytes for made in self.adapters.values() if made)

    @property
    def sequence_bytes(self) -> int:
        """Bytes of the keys and values of one sequence, padded."""
        return self.model.memory().bytes

    def sequence(self, adapter: str | None = None) -> _native.Memory:
        """Empty memory of one sequence, which runs with that adapter."""
        return self.model.memory(self.adapters[adapter])

    def forward(
        self,
        sequences: Sequence[Any],
        tokens: np.ndarray,
        positions: np.ndarray,
        wanted: np.ndarray,
    ) -> np.ndarray:
        """Logits of the wanted rows: int32 [W, vocabulary]."""
        return self.model.forward(list(sequences), tokens, positions, wanted)

    def decode(
        self,
        sequences: Sequence[Any],
        tokens: np.ndarray,
        positions: np.ndarray,
        samplings: Sequence[Sampling],
        count: int,
    ) -> np.ndarray:
        """Tokens of ``count`` steps: int32 [count, sequences]."""
        how = [(s.beta, s.top_k, s.top_p, s.seed) for s in samplings]
        rows = np.array(how, np.uint64).reshape(len(how), 4)
        return self.model.decode(list(sequences), tokens, positions, rows, count)
