"""Train an adapter that wins back what engraving lost: LoRA beside the codes of a finished chip.

The student has the weights that the chip's codes stand for (:mod:`engraved`), frozen, and LoRA
factors on all matrices; the teacher is the float checkpoint. The loss is the divergence of their
next tokens (Kullback-Leibler, in nats per token) on the compiler's calibration text and Python's
documentation, without the half of it that ``benchmarks/accuracy.py`` measures on. Activations are
not rounded in training; the adapter itself is, when the chip takes it.

    intaglio compile smollm2 --bits 3 -o chips/smollm2-3
    python models/train_recovery.py chips/smollm2-3 build/recovery
    python benchmarks/adapter.py chips/smollm2-3 build/recovery TEXT

The folder is written anew now and then, so that a stopped run leaves an adapter, too.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from engraved import as_found, engraved, gains, shape_of
from llama import Shape, Weights, logits, turns
from lora import DOWN, initial_factors, merged, passed_on, write_peft
from tokens import Windows
from torch import Tensor
from train_bundled import THREADS

from intaglio.checkpoint import Tokenizer
from intaglio.flow.origin import checkpoint_of
from intaglio.flow.package import open_package
from intaglio.quantize.calibrate import default_text

SEED = 1
RANK, ALPHA = 16, 32
STEPS, WARM_UP, WINDOWS_PER_STEP, LENGTH = 300, 20, 4, 512
RATE = 1e-3
SHOWN, KEPT = 10, 50  # steps between lines, and between folders written

Share = tuple[float, list[Tensor]]
"""Nats and gradients, summed over a thread's windows."""


def texts() -> list[str]:
    """Return the texts to train on; no paragraph of a held-out topic is among them."""
    names = sorted(topics)
    unseen = "\n\n".join(topics[name] for name in names[len(names) // 2 :])
    kept = [
        "\n\n".join(part for part in topics[name].split("\n\n") if part.strip() not in unseen)
        for name in names[: len(names) // 2]
    ]
    return [default_text(), *(text for text in kept if text)]


def documents(tokenizer: Tokenizer) -> list[np.ndarray]:
    """Return the tokens of each text, as a text begins."""
    return [
        np.array([*tokenizer.begin_ids, *tokenizer.encode(text)], dtype=np.int64)
        for text in texts()
    ]


def beside(factors: Weights, gain: Weights) -> Weights:
    """Return factors for weights whose gains are folded in: each A takes its matrix' gain."""

    def taken(name: str, factor: Tensor) -> Tensor:
        found = gain.get(f"{name.removesuffix(DOWN)}.weight") if name.endswith(DOWN) else None
        return factor if found is None else factor * found

    return {name: taken(name, factor) for name, factor in factors.items()}


class Divergence:
    """How far a student is from the teacher, and the gradient, each thread on its own windows.

    As in training a model, threads that meet once a step lose far less to other work on the
    machine. A thread holds one window's scores at a time: those of a large vocabulary are many.
    """

    def __init__(self, teacher: Weights, shape: Shape) -> None:
        self.teacher, self.shape, self.turn = teacher, shape, turns(shape)
        self.pool = ThreadPoolExecutor(THREADS)

    def _next(self, weights: Weights, window: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            scores = logits(weights, window[None], self.shape, self.turn)[0]
        return scores.float().log_softmax(-1)

    def _share(self, leaves: Weights, changing: list[Tensor], windows: Tensor) -> Share:
        total, summed = 0.0, [torch.zeros_like(leaf) for leaf in changing]
        for window in windows:
            with torch.no_grad():
                wanted = self._next(self.teacher, window)
            given = self._next(leaves, window)
            nats = F.kl_div(given, wanted, reduction="batchmean", log_target=True)
            for kept, found in zip(summed, torch.autograd.grad(nats, changing), strict=True):
                kept += found
            total += float(nats.detach())
        return total, summed

    def __call__(self, leaves: Weights, windows: Tensor) -> tuple[float, Weights]:
        """Return nats per token, the mean, and its gradient for ``leaves`` that take one."""
        names = [name for name, leaf in leaves.items() if leaf.requires_grad]
        changing = [leaves[name] for name in names]
        shares = list(
            self.pool.map(lambda part: self._share(leaves, changing, part), windows.chunk(THREADS))
        )
        mean = [sum(parts) / len(windows) for parts in zip(*(g for _, g in shares), strict=True)]
        return sum(nats for nats, _ in shares) / len(windows), dict(zip(names, mean, strict=True))


def rate(step: int, steps: int) -> float:
    """Return the share of the learning rate: warm-up, then a linear fall to zero."""
    return min((step + 1) / WARM_UP, (steps - step) / steps)


def train(
    frozen: Weights,
    gain: Weights,
    divergence: Divergence,
    windows: Windows,
    options: argparse.Namespace,
    keep: Callable[[Weights], None],
) -> None:
    """Train factors beside ``frozen`` weights; hand them to ``keep`` now and then."""
    factors = initial_factors(divergence.shape, RANK, SEED)
    optimizer = torch.optim.Adam(factors.values(), betas=(0.9, 0.98))
    recent, began = [], time.time()
    for step in range(options.steps):
        whole = merged(frozen, beside(factors, gain), ALPHA / RANK)
        leaves = {
            name: weight.detach().requires_grad_(weight.requires_grad)
            for name, weight in whole.items()
        }
        batch = windows.take(step * WINDOWS_PER_STEP, WINDOWS_PER_STEP)
        nats, found = divergence(leaves, batch[:, :-1])
        for factor, change in zip(factors.values(), passed_on(whole, found, factors), strict=True):
            factor.grad = change
        optimizer.param_groups[0]["lr"] = options.rate * rate(step, options.steps)
        optimizer.step()
        recent.append(nats)
        last = step + 1 == options.steps
        if len(recent) == SHOWN or last:
            mean, spent = sum(recent) / len(recent), time.time() - began
            print(f"step {step + 1} divergence {mean:.4f} {spent:.0f} s", flush=True)
            recent.clear()
        if (step + 1) % KEPT == 0 or last:
            keep(factors)


def main() -> None:
    """Train an adapter for a chip package and write it as a PEFT folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("chip", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="the float checkpoint, where it has no name of its own")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=RATE)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # of each thread in Divergence
    torch.use_deterministic_algorithms(True)
    package = open_package(options.chip)
    checkpoint = checkpoint_of(package, options.model)
    length = min(LENGTH, package.plan.context)
    divergence = Divergence(as_found(checkpoint), shape_of(checkpoint.architecture, length))
    windows = Windows(documents(checkpoint.tokenizer), length, SEED)

    def keep(factors: Weights) -> None:
        write_peft(options.folder, factors, RANK, ALPHA, package.source)

    train(
        engraved(checkpoint, package.model), gains(checkpoint), divergence, windows, options, keep
    )


if __name__ == "__main__":
    main()
