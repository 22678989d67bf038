"""Evaluate: the chip beside its float checkpoint on a text."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from intaglio.checkpoint import BUNDLED, FloatModel, open_checkpoint
from intaglio.errors import BadInput
from intaglio.flow.package import Package
from intaglio.golden.forward import Golden
from intaglio.quantize.evaluate import Score, cut, growth_percent, score

Progress = Callable[[str, int, int], None]


def evaluate_package(
    package: Package,
    text: str,
    *,
    model: str | None = None,
    window: int = 512,
    limit: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Perplexity and bits per byte of chip and float checkpoint on ``text``.

    ``model``: the checkpoint; by default the name the package was compiled from. ``limit``: at most
    so many windows' worth of tokens.
    """
    started = time.monotonic()
    show = progress or (lambda *_: None)
    checkpoint = open_checkpoint(model or default_model(package))
    recorded = package.manifest["stages"]["compile"]["options"]["checkpoint"]
    if checkpoint.content_hash != recorded:
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
        watched = watch(windows, f"evaluating {name}", show)
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


def watch(windows: list[np.ndarray], step: str, show: Progress) -> Iterator[np.ndarray]:
    """Yield the windows, telling ``show`` how far they are."""
    for index, window in enumerate(windows):
        show(step, index, len(windows))
        yield window
    show(step, len(windows), len(windows))


def default_model(package: Package) -> str:
    """The checkpoint's name, where the package was compiled from one that has a name."""
    name = package.source.split(" ")[0]
    if name not in (*BUNDLED, "smollm2"):
        raise BadInput(
            f"{package.path}: compiled from {package.source!r}, which has no name of its own",
            hint="give the float checkpoint with --model",
        )
    return name
