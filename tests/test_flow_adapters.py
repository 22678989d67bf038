"""Adapters of a package: quantized once, the same on every engine, refused where none fits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft_folder import random_factors, write_peft
from tiny_chip import QUICK, PlayedChip, quick_emit

from intaglio.checkpoint import open_checkpoint
from intaglio.errors import BadCheckpoint, BadInput
from intaglio.flow import adapters as adapters_module
from intaglio.flow import engines as engines_module
from intaglio.flow import verify as verify_module
from intaglio.flow.adapters import open_adapter, shipped, split_given
from intaglio.flow.compile import compile_model
from intaglio.flow.engines import open_source, open_twin
from intaglio.flow.evaluate import evaluate_package
from intaglio.flow.package import Package, open_package
from intaglio.flow.progress import silent
from intaglio.flow.talk import Talk
from intaglio.flow.verify import verify_package
from intaglio.golden.sample import Sampling
from intaglio.hardware import emit
from intaglio.plan.schedule import Schedule, User

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


@pytest.fixture(scope="module")
def adapted(home, tmp_path_factory) -> Package:
    """The same chip with side memory."""
    folder = tmp_path_factory.mktemp("adapted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "emit", quick_emit)
        patch.setenv("INTAGLIO_CACHE", str(folder / "cache"))
        options = replace(QUICK, adapter_rank=4)
        return compile_model(str(home / "tiny"), folder / "chip", options).package


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

    def logits(engine, adapter=None):
        return np.concatenate(list(open_source(package, engine, silent, adapter).logits(ids)))

    plain, golden = logits("golden"), logits("golden", chosen)
    assert (golden != plain).any()
    assert (logits("twin", chosen) == golden).all()
    twin = open_twin(package, adapters=[chosen])
    assert (twin.logits(ids, twin.sequence("lists")) == golden).all()
    assert (twin.logits(ids, twin.sequence()) == plain).all()
    with pytest.raises(BadInput, match=r"one of those given \(lists\), not 'docs'"):
        twin.sequence("docs")


def test_a_chip_without_room_for_it(package, home, folder, adapted, monkeypatch):
    chosen = open_adapter(package, f"lists={folder}", model=str(home / "tiny"))
    for place in (engines_module, verify_module):
        monkeypatch.setattr(place, "executable_of", None)
    given: dict[str, Any] = {"adapter": f"lists={folder}", "model": str(home / "tiny")}
    line = (
        f"adapter 'lists' has rank 4, and {package.path} has no side memory for adapters "
        "(compile the chip with --adapter-rank 4"
    )
    with pytest.raises(BadInput) as caught:
        open_source(package, "rtl", silent, chosen)
    assert str(caught.value) == f"{line}, or use --engine twin)"
    with pytest.raises(BadInput) as caught:
        verify_package(package, "the list", 4, **given)
    assert str(caught.value) == f"{line})"
    wide = write_peft(
        folder.parent / "wide",
        random_factors(package.plan.architecture, {"q": 2, "v": 5}),
        rank_pattern={"v_proj": 5}, r=2, target_modules=["q_proj", "v_proj"],
    )  # fmt: skip
    given["adapter"] = f"wide={wide}"
    with pytest.raises(BadInput, match=r"'wide' has rank 5, and .* for a rank of at most 4"):
        verify_package(adapted, "the list", 4, **given)


def test_the_simulated_chip_gets_it(adapted, home, folder, monkeypatch):
    """A played chip: what is sent and loaded; the real one is below."""
    monkeypatch.setattr(engines_module, "executable_of", lambda *_, **__: ("chip", 0.0))
    monkeypatch.setattr(
        engines_module, "Simulation", lambda program, images: PlayedChip(adapted.model)
    )
    given: dict[str, Any] = {"adapter": f"lists={folder}", "model": str(home / "tiny")}
    same_everywhere(adapted, given)


def same_everywhere(package: Package, given: dict[str, Any]) -> None:
    """The simulated chip says and scores with an adapter what the twin does."""
    said, scores = {}, {}
    for engine in ("twin", "rtl"):
        with Talk(package, engine, **given) as talk:
            ids = talk.encode("the list")
            said[engine] = [
                "".join(talk.complete(ids[:size], 8, Sampling(), stop=False))
                for size in (len(ids), len(ids) - 1)
            ]
        values = evaluate_package(package, TEXT, window=10, limit=20, engine=engine, **given)
        scores[engine] = values["chip"]
    assert said["twin"] == said["rtl"]
    assert scores["twin"] == scores["rtl"]
    plain = evaluate_package(package, TEXT, window=10, limit=20, model=given["model"])
    assert plain["chip"] != scores["rtl"]


@pytest.mark.slow
def test_rtl_with_it_is_proven_and_speaks(home, folder, tmp_path):
    options = replace(QUICK, adapter_rank=4)
    package = compile_model(str(home / "tiny"), tmp_path / "chip", options).package
    given: dict[str, Any] = {"adapter": f"lists={folder}", "model": str(home / "tiny")}
    proof = verify_package(package, "the list", 8, **given)
    assert proof.verdict.equal
    assert proof.as_dict()["adapter"] == "lists"
    assert proof.verdict.simulated_cycles == proof.verdict.planned_cycles
    without = verify_package(package, "the list", 8, model=given["model"])
    assert without.verdict.equal
    assert without.as_dict()["adapter"] is None
    assert (without.text, without.verdict.simulated_cycles) != (
        proof.text, proof.verdict.simulated_cycles,
    )  # fmt: skip
    same_everywhere(package, given)


def test_what_it_would_take_on_the_chip(package, adapted, home, folder):
    given: dict[str, Any] = {"adapter": f"lists={folder}", "model": str(home / "tiny")}
    values = []
    for chip in (package, adapted):
        with Talk(chip, **given) as talk:
            ids = talk.encode("the list")
            "".join(talk.complete(ids, 5, Sampling(), stop=False))
            values.append(talk.summary()["chip"])
    assert [value["adapter_rank_assumed"] for value in values] == [True, False]
    assert [value["adapter_rank"] for value in values] == [4, 4]
    assert values[0]["cycles"] == values[1]["cycles"]
    expected = Schedule(adapted.plan).run([User(len(ids), 5, adapted=True)])
    assert values[1]["cycles"] == expected


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
