"""The floorplan to scale: the chain of layers as a serpentine of tiles, each made of its blocks.

Not a placement: where a block would stand in its tile is open, how large it is is not. A chip of
several dies is cut as its plan says; rectangles of all dies add up to the chip's area.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from intaglio.flow.plan import Planned
from intaglio.silicon.partition import Die as Cut

GROUPS = {
    "mlp": "weights: MLP", "projections": "weights: q, k, v, o", "head": "weights: head",
    "attention": "attention arithmetic", "kv": "keys and values", "embedding": "embedding",
    "vectors": "norms, gates, sampler", "adapters": "adapters", "wires": "wires between blocks",
    "links": "links between dies", "pads": "pad ring",
}  # fmt: skip
"""The colours of a floorplan, in words."""
PROJECTIONS = ("q", "k", "v", "o")
KINDS = {"attention": "attention", "kv": "kv", "buffers": "kv", "embedding": "embedding",
         "adapters": "adapters"}  # fmt: skip
SMALL = 0.004  # of a tile: what is smaller is drawn together
WIRES, LINKS = "wires between blocks", "links to other dies"
FIELD = 26.0, 33.0  # mm, of a scanner: what the reticle of 858 mm² is


@dataclass(frozen=True, slots=True)
class Piece:
    """So many mm² of one block (or of several small ones)."""

    name: str
    group: str
    area: float


@dataclass(frozen=True, slots=True)
class Station:
    """A link of the chain: the embedding, a layer, the head, or a part of one on a die."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def area(self) -> float:
        """mm² of all its pieces."""
        return sum(piece.area for piece in self.pieces)

    def part(self, share: float, name: str) -> "Station":
        """A share of it."""
        pieces = (Piece(p.name, p.group, p.area * share) for p in self.pieces)
        return Station(name, tuple(pieces))


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in mm."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """mm²."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Drawn:
    """A piece in its place on a die. ``station``: whose it is."""

    piece: Piece
    station: str
    box: Box


@dataclass(frozen=True, slots=True)
class Die:
    """A die: its sides in mm, the width of its pad ring, tiles by station, pieces in them."""

    width: float
    height: float
    ring: float
    tiles: tuple[tuple[str, Box], ...]
    drawn: tuple[Drawn, ...]

    @property
    def area(self) -> float:
        """mm² of the pieces and the pad ring together."""
        pads = 2 * self.ring * (self.width + self.height - 2 * self.ring)
        return sum(each.box.area for each in self.drawn) + pads


@dataclass(frozen=True)
class Floorplan:
    """All dies of a chip. ``area``: mm² of the chip; ``shares``: of it, by group."""

    area: float
    dies: tuple[Die, ...]
    shares: Mapping[str, float]


def floorplan(planned: Planned) -> Floorplan:
    """The floorplan of a planned chip at the process' own values."""
    own = {name: figure.quantity.number for name, figure in planned.physical.figures.items()}
    stations = stations_of(planned)
    # what no block is, the wires between them, lies everywhere in proportion
    placed = sum(station.area for station in stations)
    wires = (own["area_mm2"] - own["area_pads"] - placed) / placed
    wired = [Station(s.name, (*s.pieces, Piece(WIRES, "wires", s.area * wires))) for s in stations]
    area, lots = planned.figures["area_mm2"].number, [wired]
    if planned.cut:
        lots = [lot_of(die, wired) for die in planned.cut.cut.dies]
    inner = [sum(station.area for station in lot) for lot in lots]
    sides = [sides_of(each, area / sum(inner)) for each in inner]
    ring = ring_of(sides, area)
    dies = tuple(draw_die(lot, *each, ring) for lot, each in zip(lots, sides, strict=True))
    return Floorplan(area, dies, shares_of((station for lot in lots for station in lot), area))


def sides_of(inner: float, padded: float) -> tuple[float, float]:
    """Width and height in mm of so many mm² in a pad ring that makes them ``padded`` times more.

    Square, or as high as a scanner's field asks where a square would be wider than that. What no
    field holds is square again: such a chip is drawn whole, but cannot be made.
    """
    area = inner * padded
    held = FIELD[0] ** 2 < area < 1.001 * FIELD[0] * FIELD[1]
    width = math.sqrt(inner * FIELD[0] ** 2 / area) if held else math.sqrt(inner)
    return width, inner / width


def ring_of(sides: Sequence[tuple[float, float]], area: float) -> float:
    """The width of the pad ring with which dies of these sides inside have ``area`` together."""
    around = sum(width + height for width, height in sides)
    rest = max(area - sum(width * height for width, height in sides), 0.0)
    return (math.sqrt(around * around + 4 * len(sides) * rest) - around) / (4 * len(sides))


def lot_of(die: Cut, stations: Sequence[Station]) -> list[Station]:
    """What stands on a die of several, its links to the others at the end."""
    known = {station.name: station for station in stations}
    lot = [known[name] for name in die.stations]
    if die.columns > 1:
        lot = [s.part(1 / die.columns, f"{s.name}, 1 of {die.columns}") for s in lot]
    links = die.area - sum(station.area for station in lot)
    if links > 1e-9 * die.area:
        lot.append(Station("links", (Piece(LINKS, "links", links),)))
    return lot


def shares_of(stations: Iterable[Station], area: float) -> dict[str, float]:
    """The share of every group that is there, in the order of ``GROUPS``; pads are the rest."""
    found = dict.fromkeys(GROUPS, 0.0)
    for station in stations:
        for piece in station.pieces:
            found[piece.group] += piece.area
    found["pads"] = area - sum(found.values())
    return {name: value / area for name, value in found.items() if value > 1e-9 * area}


def stations_of(planned: Planned) -> list[Station]:
    """The links of the chain in the order in which a token passes them."""
    layers = len(planned.outline.plan.layers)
    names = ["embedding", *(f"layer {i}" for i in range(layers)), "head"]
    pieces: dict[str, list[Piece]] = {name: [] for name in names}
    for block in planned.physical.blocks:
        each = block.count * block.area.number / max(len(block.layers), 1)
        where = [f"layer {i}" for i in block.layers]
        if not where:
            where = ["embedding" if block.kind in ("embedding", "port") else "head"]
        for name in where:
            if each > 0:
                pieces[name].append(Piece(block.name, group_of(block.name, block.kind), each))
    return [Station(name, gathered(pieces[name])) for name in names if pieces[name]]


def group_of(name: str, kind: str) -> str:
    """The group of a block."""
    if kind == "fabric":
        word = name.split()[0]
        return word if word == "head" else "projections" if word in PROJECTIONS else "mlp"
    return KINDS.get(kind, "vectors")


def gathered(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The pieces, the largest first, those too small to see drawn as one of their group."""
    whole = sum(piece.area for piece in pieces)
    large = [piece for piece in pieces if piece.area >= SMALL * whole]
    small: dict[str, list[Piece]] = {}
    for piece in pieces:
        if piece.area < SMALL * whole:
            small.setdefault(piece.group, []).append(piece)
    for group, many in small.items():
        name = many[0].name if len(many) == 1 else f"{len(many)} small blocks"
        large.append(Piece(name, group, sum(piece.area for piece in many)))
    return tuple(sorted(large, key=lambda piece: -piece.area))


def draw_die(stations: Sequence[Station], width: float, height: float, ring: float) -> Die:
    """A die of these sides inside its ring, whose rows of tiles run to and fro."""
    tiles: list[tuple[str, Box]] = []
    drawn: list[Drawn] = []
    y = ring
    for number, row in enumerate(rows_of(stations, height / width)):
        high = sum(station.area for station in row) / width
        x, placed = ring, []
        for station in row if number % 2 == 0 else reversed(row):
            box = Box(x, y, station.area / high, high)
            placed.append((station.name, box))
            drawn += fill(station, box)
            x += box.width
        tiles += placed if number % 2 == 0 else reversed(placed)
        y += high
    return Die(width + 2 * ring, height + 2 * ring, ring, tuple(tiles), tuple(drawn))


def rows_of(stations: Sequence[Station], ratio: float) -> list[list[Station]]:
    """Stations in rows of about the same area, so many that tiles come out nearly square.

    ``ratio``: the die's height over its width.
    """
    total = sum(station.area for station in stations)
    large = sum(station.area > total / len(stations) / 4 for station in stations)
    count = max(round(math.sqrt(large * ratio)), 1)
    rows: list[list[Station]] = [[] for _ in range(count)]
    seen = 0.0
    for station in stations:
        middle = seen + station.area / 2
        rows[min(int(middle / total * count), count - 1)].append(station)
        seen += station.area
    return [row for row in rows if row]


def fill(station: Station, box: Box) -> Iterator[Drawn]:
    """The pieces of a station in its tile, each as square as can be (Bruls et al., 2000)."""
    pieces = sorted(station.pieces, key=lambda piece: -piece.area)
    scale = box.area / station.area
    while pieces:
        short = min(box.width, box.height)
        count = 1
        while count < len(pieces) and worst(pieces[: count + 1], short, scale) <= worst(
            pieces[:count], short, scale
        ):
            count += 1
        strip, pieces = pieces[:count], pieces[count:]
        yield from lay(strip, station.name, box, scale)
        used = sum(piece.area for piece in strip) * scale
        if box.width >= box.height:
            step = used / box.height
            box = Box(box.x + step, box.y, max(box.width - step, 0.0), box.height)
        else:
            step = used / box.width
            box = Box(box.x, box.y + step, box.width, max(box.height - step, 0.0))


def worst(strip: Sequence[Piece], short: float, scale: float) -> float:
    """The largest ratio of sides of pieces laid along the short side."""
    total = sum(piece.area for piece in strip) * scale
    thick = total / short
    return max(max(s := piece.area * scale / thick / thick, 1 / s) for piece in strip)


def lay(strip: Sequence[Piece], name: str, box: Box, scale: float) -> Iterator[Drawn]:
    """A strip of pieces along the short side of a box."""
    total = sum(piece.area for piece in strip) * scale
    upright = box.width >= box.height
    thick = total / (box.height if upright else box.width)
    at = box.y if upright else box.x
    for piece in strip:
        length = piece.area * scale / thick
        place = Box(box.x, at, thick, length) if upright else Box(at, box.y, length, thick)
        yield Drawn(piece, name, place)
        at += length
