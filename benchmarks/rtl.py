"""Chips in simulation: build, speed, cycles per token planned and simulated; a published chip.

    python benchmarks/rtl.py chips/bundled chips/smollm2 --tokens 24

Every row is measured here, by `intaglio verify` on the package named; the published row is not.
"""

import argparse
from pathlib import Path

from intaglio.flow.package import open_package
from intaglio.flow.verify import verify_package

PUBLISHED = (
    "red_eyes_is_all_you_need (published)", "854 k", "-", "-", "-", "70,000", "one model, by hand",
)  # fmt: skip
HEADINGS = (
    "chip",
    "parameters",
    "build s",
    "cycles/s",
    "simulated tok/s",
    "cycles/token",
    "planned = simulated",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chips", nargs="+", type=Path)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--prompt", default="def read(path):\n    with open(")
    options = parser.parse_args()
    rows = [HEADINGS]
    for path in options.chips:
        package = open_package(path)
        chat = package.tokenizer.chat_template is not None
        proof = verify_package(package, options.prompt, options.tokens, chat=chat)
        verdict = proof.verdict
        same = verdict.planned_cycles == verdict.simulated_cycles
        rows.append(
            (
                package.source,
                f"{package.parameters:,}",
                f"{proof.build_seconds:.0f}" if proof.build_seconds else "cached",
                f"{verdict.simulated_cycles / verdict.seconds:,.0f}",
                f"{verdict.simulated_tokens_per_second:.1f}",
                f"{verdict.cycles_per_token:,.0f}",
                f"{'yes' if same and verdict.equal else 'NO'}: {verdict.simulated_cycles:,}",
            )
        )
    rows.append(PUBLISHED)
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
