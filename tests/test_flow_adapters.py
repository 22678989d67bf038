"""Adapters of a package: quantized once, the same on every engine, refused where none fits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft_folder import random_factors, write_peft

from intaglio.checkpoint import open_checkpoint
from intaglio.errors import BadCheckpoint, BadInput
from intaglio.flow import adapters as adapters_module
from intaglio.flow.adapters import open_adapter, shipped, split_given
from intaglio.flow.engines import open_source, open_twin
from intaglio.flow.evaluate import evaluate_package
from intaglio.flow.package import Package, open_package
from intaglio.flow.progress import silent
from intaglio.flow.talk import Talk
from intaglio.golden.sample import Sampling

TEXT = "the index of the list in the other 12 lists\n" * 4


@pytest.fixture(scope="module")
def home(made_home) -> Path:
    return made_home(64)


@pytest.fixture(scope="module")
def package(home) -> Package:
    return open_package(home / "chip")


@pytest.fixture(scope="module")
def folder(home, tmp_path_factory) -> Path:
    architecture = open_checkpoint(home / "tiny").architecture
    return write_peft(tmp_path_factory.mktemp("peft") / "lists", random_factors(architecture))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache"))


def test_it_is_quantized_once(package, home, folder, monkeypatch):
    first = open_adapter(package, f"lists={folder}", model=str(home / "tiny"))
    assert (first.name, first.source.source) == ("lists", "lists")
    assert first.integers.model == package.hash
    monkeypatch.setattr(adapters_module, "Golden", None)
    again = open_adapter(package, f"other={folder}", model=str(home / "tiny"))
    assert again.name == "other"
    assert again.integers.hash() == first.integers.hash()


def test_every_engine_runs_it(package, home, folder):
    chosen = open_adapter(package, f"lists={folder}", model=str(home / "tiny"))
    ids = np.arange(60) % 40
    plain = open_source(package, "golden", silent).logits(ids)
    golden = open_source(package, "golden", silent, chosen).logits(ids)
    assert (golden != plain).any()
    assert (open_source(package, "twin", silent, chosen).logits(ids) == golden).all()
    twin = open_twin(package, adapters=[chosen])
    assert (twin.logits(ids, twin.sequence("lists")) == golden).all()
    assert (twin.logits(ids, twin.sequence()) == plain).all()
    with pytest.raises(BadInput, match=r"one of those given \(lists\), not 'docs'"):
        twin.sequence("docs")
    with pytest.raises(BadInput, match="adapter 'lists': the chip's RTL has no side memory"):
        open_source(package, "rtl", silent, chosen)


def test_talk_and_evaluation_take_it(package, home, folder):
    given: dict[str, Any] = {"adapter": f"lists={folder}", "model": str(home / "tiny")}
    said = {}
    for engine in ("twin", "golden"):
        with Talk(package, engine, **given) as talk:
            ids = talk.encode("the list")
            said[engine] = "".join(talk.complete(ids, 12, Sampling(), stop=False))
            assert talk.summary()["adapter"] == "lists"
    assert said["twin"] == said["golden"]
    values = evaluate_package(package, TEXT, window=20, **given)
    plain = evaluate_package(package, TEXT, window=20, model=str(home / "tiny"))
    assert (values["adapter"], plain["adapter"]) == ("lists", None)
    # chip and float are changed alike, far more than they differ
    change = {
        name: values[name]["bits_per_byte"] - plain[name]["bits_per_byte"]
        for name in ("float", "chip")
    }
    assert abs(change["float"]) > 5 * abs(change["float"] - change["chip"])


@pytest.mark.parametrize("given", ["lists", "=folder", "lists=", "a b=folder", "-x=folder"])
def test_a_choice_is_name_and_folder(given):
    with pytest.raises(BadInput) as caught:
        split_given(given)
    names = ", ".join(shipped())
    assert caught.value.message == (
        f"adapter must be NAME=DIR or one that is shipped ({names}), not {given!r}"
    )


def test_a_shipped_adapter_has_a_name():
    for name, folder in shipped().items():
        assert split_given(name) == (name, folder)
        assert split_given(f"mine={folder}") == ("mine", folder)


def test_an_adapter_for_another_shape(package, home, tmp_path):
    architecture = open_checkpoint(home / "tiny").architecture
    factors = {name: array[:, :-1] for name, array in random_factors(architecture).items()}
    folder = write_peft(tmp_path / "wrong", factors)
    with pytest.raises(BadCheckpoint, match=r"q_proj.lora_A.weight must have shape \[4, 32\]"):
        open_adapter(package, f"wrong={folder}", model=str(home / "tiny"))
