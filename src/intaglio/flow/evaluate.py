"""Evaluate: the chip beside its float checkpoint on a text; what came out stays in the package."""

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

from intaglio import __version__
from intaglio.errors import BadInput
from intaglio.flow.adapters import open_adapter
from intaglio.flow.engines import check_engine, open_source
from intaglio.flow.origin import checkpoint_of
from intaglio.flow.package import LATER, Package
from intaglio.flow.progress import Progress, silent
from intaglio.flow.reference import reference_score, watch
from intaglio.flow.stages import put_stage
from intaglio.quantity import is_number
from intaglio.quantize import cut, growth_percent, score


def evaluate_package(
    package: Package,
    text: str,
    *,
    name: str = "",
    model: str | None = None,
    engine: str = "twin",
    adapter: str | None = None,
    window: int = 512,
    limit: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Perplexity and bits per byte of chip and float checkpoint on ``text``.

    ``name``: of the text. ``model``: the checkpoint; by default the name the package was compiled
    from. ``limit``: at most so many windows' worth of tokens. ``engine``: what runs the chip.
    ``adapter``: ``NAME=DIR``, a PEFT folder, which float and chip then have both.
    """
    started = time.monotonic()
    check_engine(engine)
    if limit is not None and limit < 1:
        raise BadInput(f"limit must be at least 1 token, not {limit}")
    checkpoint = checkpoint_of(package, model)
    chosen = None
    if adapter is not None:
        chosen = open_adapter(package, adapter, model=model, progress=progress)
    tokenizer = package.tokenizer
    window = min(window, package.plan.context)
    windows = cut(
        tokenizer.encode(text), window, tokenizer.begin_ids, -(-limit // window) if limit else None
    )

    def size(ids: Sequence[int]) -> int:
        return len(tokenizer.decode_bytes(ids))

    adapted = chosen.source if chosen else None
    scores = {"float": reference_score(checkpoint, adapted, windows, size, progress)}
    source = open_source(package, engine, progress, chosen)
    try:  # one of the twin's windows is looked at while the next is run
        watched = watch(windows, "evaluating chip", progress)
        together = 2 if engine == "twin" else 1
        scores["chip"] = score(source.logits, watched, size, together=together)
    finally:
        source.close()
    return {
        "tokens": scores["chip"].tokens,
        "bytes": scores["chip"].bytes,
        **{
            name: {"perplexity": s.perplexity, "bits_per_byte": s.bits_per_byte}
            for name, s in scores.items()
        },
        "engine": engine,
        "adapter": chosen.name if chosen else None,
        "growth_percent": growth_percent(scores["chip"], scores["float"]),
        "text": facts_of(name, text),
        "window": window,
        "seconds": time.monotonic() - started,
    }


def facts_of(name: str, text: str) -> dict[str, Any]:
    """What is kept of a text: its name, and hash and size of its bytes."""
    content = text.encode("utf-8", "surrogatepass")
    return {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def keep_evaluation(package: Package, values: dict[str, Any]) -> Package:
    """Put an evaluation into its package in place of the one before; no word of the text.

    A report that is there rests on it: it goes where that changes. One with an adapter is of
    another model, one without a finite growth says nothing: neither is kept. Raises ``OSError``
    where it cannot be written.
    """
    if values["adapter"] is not None or not is_number(values["growth_percent"]):
        return package
    kept = {key: value for key, value in values.items() if key != "seconds"}
    content = json.dumps(kept, indent=1, sort_keys=True) + "\n"
    options = {key: values[key] for key in ("engine", "text", "window", "tokens")}
    figures = {"growth_percent": values["growth_percent"]}
    files = {LATER["evaluate"][0]: content.encode()}
    return put_stage(package, "evaluate", files, options, {"intaglio": __version__}, figures)
