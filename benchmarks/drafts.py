"""Drafts by prompt lookup: what a chip's own tokens accept, and the speed from exact cycles.

    python benchmarks/drafts.py chips/bundled chips/smollm2 --tokens 128

The twin says the answers (greedy), so acceptance is measured on the chip's own integers; cycles are
the plan's, modelled: checking drafts is not in the RTL yet. Edits: a chat model is asked to change
a function of the standard library, another model goes on with it from its middle.
Chat: everyday questions, for chat models only. "x" is how many times as fast as without drafts, for
a chip that drafts by itself; the last column for a host that drafts and is ``--away`` microseconds
off, there and back: an assumption, no measurement.
"""

import argparse
import calendar
import colorsys
import inspect
import shlex
import statistics
import string
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from intaglio.flow.engines import open_twin
from intaglio.flow.package import Package, open_package
from intaglio.golden.sample import Sampling
from intaglio.plan.schedule import RING, Schedule
from intaglio.plan.target import target
from intaglio.silicon.drafts import Drafted, drafted
from intaglio.twin import Twin

FUNCTIONS = (
    textwrap.indent, textwrap.shorten, shlex.quote, shlex.join, calendar.leapdays, calendar.weekday,
    colorsys.rgb_to_hsv, statistics.median, statistics.median_low, string.capwords,
)  # fmt: skip
EDITS = (
    "Rename the first parameter to value and repeat the whole function.",
    "Repeat this function with a comment above every statement.",
)
QUESTIONS = (
    "What is the capital of France?", "Name three primary colors.", "Why is the sky blue?",
    "Write a short poem about the sea.", "How do I boil an egg?", "What is a prime number?",
    "Give me three tips to sleep better.", "Explain what a computer does to a child.",
    "What is the difference between a list and a tuple in Python?", "Tell me a story about a fox.",
)  # fmt: skip
HEADINGS = (
    "chip", "task", "tokens", "drafted", "believed", "tokens/round", "tok/s alone", "tok/s", "x",
    "x, host away",
)  # fmt: skip


def prompts(package: Package) -> Iterator[tuple[str, list[int]]]:
    """Task and tokens of every prompt that fits the chip."""
    tokenizer = package.tokenizer
    sources = [inspect.getsource(function) for function in FUNCTIONS]
    if tokenizer.chat_template is None:
        for source in sources:
            lines = source.splitlines(keepends=True)
            text = "".join(lines[: len(lines) // 2])
            yield "edits", [*tokenizer.begin_ids, *tokenizer.encode(text)]
        return
    for source in sources:
        for edit in EDITS:
            yield "edits", asked(package, f"{edit}\n\n{source}")
    for question in QUESTIONS:
        yield "chat", asked(package, question)


def asked(package: Package, text: str) -> list[int]:
    """The tokens of a user's first turn."""
    return list(package.tokenizer.encode_chat([{"role": "user", "content": text}]))


def answer(twin: Twin, package: Package, prompt: list[int], tokens: int) -> list[int]:
    """What the chip says, to its end of text or so many tokens."""
    said: list[int] = []
    count = min(tokens, package.plan.context - len(prompt) + 1)
    for token in twin.generate(twin.sequence(), np.array(prompt), 0, count, Sampling()):
        said.append(token)
        if token in package.tokenizer.end_ids:
            break
    return said


def rows(path: Path, options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """A row per task and length of draft."""
    package = open_package(path)
    schedule, clock = Schedule(package.plan), target(package.plan.target).clock
    twin = open_twin(package)
    said: dict[str, list[tuple[list[int], list[int]]]] = {}
    for task, prompt in prompts(package):
        if len(prompt) < package.plan.context:
            pair = prompt, answer(twin, package, prompt, options.tokens)
            said.setdefault(task, []).append(pair)
    away = round(options.away * 1e-6 * clock)
    for task, pairs in said.items():
        for most in options.drafts:
            near, far = (summed(schedule, pairs, most, between) for between in (RING, RING + away))
            rate = clock * near.tokens
            yield (
                path.name, task, f"{near.tokens:,}", f"{most}",
                "-" if near.acceptance is None else f"{near.acceptance:.0%}",
                f"{near.tokens / near.rounds:.2f}", f"{rate / near.cycles_alone:,.0f}",
                f"{rate / near.cycles_drafted:,.0f}", f"{near.faster:.2f}", f"{far.faster:.2f}",
            )  # fmt: skip


def summed(
    schedule: Schedule, pairs: list[tuple[list[int], list[int]]], most: int, between: int
) -> Drafted:
    """All answers of a task together."""
    total = Drafted(0, 0, 0, 0, 0, 0)
    for prompt, said in pairs:
        total += drafted(schedule, prompt, said, most, between=between)
    return total


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description="Drafts by prompt lookup.")
    parser.add_argument("chips", nargs="+", type=Path)
    parser.add_argument("--tokens", type=int, default=128, help="of an answer, at most")
    parser.add_argument("--drafts", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--away", type=float, default=1.0, help="microseconds to the host and back")
    options = parser.parse_args()
    table = [HEADINGS, *(row for path in options.chips for row in rows(path, options))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
