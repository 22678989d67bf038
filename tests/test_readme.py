"""README.ja.md beside README.md: block by block the same commands, figures and links."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("README.md", "README.ja.md")  # each leads to the other
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
LINK = re.compile(r"\]\(([^)]*)\)|(https?://[\w.:/-]+)")
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


def blocks(text: str) -> list[str]:
    """What blank lines and fences part."""
    parts: list[str] = []
    place = 0
    for fence in FENCED.finditer(text):
        parts += [*text[place : fence.start()].split("\n\n"), fence[0]]
        place = fence.end()
    parts += text[place:].split("\n\n")
    return [part.strip("\n") for part in parts if part.strip()]


def shape(block: str) -> tuple[str, int]:
    """What a block is, and of how many lines or items where they say the same in any language."""
    if block.startswith("```"):
        return "fence", len(block.splitlines())
    lines = block.splitlines()
    for kind, mark in (("table", "|"), ("item", "- "), ("heading", "#")):
        if count := sum(line.startswith(mark) for line in lines):
            return kind, count
    return "paragraph", 1


def commands(block: str) -> list[str]:
    """The code of a block: a fence's lines without their remarks; or what stands in backticks."""
    if block.startswith("```"):
        return [re.sub(r"\s+# .*$", "", line) for line in block.splitlines()]
    return sorted(" ".join(code.split()) for code in re.findall(r"`([^`]+)`", block))


def figures(block: str) -> Counter[str]:
    """Every number of a block."""
    return Counter(NUMBER.findall(block))


def links(block: str) -> Counter[str]:
    """Where a block leads; the two READMEs lead to each other."""
    found = Counter(inner or outer for inner, outer in LINK.findall(block))
    return Counter({"README" if name in NAMES else name: n for name, n in found.items()})


def differences(first: str, second: str) -> list[str]:
    """What two READMEs do not have in common, block by block."""
    ours, theirs = blocks(first), blocks(second)
    found = [] if len(ours) == len(theirs) else [f"{len(ours)} blocks against {len(theirs)}"]
    for one, other in zip(ours, theirs, strict=False):
        for what in (shape, commands, figures, links):
            if what(one) != what(other):
                head = other.splitlines()[0][:40]
                found.append(f"{what.__name__} of {head!r}: {what(one)} is not {what(other)}")
    return found


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [(ROOT / name).read_text() for name in NAMES]


def test_both_say_the_same(texts):
    assert differences(*texts) == []


def test_every_block_of_words_is_translated(texts):
    quoted = [block for block in blocks(texts[1]) if block.startswith(">")]
    assert len(quoted) == 1  # what the chip said stays as it was said
    for block in blocks(texts[1]):
        said = JAPANESE.search(block) or block.startswith((">", "```", "# ", "[English]"))
        assert said, block


@pytest.mark.parametrize(
    ("right", "wrong", "what"),
    [
        ("799,441", "799,414", "figures"),
        ("--die 815", "--die 851", "commands"),
        ("`intaglio plan llama-3.1-8b`", "`intaglio plan llama-3.1-70b`", "commands"),
        ("(docs/masks.md)", "(docs/mask.md)", "links"),
        ("intaglio chat chips/smollm2 ", "intaglio chat chips/bundled ", "commands"),
        ("| verilator |", "verilator |", "shape"),
        ("\n\n## ライセンス\n", "\n", "blocks"),
    ],
)
def test_a_difference_is_found(texts, right, wrong, what):
    assert right in texts[1]
    found = differences(texts[0], texts[1].replace(right, wrong, 1))
    assert any(what in each for each in found)
