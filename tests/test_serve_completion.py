"""Completions: what they say, when they end, and what is told of their tokens."""

import functools
from pathlib import Path

import httpx
import pytest
from served_chip import COMPLETIONS, lists_adapter, post, run, same, stream

from intaglio.flow.adapters import NamedAdapter
from intaglio.flow.package import Package, open_package
from intaglio.flow.talk import Talk, modelled
from intaglio.golden.sample import Sampling


@pytest.fixture(scope="module")
def package(made_home) -> Package:
    return open_package(Path(made_home(128)) / "chip")


@pytest.fixture(scope="module")
def adapter(made_home, package, tmp_path_factory) -> NamedAdapter:
    return lists_adapter(package, made_home(128), tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def ask(package, adapter):
    return functools.partial(run, package, [adapter])


def test_a_completion_is_what_generate_says(ask, package):
    with Talk(package) as talk:
        ids = talk.encode("the list")
        expected = "".join(talk.complete(ids, 12, Sampling.of(0.8, seed=5)))
        summary = talk.summary()

    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 12, "temperature": 0.8, "seed": 5}
        answer = await post(client, COMPLETIONS, **fields)
        (choice,) = answer["choices"]
        assert choice["text"] == expected
        assert choice["finish_reason"] in ("length", "stop")
        assert answer["system_fingerprint"] == package.hash
        said = summary["tokens"]
        assert answer["usage"] == {
            "prompt_tokens": len(ids), "completion_tokens": said, "total_tokens": len(ids) + said,
        }  # fmt: skip
        assert answer["intaglio"] == {
            "hash": package.hash, "adapter": None, "seed": 5, "sampling_mode": "chip",
            "choices": [{"index": 0, "prompt_tokens": len(ids), "tokens": said,
                         "chip": summary["chip"], "chip_blocked_by": None}],
        }  # fmt: skip
        by_tokens = await post(client, COMPLETIONS, **{**fields, "prompt": ids})
        assert same(by_tokens) == same(answer)
        scored = await post(client, COMPLETIONS, **fields, logprobs=0)
        assert scored["choices"][0]["text"] == expected
        assert scored["intaglio"]["sampling_mode"] == "host"
        chip = scored["intaglio"]["choices"][0]["chip"]
        assert chip == modelled(package.plan, len(ids), said, Sampling(), host=True)
        assert chip["tokens_per_second"] < summary["chip"]["tokens_per_second"]

    ask(test)


def test_stop_sequences_and_echo(ask):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 20, "temperature": 0, "ignore_eos": True}
        whole = (await post(client, COMPLETIONS, **fields))["choices"][0]["text"]
        stop = whole[5:7]
        answer = await post(client, COMPLETIONS, **fields, stop=stop, echo=True)
        (choice,) = answer["choices"]
        assert choice["text"] == "the list" + whole[: whole.find(stop)]
        assert choice["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] < 20
        chunks = await stream(client, COMPLETIONS, **fields, stop=["never", stop], echo=True)
        assert chunks[0]["choices"][0]["text"] == "the list"
        said = [chunk["choices"][0]["text"] for chunk in chunks]
        assert "".join(said) == choice["text"]
        assert chunks[-1]["intaglio"]["choices"] == answer["intaglio"]["choices"]

    ask(test)


def test_probabilities_of_the_prompt(ask):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 3, "temperature": 0, "logprobs": 1}
        answer = await post(client, COMPLETIONS, **fields, echo=True)
        (choice,) = answer["choices"]
        found = choice["logprobs"]
        assert found["tokens"][:6] == ["the", " ", "l", "i", "s", "t"]
        assert found["text_offset"][:7] == [0, 3, 4, 5, 6, 7, 8]
        assert found["token_logprobs"][0] is None
        assert len(found["token_logprobs"]) == 9
        assert all(value < 0 for value in found["token_logprobs"][1:])
        plain = (await post(client, COMPLETIONS, **fields))["choices"][0]["logprobs"]
        assert found["token_logprobs"][6:] == plain["token_logprobs"]
        likeliest = [max(top.values()) for top in plain["top_logprobs"]]
        assert likeliest == plain["token_logprobs"]  # greedy
        nothing = await post(client, COMPLETIONS, **{**fields, "max_tokens": 0}, echo=True)
        assert nothing["choices"][0]["text"] == "the list"
        assert nothing["choices"][0]["logprobs"]["tokens"] == found["tokens"][:6]
        assert nothing["intaglio"]["choices"][0]["chip_blocked_by"] == "nothing was generated"
        bare = {"prompt": "the list", "max_tokens": 0, "echo": True}
        assert (await post(client, COMPLETIONS, **bare))["choices"][0]["text"] == "the list"
        only, *_ = await stream(client, COMPLETIONS, **fields | {"max_tokens": 1}, echo=True)
        assert only["choices"][0]["text"].startswith("the list")

    ask(test)


def test_a_bias_and_a_penalty(ask):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 5, "temperature": 0}
        forced = await post(client, COMPLETIONS, **fields, logit_bias={"40": 100})
        assert forced["choices"][0]["text"] == "F" * 5
        freed = await post(
            client, COMPLETIONS, **fields, logit_bias={"40": 10}, frequency_penalty=2.0,
            presence_penalty=2.0,
        )  # fmt: skip
        assert freed["choices"][0]["text"] != "F" * 5
        for name in ("-1", "x", "320", "٣"):
            wrong = await post(client, COMPLETIONS, 400, **fields, logit_bias={name: 1})
            assert wrong["error"]["param"] == "logit_bias"

    ask(test)


def test_a_seed_is_told_where_none_was_given(ask):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 20, "temperature": 2}
        drawn = await post(client, COMPLETIONS, **fields)
        seed = drawn["intaglio"]["seed"]
        assert same(await post(client, COMPLETIONS, **fields, seed=seed)) == same(drawn)
        wide = await post(client, COMPLETIONS, **fields, top_k=-1)
        assert wide["intaglio"]["sampling_mode"] == "host"

    ask(test)


def test_too_long(ask):
    async def test(client: httpx.AsyncClient) -> None:
        for fields in ({"prompt": [1] * 100, "max_tokens": 30}, {"prompt": [1] * 129}):
            error = (await post(client, COMPLETIONS, 400, **fields))["error"]
            assert error["code"] == "context_length_exceeded"
        full = await post(client, COMPLETIONS, prompt=[1] * 100, max_tokens=29, ignore_eos=True)
        assert full["usage"]["completion_tokens"] == 29
        rest = await post(client, COMPLETIONS, prompt=[1] * 120, ignore_eos=True)
        assert rest["usage"]["completion_tokens"] == 9  # of the usual 16, what there is room for
        error = (await post(client, COMPLETIONS, 400, prompt="the" * 100_000))["error"]
        assert error["code"] == "context_length_exceeded"
        assert "tokens or more" in error["message"]  # none of them was made
        await post(client, COMPLETIONS, 400, prompt="")
        await post(client, COMPLETIONS, 400, prompt=[320])

    ask(test)


def test_an_adapter_by_its_name(ask, package, adapter):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 6, "temperature": 0}
        plain = await post(client, COMPLETIONS, **fields)
        adapted = await post(client, COMPLETIONS, model="lists", **fields)
        assert plain["choices"][0]["text"] != adapted["choices"][0]["text"]
        assert adapted["intaglio"]["adapter"] == "lists"
        chip = adapted["intaglio"]["choices"][0]["chip"]
        assert chip == modelled(package.plan, 6, 6, Sampling(), adapter.rank)

    ask(test)
