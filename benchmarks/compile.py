"""Time and peak memory of compiling from nothing: `python benchmarks/compile.py [MODEL ...]`.

Each model is compiled in a process of its own with an empty cache. One table.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = ("bundled", "bundled-float", "smollm2")


def compiled(model: str) -> dict:
    """Return what `intaglio compile` says of one model."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from intaglio.cli import main; main()", "compile", model]
        done = subprocess.run(
            [*command, "--output", str(Path(folder) / "chip"), "--json"],
            env=os.environ | {"INTAGLIO_CACHE": str(Path(folder) / "cache")},
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    return json.loads(done.stdout)


def main() -> None:
    """Print the table."""
    print(f"{'model':15} {'parameters':>12} {'bits/weight':>11} {'seconds':>8} {'peak GB':>8}")
    for model in sys.argv[1:] or MODELS:
        found = compiled(model)
        print(
            f"{model:15} {found['parameters']:12,} {found['bits_per_weight']:11.2f} "
            f"{found['seconds']:8.0f} {found['peak_memory_bytes'] / 1e9:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
