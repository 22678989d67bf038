"""Weights that no model has are refused by file, tensor and place, before any work."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reference_logits import sample_config, sample_tensors, write_folder, write_gguf

from intaglio.checkpoint import open_checkpoint
from intaglio.checkpoint.tensors import LARGEST
from intaglio.errors import BadCheckpoint

DOWN = "model.layers.1.mlp.down_proj.weight"


def write(place: Path, kind: str, value: float, name: str = DOWN) -> Path:
    """A checkpoint with ``value`` in the middle of a stored tensor."""
    config = sample_config()
    tensors = sample_tensors(config)
    tensors[name][3, 5] = value
    if kind == "gguf":
        return write_gguf(place / "tiny.gguf", config, tensors)
    return write_folder(place / "tiny", config, tensors, shards=3 if kind == "shards" else 1)


@pytest.mark.parametrize("value", [1e30, -1e30, LARGEST + 1.0, np.inf, -np.inf, np.nan])
def test_a_weight_that_no_model_has(tmp_path, value):
    checkpoint = open_checkpoint(write(tmp_path, "folder", value))
    checkpoint.tensor("layers.0.down")
    bound = "from -65504 to 65504" if np.isfinite(value) else "finite"
    place = r"^model\.safetensors: tensor layers\.1\.down"
    message = rf"{place} must be {bound}, found {re.escape(f'{value:g}')} at \(3, 5\)$"
    for read in (checkpoint.check, lambda: checkpoint.tensor("layers.1.down")):
        with pytest.raises(BadCheckpoint, match=message):
            read()


@pytest.mark.parametrize("value", [LARGEST, -LARGEST])
def test_the_largest_weight_there_may_be(tmp_path, value):
    checkpoint = open_checkpoint(write(tmp_path, "folder", value))
    checkpoint.check()
    assert checkpoint.tensor("layers.1.down")[3, 5] == value


@pytest.mark.parametrize(
    ("kind", "file"),
    [("shards", r"model-0000[123]-of-00003\.safetensors"), ("gguf", r"tiny\.gguf")],
)
def test_the_file_is_named(tmp_path, kind, file):
    path = write(tmp_path, kind, 1e30)
    with pytest.raises(BadCheckpoint, match=f"^{file}: tensor layers.1.down ") as caught:
        open_checkpoint(path).check()
    if kind == "shards":
        assert DOWN.encode() in (path / caught.value.message.split(":")[0]).read_bytes()


def test_the_first_in_the_order_of_data_is_named(tmp_path):
    checkpoint = open_checkpoint(write(tmp_path, "folder", 1e30, "lm_head.weight"))
    with pytest.raises(BadCheckpoint, match="tensor head must"):
        checkpoint.check()
    late = checkpoint.read

    def read(name: str) -> np.ndarray:
        return np.full(checkpoint.shapes[name], 1e30, np.float32) if "up" in name else late(name)

    with pytest.raises(BadCheckpoint, match=r"tensor layers\.0\.up must .* at \(0, 0\)"):
        replace(checkpoint, read=read).check()


def test_a_tied_checkpoint_is_read_once(tmp_path):
    config = sample_config(tie_word_embeddings=True)
    checkpoint = open_checkpoint(write_folder(tmp_path / "tiny", config, sample_tensors(config)))
    names = []

    def read(name: str) -> np.ndarray:
        names.append(name)
        return checkpoint.read(name)

    replace(checkpoint, read=read).check()
    assert names == [name for name in checkpoint.shapes if name != "head"]
