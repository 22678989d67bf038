"""The shipped adapter: complete, small, as its card says on a header that it never saw."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from intaglio.checkpoint import Checkpoint, FloatModel, open_checkpoint
from intaglio.checkpoint.peft import FloatAdapter, Merged, open_peft
from intaglio.checkpoint.tensors import MATRICES
from intaglio.flow.adapters import shipped
from intaglio.golden.forward import Golden
from intaglio.quantize import cut, growth_percent, quantize, score
from intaglio.quantize.adapter import quantize_adapter
from intaglio.twin import Twin

ROOT = Path(__file__).parents[1]
NAME, RANK = "c-headers", 8
FOLDER = ROOT / "src" / "intaglio" / "models" / "adapters" / NAME
HEADER = ROOT / "tests" / "data" / "longobject.h"
LIMIT = 300_000


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return open_checkpoint("bundled")


@pytest.fixture(scope="module")
def adapter(model) -> FloatAdapter:
    return open_peft(FOLDER, model.architecture)


@pytest.fixture(scope="module")
def measured(model):
    """``measured(forward)``: its score on the header."""
    tokenizer = model.tokenizer
    ids = tokenizer.encode(HEADER.read_text())
    windows = cut(ids, model.architecture.context, tokenizer.begin_ids)
    return lambda forward: score(forward, windows, lambda ids: len(tokenizer.decode_bytes(ids)))


def headers() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "models" / "headers.py")))


def card_row(what: str) -> list[float]:
    """Figures of one row of the card's table: float before and after, chip before and after."""
    card = (FOLDER / "README.md").read_text()
    found = re.search(rf"^\| {re.escape(what)}.*?\|(.*)\|$", card, re.M)
    assert found, f"the card has no row {what}"
    return [float(cell.strip(" *")) for cell in found[1].split("|")]


def test_it_is_shipped_and_small():
    assert shipped()[NAME] == FOLDER
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(sizes) == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    assert sum(sizes.values()) <= LIMIT


def test_every_matrix_has_its_part(model, adapter):
    layers = range(model.architecture.layers)
    assert set(adapter.parts) == {(layer, name) for layer in layers for name in MATRICES}
    assert {part.rank for part in adapter.parts.values()} == {RANK}
    assert all(np.abs(part.product()).max() > 0 for part in adapter.parts.values())


def test_the_header_was_held_out():
    module = headers()
    assert module.is_held_out(HEADER.name)
    share = np.mean([module.is_held_out(f"internal/{index}.h") for index in range(10_000)])
    assert share == pytest.approx(module.HELD_OUT_SHARE, abs=0.01)


def test_a_split_parts_the_headers(tmp_path):
    module = headers()
    for name in ("longobject.h", "object.h", "cpython/object.h", "pyconfig.h", "other/x.h"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"// {name}\n")
    assert module.held_out(tmp_path) == {"longobject.h": "// longobject.h\n"}
    assert set(module.training(tmp_path)) == {"object.h", "cpython/object.h"}


def test_floats_predict_the_header_as_the_card_says(model, adapter, measured):
    before = measured(FloatModel(model).logits).bits_per_byte
    after = measured(FloatModel(Merged(model, adapter)).logits).bits_per_byte
    assert [before, after] == pytest.approx(card_row("`longobject.h`")[:2], abs=0.002)
    assert after < 0.8 * before


@pytest.mark.slow
def test_the_chip_predicts_the_header_as_the_card_says(model, adapter, measured):
    chip = quantize(model)
    golden = Golden(chip)
    integers = quantize_adapter(
        adapter, model, chip, lambda ids, trace: golden.residual(ids, trace=trace)
    )
    twin = Twin(chip, adapters={NAME: integers})
    plain, with_it = (
        measured(lambda ids, name=name: twin.logits(ids, twin.sequence(name)))
        for name in (None, NAME)
    )
    found = [plain.bits_per_byte, with_it.bits_per_byte]
    assert found == pytest.approx(card_row("`longobject.h`")[2:], abs=0.01)
    assert with_it.bits_per_byte < 0.8 * plain.bits_per_byte
    # what the adapter adds costs the chip little beyond the float model that has it, too
    merged = measured(FloatModel(Merged(model, adapter)).logits)
    assert growth_percent(with_it, merged) < 3


def test_the_card_says_where_it_comes_from():
    card = (FOLDER / "README.md").read_text()
    for needed in ("PSF licence", "held out", "seed", "bits per byte", "train_adapter.py"):
        assert needed.lower() in card.lower(), needed
    before, after, chip_before, chip_after = card_row("all held-out headers")
    assert after < before
    assert chip_after < chip_before
