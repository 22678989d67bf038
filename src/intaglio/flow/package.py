"""The chip package: a folder that holds a chip, checked whenever it is opened."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.errors import BadPackage
from intaglio.flow.folder import file_hash, folder_hashes
from intaglio.golden.model import IntModel
from intaglio.plan.chip import ChipPlan

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Package:
    """A chip package on disk. ``manifest``: format, hash, model, and per stage its files."""

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

    @cached_property
    def model(self) -> IntModel:
        """The integer model; its hash is checked."""
        model = IntModel.load(self.path / "model.safetensors")
        if model.hash() != self.hash:
            raise BadPackage(
                f"{self.path}/model.safetensors: hash must be {self.hash[:16]}..., "
                f"not {model.hash()[:16]}...",
                hint="compile the model again",
            )
        return model

    @cached_property
    def plan(self) -> ChipPlan:
        """The chip plan."""
        return ChipPlan.from_dict(json.loads((self.path / "plan.json").read_text("utf-8")))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with the chat template if the model has one."""
        return Tokenizer.load(self.path / "tokenizer")

    @property
    def verilog(self) -> list[Path]:
        """The Verilog sources, in order."""
        return sorted(p for p in (self.path / "rtl").iterdir() if p.suffix in (".v", ".sv"))

    @property
    def images(self) -> Path:
        """The folder of ROM images."""
        return self.path / "rtl" / "rom"


def manifest_text(manifest: dict[str, Any]) -> str:
    """The manifest as it is written."""
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def stage_entry(folder: Path, options: dict[str, Any], tools: dict[str, str]) -> dict[str, Any]:
    """A stage of the manifest: hashes of all files now in ``folder``, options, tools."""
    return {"files": folder_hashes(folder), "options": options, "tools": tools}


def is_package(path: Path) -> bool:
    """Whether ``path`` looks like a chip package."""
    return (path / MANIFEST).is_file()


def open_package(path: Path) -> Package:
    """Open a chip package; its format and the hash of every file are checked first.

    Raises :class:`BadPackage` naming the file that is missing, changed or unexpected.
    """
    path = Path(path)
    if not path.is_dir():
        raise BadPackage(f"{path}: no such chip package", hint="make one with `intaglio compile`")
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        found, stages = manifest["format"], manifest["stages"]
        expected = {name: h for stage in stages.values() for name, h in stage["files"].items()}
        manifest["hash"], manifest["model"]
    except FileNotFoundError:
        raise BadPackage(f"{path}: not a chip package: it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadPackage(f"{path}/{MANIFEST}: damaged: {error!r}") from None
    if found != FORMAT:
        raise BadPackage(
            f"{path}: package format must be {FORMAT}, not {found!r}",
            hint="compile the model again with this version",
        )
    for name, value in expected.items():
        file = path / name
        if not file.is_file():
            raise BadPackage(f"{file}: missing", hint="compile the model again")
        if file_hash(file) != value:
            raise BadPackage(
                f"{file}: its content is not what the manifest says",
                hint="compile the model again",
            )
    return Package(path, manifest)
