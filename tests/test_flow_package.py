"""The chip package: whatever is not exactly what the manifest says is refused, in one line."""

import json
import os
import shutil
from pathlib import Path

import pytest
from tiny_chip import QUICK, tree

from intaglio.errors import BadInput, BadPackage
from intaglio.flow.compile import compile_model
from intaglio.flow.package import (
    AGAIN,
    CLEAR,
    FORMAT,
    MANIFEST,
    copy_package,
    is_package,
    listed,
    manifest_text,
    open_package,
)


@pytest.fixture(scope="module")
def made(made_home) -> Path:
    """A package, to be copied before it is damaged."""
    return made_home(64) / "chip"


@pytest.fixture
def chip(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "chip"))


def edit(chip: Path, change) -> None:
    """Change the manifest."""
    manifest = json.loads((chip / MANIFEST).read_text())
    change(manifest)
    (chip / MANIFEST).write_text(json.dumps(manifest))


def refused(chip: Path) -> str:
    """The message with which a package is refused."""
    return refusal(chip).message.replace(str(chip), "CHIP")


def refusal(chip: Path) -> BadPackage:
    """The error with which a package is refused."""
    with pytest.raises(BadPackage) as caught:
        open_package(chip)
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_a_package_holds(chip):
    package = open_package(chip)
    assert is_package(chip)
    assert package.model.hash() == package.hash
    assert package.bits_per_weight == package.model.bits_per_weight == 4.0
    assert package.plan.architecture == package.model.architecture
    assert package.tokenizer.decode(package.tokenizer.encode("the list")) == "the list"
    assert [path.name for path in package.verilog] == ["chip.v", "rom.sv"]
    assert (package.images / "head.0.hex").is_file()
    assert package.source == "llama (from f32)"
    files = {path.relative_to(chip).as_posix() for path in chip.rglob("*") if path.is_file()}
    assert set(listed(package.manifest)) == files - {MANIFEST}
    assert {"model.safetensors", "plan.json", "tokenizer/tokenizer.json"} <= files


def test_no_path_and_no_time_is_in_it(made):
    for name, data in tree(made).items():
        assert str(made.parent).encode() not in data, name
        assert b"tiny" not in data, name  # the name of the checkpoint's folder
        assert os.uname().nodename.encode() not in data or name.startswith("tokenizer"), name
    manifest = json.loads((made / MANIFEST).read_text())
    assert sorted(manifest) == ["format", "hash", "model", "stages"]
    assert sorted(manifest["stages"]["compile"]) == ["figures", "files", "options", "tools"]
    assert manifest_text(manifest) == (made / MANIFEST).read_text()


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors", "plan.json", "rtl/chip.v", "rtl/rom/q.0.hex",
        "tokenizer/tokenizer.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "folder"])
def test_damage_is_named(chip, name, damage):
    path = chip / name
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(data[:-1])
    elif damage == "folder":
        path.mkdir()
    missing = damage in ("remove", "folder")
    reason = "missing" if missing else "its content is not what the manifest says"
    assert refused(chip) == f"CHIP/{name}: {reason}"
    with pytest.raises(BadPackage, match=f"{name}: {reason}"):
        copy_package(chip, chip.parent / "copy")


@pytest.mark.parametrize(
    "name", ["rtl/evil.v", "rtl/rom/more.hex", "tokenizer/chat_template.jinja"]
)
def test_a_file_that_no_stage_made_is_refused(chip, name):
    (chip / name).touch()
    assert refused(chip) == f"CHIP/{name}: not in the manifest"


def test_what_an_interrupted_later_stage_left_is_ignored(chip):
    (chip / "masks").mkdir()
    (chip / "masks" / "die.json").touch()
    assert open_package(chip).manifest == json.loads((chip / MANIFEST).read_text())


def test_not_a_package(tmp_path):
    assert refused(tmp_path / "missing") == "CHIP: no such chip package"
    assert refused(tmp_path).startswith("CHIP: not a chip package: it has no manifest.json")
    file = tmp_path / "file"
    file.write_text("hello")
    assert refused(file) == "CHIP: not a chip package but a file"
    assert not is_package(tmp_path)
    for text in ("{", "[]", '{"manifest_version": 3, "name": "of a browser"}'):
        (tmp_path / "manifest.json").write_text(text)
        assert not is_package(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "CHIP/manifest.json: damaged: "),
        ("{", "CHIP/manifest.json: damaged: "),
        ("\udcff", "CHIP/manifest.json: damaged: "),
        ("[" * 100_000, "CHIP/manifest.json: damaged: "),
        ("[]", "CHIP/manifest.json: not the manifest of a chip package"),
        ('{"name": "an-npm-package"}', "CHIP/manifest.json: not the manifest of a chip package"),
        ('{"format": 2}', f"CHIP: package format must be {FORMAT}, not 2"),
        ('{"format": "1"}', f"CHIP: package format must be {FORMAT}, not '1'"),
        ('{"format": 1}', "CHIP/manifest.json: damaged: KeyError('stages')"),
    ],
)
def test_a_foreign_manifest(chip, text, message):
    (chip / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert refused(chip).startswith(message)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(stages=[]),
        lambda m: m.update(hash=None),
        lambda m: m.pop("model"),
        lambda m: m["stages"].pop("compile"),
        lambda m: m["stages"].update(masks=None),
        lambda m: m["stages"]["compile"].pop("files"),
        lambda m: m["stages"]["compile"].update(files=["plan.json"]),
        lambda m: m["stages"]["compile"]["files"].update({"plan.json": 1}),
        lambda m: m["stages"]["compile"]["files"].update({"../outside": "0"}),
        lambda m: m["stages"]["compile"]["files"].update({"/etc/passwd": "0"}),
        lambda m: m["stages"]["compile"].pop("options"),
        lambda m: m["stages"]["compile"].pop("figures"),
    ],
)
def test_a_manifest_without_what_it_must_have(chip, change):
    edit(chip, change)
    assert refused(chip).startswith("CHIP/manifest.json: damaged: ")


@pytest.mark.parametrize(
    ("damage", "way_out"),
    [
        ("", CLEAR),
        ("{", CLEAR),
        ('{"format": 1}', CLEAR),
        ('{"format": 2}', f"{CLEAR} with this version"),
        (lambda m: m.pop("stages"), CLEAR),
        (lambda m: m.update(stages=[]), AGAIN),
        (lambda m: m.pop("model"), AGAIN),
        (lambda m: m.update(format=2), f"{AGAIN} with this version"),
    ],
)
def test_the_way_out_of_a_damaged_manifest_leads_out(chip, made_home, monkeypatch, damage, way_out):
    monkeypatch.setenv("INTAGLIO_CACHE", str(made_home(64) / "cache"))
    if isinstance(damage, str):
        (chip / MANIFEST).write_text(damage)
    else:
        edit(chip, damage)
    assert refusal(chip).hint == way_out
    checkpoint = str(made_home(64) / "tiny")
    if way_out.startswith(CLEAR):
        with pytest.raises(BadInput, match="exists and is not a chip package"):
            compile_model(checkpoint, chip, QUICK)
        chip.rename(chip.with_name("away"))
    assert compile_model(checkpoint, chip, QUICK).cached
    assert open_package(chip).hash


def test_a_file_that_no_stage_made_can_be_moved_away(chip):
    (chip / "rtl" / "evil.v").touch()
    assert refusal(chip).hint == "move it away"
    (chip / "rtl" / "evil.v").unlink()
    assert open_package(chip).hash


def test_another_models_hash_is_found_when_the_model_is_read(chip):
    edit(chip, lambda m: m.update(hash="0" * 64))
    with pytest.raises(BadPackage, match=r"the model's hash must be 0000000000000000\.\.\., not "):
        open_package(chip).model  # noqa: B018


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"target": "generic"}'])
def test_a_plan_that_is_none(chip, text):
    (chip / "plan.json").write_text(text)
    package = open_package_unchecked(chip)
    with pytest.raises(BadPackage, match=r"plan\.json"):
        package.plan  # noqa: B018


def open_package_unchecked(chip: Path):
    from intaglio.flow.package import Package, read_manifest

    return Package(chip, read_manifest(chip))


def test_a_copy_is_the_same_without_what_is_not_listed(chip, tmp_path):
    before = tree(chip)
    (chip / "notes.txt").touch()
    (tmp_path / "copy").mkdir()
    copy_package(chip, tmp_path / "copy")
    assert tree(tmp_path / "copy") == before
