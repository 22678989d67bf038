"""A pen: rectangles on named layers, and the stacks of contacts and vias that cells share."""

import gdstk

from intaglio.layout.rules import Rules

UM = 1e-3  # of a nanometre
CUTS = {"mcon": "met1", "via": "met2", "via2": "met3"}

Span = tuple[int, int]


def around(centre: int, size: int) -> Span:
    """Both ends of a length about its centre."""
    return centre - size // 2, centre - size // 2 + size


def on_grid(length: int, grid: int) -> int:
    """A length rounded up to the grid."""
    return -(-length // grid) * grid


class Pen:
    """Draws rectangles of named layers, given in nm, into a cell; shapes may repeat.

    ``base`` and ``up``: where the cell's own height 0 is, and whether heights grow upwards from
    there (1) or downwards (-1).
    """

    def __init__(self, name: str, r: Rules, base: int = 0, up: int = 1) -> None:
        self.cell, self.r, self.layers = gdstk.Cell(name), r, r.layers
        self.base, self.up = base, up

    def box(
        self,
        layer: str,
        x: Span,
        y: Span,
        repeat: tuple[int, int] = (1, 1),
        pitch: tuple[int, int] = (0, 0),
    ) -> None:
        """A rectangle from ``x[0], y[0]`` to ``x[1], y[1]``."""
        number, datatype = self.layers[layer]
        ends = sorted(self.base + self.up * value for value in y)
        made = gdstk.rectangle(
            (x[0] * UM, ends[0] * UM), (x[1] * UM, ends[1] * UM), layer=number, datatype=datatype
        )
        if repeat != (1, 1):
            made.repetition = gdstk.Repetition(
                columns=repeat[0], rows=repeat[1],
                spacing=(pitch[0] * UM, pitch[1] * self.up * UM),
            )  # fmt: skip
        self.cell.add(made)

    def square(
        self,
        layer: str,
        x: int,
        y: int,
        repeat: tuple[int, int] = (1, 1),
        pitch: tuple[int, int] = (0, 0),
    ) -> None:
        """A cut of a contact's or via's layer about a centre."""
        side = self.r[
            {"licon": "licon.1", "mcon": "ct.1", "via": "via.1a", "via2": "via2.1a"}[layer]
        ]
        self.box(layer, around(x, side), around(y, side), repeat, pitch)

    def stack(self, x: int, y: int, *cuts: str) -> None:
        """Contacts and vias on each other, each with the metal that it asks for."""
        for cut in cuts:
            self.square(cut, x, y)
            below = {"mcon": None, "via": "met1", "via2": "met2"}[cut]
            for metal in (below, CUTS[cut]):
                if metal and metal != "met3":
                    wide, high = pad(metal, cut, self.r)
                    self.box(metal, around(x, wide), around(y, high))

    def place(
        self,
        cell: gdstk.Cell,
        x: int,
        y: int,
        repeat: tuple[int, int] = (1, 1),
        pitch: tuple[int, int] = (0, 0),
    ) -> None:
        """A reference, or an array of them."""
        self.cell.add(
            gdstk.Reference(
                cell, (x * UM, y * UM), columns=repeat[0], rows=repeat[1],
                spacing=(pitch[0] * UM, pitch[1] * UM),
            )
        )  # fmt: skip


def pad(metal: str, cut: str, r: Rules) -> tuple[int, int]:
    """Width and height of the metal about a cut; of met1 and met2, of the least area too."""
    if metal == "met1":
        wide = max(r["via.1a"] + 2 * r["via.5a"], r["ct.1"] + 2 * r["m1.5"])
        high = max(r["via.1a"] + 2 * r["via.4a"], r["ct.1"] + 2 * r["m1.4"])
        return max(wide, on_grid(-(-r["m1.6"] // high), 2 * r.grid)), high
    if cut == "via":
        return r["via.1a"] + 2 * r["m2.4"], r["via.1a"] + 2 * r["m2.5"]
    return r["via2.1a"] + 2 * r["via2.4"], r["via2.1a"] + 2 * r["via2.5"]
