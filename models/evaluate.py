"""Bits per byte of a model on held-out text.

The protocol: each held-out file on its own, an end-of-text token before it. Its tokens are cut
into windows of 512 inputs; a window's targets are its inputs moved on by one, so every token of
every file is predicted exactly once, from at most 511 tokens before its predecessor and never
from another window. Bits are summed over all files and divided by all their bytes in UTF-8.

    python models/evaluate.py src/intaglio/models/bundled-float
"""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from corpus import held_out
from llama import Shape, Weights, logits, turns
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokens import encode

NO_TARGET = -100


def cut(document: np.ndarray, length: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Cut a file's tokens into inputs and targets of ``length``; the last ones are padded."""
    inputs, targets = [], []
    for start in range(0, len(document) - 1, length):
        piece = document[start : start + length + 1]
        missing = length + 1 - len(piece)
        inputs.append(np.pad(piece[:-1], (0, missing)))
        targets.append(np.pad(piece[1:], (0, missing), constant_values=NO_TARGET))
    return inputs, targets


@torch.no_grad()
def bits(weights: Weights, shape: Shape, document: np.ndarray) -> float:
    """Return the bits it takes to code ``document`` after its first token."""
    inputs, targets = (np.stack(part) for part in cut(document, shape.context))
    total, turn = 0.0, turns(shape)
    for start in range(0, len(inputs), 16):
        scores = logits(weights, torch.from_numpy(inputs[start : start + 16]), shape, turn)
        wanted = torch.from_numpy(targets[start : start + 16]).flatten()
        scores = scores.flatten(0, 1).float()
        total += float(F.cross_entropy(scores, wanted, ignore_index=NO_TARGET, reduction="sum"))
    return total / math.log(2)


def bits_per_byte(
    weights: Weights, shape: Shape, tokenizer: Tokenizer, texts: Mapping[str, str]
) -> dict[str, float]:
    """Return bits per byte over all ``texts``, and over those that are not code pages.

    A quarter of the held-out bytes are generated tables (``encodings/``), which are easy to
    predict; the second figure leaves them out.
    """
    spent, size = {}, {}
    documents = encode(tokenizer, texts.values())
    for name, document in zip(texts, documents, strict=True):
        spent[name] = bits(weights, shape, document)
        size[name] = len(texts[name].encode())
    code = [name for name in texts if not name.startswith("encodings/")]
    return {
        "all": sum(spent.values()) / sum(size.values()),
        "without_encodings": sum(spent[n] for n in code) / sum(size[n] for n in code),
    }


def load(folder: Path) -> tuple[Weights, Shape, Tokenizer]:
    """Read a shipped model."""
    config = json.loads((folder / "config.json").read_text())
    shape = Shape(
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_width=config["head_dim"],
        inner=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
        rope_base=config["rope_theta"],
        epsilon=config["rms_norm_eps"],
    )
    stored = load_file(folder / "model.safetensors")
    weights = {name: weight.float() for name, weight in stored.items()}
    return weights, shape, Tokenizer.from_file(str(folder / "tokenizer.json"))


def main() -> None:
    """Print the figures of the model in the folder named on the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    print(json.dumps(bits_per_byte(*load(parser.parse_args().folder), held_out()), indent=2))


if __name__ == "__main__":
    main()
