"""How long steps tell how far they are."""

from collections.abc import Callable

Progress = Callable[[str, float, str], None]
"""``progress(step, share, detail)``: the step's name, the share of it that is done (0 to 1), and
what is at hand."""


def silent(step: str, share: float, detail: str) -> None:
    """Tell nobody."""
