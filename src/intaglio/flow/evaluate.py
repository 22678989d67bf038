"""Evaluate: the chip beside its float checkpoint on a text."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from intaglio.checkpoint import FloatModel, open_checkpoint
from intaglio.errors import BadInput
from intaglio.flow.compile import NAMES
from intaglio.flow.package import Package
from intaglio.flow.progress import Progress, silent
from intaglio.golden.forward import Golden
from intaglio.quantize import Score, cut, growth_percent, score


def evaluate_package(
    package: Package,
    text: str,
    *,
    model: str | None = None,
    window: int = 512,
    limit: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Perplexity and bits per byte of chip and float checkpoint on ``text``.

    ``model``: the checkpoint; by default the name the package was compiled from. ``limit``: at most
    so many windows' worth of tokens.
    """
    started = time.monotonic()
    if limit is not None and limit < 1:
        raise BadInput(f"limit must be at least 1 token, not {limit}")
    checkpoint = open_checkpoint(model or default_model(package))
    if checkpoint.content_hash != package.options["checkpoint"]:
        raise BadInput(
            f"{checkpoint.source}: not the checkpoint that {package.path} was compiled from",
            hint="name the right one with --model",
        )
    tokenizer = package.tokenizer
    window = min(window, package.plan.context)
    windows = cut(
        tokenizer.encode(text), window, tokenizer.begin_ids, -(-limit // window) if limit else None
    )

    def size(ids: Sequence[int]) -> int:
        return len(tokenizer.decode_bytes(ids))

    golden = Golden(package.model, context=window)
    forwards = {
        "float": FloatModel(checkpoint).logits,
        "chip": lambda ids: golden.logits(golden.residual(ids)),
    }
    scores: dict[str, Score] = {}
    for name, forward in forwards.items():
        watched = watch(windows, f"evaluating {name}", progress)
        scores[name] = score(forward, watched, size)
    return {
        "tokens": scores["chip"].tokens,
        "bytes": scores["chip"].bytes,
        **{
            name: {"perplexity": s.perplexity, "bits_per_byte": s.bits_per_byte}
            for name, s in scores.items()
        },
        "growth_percent": growth_percent(scores["chip"], scores["float"]),
        "seconds": time.monotonic() - started,
    }


def watch(windows: list[np.ndarray], step: str, progress: Progress) -> Iterator[np.ndarray]:
    """Yield the windows, telling how far they are."""
    for index, window in enumerate(windows):
        progress(step, index / len(windows), f"window {index + 1} of {len(windows)}")
        yield window
    progress(step, 1, "")


def default_model(package: Package) -> str:
    """The checkpoint's name, where the package was compiled from one that has a name."""
    name = package.source.split(" ")[0]
    if name not in NAMES:
        raise BadInput(
            f"{package.path}: was compiled from a checkpoint that has no name of its own",
            hint="give the float checkpoint with --model",
        )
    return name
