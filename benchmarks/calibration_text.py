"""Write the frozen calibration text: `python benchmarks/calibration_text.py OUTPUT`.

Documentation (the first half of the sorted topics of pydoc_data.topics; the second half is never
calibrated on, it measures) and code (files of the standard library that the bundled models' split
does not hold out), in turns of a few kilobytes, so that every part of it holds both.
"""

import hashlib
import sys
from pathlib import Path
from pydoc_data.topics import topics

MODELS = Path(__file__).parents[1] / "models"
sys.path.insert(0, str(MODELS))
from corpus import training  # noqa: E402

PIECE, PIECES = 3600, 38  # characters of each kind, 2 * 38 * 3600 = 273,600


def pieces(text: str) -> list[str]:
    """Return PIECES excerpts of PIECE characters, evenly spread, each from a start of line."""
    found = []
    for index in range(PIECES):
        start = index * (len(text) - 2 * PIECE) // PIECES
        start = text.index("\n", start) + 1
        found.append(text[start : start + PIECE])
    return found


def shuffled(named: dict[str, str]) -> str:
    """Join all texts in an order that depends on nothing but their names."""
    order = sorted(named, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return "\n".join(named[name] for name in order)


def without(held_out: str, text: str) -> str:
    """Drop the paragraphs of ``text`` that a held-out topic repeats."""
    return "\n\n".join(part for part in text.split("\n\n") if part.strip() not in held_out)


def main() -> None:
    """Write the text to the path on the command line."""
    names = sorted(topics)
    held_out = "\n\n".join(topics[name] for name in names[len(names) // 2 :])
    documentation = shuffled(
        {name: without(held_out, topics[name]) for name in names[: len(names) // 2]}
    )
    library, _ = training()
    pairs = zip(pieces(documentation), pieces(shuffled(library)), strict=True)
    text = "\n".join(piece for pair in pairs for piece in pair)
    Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
