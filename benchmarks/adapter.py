"""What an adapter does to a chip: `python benchmarks/adapter.py CHIP FOLDER TEXT`.

One table: the float checkpoint and the chip (the twin) on a text, each without and with the LoRA
adapter of a PEFT folder. "growth" is by how much a perplexity is above that of the float
checkpoint, and above that of the float checkpoint with the same adapter, in percent.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from intaglio.flow.evaluate import evaluate_package
from intaglio.flow.package import open_package


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return perplexity, bits per byte and growth by row, and what they were measured on."""
    package, text = open_package(options.chip), options.text.read_text("utf-8")
    rows: dict[str, dict[str, float]] = {}
    for suffix, adapter in (("", None), (" + adapter", f"measured={options.folder}")):
        found = evaluate_package(
            package, text, model=options.model, adapter=adapter,
            window=options.window, limit=options.limit,
        )  # fmt: skip
        rows |= {name + suffix: found[name] for name in ("float", "chip")}
        size = {"tokens": found["tokens"], "bytes": found["bytes"]}
    for row in rows.values():
        for key, reference in (("growth", "float"), ("growth_adapted", "float + adapter")):
            ratio = row["perplexity"] / rows[reference]["perplexity"]
            row[f"{key}_percent"] = 100 * (ratio - 1)
    return {"model": package.source, **size, "rows": rows}


def table(found: dict[str, Any]) -> str:
    """The rows as lines of text."""
    lines = [
        f"{found['model']}, {found['tokens']} tokens, {found['bytes']} bytes",
        f"{'':18} {'perplexity':>10} {'bits/B':>7} {'growth %':>9} {'over float + adapter %':>23}",
    ]
    for name in ("float", "float + adapter", "chip", "chip + adapter"):
        row = found["rows"][name]
        lines.append(
            f"{name:18} {row['perplexity']:10.4f} {row['bits_per_byte']:7.4f} "
            f"{row['growth_percent']:9.2f} {row['growth_adapted_percent']:23.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="a chip and its float model with an adapter")
    parser.add_argument("chip", type=Path, help="a chip package")
    parser.add_argument("folder", type=Path, help="a PEFT folder for its model")
    parser.add_argument("text", type=Path, help="a text that neither has seen")
    parser.add_argument("--model", help="the float checkpoint; default: the chip's own")
    parser.add_argument("--window", type=int, default=512, help="tokens per window")
    parser.add_argument("--limit", type=int, help="about so many tokens, in whole windows")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options)
    print(json.dumps(found, indent=2) if options.json else table(found))


if __name__ == "__main__":
    main()
