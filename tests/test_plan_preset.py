"""Presets: what a model's makers say it has is what its architecture comes to."""

import pytest
import yaml

from intaglio.checkpoint import open_checkpoint
from intaglio.errors import BadInput
from intaglio.plan.preset import Latent, preset, preset_folder, preset_names, read_preset

PARAMETERS = {  # in billions, as published
    "llama-3.1-8b": 8.03, "llama-3.1-70b": 70.6, "qwen3-8b": 8.19, "qwen3-32b": 32.8,
    "mistral-7b": 7.25, "gpt-oss-20b": 20.9, "gpt-oss-120b": 116.8, "deepseek-r1": 671,
    "smollm2-135m": 0.1345, "smollm2-1.7b": 1.71, "bundled": 0.0013776,
}  # fmt: skip
ACTIVE = {"gpt-oss-20b": 3.6, "gpt-oss-120b": 5.1, "deepseek-r1": 37}


def test_the_presets_there_are():
    assert set(preset_names()) == set(PARAMETERS)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_are_the_published_ones(name):
    found = preset(name)
    assert found.name == name
    assert found.parameters / 1e9 == pytest.approx(PARAMETERS[name], rel=0.01)
    assert found.published[0] / 1e9 == pytest.approx(PARAMETERS[name], rel=0.001)
    assert found.source
    assert 2022 < found.year < 2030


@pytest.mark.parametrize("name", sorted(ACTIVE))
def test_active_parameters_are_the_published_ones(name):
    found = preset(name)
    assert found.active / 1e9 == pytest.approx(ACTIVE[name], rel=0.05)
    assert found.published[1] == pytest.approx(ACTIVE[name] * 1e9)


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - set(ACTIVE)))
def test_of_a_dense_model_all_is_active_but_an_embedding_of_its_own(name):
    found, a = preset(name), preset(name).architecture
    assert found.experts is None
    assert found.published[1] is None
    assert found.parameters == a.parameters
    assert found.active == a.parameters - (0 if a.tied else a.vocabulary * a.width)


def test_the_bundled_preset_is_the_bundled_model():
    assert preset("bundled").architecture == open_checkpoint("bundled").architecture


def test_a_mixture_by_hand():
    found = preset("gpt-oss-20b")
    attention = 2880 * (2 * 64 * 64 + 2 * 8 * 64)
    expert, router = 3 * 2880 * 2880, 2880 * 32
    rest = 2880 * (2 * 24 + 1) + 201088 * 2880
    assert found.parameters == 24 * (attention + 32 * expert + router) + rest + 201088 * 2880
    assert found.active == 24 * (attention + 4 * expert + router) + rest


def test_latent_attention_by_hand():
    latent = Latent(query_rank=6, kv_rank=4, plain=3, rotary=2, value=5)
    down, up = 10 * 6 + 10 * (4 + 2), 6 * 7 * (3 + 2) + 4 * 7 * (3 + 5)
    assert latent.parameters(width=10, heads=7) == down + up + 7 * 5 * 10
    assert latent.stored == 6


def test_an_unknown_preset():
    with pytest.raises(BadInput, match=r"^preset must be one of bundled, .*, not 'llama-4'$"):
        preset("llama-4")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("source"), "has no source"),
        (lambda v: v.update(colour=1), "unknown key colour"),
        (lambda v: v.update(year="new"), "year must be a number, not 'new'"),
        (lambda v: v.update(title=""), "title must be a text, not ''"),
        (lambda v: v["architecture"].update(heads=63), "architecture: heads must be a multiple"),
        (lambda v: v["architecture"].pop("inner"), "architecture: "),
        (lambda v: v["experts"].update(active=200), "experts: active must be from 1 to"),
        (lambda v: v["experts"].update(shared=-1), "experts: shared and dense_layers must be"),
        (lambda v: v["experts"].update(dense_layers=3), "experts: dense_inner must be there"),
        (lambda v: v["experts"].update(stored=1.5), "experts: stored must be an integer, not 1.5"),
        (lambda v: v["window"].pop("every"), "window: has no every"),
        (lambda v: v["window"].update(every=0), "window: positions and every must be at least 1"),
        (lambda v: v["window"].update(every=None), "window: every must be an integer, not None"),
        (lambda v: v["published"].update(parameters=-1), "published: parameters must be a count"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path, change, message):
    values = yaml.safe_load((preset_folder() / "gpt-oss-20b.yaml").read_text())
    change(values)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(BadInput) as caught:
        read_preset(path)
    assert caught.value.message.startswith("mine.yaml: ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message
