"""Where a package came from: its float checkpoint."""

from intaglio.checkpoint import BUNDLED, Checkpoint, open_checkpoint
from intaglio.errors import BadInput
from intaglio.flow.package import Package

NAMES = (*BUNDLED, "smollm2")
"""The checkpoints that are known by a name."""


def checkpoint_of(package: Package, model: str | None = None) -> Checkpoint:
    """The checkpoint that a package was compiled from.

    ``model``: where it is; by default the name it was compiled by. Raises :class:`BadInput` for
    another one.
    """
    checkpoint = open_checkpoint(model or default_model(package))
    if checkpoint.content_hash != package.options["checkpoint"]:
        raise BadInput(
            f"{checkpoint.source}: not the checkpoint that {package.path} was compiled from",
            hint="name the right one with --model",
        )
    return checkpoint


def default_model(package: Package) -> str:
    """The checkpoint's name, where the package was compiled from one that has a name."""
    name = package.source.split(" ")[0]
    if name not in NAMES:
        raise BadInput(
            f"{package.path}: was compiled from a checkpoint that has no name of its own",
            hint="give the float checkpoint with --model",
        )
    return name
