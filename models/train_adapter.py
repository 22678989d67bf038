"""Train the shipped adapter: LoRA factors that teach the bundled model, of Python, some C.

The weights of the bundled model stay as they are: they lie on the codes of its chip. The same seed
on the same machine and the same versions gives the same file.

    python models/train_adapter.py src/intaglio/models/adapters/c-headers --text build/held-out.txt
    intaglio evaluate chips/bundled --text build/held-out.txt --adapter c-headers
"""

import argparse
import json
import time
from pathlib import Path

import torch
from evaluate import bits_per_byte, load
from headers import held_out, training
from llama import Shape, Weights
from lora import halves, initial_factors, merged, passed_on, write_peft
from tokens import Windows, encode
from train_bundled import Gradient

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "src" / "intaglio" / "models" / "bundled"
SEED = 1
RANK, ALPHA = 8, 16
STEPS, WARM_UP, WINDOWS_PER_STEP = 600, 20, 8
RATE = 4e-3


def rate(step: int, steps: int) -> float:
    """Return the learning rate: warm-up, then a linear fall to zero."""
    return RATE * min((step + 1) / WARM_UP, (steps - step) / steps)


def train(weights: Weights, shape: Shape, windows: Windows, steps: int) -> Weights:
    """Return trained factors for frozen ``weights``."""
    factors = initial_factors(shape, RANK, SEED)
    optimizer = torch.optim.Adam(factors.values(), betas=(0.9, 0.98))
    gradient, recent, began = Gradient(shape), [], time.time()
    for step in range(steps):
        whole = merged(weights, factors, ALPHA / RANK)
        leaves = {name: weight.detach().requires_grad_() for name, weight in whole.items()}
        batch = windows.take(step * WINDOWS_PER_STEP, WINDOWS_PER_STEP)
        nats, found = gradient(leaves, batch)
        for factor, change in zip(factors.values(), passed_on(whole, found, factors), strict=True):
            factor.grad = change
        optimizer.param_groups[0]["lr"] = rate(step, steps)
        optimizer.step()
        recent.append(nats)
        if len(recent) == 20 or step + 1 == steps:
            mean = sum(recent) / len(recent)
            print(f"step {step + 1} loss {mean:.4f} {time.time() - began:.0f} s", flush=True)
            recent.clear()
    return factors


def main() -> None:
    """Train the adapter, write its folder, and print what its card says."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--text", type=Path, help="write the held-out headers here as one text")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # of each thread in Gradient
    torch.use_deterministic_algorithms(True)
    weights, shape, tokenizer = load(BUNDLED)
    known, unseen = training(), held_out()
    if arguments.text is not None:
        arguments.text.write_text("".join(unseen.values()))
    documents = encode(tokenizer, known.values())
    factors = train(weights, shape, Windows(documents, shape.context, SEED), arguments.steps)
    write_peft(arguments.folder, factors, RANK, ALPHA, BUNDLED.name)
    stored = {name: half.float() for name, half in halves(factors).items()}
    facts = {
        "training_files": len(known),
        "training_bytes": sum(len(text.encode()) for text in known.values()),
        "training_tokens": sum(len(document) for document in documents),
        "held_out_files": len(unseen),
        "held_out_bytes": sum(len(text.encode()) for text in unseen.values()),
        "cpu_seconds": round(time.process_time()),
        "before": bits_per_byte(weights, shape, tokenizer, unseen)["all"],
        "after": bits_per_byte(merged(weights, stored, ALPHA / RANK), shape, tokenizer, unseen)[
            "all"
        ],
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
