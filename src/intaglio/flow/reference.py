"""The float checkpoint's score of a text: measured once, then kept by the hash of both."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from intaglio.checkpoint import Checkpoint, FloatModel
from intaglio.checkpoint.peft import FloatAdapter, Merged
from intaglio.flow.cache import UNREADABLE, Store, key_of
from intaglio.flow.engines import blocks
from intaglio.flow.progress import Progress
from intaglio.quantize import Score, score
from intaglio.twin import processors

FILE, STEP = "score.json", "evaluating float"


def reference_score(
    checkpoint: Checkpoint,
    adapter: FloatAdapter | None,
    windows: list[np.ndarray],
    count_bytes: Callable[[Sequence[int]], int],
    progress: Progress,
) -> Score:
    """Score of the float checkpoint, with an adapter or without, on windows of tokens."""
    ids = hashlib.sha256()
    for window in windows:
        ids.update(len(window).to_bytes(8, "little") + window.tobytes())
    key = key_of(
        reference=checkpoint.content_hash, adapter=adapter.content_hash if adapter else None,
        windows=ids.hexdigest(), bytes=sum(count_bytes(each[1:].tolist()) for each in windows),
    )  # fmt: skip
    store = Store("references")
    with store.locked(key, progress):
        found = kept(store, key)
        if found is None:
            model = FloatModel(Merged(checkpoint, adapter) if adapter else checkpoint)
            with threadpool_limits(1):  # a window per processor: only its products could use more
                found = score(
                    partial(float_logits, model), watch(windows, STEP, progress), count_bytes,
                    together=processors(),
                )  # fmt: skip
            with store.make(key) as folder:
                (folder / FILE).write_text(json.dumps(asdict(found)), "utf-8")
    return found


def kept(store: Store, key: str) -> Score | None:
    """The score of ``key``; None where it is not there or cannot be read."""
    folder = store.find(key)
    if folder is None:
        return None
    try:
        return Score(**json.loads((folder / FILE).read_text("utf-8")))
    except (*UNREADABLE, TypeError):
        store.drop(key)
        return None


def float_logits(model: FloatModel, ids: np.ndarray) -> Iterator[np.ndarray]:
    """Logits of a float model after every one of ``ids`` [T], by blocks of rows."""
    hidden = model.hidden(ids)
    for rows in blocks(len(ids), model.architecture.vocabulary):
        yield model.head(hidden[rows])


def watch(windows: list[np.ndarray], step: str, progress: Progress) -> Iterator[np.ndarray]:
    """Yield the windows, telling how far they are."""
    for index, window in enumerate(windows):
        progress(step, index / len(windows), f"window {index + 1} of {len(windows)}")
        yield window
    progress(step, 1, "")
