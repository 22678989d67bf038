"""Presets: the architectures of well-known models, read from ``presets/*.yaml``. No weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from intaglio.architecture import Architecture
from intaglio.errors import BadInput, UnsupportedModel
from intaglio.plan.target import check_keys
from intaglio.quantity import is_number, read_yaml

KEYS = {
    "name", "title", "source", "year", "architecture", "experts", "latent", "window", "published",
    "not_modelled",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture in place of a layer's gated part.

    Of ``stored`` experts a router chooses ``active`` for each token; ``shared`` more are always
    at work. All have the architecture's inner width. The first ``dense_layers`` layers have none
    but one gated part of ``dense_inner``.
    """

    stored: int
    active: int
    shared: int
    dense_layers: int
    dense_inner: int | None

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.stored:
            raise BadInput(f"active must be from 1 to the stored {self.stored}, not {self.active}")
        if self.shared < 0 or self.dense_layers < 0:
            raise BadInput("shared and dense_layers must be at least 0")
        if bool(self.dense_layers) != bool(self.dense_inner):
            raise BadInput("dense_inner must be there where dense_layers is, and only there")


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention.

    Queries come from a latent of ``query_rank``; keys and values of all heads from one of
    ``kv_rank``, beside which ``rotary`` elements of a key are shared by all heads. A head's key has
    ``plain`` elements without rotary, its value ``value``.
    """

    query_rank: int
    kv_rank: int
    plain: int
    rotary: int
    value: int

    def __post_init__(self) -> None:
        if min(self.query_rank, self.kv_rank, self.plain, self.rotary, self.value) < 1:
            raise BadInput("every width must be at least 1")

    @property
    def stored(self) -> int:
        """Elements that a layer keeps of a position."""
        return self.kv_rank + self.rotary

    def parameters(self, width: int, heads: int) -> int:
        """Weights of one layer's attention."""
        queries = width * self.query_rank + self.query_rank * heads * (self.plain + self.rotary)
        latents = width * self.stored + self.kv_rank * heads * (self.plain + self.value)
        return queries + latents + heads * self.value * width


@dataclass(frozen=True, slots=True)
class Window:
    """Every ``every``-th layer, from the first, looks back at so many positions only."""

    positions: int
    every: int

    def __post_init__(self) -> None:
        if self.positions < 1 or self.every < 1:
            raise BadInput("positions and every must be at least 1")


@dataclass(frozen=True, slots=True)
class Preset:
    """A model without its weights.

    ``architecture``: the dense spine; in a mixture ``inner`` is one expert's. ``published``:
    parameters, and active ones of a mixture, as its makers count them. ``not_modelled``: what of
    the model an outline leaves out. ``source``, ``year``: of the architecture.
    """

    name: str
    title: str
    architecture: Architecture
    experts: Experts | None
    latent: Latent | None
    window: Window | None
    published: tuple[float, float | None]
    not_modelled: tuple[str, ...]
    source: str
    year: int

    @property
    def parameters(self) -> int:
        """All stored weights; the embedding counts twice where the head is untied."""
        a = self.architecture
        embedding = a.vocabulary * a.width * (1 if a.tied else 2)
        gains = a.width * (2 * a.layers + 1)
        return self._layers(stored=True) + embedding + gains

    @property
    def active(self) -> int:
        """Weights used for one token: the head, and the embedding only where it is the head."""
        a = self.architecture
        return self._layers(stored=False) + a.vocabulary * a.width + a.width * (2 * a.layers + 1)

    def _layers(self, *, stored: bool) -> int:
        """Weights of all layers' matrices, all or those used for one token."""
        a, e = self.architecture, self.experts
        attention = a.width * (2 * a.query_width + 2 * a.kv_width)
        if self.latent:
            attention = self.latent.parameters(a.width, a.heads)
        if e is None:
            return a.layers * (attention + 3 * a.width * a.inner)
        used = (e.stored if stored else e.active) + e.shared
        mixture = a.width * e.stored + used * 3 * a.width * a.inner
        dense = 3 * a.width * (e.dense_inner or 0)
        mixtures = a.layers - e.dense_layers
        return a.layers * attention + mixtures * mixture + e.dense_layers * dense


def preset_folder() -> Path:
    """Where the data files of the package are."""
    return Path(str(files("intaglio") / "presets"))


def preset_names() -> list[str]:
    """The names that :func:`preset` knows."""
    return sorted(path.stem for path in preset_folder().glob("*.yaml"))


@cache
def preset(name: str) -> Preset:
    """The preset of that name. Raises :class:`BadInput` for an unknown one."""
    if name not in preset_names():
        raise BadInput(f"preset must be one of {', '.join(preset_names())}, not {name!r}")
    return read_preset(preset_folder() / f"{name}.yaml")


def read_preset(path: Path) -> Preset:
    """The preset in a data file. Raises :class:`BadInput` naming file and key."""
    values = read_yaml(path)
    check_keys(values, KEYS, path.name)
    for key in ("name", "title", "source"):
        if not isinstance(values[key], str) or not values[key].strip():
            raise BadInput(f"{path.name}: {key} must be a text, not {values[key]!r}")
    if not isinstance(values["year"], int):
        raise BadInput(f"{path.name}: year must be a number, not {values['year']!r}")
    made = {
        key: part(kind, values[key], f"{path.name}: {key}")
        for key, kind in (("experts", Experts), ("latent", Latent), ("window", Window))
    }
    return Preset(
        name=values["name"],
        title=values["title"],
        architecture=architecture(values["architecture"], path),
        published=published(values["published"], path),
        not_modelled=tuple(values["not_modelled"]),
        source=values["source"],
        year=values["year"],
        **made,
    )


def architecture(values: Any, path: Path) -> Architecture:
    """The dense spine that a file states."""
    if not isinstance(values, Mapping):
        raise BadInput(f"{path.name}: architecture must be a mapping")
    try:
        return Architecture.from_dict(dict(values))
    except UnsupportedModel as error:
        raise BadInput(f"{path.name}: architecture: {error.message}") from None


def published(values: Any, path: Path) -> tuple[float, float | None]:
    """What the makers say: parameters, and active ones or None."""
    check_keys(values, {"parameters", "active", "source"}, f"{path.name}: published")
    for key in ("parameters", "active"):
        number = values[key]
        if not ((is_number(number) and number > 0) or (key == "active" and number is None)):
            raise BadInput(f"{path.name}: published: {key} must be a count, not {number!r}")
    return float(values["parameters"]), values["active"] and float(values["active"])


def part(kind: type, values: Any, place: str) -> Any:
    """A part that a preset may have, or None. Raises :class:`BadInput` naming the place."""
    if values is None:
        return None
    check_keys(values, set(kind.__slots__), place)
    for key, value in values.items():
        if type(value) is not int and (value is not None or key != "dense_inner"):
            raise BadInput(f"{place}: {key} must be an integer, not {value!r}")
    try:
        return kind(**values)
    except BadInput as error:
        raise BadInput(f"{place}: {error.message}") from None
