"""Train the float model on, with 4-bit hardwiring in the loop, so that hardwiring costs little.

Each step hardwires the weights (:mod:`hardwire`), takes the loss of the result and moves the float
weights by its gradient. What is saved are the float weights: they end near what 4 bits can say, in
the basis of the compiler's own rotation.

    python models/train_quantized.py --start build/bundled-float --work build/bundled
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from corpus import held_out
from evaluate import bits_per_byte
from hardwire import Hardwiring, hardwired
from llama import Shape, Weights
from tokenizers import Tokenizer
from train_bundled import ADAM_RATE, MUON_RATE, SEED, Batches, Gradient, Run, prepare

BITS = 4
STEPS, LENGTH, TESTS = 600, 512, 0.0625
WARM_UP = 40
SHARE_OF_RATE = 0.3


def rate(step: int) -> float:
    """Return the share of the float model's learning rate: warm-up, then a linear fall to zero."""
    return SHARE_OF_RATE * min((step + 1) / WARM_UP, (STEPS - step) / (STEPS - WARM_UP))


def passed_on(weights: Weights, rounded: Weights, gradients: Weights) -> Weights:
    """Take the gradient with respect to hardwired weights on to the float weights behind them."""
    changing = [name for name, weight in rounded.items() if weight.requires_grad]
    found = torch.autograd.grad(
        [rounded[name] for name in changing],
        list(weights.values()),
        [gradients[name] for name in changing],
    )
    return dict(zip(weights, found, strict=True))


def report(run: Run, shape: Shape, tokenizer: Tokenizer, texts: dict[str, str]) -> None:
    """Print the held-out figures of the float weights and of the same weights hardwired."""
    with torch.no_grad():
        rounded = hardwired(run.weights, shape, BITS)
    for what, weights in (("float", run.weights), ("hardwired", rounded)):
        figures = bits_per_byte(weights, shape, tokenizer, texts)
        print(f"step {run.step} held out, {what}: {json.dumps(figures)}", flush=True)


def train(start: Path, work: Path, stop: int) -> Weights:
    """Train up to step ``stop`` from the checkpoint in ``start``, resuming where it was left."""
    shape, tokenizer, library, tests = prepare(start)
    batches = Batches(library, tests, LENGTH, TESTS, SEED + 200)
    run, texts = Run(torch.load(start / "checkpoint.pt")["weights"]), held_out()
    work.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(start / "tokenizer.json", work / "tokenizer.json")  # the export takes it along
    run.resume(work / "checkpoint.pt")
    hardwiring, gradient = Hardwiring(shape, BITS), Gradient(shape)
    while run.step < stop:
        if run.step % 100 == 0:
            hardwiring.scales.clear()  # searched again, so that a resumed run does the same
        share = rate(run.step)
        rounded = hardwiring(run.weights)
        leaves = {name: weight.detach().requires_grad_() for name, weight in rounded.items()}
        nats, found = gradient(leaves, batches.batch(run.step))
        run.descend(
            nats, passed_on(run.weights, rounded, found), MUON_RATE * share, ADAM_RATE * share
        )
        if run.step % 100 == 0 or run.step == stop:
            run.save(work / "checkpoint.pt")
        if run.step == stop:
            report(run, shape, tokenizer, texts)
    return run.weights


def main() -> None:
    """Train with hardwiring in the loop; export.py makes the shipped folder of the result."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--start", type=Path, default=Path("build/bundled-float"))
    parser.add_argument("--work", type=Path, default=Path("build/bundled"))
    parser.add_argument("--stop", type=int, default=STEPS)
    arguments = parser.parse_args()
    train(arguments.start, arguments.work, arguments.stop)


if __name__ == "__main__":
    main()
