"""The dimensions and options of a transformer: frozen, validated when made."""

from dataclasses import asdict, dataclass
from typing import Any

from intaglio.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3's piecewise scaling of the rotary frequencies (``rope_type`` "llama3")."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def __post_init__(self) -> None:
        if not (self.factor > 0 and 0 < self.low_freq_factor < self.high_freq_factor):
            raise UnsupportedModel(
                "rope_scaling must have factor > 0 and 0 < low_freq_factor < high_freq_factor, "
                f"not {self.factor}, {self.low_freq_factor}, {self.high_freq_factor}"
            )
        if self.original_context < 1:
            raise UnsupportedModel(
                "rope_scaling original_max_position_embeddings must be positive, "
                f"not {self.original_context}"
            )


@dataclass(frozen=True, slots=True)
class Architecture:
    """A Llama-family decoder.

    ``width`` is the length of the residual vector, ``inner`` of the gated layer's inside,
    ``context`` the largest number of positions, ``norm_epsilon`` and ``rope_base`` as in the
    checkpoint. ``tied``: the head's weights are the embedding's.
    """

    family: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    context: int
    rope_base: float
    norm_epsilon: float
    tied: bool
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        if self.family != "llama":
            raise UnsupportedModel(f"model family must be 'llama', not {self.family!r}")
        for name in (
            "vocabulary", "width", "layers", "heads", "kv_heads", "head_width", "inner", "context",
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UnsupportedModel(f"{name} must be a positive integer, not {value!r}")
        if self.heads % self.kv_heads:
            raise UnsupportedModel(
                f"heads must be a multiple of kv_heads, not {self.heads} and {self.kv_heads}"
            )
        if self.head_width % 2:
            raise UnsupportedModel(f"head_width must be even for rotary, not {self.head_width}")
        if not self.rope_base > 1:
            raise UnsupportedModel(f"rope_base must be greater than 1, not {self.rope_base}")
        if not 0 < self.norm_epsilon < 1:
            raise UnsupportedModel(f"norm_epsilon must be between 0 and 1, not {self.norm_epsilon}")

    @property
    def query_width(self) -> int:
        """Outputs of the query matrix."""
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        """Outputs of the key matrix, and of the value matrix."""
        return self.kv_heads * self.head_width

    @property
    def group(self) -> int:
        """Query heads that share one key and value head."""
        return self.heads // self.kv_heads

    @property
    def block_parameters(self) -> int:
        """Weights of the seven matrices of all layers."""
        attention = self.width * (2 * self.query_width + 2 * self.kv_width)
        return self.layers * (attention + 3 * self.width * self.inner)

    @property
    def parameters(self) -> int:
        """All weights: blocks, embedding (counted twice where the head is untied), norm gains."""
        embedding = self.vocabulary * self.width * (1 if self.tied else 2)
        return self.block_parameters + embedding + self.width * (2 * self.layers + 1)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Architecture":
        """Inverse of :meth:`as_dict`; an unknown key is an error."""
        values = dict(values)
        scaling = values.pop("rope_scaling", None)
        try:
            return cls(**values, rope_scaling=RopeScaling(**scaling) if scaling else None)
        except TypeError as error:
            raise UnsupportedModel(f"architecture has a missing or unknown key: {error}") from None
