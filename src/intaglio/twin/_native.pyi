"""The native engines; arguments are C-contiguous arrays of exactly these types, or ValueError."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NormConstants = tuple[int, int, int]
"""epsilon, multiplier, shift"""

class Adapter:
    bytes: int

class Memory:
    length: int
    bytes: int
    def fork(self, length: int) -> Memory: ...

class Model:
    bytes: int
    def __init__(
        self,
        engine: str,
        threads: int,
        shape: Sequence[int],
        widths: Sequence[int],
        rotary: NDArray[np.uint32],
        embedding: NDArray[np.int8],
        embedding_multiplier: NDArray[np.uint16],
        embedding_shift: int,
        norm: NormConstants,
    ) -> None: ...
    def set_layer(
        self, layer: int, attention: NormConstants, mlp: NormConstants, score_shift: int
    ) -> None: ...
    def set_matrix(
        self,
        layer: int,
        kind: int,
        bits: int,
        codes: NDArray[np.uint8],
        extra_shift: int,
        extra_inputs: NDArray[np.int32],
        extra_codes: NDArray[np.uint8],
        multiplier: NDArray[np.uint16],
        shift: NDArray[np.uint8],
    ) -> None: ...
    def memory(self, adapter: Adapter | None = None) -> Memory: ...
    def adapter(self) -> Adapter: ...
    def set_part(
        self,
        adapter: Adapter,
        layer: int,
        kind: int,
        down: NDArray[np.int8],
        down_multiplier: NDArray[np.uint16],
        down_shift: NDArray[np.uint8],
        up: NDArray[np.int8],
        up_multiplier: NDArray[np.uint16],
        up_shift: NDArray[np.uint8],
    ) -> None: ...
    def forward(
        self,
        memories: Sequence[Memory],
        tokens: NDArray[np.int64],
        positions: NDArray[np.int64],
        wanted: NDArray[np.int64],
    ) -> NDArray[np.int32]: ...
    def decode(
        self,
        memories: Sequence[Memory],
        tokens: NDArray[np.int64],
        positions: NDArray[np.int64],
        samplings: NDArray[np.uint64],
        count: int,
    ) -> NDArray[np.int32]: ...
    def matrix_product(
        self,
        layer: int,
        kind: int,
        x: NDArray[np.int32],
        lifts: NDArray[np.int32],
        bits: int,
    ) -> NDArray[np.int32]: ...
    def attention(
        self, memory: Memory, layer: int, kv_head: int, q: NDArray[np.int32], position: int
    ) -> NDArray[np.int32]: ...

def engines() -> list[str]: ...
def table(name: str) -> NDArray[np.int32]: ...
def norm(
    engine: str, x: NDArray[np.int32], constants: NormConstants, bits: int
) -> NDArray[np.int32]: ...
def rotate(
    engine: str, x: NDArray[np.int32], rotary: NDArray[np.uint32], position: int, bits: int
) -> NDArray[np.int32]: ...
def shrink(engine: str, x: NDArray[np.int32], bits: int) -> tuple[NDArray[np.int32], int]: ...
def gate(engine: str, gate: NDArray[np.int32], up: NDArray[np.int32]) -> NDArray[np.int32]: ...
def sample(
    engine: str,
    logits: NDArray[np.int32],
    beta: int,
    top_k: int,
    top_p: int,
    seed: int,
    position: int,
) -> int: ...
