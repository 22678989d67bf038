"""The page's files and ``/page.json``: nothing from elsewhere, both languages."""

import asyncio
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from peft_folder import random_factors, write_peft

from intaglio.checkpoint import open_checkpoint
from intaglio.flow.adapters import open_adapter
from intaglio.flow.package import open_package
from intaglio.flow.talk import modelled
from intaglio.golden.sample import Sampling
from intaglio.quantity import Quantity
from intaglio.serve.app import make_app
from intaglio.serve.assets import HEADERS, page_files
from intaglio.serve.served import Served
from intaglio.silicon.baselines import machine

DOCUMENT = Path(__file__).parents[1] / "docs" / "serve.md"
TEXTS = {path: made.decode() for path, made in page_files().items()}


@pytest.fixture(scope="module")
def served(made_home, tmp_path_factory) -> Served:
    home, folder = made_home(128), tmp_path_factory.mktemp("adapter")
    package = open_package(home / "chip")
    write_peft(folder / "peft", random_factors(open_checkpoint(home / "tiny").architecture))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTAGLIO_CACHE", str(folder / "cache"))
        adapter = open_adapter(package, f"lists={folder / 'peft'}", model=str(home / "tiny"))
    return Served(package, [adapter], threads=1)


def get(
    served: Served, *paths: str, keys: tuple[str, ...] = (), tag: str = ""
) -> list[httpx.Response]:
    """What a server answers, path by path; requests run together. ``tag``: what a browser has."""
    headers = {"If-None-Match": tag}

    async def main() -> list[httpx.Response]:
        transport = httpx.ASGITransport(make_app(served, keys=keys))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await asyncio.gather(*(client.get(path, headers=headers) for path in paths))

    return asyncio.run(main())


@pytest.fixture(scope="module")
def facts(served) -> dict:
    first, second = get(served, "/page.json", "/page.json")
    assert first.status_code == 200
    assert first.content == second.content
    return first.json()


def test_files_go_to_anybody_and_facts_to_whoever_has_a_key(served):
    found = get(served, *page_files(), "/page.json", "/page/none.js", keys=("secret",))
    *files, locked, absent = found
    for path, response in zip(page_files(), files, strict=True):
        assert response.status_code == 200, path
        assert response.content == page_files()[path]
        for name, value in HEADERS.items():
            assert response.headers[name] == value
    assert files[0].headers["content-type"] == "text/html; charset=utf-8"
    assert [locked.status_code, absent.status_code] == [401, 401]
    (opened,) = get(served, "/page/none.js")
    assert opened.status_code == 404


def test_a_file_that_a_browser_has_is_not_sent_again(served):
    (first,) = get(served, "/page/main.js")
    (again,) = get(served, "/page/main.js", tag=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    (other,) = get(served, "/page/api.js", tag=first.headers["etag"])
    assert other.status_code == 200


def test_the_policy_lets_nothing_in_from_elsewhere():
    rules = dict(rule.split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules.values()) == {"'none'", "'self'"}


class Led(HTMLParser):
    """Every address in a page, what it says outside of words.js, and what a policy would stop."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        assert not any(name == "style" or name.startswith("on") for name in given)
        assert tag != "style"
        assert tag != "script" or "src" in given
        self.addresses += [given[name] for name in ("src", "href") if name in given]
        self.words += [given[name] for name in ("data-word", "data-label") if name in given]
        self.ids += [given["id"]] if "id" in given else []


def test_every_address_is_one_of_the_pages_own():
    led = Led()
    led.feed(TEXTS["/"])
    assert {f"/{name}" for name in led.addresses if not name.startswith("#")} <= set(page_files())
    for path, text in TEXTS.items():
        found = set(re.findall(r"https?://[^\s\"'<`]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not found, path
        for name in re.findall(r'from "\./(.*?)"', text):
            assert f"/page/{name}" in page_files()
    assert len(led.ids) == len(set(led.ids))
    for name in re.findall(r'\bby\("([\w-]+)"\)', "".join(TEXTS.values())):
        assert name in led.ids


def test_every_word_is_there_in_both_languages():
    source = TEXTS["/page/words.js"]
    table = source[source.index("const WORDS = {") : source.index("\n};")]
    words = {}
    for name, pair in re.findall(r"^  (\w+): \[(.*?)\],$", table, re.MULTILINE | re.DOTALL):
        texts = json.loads(f"[{pair.strip().rstrip(',')}]")
        assert len(texts) == 2, name
        holes = [sorted(re.findall(r"\{(\w+)\}", text)) for text in texts]
        assert holes[0] == holes[1], name
        assert not re.search("[\u3040-\u30ff\u4e00-\u9fff]", texts[0]), name
        assert re.search("[\u3040-\u30ff\u4e00-\u9fff]", texts[1]), name
        words[name] = texts
    led, scripts = Led(), "".join(TEXTS.values())
    led.feed(TEXTS["/"])
    said = set(led.words) | set(re.findall(r'\bsay\("(\w+)"', scripts))
    said |= set(re.findall(r'dataset\.word = "(\w+)"', scripts))
    assert said <= set(words)
    graded = {name for name in words if name.startswith("grade_")}
    assert {name for name in words if f'"{name}"' not in scripts} <= graded


def test_the_chips_pace_is_the_plans(served, facts):
    assert facts["model"] == {
        "name": "chip", "adapters": ["lists"], "hash": served.hash, "context": 128,
        "parameters": served.package.parameters, "chat": True, "engine": served.twin.engine,
    }  # fmt: skip
    assert facts["chip"]["target"] == "generic"
    assert Quantity(**facts["chip"]["clock"]).number == 1e9
    assert set(facts["chip"]["pace"]) == {"chip", "lists"}
    plan, rank = served.package.plan, served.adapters["lists"].rank
    for name, each in (("chip", 0), ("lists", rank)):
        rows = facts["chip"]["pace"][name]
        assert [row["prompt_tokens"] for row in rows] == [1, 2, 4, 8, 16, 32, 64, 127]
        for row in rows:
            made = modelled(plan, row["prompt_tokens"], 2, Sampling(), each)
            assert row["prompt_seconds"] == made["prefill_seconds"]
            assert row["token_seconds"] == made["decode_seconds"]


def test_between_its_places_the_pace_is_nearly_a_straight_line(served, facts):
    """The page draws one; its clock must not be off by what a person could tell."""
    rows, plan = facts["chip"]["pace"]["chip"], served.package.plan
    for low, high in pairwise(rows[1:]):
        place = (low["prompt_tokens"] + high["prompt_tokens"]) // 2
        share = (place - low["prompt_tokens"]) / (high["prompt_tokens"] - low["prompt_tokens"])
        made = modelled(plan, place, 2, Sampling())
        for key, exact in (("prompt_seconds", "prefill_seconds"),
                           ("token_seconds", "decode_seconds")):  # fmt: skip
            line = low[key] + share * (high[key] - low[key])
            assert line == pytest.approx(made[exact], rel=0.02)


def test_machines_are_the_baselines(facts):
    found = {each["name"]: each for each in facts["machines"]}
    assert {"h100", "h200", "b200", "cerebras"} <= set(found)
    assert facts["machine"] in found
    reference = facts["reference"]
    assert reference["name"] == "llama-3.1-8b"
    for name, each in found.items():
        published = machine(name).published[reference["name"]]["one_user"]
        rate = Quantity(**each["tokens_per_second"])
        assert each["counted"] == ("published" if published.known else "ceiling")
        assert rate == published or not published.known
        assert Quantity(**each["prompt_tokens_per_second"]).number >= rate.number
        power, watts = machine(name).figures["power"], Quantity(**each["watts"])
        assert watts.number == power.number * Quantity(**each["machines"]).number
    assert found["h100"]["counted"] == "ceiling"
    for key in ("tokens_per_second", "prompt_tokens_per_second", "millijoule_per_token", "clock"):
        assert Quantity(**reference[key]).known


def test_the_document_lists_every_key(facts):
    table = DOCUMENT.read_text().split("`/page.json` has these keys")[1].split("\n\n")[1]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    assert set(rows) == set(facts)
    inner = {name: set(re.findall(r"`(\w+)`", text)) for name, text in rows.items()}
    assert inner["model"] == set(facts["model"])
    assert inner["reference"] == set(facts["reference"])
    (row, *_), (other, *_) = facts["chip"]["pace"]["chip"], facts["machines"]
    assert inner["chip"] == set(facts["chip"]) | set(row)
    assert inner["machines"] == set(other) | {"published", "ceiling"}
