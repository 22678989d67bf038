"""Real clients against a live server: what they send is understood, what they get is right."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from live_chip import live
from pydantic import BaseModel
from served_chip import HELLO, WITH_TOOLS

from intaglio.flow.evaluate import evaluate_package
from intaglio.flow.package import Package, open_package
from intaglio.flow.talk import Talk
from intaglio.golden.sample import Sampling
from intaglio.serve.served import Served

KEY = "secret"
TEXT = "the index of the list in the other 12 lists, and the rest of it\n" * 8


class Size(BaseModel):
    """What a chat is asked for."""

    kind: Literal["list", "other"]
    size: Literal[1, 12]


@pytest.fixture(scope="module")
def home(made_home) -> Path:
    return made_home(4096)


@pytest.fixture(scope="module")
def package(home) -> Package:
    return open_package(home / "chip")


@pytest.fixture(scope="module")
def url(package) -> Iterator[str]:
    served = Served(package, threads=1)
    served.tokenizer = replace(served.tokenizer, chat_template=WITH_TOOLS)
    with live(served, [KEY]) as address:
        yield address


@pytest.fixture
def client(url) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def fields(**more: Any) -> Any:
    return {"model": "chip", "messages": HELLO, "max_completion_tokens": 8, "seed": 3, **more}


def test_openai_chats(client):
    assert [model.id for model in client.models.list()] == ["chip"]
    answer = client.chat.completions.create(**fields(logprobs=True, top_logprobs=2))
    text = answer.choices[0].message.content
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2
    assert answer.intaglio["sampling_mode"] == "host"
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(**fields(stream=True, stream_options=options)))
    assert text == "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage == answer.usage


def test_openai_completions(client, package):
    with Talk(package) as talk:
        said = "".join(talk.complete(talk.encode("the list"), 4, Sampling.of(1.0, seed=1)))
    asked = {"model": "chip", "prompt": "the list", "max_tokens": 4, "seed": 1}
    answer = client.completions.create(**asked, echo=True, logprobs=1)
    assert answer.choices[0].text == f"the list{said}"
    chunks = client.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == said


def test_openai_parses_json_of_a_schema(client):
    answer = client.chat.completions.parse(**fields(max_completion_tokens=80), response_format=Size)
    assert isinstance(answer.choices[0].message.parsed, Size)
    answer = client.chat.completions.create(
        **fields(max_completion_tokens=80), extra_body={"structured_outputs": {"regex": "[ab]{3}"}}
    )
    assert set(answer.choices[0].message.content) <= set("ab")


def test_openai_calls_a_tool_and_tells_what_came_of_it(client):
    tool = openai.pydantic_function_tool(Size, name="measure")
    asked = fields(max_completion_tokens=200, tools=[tool], tool_choice="required")
    answer = client.chat.completions.parse(**asked)
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert isinstance(call.function.parsed_arguments, Size)
    with client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert "tool_calls.function.arguments.done" in kinds
    assert (final.id, final.function.arguments) == (call.id, call.function.arguments)
    sent = message.model_dump(exclude={"parsed"}, exclude_none=True)
    sent["tool_calls"][0]["function"].pop("parsed_arguments", None)
    result = {"role": "tool", "tool_call_id": call.id, "content": "12"}
    more = fields(messages=[*HELLO, sent, result], tools=[tool])
    assert client.chat.completions.create(**more).usage.prompt_tokens > answer.usage.prompt_tokens


def test_openai_hears_what_is_wrong(client, url):
    with pytest.raises(openai.BadRequestError, match="is no grammar that is supported"):
        client.chat.completions.create(**fields(extra_body={"structured_outputs": {"regex": "("}}))
    with pytest.raises(openai.BadRequestError, match="only tokens and logits leave"):
        client.embeddings.create(model="chip", input="a")
    with pytest.raises(openai.NotFoundError, match="is not served here"):
        client.completions.create(model="other", prompt="a")
    with (
        pytest.raises(openai.AuthenticationError),
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong") as wrong,
    ):
        wrong.models.list()


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_litellm(client, url):
    litellm: Any = importlib.import_module("litellm")

    said = client.chat.completions.create(**fields()).choices[0].message.content
    way = {"model": "openai/chip", "api_base": f"{url}/v1", "api_key": KEY}
    asked = fields(**way)
    answer = litellm.completion(**asked)
    assert answer.choices[0].message.content == said
    chunks = litellm.completion(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said
    tool = openai.pydantic_function_tool(Size, name="measure")
    called = litellm.completion(
        **asked | {"max_completion_tokens": 200}, tools=[tool], tool_choice="required"
    )
    Size.model_validate_json(called.choices[0].message.tool_calls[0].function.arguments)


@pytest.mark.peer
def test_the_llm_command(client, url, tmp_path):
    said = client.chat.completions.create(**fields()).choices[0].message.content
    model = {"model_id": "mine", "model_name": "chip", "api_base": f"{url}/v1", "api_key_name": "k"}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([model]))
    (tmp_path / "keys.json").write_text(json.dumps({"k": KEY}))
    options = ["-o", "seed", "3", "-o", "max_tokens", "8"]
    for more in ([], ["--no-stream"]):
        found = command(["llm", "-m", "mine", "hello", *options, *more], {
            "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": "",
        })  # fmt: skip
        assert found.strip() == said.strip()


@pytest.mark.peer
def test_lm_evals_perplexity_is_that_of_evaluate(home, package, url, tmp_path):
    """The text's first token is what lm-eval begins with, for nothing predicts it."""
    evaluated = evaluate_package(package, TEXT, model=str(home / "tiny"), window=2048)
    first, *_ = package.tokenizer.encode(TEXT)
    rest = TEXT.removeprefix(package.tokenizer.decode([first]))
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": rest}) + "\n")
    task = {
        "task": "tiny", "dataset_path": "json", "test_split": "test",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "text.jsonl")}},
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "byte_perplexity"}],
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(json.dumps(task))
    model = {
        "model": "chip", "base_url": f"{url}/v1/completions", "num_concurrent": 1,
        "tokenizer": str(home / "chip" / "tokenizer"), "tokenizer_backend": "huggingface",
        "max_length": 2047, "custom_prefix_token_id": first, "tokenized_requests": True,
    }  # fmt: skip
    words = ["lm_eval", "run", "--model", "local-completions", "--tasks", "tiny",
             "--model_args", ",".join(f"{name}={value}" for name, value in model.items()),
             "--include_path", str(tmp_path), "--output_path", str(tmp_path / "out")]  # fmt: skip
    more = {"OPENAI_API_KEY": KEY, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "hf")}  # fmt: skip
    command(words, more)
    (path,) = (tmp_path / "out").rglob("results*.json")
    found = json.loads(path.read_text())["results"]["tiny"]
    assert found["bits_per_byte,none"] == pytest.approx(evaluated["chip"]["bits_per_byte"], 1e-6)
    perplexity = found["byte_perplexity,none"] ** (evaluated["bytes"] / evaluated["tokens"])
    assert perplexity == pytest.approx(evaluated["chip"]["perplexity"], 1e-5)


def command(words: list[str], more: dict[str, str]) -> str:
    """What a program of this environment prints."""
    program = str(Path(sys.executable).with_name(words[0]))
    done = subprocess.run(
        [program, *words[1:]], capture_output=True, text=True, timeout=300,
        env={**os.environ, **more},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
