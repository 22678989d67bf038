"""Evaluate: float checkpoint beside chip, on the same windows."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_chip import QUICK, TEXT, PlayedChip, quick_emit, tiny_checkpoint

from intaglio.checkpoint import FloatModel, open_checkpoint
from intaglio.errors import BadInput
from intaglio.flow import engines, reference
from intaglio.flow.cache import cache_folder
from intaglio.flow.choose import open_model
from intaglio.flow.compile import compile_model
from intaglio.flow.evaluate import evaluate_package, keep_evaluation
from intaglio.flow.origin import default_model
from intaglio.flow.package import Package, open_package
from intaglio.golden.forward import Golden
from intaglio.hardware import emit


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Package, Path]:
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "emit", quick_emit)
        patch.setenv("INTAGLIO_CACHE", str(folder / "cache"))
        checkpoint = tiny_checkpoint(folder / "tiny")
        return compile_model(str(checkpoint), folder / "chip", QUICK).package, checkpoint


def mean_surprise(logits: np.ndarray, ids: np.ndarray) -> float:
    nats = logits - logits.max(-1, keepdims=True)
    rows = nats - np.log(np.exp(nats).sum(-1, keepdims=True))
    return float(-np.mean([row[token] for row, token in zip(rows[:-1], ids[1:], strict=True)]))


def test_one_window_by_hand(made):
    package, checkpoint = made
    text = TEXT[:40]
    values = evaluate_package(package, text, model=str(checkpoint))
    ids = np.array(package.tokenizer.encode(text))
    golden = Golden(package.model)
    chip = mean_surprise(golden.logits(golden.residual(ids)) / 4096, ids)
    float_logits = FloatModel(open_checkpoint(checkpoint)).logits(ids).astype(np.float64)
    reference = mean_surprise(float_logits, ids)
    size = len(package.tokenizer.decode_bytes(ids[1:].tolist()))
    assert values["tokens"] == len(ids) - 1
    assert values["bytes"] == size
    for name, nats in (("chip", chip), ("float", reference)):
        assert values[name]["perplexity"] == pytest.approx(np.exp(nats))
        bits = nats * (len(ids) - 1) / np.log(2) / size
        assert values[name]["bits_per_byte"] == pytest.approx(bits)
    growth = 100 * (np.exp(chip - reference) - 1)
    assert values["growth_percent"] == pytest.approx(growth, abs=1e-3)


def test_the_float_score_is_kept(made, monkeypatch, tmp_path):
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path))
    package, checkpoint = made
    first = evaluate_package(package, TEXT[:60], model=str(checkpoint))
    [kept] = (cache_folder() / "references").glob("*/score.json")
    with monkeypatch.context() as patch:
        patch.setattr(reference, "FloatModel", None)
        again = evaluate_package(package, TEXT[:60], model=str(checkpoint))
        assert {**again, "seconds": 0} == {**first, "seconds": 0}
        with pytest.raises(TypeError):
            evaluate_package(package, TEXT[:61], model=str(checkpoint))
    for damage in ("", "{}", '{"tokens": 1}'):
        kept.write_text(damage)
        again = evaluate_package(package, TEXT[:60], model=str(checkpoint))
        assert again["float"] == first["float"]


def test_every_engine_gives_the_same(made, monkeypatch):
    package, checkpoint = made
    monkeypatch.setattr(engines, "executable_of", lambda package, progress: (Path("x"), 0.0))
    monkeypatch.setattr(engines, "Simulation", lambda *_: PlayedChip(package.model))
    values = [
        evaluate_package(package, TEXT, model=str(checkpoint), engine=engine, window=20, limit=40)
        for engine in engines.ENGINES
    ]
    for one, engine in zip(values, engines.ENGINES, strict=True):
        assert one.pop("engine") == engine
        one.pop("seconds")
    assert values == [values[0]] * 3
    with pytest.raises(BadInput, match="engine must be one of twin, golden, rtl, not 'gpu'"):
        evaluate_package(package, TEXT, model=str(checkpoint), engine="gpu")


def test_windows_and_limit(made, monkeypatch, tmp_path):
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path))
    package, checkpoint = made
    steps = []
    count = len(package.tokenizer.encode(TEXT))
    values = evaluate_package(
        package, TEXT, model=str(checkpoint), window=20, progress=lambda *step: steps.append(step)
    )
    windows = -(-count // 20)
    assert values["tokens"] == count - windows
    assert steps[0] == ("evaluating float", 0, f"window 1 of {windows}")
    assert steps[-1] == ("evaluating chip", 1, "")
    values = evaluate_package(package, TEXT, model=str(checkpoint), window=20, limit=21)
    assert values["tokens"] == 2 * 19
    # a window is never longer than the chip's context
    values = evaluate_package(package, TEXT, model=str(checkpoint), window=10**6, limit=1)
    assert values["tokens"] == 63


def test_the_checkpoint_must_be_the_right_one(made, tmp_path):
    package, _ = made
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(BadInput, match=r"other \(from f32\): not the checkpoint that .*chip was"):
        evaluate_package(package, TEXT, model=str(other))
    with pytest.raises(BadInput, match="give the float checkpoint with --model"):
        evaluate_package(package, TEXT)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("bundled", "bundled"),
        ("bundled-float", "bundled-float"),
        ("smollm2 (from Q4_1)", "smollm2"),
    ],
)
def test_a_model_with_a_name_is_found_by_it(made, source, name):
    package, _ = made
    assert default_model(Package(package.path, {**package.manifest, "model": source})) == name


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "text must have at least two tokens"),
        ("x", {}, "text must have at least two tokens"),
        (TEXT, {"window": 1}, "window must be at least 2 tokens, not 1"),
        (TEXT, {"limit": 0}, "limit must be at least 1 token, not 0"),
    ],
)
def test_texts_and_options_of_no_use(made, text, options, message):
    package, checkpoint = made
    with pytest.raises(BadInput, match=message):
        evaluate_package(package, text, model=str(checkpoint), **options)


def test_what_came_out_stays_in_the_package(made, tmp_path):
    package, checkpoint = made
    path = Path(shutil.copytree(package.path, tmp_path / "chip"))
    values = evaluate_package(package, TEXT, name="held-out.txt", model=str(checkpoint))
    assert open_package(path).evaluation is None
    assert open_model(str(path)).growth is None
    keep_evaluation(open_package(path), values)
    found = open_package(path)
    assert found.hash == package.hash
    content = (path / "evaluation.json").read_bytes()
    assert found.evaluation == {key: v for key, v in values.items() if key != "seconds"}
    assert values["text"] == {
        "name": "held-out.txt", "bytes": len(TEXT.encode()),
        "sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
    }  # fmt: skip
    keep_evaluation(found, {**values, "seconds": 9.0})
    assert (path / "evaluation.json").read_bytes() == content
    growth = open_model(str(path)).growth
    assert growth is not None
    assert (growth.value, growth.grade) == (values["growth_percent"], "measured")
    assert "held-out.txt" in growth.source


def test_an_adapters_evaluation_is_of_another_model(made, tmp_path):
    package, checkpoint = made
    path = Path(shutil.copytree(package.path, tmp_path / "chip"))
    values = evaluate_package(package, TEXT, name="held-out.txt", model=str(checkpoint))
    keep_evaluation(open_package(path), {**values, "adapter": "other"})
    keep_evaluation(open_package(path), {**values, "growth_percent": float("inf")})
    assert open_package(path).evaluation is None


@given(count=st.integers(1, 2000), vocabulary=st.integers(1, 200_000))
def test_blocks_cover_all_rows(count, vocabulary):
    found = list(engines.blocks(count, vocabulary))
    assert [row for rows in found for row in range(count)[rows]] == list(range(count))
    assert all(rows.stop - rows.start >= engines.ROWS for rows in found[:-1])
