"""The chip package: a folder that holds a chip, checked whenever it is opened.

``manifest.json``: ``format``; ``hash`` of the integer model; ``model``, what it was called; and
``stages``, each with the SHA-256 of its ``files``, its ``options`` in a normal form, the versions
of the ``tools`` that made it, and its ``figures``. No path and no time is in it.
"""

import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.errors import BadInput, BadPackage
from intaglio.flow.folder import copy_file, file_hashes, files_below, restore
from intaglio.golden.model import IntModel
from intaglio.plan.chip import ChipPlan

FORMAT = 1
MANIFEST = "manifest.json"
LATER = {
    "verify": ("verdict.json",), "evaluate": ("evaluation.json",),
    "report": ("metrics.json", "report.html"),
}  # fmt: skip
"""Stages after compile, and their files, which lie beside the manifest."""
RESTING = {"verify": ("report",), "evaluate": ("report",), "report": ()}
"""The stages that say what a stage said: where it changes, they go."""
FOLDERS = ("masks",)
"""Stages after compile that are a folder each; they rest on compile alone."""
AGAIN = "compile the model again"
CLEAR = "move or delete the folder, then compile the model again"


@dataclass(frozen=True)
class Package:
    """A chip package on disk, its files as its manifest says."""

    path: Path
    manifest: dict[str, Any]

    @property
    def hash(self) -> str:
        """The integer model's hash."""
        return self.manifest["hash"]

    @property
    def source(self) -> str:
        """What the model was called when it was compiled."""
        return self.manifest["model"]

    @property
    def options(self) -> dict[str, Any]:
        """What the chip was compiled with, and the hashes of what it was compiled from."""
        return self.manifest["stages"]["compile"]["options"]

    @property
    def parameters(self) -> int:
        """Weights of the checkpoint, a tied embedding counted once."""
        return self.manifest["stages"]["compile"]["figures"]["parameters"]

    @property
    def bits_per_weight(self) -> float:
        """Average stored bits over the block weights."""
        return self.manifest["stages"]["compile"]["figures"]["bits_per_weight"]

    @cached_property
    def model(self) -> IntModel:
        """The integer model; its hash is checked."""
        model = IntModel.load(self.path / "model.safetensors")
        if model.hash() != self.hash:
            raise BadPackage(
                f"{self.path}/model.safetensors: the model's hash must be {self.hash[:16]}..., "
                f"not {model.hash()[:16]}...",
                hint=AGAIN,
            )
        return model

    @cached_property
    def plan(self) -> ChipPlan:
        """The chip plan."""
        path = self.path / "plan.json"
        try:
            return ChipPlan.from_dict(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise BadPackage(f"{path}: damaged: {error}", hint=AGAIN) from None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with the chat template if the model has one."""
        return Tokenizer.load(self.path / "tokenizer")

    @property
    def verdict(self) -> dict[str, Any] | None:
        """What the last proof said, by the keys of ``verify --json``; None before the first."""
        return self._said("verify")

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The last evaluation, by the keys of ``evaluate --json``; None before the first."""
        return self._said("evaluate")

    def _said(self, stage: str) -> dict[str, Any] | None:
        if stage not in self.manifest["stages"]:
            return None
        path = self.path / LATER[stage][0]
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BadPackage(f"{path}: damaged: {error}", hint=AGAIN) from None

    @property
    def verilog(self) -> list[Path]:
        """The Verilog sources, in order."""
        return [
            self.path / name for name in sorted(listed(self.manifest))
            if PurePosixPath(name).parent.as_posix() == "rtl" and name.endswith((".v", ".sv"))
        ]  # fmt: skip

    @property
    def images(self) -> Path:
        """The folder of ROM images."""
        return self.path / "rtl" / "rom"


def manifest_text(manifest: dict[str, Any]) -> str:
    """The manifest as it is written."""
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def stage_entry(
    folder: Path, options: dict[str, Any], tools: dict[str, str], figures: dict[str, Any]
) -> dict[str, Any]:
    """A stage of the manifest: hashes of all files now in ``folder``, and how they were made."""
    names = files_below(folder)
    files = dict(zip(names, file_hashes(folder / name for name in names), strict=True))
    return {"files": files, "options": options, "tools": tools, "figures": figures}


def listed(manifest: dict[str, Any]) -> dict[str, str]:
    """The hash of every file of all stages, by its name."""
    return {n: h for stage in manifest["stages"].values() for n, h in stage["files"].items()}


def is_package(path: Path) -> bool:
    """Whether ``path`` holds a chip package's manifest, not another program's of that name."""
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return is_ours(manifest)


def refuse_inside(output: Path) -> None:
    """Raise :class:`BadInput` where an output would lie in a chip package, which lists its own."""
    for folder in output.resolve().parents:
        if is_package(folder):
            raise BadInput(
                f"{output}: lies in the chip package {folder}",
                hint="choose a place outside with --output",
            )


def refuse_unwritable(output: Path, above: Path) -> None:
    """Raise :class:`BadInput` where ``above``, which an output is to lie in, takes none."""
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise BadInput(f"{output}: cannot be written: {above} is not a folder that can be")


def refuse_no_file(output: Path) -> None:
    """Raise :class:`BadInput` where ``output`` cannot be a file, before it is worked for."""
    refuse_inside(output)
    if output.is_dir():
        raise BadInput(f"{output}: is a folder, not a file", hint="name a file with --output")
    refuse_unwritable(output, output.parent)


def refuse_no_new_folder(output: Path) -> None:
    """Raise :class:`BadInput` where ``output`` cannot be a new folder, before it is worked for."""
    refuse_inside(output)
    if output.exists():
        raise BadInput(f"{output}: is there already", hint="choose another folder")
    refuse_unwritable(output, next(f for f in output.resolve().parents if f.exists()))


def is_ours(manifest: Any) -> bool:
    """Whether what a manifest holds can only be a chip package's, however damaged."""
    return isinstance(manifest, dict) and {"format", "hash", "stages"} <= manifest.keys()


def foreign_files(path: Path) -> list[str]:
    """Files in a package that it does not know of; none where it is too damaged to tell.

    Those of later stages are its own even where a stage that was interrupted left them unlisted.
    """
    try:
        known = listed(read_manifest(path))
    except BadPackage:
        return []
    later = "|".join(re.escape(name) for name in (MANIFEST, *chain(*LATER.values())))
    folders = "|".join(map(re.escape, FOLDERS))
    own = re.compile(
        rf"{later}|\.({later})\.[0-9a-f]{{8}}\.partial"
        rf"|({folders}|\.({folders})\.[0-9a-f]{{8}}\.(partial|old))/.*"
    )
    return [name for name in files_below(path) if name not in known and not own.fullmatch(name)]


def read_manifest(path: Path) -> dict[str, Any]:
    """A package's manifest, of this format and with all it must have."""
    if not path.is_dir():
        found = "not a chip package but a file" if path.exists() else "no such chip package"
        raise BadPackage(f"{path}: {found}", hint="make one with `intaglio compile`")
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
    except FileNotFoundError:
        raise BadPackage(
            f"{path}: not a chip package: it has no {MANIFEST}",
            hint="make one with `intaglio compile`",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadPackage(f"{path}/{MANIFEST}: damaged: {error}", hint=CLEAR) from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise BadPackage(f"{path}/{MANIFEST}: not the manifest of a chip package")
    # what is too damaged to be told from another program's folder is not compiled over
    again = AGAIN if is_ours(manifest) else CLEAR
    if manifest["format"] != FORMAT:
        raise BadPackage(
            f"{path}: package format must be {FORMAT}, not {manifest['format']!r}",
            hint=f"{again} with this version",
        )
    try:
        check_manifest(manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadPackage(f"{path}/{MANIFEST}: damaged: {error!r}", hint=again) from None
    return manifest


def check_manifest(manifest: dict[str, Any]) -> None:
    """Raise an error of Python's own unless everything is there and names stay in the package."""
    stage = manifest["stages"]["compile"]
    texts = [manifest["hash"], manifest["model"], stage["options"]["checkpoint"]]
    float(stage["figures"]["bits_per_weight"])
    int(stage["figures"]["parameters"])
    files = listed(manifest)
    for text in (*texts, *files, *files.values()):
        if not isinstance(text, str):
            raise TypeError(f"must be text, not {text!r}")
    for name in files:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ValueError(f"file name must stay in the package, not {name!r}")


def open_package(path: Path) -> Package:
    """Open a chip package; its format and the hash of every file are checked first.

    Raises :class:`BadPackage` naming the file that is missing, changed or unexpected. What stands
    beside the manifest without being listed is ignored: a stage that was interrupted left it.
    """
    path = Path(path)
    restore(path)
    manifest = read_manifest(path)
    files = listed(manifest)
    refuse_unlisted(path, files)
    for name in files:
        if not (path / name).is_file():
            raise BadPackage(f"{path / name}: missing", hint=AGAIN)
    for name, found in zip(files, file_hashes(path / name for name in files), strict=True):
        if found != files[name]:
            raise BadPackage(
                f"{path / name}: its content is not what the manifest says", hint=AGAIN
            )
    return Package(path, manifest)


def refuse_unlisted(path: Path, files: dict[str, str]) -> None:
    """Raise :class:`BadPackage` for a file that lies in a stage's folder and is not the stage's."""
    for folder in sorted({PurePosixPath(name).parts[0] for name in files if "/" in name}):
        for name in files_below(path / folder):
            if f"{folder}/{name}" not in files:
                raise BadPackage(
                    f"{path / folder / name}: not in the manifest", hint="move it away"
                )


def copy_package(source: Path, folder: Path) -> dict[str, Any]:
    """Copy a package, checking all that is read, into an empty folder; return its manifest."""
    manifest = read_manifest(source)
    for name, expected in listed(manifest).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            found = copy_file(source / name, folder / name)
        except (FileNotFoundError, IsADirectoryError):
            raise BadPackage(f"{source / name}: missing", hint=AGAIN) from None
        if found != expected:
            raise BadPackage(
                f"{source / name}: its content is not what the manifest says", hint=AGAIN
            )
    (folder / MANIFEST).write_text(manifest_text(manifest), "utf-8")
    return manifest
