"""What several test files share."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tiny_chip import QUICK, quick_emit, tiny_checkpoint

from intaglio.flow.compile import compile_model
from intaglio.hardware import emit


@pytest.fixture(scope="session")
def made_home(tmp_path_factory) -> Callable[[int], Path]:
    """``made_home(context)``: a folder with a checkpoint ``tiny``, its package ``chip``, and the
    ``cache`` of that compile. It is made once; a test that changes it copies it first."""

    @cache
    def make(context: int) -> Path:
        folder = tmp_path_factory.mktemp("home")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(emit, "emit", quick_emit)
            patch.setenv("INTAGLIO_CACHE", str(folder / "cache"))
            checkpoint = tiny_checkpoint(folder / "tiny", max_position_embeddings=context)
            compile_model(str(checkpoint), folder / "chip", QUICK)
        return folder

    return make
