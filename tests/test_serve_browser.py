"""The page in headless Chromium, at a live server of a tiny chip.

Skipped where there is no browser; ``.ci/run`` sees to one.
"""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peft_folder import random_factors, write_peft
from tiny_chip import environment

from intaglio.checkpoint import open_checkpoint

pytestmark = pytest.mark.slow
PROGRAM = [sys.executable, str(Path(__file__).with_name("tiny_chip.py")), "serve", "chip"]
WAIT = 240_000  # milliseconds: the machine may be busy
JAPANESE = "吾輩は猫である。名前はまだ無い🐈"
KEY = "secret"
LOOK = """() => {
  window.seen = {};
  const by = (id) => document.getElementById(id).textContent;
  const note = () => {
    if (by("made").includes("now replayed")) window.seen.begin ??= performance.now();
    if (by("verdict")) window.seen.end ??= performance.now();
  };
  new MutationObserver(note).observe(document.body, {
    subtree: true, childList: true, characterData: true });
}"""  # when playing begins and ends
ECHO = """async (prompt) => {
  const api = await import("/page/api.js");
  const tokens = await api.tokenize({ model: "chip", prompt });
  const fields = { model: "chip", prompt, echo: true, max_tokens: 1, temperature: 0 };
  let text = "";
  for await (const each of api.stream("v1/completions", fields)) text += each.text;
  const body = JSON.stringify({ tokens });
  const back = await (await fetch("/detokenize", { method: "POST", body })).json();
  return [text, back.prompt];
}"""
BUNCH = """async () => {
  const { Source } = await import("/page/race.js");
  let time = 5;
  const source = new Source(4, () => time);
  time = 7;
  for (const text of "abcdefgh") source.push({ text });
  return source.rate;
}"""  # eight pieces, all at once after two seconds
UNNAMED = """() => [...document.querySelectorAll("button, input, select, textarea")]
  .filter((each) => !each.textContent.trim() && !each.labels?.length && !each.ariaLabel)
  .map((each) => each.id)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no browser: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def home(made_home, tmp_path_factory) -> Path:
    made = shutil.copytree(made_home(256), tmp_path_factory.mktemp("browser") / "home")
    write_peft(made / "peft", random_factors(open_checkpoint(made / "tiny").architecture))
    return made


@contextmanager
def serving(home: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server's process and its address."""
    process = subprocess.Popen(
        [*PROGRAM, "--port", "0", "--adapter", "lists=peft", "--model", "tiny", *words],
        cwd=home, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**environment(), "INTAGLIO_CACHE": str(home / "cache")},
    )  # fmt: skip
    killer = threading.Timer(600, process.kill)
    killer.start()
    try:
        assert process.stdout
        found = re.match(r"chip at (http://[\d.:]+)/v1 ", process.stdout.readline())
        assert found
        yield process, found[1]
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def url(home) -> Iterator[str]:
    with serving(home) as (_, found):
        yield found


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Any]]:
    """Open the page; at the end: nothing was asked of others, and no script failed."""
    contexts, asked, faults = [], [], []

    def open_page(url: str, **options: Any) -> Any:
        context = browser.new_context(**{"locale": "en-GB", **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: asked.append((url, request.url)))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text)
                if "Content Security Policy" in said.text else None)  # fmt: skip
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [there for here, there in asked if not there.startswith(f"{here}/")] == []
    assert faults == []


def opened(page: Any) -> Any:
    """The page, once it knows its chip."""
    page.wait_for_selector("#version:not(:empty)")
    return page


def value(page: Any, side: str, name: str) -> str:
    return page.text_content(f"[data-side={side}] [data-value={name}]")


def said(page: Any, side: str) -> str:
    return page.text_content(f"[data-side={side}] .text p.said:last-child")


def send(page: Any, prompt: str, most: int = 24) -> None:
    page.fill("#most", str(most))
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")


def done(page: Any) -> None:
    page.wait_for_selector("#verdict:not(:empty)")
    assert page.is_hidden("#alert")


def answer(page: Any, url: str, prompt: str, most: int) -> dict[str, Any]:
    """What the server says to the same, asked past the page's own scripts."""
    body = {"model": "chip", "messages": [{"role": "user", "content": prompt}],
            "max_tokens": most, "temperature": 0}  # fmt: skip
    return page.request.post(f"{url}/v1/chat/completions", data=body).json()


def test_one_text_at_two_paces(visit, url):
    page = opened(visit(url))
    page.fill("#temperature", "0")
    send(page, "the list")
    done(page)
    expected = answer(page, url, "the list", 24)
    text = expected["choices"][0]["message"]["content"]
    told = expected["intaglio"]["choices"][0]
    assert said(page, "chip") == said(page, "gpu") == text
    for side in ("chip", "gpu"):
        assert value(page, side, "tokens") == str(told["tokens"])
    rate = page.text_content("[data-side=chip] .rate .value")
    assert rate == f"{told['chip']['tokens_per_second']:,.0f}"
    assert value(page, "chip", "joules") == "–"
    assert told["chip"]["joules_blocked_by"] in page.text_content("[data-side=chip] .why")
    assert value(page, "gpu", "joules").endswith(" J")
    assert "measured" in page.text_content("#made")
    assert "Taalas launch chart" in page.text_content("[data-side=gpu] .origin")
    assert "Not the same model" in page.text_content("[data-side=gpu] .origin")


def test_the_other_side_takes_its_time(visit, url):
    """Forty tokens at 230 a second are 0.17 s and more: by the page's clock and by a clock here."""
    page = opened(visit(url))
    facts = page.evaluate("fetch('/page.json').then((r) => r.json())")
    page.evaluate(LOOK)
    page.fill("#temperature", "0")
    send(page, "the index", 120)
    done(page)
    machine = next(each for each in facts["machines"] if each["name"] == facts["machine"])
    tokens = int(value(page, "gpu", "tokens"))
    seen = page.evaluate("window.seen")
    expected = (tokens - 1) / machine["tokens_per_second"]["value"]
    assert (seen["end"] - seen["begin"]) / 1000 > 0.95 * expected
    # the same model on both sides, and a machine of no published figure
    page.select_option("#pace", "reference")
    assert "Not the same model" not in page.text_content("[data-side=gpu] .origin")
    assert page.text_content("#verdict") == ""
    page.select_option("#machine", "h100")
    assert "nothing is published" in page.text_content("[data-side=gpu] .origin")
    assert page.text_content("[data-side=gpu] h2 .badge") == "derived"
    send(page, "the index", 20)
    done(page)
    rate = page.text_content("[data-side=chip] .rate .value")
    planned = facts["reference"]["tokens_per_second"]["value"]
    assert float(rate.replace(",", "")) == pytest.approx(planned, rel=1e-3)
    assert value(page, "chip", "joules").endswith("J")


def test_a_bunch_of_pieces_is_not_taken_for_speed(visit, url):
    assert visit(url).evaluate(BUNCH) == 4


def test_stop(visit, url):
    page = opened(visit(url))
    send(page, "the list", 200)
    page.wait_for_selector("[data-side=gpu] .said:not(:empty)")
    page.keyboard.press("Escape")
    page.wait_for_selector("#made:text-is('Stopped')")
    shown = said(page, "gpu")
    time.sleep(0.3)
    assert said(page, "gpu") == shown
    assert page.is_enabled("#send")
    assert page.is_disabled("#stop")
    assert page.text_content("#verdict") == ""
    send(page, "again", 8)
    done(page)


def test_an_adapter(visit, url):
    page = opened(visit(url))
    page.fill("#temperature", "0")
    texts = {}
    for model in ("chip", "lists"):
        page.select_option("#model", model)
        page.click("#fresh")
        send(page, "the list", 16)
        done(page)
        texts[model] = said(page, "chip")
        assert model in page.text_content("[data-side=chip] h2")
    assert texts["chip"] != texts["lists"]


def test_an_error_when_the_server_dies(visit, home):
    with serving(home) as (process, url):
        page = opened(visit(url))
        send(page, "the list", 8)
        done(page)
        process.kill()
        process.wait()
        send(page, "the list", 8)
        page.wait_for_selector("#alert:not([hidden])")
        assert "intaglio serve" in page.text_content("#alert")
        assert page.get_attribute("#alert", "role") == "alert"
        assert page.is_enabled("#send")
        page.click("#ja")
        assert "応答しなく" in page.text_content("#alert")


def test_an_error_when_it_dies_in_the_midst_of_a_stream(visit, url):
    page = visit(url)
    chunk = {"choices": [{"delta": {"content": "half"}, "finish_reason": None}]}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        body=f"data: {json.dumps(chunk)}\n\n", content_type="text/event-stream"))  # fmt: skip
    opened(page)
    send(page, "the list", 8)
    page.wait_for_selector("#alert:not([hidden])")
    assert "stopped answering" in page.text_content("#alert")


def test_what_the_server_refuses_is_said(visit, url):
    page = opened(visit(url))
    send(page, "the list " * 400, 8)
    page.wait_for_selector("#alert:not([hidden])")
    assert "nothing is cut off" in page.text_content("#alert")
    send(page, "the list", 8)
    done(page)


def test_both_languages(visit, url):
    page = opened(visit(url))
    assert page.get_attribute("html", "lang") == "en"
    english = page.inner_text("main")
    page.click("#ja")
    assert page.get_attribute("html", "lang") == "ja"
    assert page.get_attribute("#ja", "aria-pressed") == "true"
    japanese = page.inner_text("main")
    assert re.search("[ぁ-ん]", japanese)
    assert not re.search("[ぁ-ん]", english)
    send(page, "the list", 8)
    done(page)
    assert "チップ" in page.text_content("#verdict")
    page.click("#en")
    assert page.text_content("#verdict").startswith("The chip is done")
    page.click("#ja")
    page.reload()
    assert opened(page).get_attribute("html", "lang") == "ja"
    assert opened(visit(url, locale="ja-JP")).get_attribute("html", "lang") == "ja"


def test_japanese_comes_back_as_it_went(visit, url):
    """Through tokenizer, API, the page's own reading of a stream, and what it shows."""
    page = opened(visit(url, locale="ja-JP"))
    heard = page.evaluate(ECHO, JAPANESE)
    assert heard[0].startswith(JAPANESE)
    assert heard[1] == JAPANESE
    send(page, JAPANESE, 8)
    done(page)
    for side in ("chip", "gpu"):
        assert page.text_content(f"[data-side={side}] .asked") == JAPANESE
    chunks: list[dict[str, Any]] = [
        {"choices": [{"delta": {"content": char}, "finish_reason": None}]} for char in JAPANESE
    ]
    told = {"tokens": len(JAPANESE), "prompt_tokens": 9, "chip": None, "chip_blocked_by": "no"}
    end = {"choices": [{"delta": {}, "finish_reason": "stop"}], "intaglio": {"choices": [told]}}
    body = "".join(f"data: {json.dumps(each, ensure_ascii=False)}\n\n" for each in [*chunks, end])
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        body=f"{body}data: [DONE]\n\n".encode(), content_type="text/event-stream"))  # fmt: skip
    page.click("#fresh")
    send(page, "猫", 8)
    done(page)
    assert said(page, "chip") == said(page, "gpu") == JAPANESE


def test_code_is_completed(visit, url):
    page = opened(visit(url))
    page.click("#tab-code")
    page.fill("#source", "the lis")
    page.press("#source", "End")
    page.keyboard.type("t")
    page.wait_for_selector(".ghost", state="attached")
    ghost = page.text_content(".ghost")
    assert page.input_value("#source") == "the list"
    assert page.text_content("#mirror") == f"the list{ghost}\n"
    assert "–" not in page.text_content("#code-times")
    page.keyboard.press("Escape")
    assert page.query_selector(".ghost") is None
    page.keyboard.press("Backspace")
    page.keyboard.type("t")
    page.wait_for_selector(".ghost", state="attached")
    assert page.text_content(".ghost") == ghost
    page.keyboard.press("Tab")
    assert page.input_value("#source") == f"the list{ghost}"
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")  # without a ghost the key moves on
    assert page.evaluate("document.activeElement.id") != "source"


def test_an_agents_chain(visit, url):
    page = opened(visit(url))
    page.click("#tab-agent")
    assert page.input_value("#steps") == "10"
    assert page.input_value("#step-seconds") == "10"
    page.fill("#steps", "3")
    page.fill("#step-seconds", "1.2")  # more tokens than the context holds: several calls
    page.press("#step-seconds", "Enter")
    page.wait_for_selector("#chain-verdict:not(:empty)")
    rails = page.query_selector_all("#lines .rail")
    assert [len(rail.query_selector_all("i.done")) for rail in rails] == [3, 3, 3]
    total = page.text_content(".line.gpu .total")
    assert float(total.split()[0]) == pytest.approx(3.6, rel=0.02)
    steps, calls, tokens = map(int, re.findall(r"\d+", page.text_content("#chain-made"))[:3])
    assert (steps, calls > 3, tokens > 600) == (3, True, True)
    assert len(page.query_selector_all("#steps-said li")) == 3
    assert "3 steps in" in rails[0].get_attribute("aria-label")


def test_a_key_is_asked_for(visit, home):
    with serving(home, "--api-key", KEY) as (_, url):
        page = visit(url)
        page.wait_for_selector("#lock:not([hidden])")
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#lock:not([hidden])")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        opened(page)
        assert page.is_hidden("#lock")
        send(page, "the list", 8)
        done(page)


def test_by_keys_alone_and_at_a_phones_width(visit, url):
    page = opened(visit(url, viewport={"width": 390, "height": 844}))
    for view in ("talk", "code", "agent"):
        page.click(f"#tab-{view}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, view
    page.focus("#tab-agent")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-talk"
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"prompt", "send", "most", "temperature"} <= reached
    unnamed = page.evaluate(UNNAMED)
    assert unnamed == []
