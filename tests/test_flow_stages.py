"""Stages after compile: what a package keeps, and that it is whole at every moment."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_flow_simulator import VERDICT
from tiny_chip import QUICK, environment

from intaglio.errors import BadInput, BadPackage
from intaglio.flow.compile import compile_model
from intaglio.flow.package import MANIFEST, open_package
from intaglio.flow.stages import put_folder, put_stage
from intaglio.flow.verify import Proof, keep_verdict

TESTS = Path(__file__).parent
PROOF = Proof(VERDICT, "a prompt", "said", 1.5)
REPORT = {"metrics.json": b"{}\n", "report.html": b"<p>\n"}


@pytest.fixture
def home(made_home, tmp_path, monkeypatch) -> Path:
    """A folder with a checkpoint ``tiny``, its package ``chip`` and the cache."""
    home = made_home(64)
    monkeypatch.setenv("INTAGLIO_CACHE", str(home / "cache"))
    (tmp_path / "tiny").symlink_to(home / "tiny")
    shutil.copytree(home / "chip", tmp_path / "chip")
    return tmp_path


def stages(chip: Path) -> list[str]:
    return sorted(open_package(chip).manifest["stages"])


def test_a_verdict_is_kept_and_is_the_same_bytes_for_the_same_proof(home):
    chip = home / "chip"
    assert open_package(chip).verdict is None
    keep_verdict(open_package(chip), PROOF)
    first = (chip / "verdict.json").read_bytes(), (chip / MANIFEST).read_bytes()
    other = Proof(replace(VERDICT, seconds=77.0), "a prompt", "said", 9.0)
    keep_verdict(open_package(chip), other)
    assert first == ((chip / "verdict.json").read_bytes(), (chip / MANIFEST).read_bytes())
    assert open_package(chip).verdict == {
        "equal": True, "positions": 9, "generated": 4, "first_difference": None,
        "cycles": {"planned": 100, "simulated": 100}, "cycles_per_token": 20.0, "adapter": None,
    }  # fmt: skip
    assert "a prompt" not in (chip / MANIFEST).read_text()


def test_a_changed_verdict_takes_the_report_with_it(home):
    chip = home / "chip"
    keep_verdict(open_package(chip), PROOF)
    put_stage(open_package(chip), "report", REPORT, {}, {}, {})
    keep_verdict(open_package(chip), PROOF)
    assert stages(chip) == ["compile", "report", "verify"]
    worse = Proof(replace(VERDICT, equal=False), "a prompt", "said", 1.5)
    keep_verdict(open_package(chip), worse)
    assert stages(chip) == ["compile", "verify"]
    assert not (chip / "report.html").exists()
    verdict = open_package(chip).verdict
    assert verdict is not None
    assert not verdict["equal"]


def test_a_verdict_leaves_an_evaluation_that_does_not_rest_on_it(home):
    chip = home / "chip"
    put_stage(open_package(chip), "evaluate", {"evaluation.json": b"{}\n"}, {}, {}, {})
    put_stage(open_package(chip), "report", REPORT, {}, {}, {})
    keep_verdict(open_package(chip), PROOF)
    assert stages(chip) == ["compile", "evaluate", "verify"]
    put_stage(open_package(chip), "report", REPORT, {}, {}, {})
    put_stage(open_package(chip), "evaluate", {"evaluation.json": b"[]\n"}, {}, {}, {})
    assert stages(chip) == ["compile", "evaluate", "verify"]


def test_compiling_again_keeps_later_stages_and_stays_instant(home):
    chip = home / "chip"
    keep_verdict(open_package(chip), PROOF)
    put_stage(open_package(chip), "report", REPORT, {}, {}, {})
    inode, before = chip.stat().st_ino, (chip / MANIFEST).read_bytes()
    made = compile_model(str(home / "tiny"), chip, QUICK)
    assert made.cached
    assert made.package.verdict is not None
    assert (chip.stat().st_ino, (chip / MANIFEST).read_bytes()) == (inode, before)
    (chip / "report.html").write_text("edited")
    with pytest.raises(BadPackage, match=r"report\.html: its content is not"):
        open_package(chip)
    compile_model(str(home / "tiny"), chip, QUICK)
    assert stages(chip) == ["compile"]


def test_what_an_interrupted_stage_left_is_no_stranger(home):
    chip = home / "chip"
    for name in ("report.html", ".report.html.0123abcd.partial", ".manifest.json.00000000.partial"):
        (chip / name).write_text("half")
    assert stages(chip) == ["compile"]
    compile_model(str(home / "tiny"), chip, QUICK)
    put_stage(open_package(chip), "report", REPORT, {}, {}, {})
    assert [name for name in os.listdir(chip) if name.startswith(".")] == []
    assert (chip / "report.html").read_bytes() == b"<p>\n"
    (chip / ".report.html.partial").write_text("somebody's own")
    with pytest.raises(BadInput, match=r"holds \.report\.html\.partial"):
        compile_model(str(home / "tiny"), chip, QUICK)


def test_another_chip_that_took_the_folder_meanwhile_gets_no_stage(home):
    chip = home / "chip"
    before = open_package(chip)
    manifest = json.loads((chip / MANIFEST).read_text())
    manifest["stages"]["compile"]["options"]["slots"] = 7
    (chip / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BadPackage, match="another chip has been compiled there"):
        keep_verdict(before, PROOF)
    assert not (chip / "verdict.json").exists()


def test_a_stage_has_its_own_files_only(home):
    with pytest.raises(ValueError, match="files of stage report"):
        put_stage(open_package(home / "chip"), "report", {"a": b""}, {}, {}, {})


CRASHES = """
import sys
from pathlib import Path
from crash_moments import crash_moments, lives
from intaglio.flow.package import Package, open_package, read_manifest
from intaglio.flow.stages import put_stage
chip = Path(sys.argv[1])
OLD = {"metrics.json": b"old", "report.html": b"old page"}
NEW = {"metrics.json": b"new", "report.html": b"new page"}
def put(files):
    put_stage(Package(chip, read_manifest(chip)), "report", files, {}, {}, {})
seen = set()
def look():
    manifest = open_package(chip).manifest
    if "report" in manifest["stages"]:
        assert (chip / "report.html").read_bytes() in (b"old page", b"new page")
put(OLD)
moments = 0
for moment in crash_moments(lambda: put(NEW), chip):
    assert lives(look, chip)
    put(OLD)
    moments += 1
assert moments >= 7, moments
assert (chip / "report.html").read_bytes() == b"new page"
assert sorted(p.name for p in chip.iterdir() if p.name.startswith(".")) == []
"""


def test_a_crash_at_every_moment_leaves_a_whole_package(home):
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, str(home / "chip")],
        cwd=TESTS, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


FOLDER_CRASHES = """
import sys
from pathlib import Path
from crash_moments import crash_moments, lives
from intaglio.flow.package import Package, foreign_files, open_package, read_manifest
from intaglio.flow.stages import put_folder
chip = Path(sys.argv[1])
def put(content):
    def fill(folder):
        (folder / "a").write_bytes(content)
        (folder / "b").write_bytes(content)
        return {}
    put_folder(Package(chip, read_manifest(chip)), "masks", fill, {}, {})
def look():
    manifest = open_package(chip).manifest
    assert foreign_files(chip) == []
    if "masks" in manifest["stages"]:
        assert (chip / "masks" / "a").read_bytes() == (chip / "masks" / "b").read_bytes()
put(b"old")
moments = 0
for moment in crash_moments(lambda: put(b"new"), chip):
    assert lives(look, chip)
    put(b"old")
    moments += 1
assert moments >= 5, moments
assert (chip / "masks" / "a").read_bytes() == b"new"
assert sorted(p.name for p in chip.iterdir() if p.name.startswith(".")) == []
"""


def test_a_crash_while_a_folder_is_put_leaves_a_whole_package(home):
    done = subprocess.run(
        [sys.executable, "-c", FOLDER_CRASHES, str(home / "chip")],
        cwd=TESTS, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_folder_has_a_known_name(home):
    def fill(folder: Path) -> dict:
        raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match="name must be one of"):
        put_folder(open_package(home / "chip"), "shapes", fill, {}, {})
    with pytest.raises(OSError, match="No space left"):  # and nothing is left half-written
        put_folder(open_package(home / "chip"), "masks", fill, {}, {})
    assert not (home / "chip" / "masks").exists()
    assert [p.name for p in (home / "chip").iterdir() if p.name.startswith(".")] == []
