"""Train the float model: a small Llama that completes Python code, on a CPU, repeatably.

The same seed on the same machine and the same versions gives the same file. Training stops and
resumes at its checkpoint file; delete that to start again.

    python models/train_bundled.py --work build/bundled-float
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from corpus import held_out, training
from evaluate import bits_per_byte
from llama import Shape, Weights, initial_weights, loss, turns
from muon import Optimizer
from tokenizers import Tokenizer
from tokens import Windows, encode, train_tokenizer
from torch import Tensor

SEED = 1
THREADS = 2
TOKENS_PER_STEP = 8192
WARM_UP = 100
MUON_RATE = 0.02
ADAM_RATE = 0.004

# The first stretch reads short windows at a constant rate, with a quarter of test files among
# them; the second reads full windows, nearly all library, while the rate falls to zero.
FIRST_STEPS, FIRST_LENGTH, FIRST_TESTS = 1600, 256, 0.25
SECOND_STEPS, SECOND_LENGTH, SECOND_TESTS = 700, 512, 0.0625


class Batches:
    """The batch of each step, independent of every other step."""

    def __init__(self, library: list, tests: list, length: int, share: float, seed: int):
        rows = TOKENS_PER_STEP // length
        self.from_tests = round(rows * share)
        self.from_library = rows - self.from_tests
        self.library = Windows(library, length, seed)
        self.tests = Windows(tests, length, seed + 1)

    def batch(self, step: int) -> torch.Tensor:
        """Return the windows of ``step``, (rows, length + 1)."""
        library = self.library.take(step * self.from_library, self.from_library)
        tests = self.tests.take(step * self.from_tests, self.from_tests)
        return torch.cat((library, tests))


def rate(step: int) -> float:
    """Return the share of the full learning rate at ``step``: warm-up, constant, linear fall."""
    left = (FIRST_STEPS + SECOND_STEPS - step) / SECOND_STEPS
    return min((step + 1) / WARM_UP, 1.0, left)


def tokenizer_for(work: Path, library: dict[str, str], vocabulary: int) -> Tokenizer:
    """Train the tokenizer, or read it again; generated code pages would waste its merges."""
    path = work / "tokenizer.json"
    if not path.exists():
        texts = [text for name, text in library.items() if not name.startswith("encodings/")]
        train_tokenizer(texts, vocabulary).save(str(path))
    return Tokenizer.from_file(str(path))


class Run:
    """Weights, optimizer and progress of one training, with its checkpoint."""

    def __init__(self, weights: Weights):
        self.weights, self.optimizer = weights, Optimizer(weights)
        self.step, self.earlier, self.began = 0, 0.0, time.time()
        self.recent: list[float] = []

    @property
    def seconds(self) -> float:
        """Training time so far, the runs before included."""
        return self.earlier + time.time() - self.began

    def resume(self, path: Path) -> None:
        """Go on from the checkpoint at ``path`` if there is one; then weights take gradients."""
        if path.exists():
            stored = torch.load(path)
            self.step, self.earlier, self.weights = (
                stored["step"], stored["seconds"], stored["weights"]
            )  # fmt: skip
            self.optimizer.state, self.optimizer.steps = stored["state"], self.step
        for weight in self.weights.values():
            weight.requires_grad_()

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        partial = path.with_suffix(".partial")
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        state = {"step": self.step, "seconds": self.seconds, "weights": weights}
        torch.save(state | {"state": self.optimizer.state}, partial)
        partial.replace(path)

    def descend(self, nats: float, gradients: Weights, muon: float, adam: float) -> None:
        """Take one step down ``gradients``, and print the mean loss now and then."""
        self.optimizer.step(self.weights, gradients, muon, adam)
        self.recent.append(nats)
        self.step += 1
        if self.step % 50 == 0:
            mean = sum(self.recent) / len(self.recent)
            print(f"step {self.step} loss {mean:.4f} {self.seconds:.0f} s", flush=True)
            self.recent = []


class Gradient:
    """The loss of a batch and its gradient, each thread doing its own share of the windows.

    Threads that meet once a step lose far less to other work on the machine than threads that
    share every matrix product.
    """

    def __init__(self, shape: Shape):
        self.shape, self.turn = shape, turns(shape)
        self.compiled = torch.compile(loss, dynamic=False)
        self.pool = ThreadPoolExecutor(THREADS)

    def _share(self, weights: Weights, windows: Tensor) -> tuple[float, tuple[Tensor, ...]]:
        with torch.autocast("cpu", torch.bfloat16):
            nats = self.compiled(weights, windows, self.shape, self.turn)
        return float(nats.detach()), torch.autograd.grad(nats, list(weights.values()))

    def __call__(self, weights: Weights, windows: Tensor) -> tuple[float, Weights]:
        """Return the mean loss in nats and its gradient for each of ``weights``."""
        shares = windows.chunk(THREADS)
        results = list(self.pool.map(self._share, [weights] * THREADS, shares))
        summed = [
            sum(parts) / THREADS for parts in zip(*(found for _, found in results), strict=True)
        ]
        return sum(nats for nats, _ in results) / THREADS, dict(zip(weights, summed, strict=True))


def prepare(work: Path) -> tuple[Shape, Tokenizer, list[np.ndarray], list[np.ndarray]]:
    """Fix seed and threads; return shape, tokenizer and the tokens of library and tests."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # of each thread in Gradient
    torch.use_deterministic_algorithms(True)
    work.mkdir(parents=True, exist_ok=True)
    shape = Shape()
    library, tests = training()
    tokenizer = tokenizer_for(work, library, shape.vocabulary)
    return shape, tokenizer, encode(tokenizer, library.values()), encode(tokenizer, tests.values())


def train(work: Path, stop: int) -> Weights:
    """Train up to step ``stop`` in folder ``work``, resuming where it was left."""
    shape, tokenizer, library, tests = prepare(work)
    first = Batches(library, tests, FIRST_LENGTH, FIRST_TESTS, SEED)
    second = Batches(library, tests, SECOND_LENGTH, SECOND_TESTS, SEED + 100)
    run, texts, gradient = Run(initial_weights(shape, SEED)), held_out(), Gradient(shape)
    run.resume(work / "checkpoint.pt")
    while run.step < stop:
        early, share = run.step < FIRST_STEPS, rate(run.step)
        windows = first.batch(run.step) if early else second.batch(run.step - FIRST_STEPS)
        run.descend(*gradient(run.weights, windows), MUON_RATE * share, ADAM_RATE * share)
        if run.step % 100 == 0 or run.step == stop:
            run.save(work / "checkpoint.pt")
        if run.step % 800 == 0 or run.step == stop:
            figures = bits_per_byte(run.weights, shape, tokenizer, texts)
            print(f"step {run.step} held out {json.dumps(figures)}", flush=True)
    return run.weights


def main() -> None:
    """Train the float model in a working folder; export.py makes the shipped folder of it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/bundled-float"))
    parser.add_argument("--stop", type=int, default=FIRST_STEPS + SECOND_STEPS)
    arguments = parser.parse_args()
    train(arguments.work, arguments.stop)


if __name__ == "__main__":
    main()
