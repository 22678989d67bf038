"""Perplexity of the chip beside the float checkpoint: `python benchmarks/accuracy.py [MODEL ...]`.

One table. "chip" is the whole integer model (weights, embedding, head, activations, keys and
values); the peers, plain rounding and GPTQ at uniform 4 bits, quantize block weights
alone, unrotated, and keep the rest in float. Texts: the second half of the sorted topics of
pydoc_data.topics, and library files that the bundled models' split holds out; neither is in the
default calibration text. Minutes for bundled-float, the better part of an hour for smollm2 on two
cores.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

from intaglio.checkpoint import MATRICES, Checkpoint, FloatModel, open_checkpoint
from intaglio.checkpoint.forward import Weights
from intaglio.golden.forward import Golden
from intaglio.quantize import QuantizeOptions, Score, cut, growth_percent, quantize, score
from intaglio.quantize.build import Cache, calibration_windows
from intaglio.quantize.calibrate import INPUTS, SOURCE

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from corpus import held_out

WINDOW, WINDOWS = 512, 16
BITS = (4.0, 3.5, 3.0)
PEER_LEVELS = 7  # of 4 bits, symmetric
DAMPING = 0.01


def texts() -> dict[str, str]:
    """Return the held-out texts by name."""
    names = sorted(topics)
    return {
        "documentation": "\n".join(topics[name] for name in names[len(names) // 2 :]),
        "code": "\n".join(held_out().values()),
    }


def windows_of(checkpoint: Checkpoint, text: str) -> list[np.ndarray]:
    """Return windows evenly spread over a text."""
    tokenizer = checkpoint.tokenizer
    length = min(WINDOW, checkpoint.architecture.context)
    windows = cut(tokenizer.encode(text), length, tokenizer.begin_ids)[:-1]
    return [windows[i * (len(windows) - 1) // (WINDOWS - 1)] for i in range(WINDOWS)]


class Replaced:
    """A checkpoint with other block matrices."""

    def __init__(self, checkpoint: Weights, change: Callable[[str, np.ndarray], np.ndarray]):
        self.architecture, self.checkpoint = checkpoint.architecture, checkpoint
        self.change = change

    def tensor(self, name: str) -> np.ndarray:
        """Return one tensor, changed if it is a block matrix."""
        tensor = self.checkpoint.tensor(name)
        return self.change(name, tensor) if name.rpartition(".")[2] in MATRICES else tensor


def even_scale(weights: np.ndarray) -> np.ndarray:
    """The step per output [outputs, 1] of 15 even levels with the least squared error."""
    peak = np.maximum(np.abs(weights).max(1, keepdims=True), 1e-30) / PEER_LEVELS
    best, least = peak, np.full(peak.shape, np.inf)
    for share in np.linspace(0.4, 1.0, 25):
        scale = peak * share
        error = np.square(nearest(weights, scale) - weights).sum(1, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def nearest(weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The nearest of 15 even levels."""
    return np.clip(np.rint(weights / scale), -PEER_LEVELS, PEER_LEVELS) * scale


def rounded(weights: np.ndarray) -> np.ndarray:
    """Plain rounding, scaled to each output's peak: on outliers better than the least error."""
    peak = np.maximum(np.abs(weights).max(1, keepdims=True), 1e-30) / PEER_LEVELS
    return nearest(weights, peak).astype(np.float32)


def gptq(weights: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """GPTQ (Frantar et al., 2022), inputs in falling order of their second moment, no groups."""
    hessian = hessian.astype(np.float64)
    hessian += DAMPING * np.trace(hessian) / len(hessian) * np.eye(len(hessian))
    order = np.argsort(-np.diagonal(hessian), kind="stable")
    upper = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(order, order)])).T
    left, scale = weights[:, order].astype(np.float64), even_scale(weights)
    result = np.empty_like(left)
    for i in range(left.shape[1]):
        result[:, i] = nearest(left[:, i], scale[:, 0])
        left[:, i:] -= ((left[:, i] - result[:, i]) / upper[i, i])[:, None] * upper[i, None, i:]
    return result[:, np.argsort(order)].astype(np.float32)


def gptq_change(checkpoint: Checkpoint, options: QuantizeOptions):
    """Return the change of block matrices that GPTQ makes, Hessians of the float model."""
    hessians: dict[tuple[int, str], np.ndarray] = {}

    def tap(layer: int, name: str, x: np.ndarray) -> None:
        if name in INPUTS:
            at = layer, INPUTS[name]
            hessians[at] = hessians.get(at, 0) + x.T @ x

    model = FloatModel(checkpoint)
    for window in calibration_windows(checkpoint, options):
        model.hidden(window, tap)

    def change(name: str, weights: np.ndarray) -> np.ndarray:
        prefix, _, short = name.rpartition(".")
        return gptq(weights, hessians[int(prefix.split(".")[1]), SOURCE[short]])

    return change


def row(model: str, text: str, what: str, found: Score, reference: Score, seconds: float) -> None:
    """Print one line of the table."""
    print(
        f"{model:24} {text:13} {what:26} {found.tokens:6} {found.perplexity:9.4f} "
        f"{found.bits_per_byte:7.4f} {growth_percent(found, reference):8.2f} {seconds:7.0f}",
        flush=True,
    )


def measure(name: str, bits: list[float], tokens: int | None, peers: bool) -> None:
    """Print all rows of one model."""
    checkpoint = open_checkpoint(name)
    used = {"code": texts()["code"]} if name.startswith("bundled") else texts()
    windows = {text: windows_of(checkpoint, content) for text, content in used.items()}
    float_scores: dict[str, Score] = {}

    def size(ids) -> int:
        return len(checkpoint.tokenizer.decode_bytes(ids))

    def rows(what: str, forward: Callable[[np.ndarray], np.ndarray], began: float) -> None:
        spent = time.monotonic() - began
        for text, parts in windows.items():
            found = score(forward, parts, size)
            row(checkpoint.source, text, what, found, float_scores.setdefault(text, found), spent)

    rows("float", FloatModel(checkpoint).logits, time.monotonic())
    looked: Cache = {}
    for average in bits:
        began, cache = time.monotonic(), dict(looked)
        options = QuantizeOptions(bits=average, tokens=tokens, context=WINDOW)
        model = quantize(checkpoint, options, cache=cache)
        looked = {"look": cache["look"]}  # the same for all widths
        golden = Golden(model)
        what = f"chip, {model.bits_per_weight:.2f} bits"
        rows(what, lambda ids, golden=golden: golden.logits(golden.residual(ids)), began)
    if peers:
        began = time.monotonic()
        rows("rounded, 4 bits", FloatModel(Replaced(checkpoint, lambda _, w: rounded(w))).logits, began)  # fmt: skip # noqa: E501
        began = time.monotonic()
        change = gptq_change(checkpoint, QuantizeOptions(tokens=tokens))
        rows("GPTQ, 4 bits", FloatModel(Replaced(checkpoint, change)).logits, began)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="accuracy of the chip beside the float model")
    parser.add_argument("models", nargs="*", default=["bundled-float", "smollm2"])
    parser.add_argument("--bits", type=float, nargs="*", default=list(BITS))
    parser.add_argument("--tokens", type=int, help="of calibration; default: by the model's size")
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    print(
        f"{'model':24} {'text':13} {'what':26} {'tokens':>6} {'perplexity':>9} {'bits/B':>6} "
        f"{'growth %':>8} {'seconds':>7}"
    )
    for name in options.models:
        measure(name, options.bits, options.tokens, not options.no_peers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"peak memory {peak:.2f} GB; seconds are those of quantizing, the gradient pass in the "
        "first row of a model only"
    )


if __name__ == "__main__":
    main()
