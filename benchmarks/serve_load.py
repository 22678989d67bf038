"""The server under load: many clients that stream at once, for minutes.

Every answer must be whole and equal to the same request's alone; the server's memory must be flat.
Prints times to the first text and between texts as clients see them, and ends with 1 where one
answer was lost or mixed up, or memory grew.

``python benchmarks/serve_load.py chips/bundled --clients 500 --seconds 300``
"""

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.serve.measure import Timed, client_of, spread, stream

TEXTS = (
    "import os\n", "def read(path):\n    ", "class Point:\n    def __init__(self, x", "for i in ",
    "try:\n    import ", "# a list of ", "    return self.", "def test_", "with open(", "if name",
)  # fmt: skip
GROWTH = 1.05  # of memory, the second quarter's most to the last's: more is a leak


def requests(count: int, model: str, tokens: int) -> list[dict[str, Any]]:
    """Requests that differ in prompt, seed, temperature and length; a tenth in host sampling."""
    made = []
    for index in range(count):
        body = {
            "model": model, "prompt": f"{TEXTS[index % len(TEXTS)]}{index}", "seed": index,
            "temperature": index % 3 / 2, "max_tokens": tokens // 2 + index * 7 % (tokens // 2 + 1),
        }  # fmt: skip
        if index % 10 == 9:
            body["frequency_penalty"] = 0.5
        made.append(body)
    return made


def memory(process: int) -> int:
    """Bytes that a process holds."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) << 10


async def load(url: str, process: int, options: argparse.Namespace, model: str) -> bool:
    """Run it; whether all was well."""
    bodies = requests(options.kinds, model, options.tokens)
    async with client_of(url, None) as client:
        alone = [await stream(client, body) for body in bodies]
    wrong = [each.error for each in alone if each.error]
    if wrong:
        sys.exit(f"a request alone has no answer: {wrong[0]}")
    until, found, samples = time.monotonic() + options.seconds, [], []

    async def one(number: int) -> None:
        async with client_of(url, None) as client:
            turn = number
            while time.monotonic() < until:
                made = await stream(client, bodies[turn % len(bodies)])
                found.append((turn % len(bodies), made))
                turn += options.clients

    async def watch() -> None:
        while True:
            samples.append(memory(process))
            print(f"\r{len(found)} answers, {samples[-1] >> 20} MiB", end="", file=sys.stderr)
            await asyncio.sleep(min(1, options.seconds / 20))

    started, watching = time.monotonic(), asyncio.ensure_future(watch())
    await asyncio.gather(*(one(number) for number in range(options.clients)))
    watching.cancel()
    print(file=sys.stderr)
    return report(alone, found, samples, time.monotonic() - started, options)


def report(
    alone: list[Timed],
    found: list[tuple[int, Timed]],
    samples: list[int],
    seconds: float,
    options: argparse.Namespace,
) -> bool:
    """Print what came; whether all was well."""
    lost = [made.error for _, made in found if made.error]
    mixed = sum(
        made.text != alone[kind].text or made.tokens != alone[kind].tokens
        for kind, made in found if not made.error
    )  # fmt: skip
    quarter = max(len(samples) // 4, 1)
    grown = max(samples[-quarter:]) / max(samples[quarter : 2 * quarter] or samples)
    tokens = sum(made.tokens for _, made in found)
    print(f"{options.clients} clients, {seconds:.0f} s: {len(found)} answers, {tokens} tokens, "
          f"{tokens / seconds:,.0f} tokens/s")  # fmt: skip
    print(f"lost {len(lost)}, mixed up {mixed}" + (f"; first: {lost[0]}" if lost else ""))
    print(f"memory {min(samples) >> 20}-{max(samples) >> 20} MiB, last quarter over second "
          f"{grown:.3f}")  # fmt: skip
    whole = [made for _, made in found if not made.error]
    for title, kind, times in (
        ("to the first text", "ttft", [made.first for made in whole]),
        ("between texts", "itl", [gap for made in whole for gap in made.gaps]),
    ):
        values = spread(kind, np.array(times).tolist())
        shown = ", ".join(f"p{p} {values[f'p{p}_{kind}_ms']:,.1f}" for p in (50, 95, 99))
        print(f"{title}, ms: {shown}")
    return not lost and not mixed and grown <= GROWTH and bool(found)


def main() -> None:
    """Start a server, load it, stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chip", type=Path)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of an answer")
    parser.add_argument("--kinds", type=int, default=60, help="requests that differ")
    parser.add_argument("--max-running", type=int, default=64)
    options = parser.parse_args()
    words = [sys.executable, "-m", "intaglio", "serve", str(options.chip), "--port", "0",
             "--max-running", str(options.max_running)]  # fmt: skip
    server = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert server.stdout
        line = server.stdout.readline()
        found = re.match(r"(\S+) at (http://\S+)/v1 ", line)
        if not found:
            sys.exit(f"the server did not start: {line!r}")
        well = asyncio.run(load(found[2], server.pid, options, found[1]))
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    sys.exit(not well)


if __name__ == "__main__":
    main()
