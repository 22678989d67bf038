"""A chip for LibreLane: its netlist has the tiles that the configuration places, and it loads."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mask_files import RULES
from tiny_chip import QUICK, tiny_checkpoint

from intaglio.flow.compile import compile_model
from intaglio.flow.librelane import ForLibreLane, write_librelane
from intaglio.flow.masks import engrave_package
from intaglio.flow.package import Package, open_package
from intaglio.flow.simulator import layout_of
from intaglio.golden.sample import Sampling
from intaglio.layout import assembly
from intaglio.plan.schedule import Schedule, User
from intaglio.verify.assemble import STATIONS, assemble
from intaglio.verify.lockstep import verify
from intaglio.verify.rules import BY_CONSTRUCTION, regions, violations
from intaglio.verify.simulation import HARNESS, write_layout
from intaglio.verify.verilator import lint

pytestmark = pytest.mark.slow
LOADER = Path(__file__).with_name("librelane_load.py")
PYTHON = Path(sys.prefix) / "librelane" / "bin" / "python"
"""Where ``make proofs`` installs LibreLane, in an environment of its own."""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> ForLibreLane:
    folder = tmp_path_factory.mktemp("librelane")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTAGLIO_CACHE", str(folder / "cache"))
        tiny_checkpoint(folder / "tiny", max_position_embeddings=64)
        compile_model(str(folder / "tiny"), folder / "chip", QUICK)
    engrave_package(open_package(folder / "chip"))
    return write_librelane(open_package(folder / "chip"), folder / "out")


@pytest.fixture(scope="module")
def config(written) -> dict:
    return json.loads((written.path / "config.json").read_text())


def places(config: dict) -> dict[str, tuple[str, list[float]]]:
    """Every instance's kind of tile and location."""
    return {
        name: (base, each["location"])
        for base, macro in config["MACROS"].items()
        for name, each in macro["instances"].items()
    }


def test_every_file_is_there_and_every_tile_in_the_die(written, config):
    def files(value):
        if isinstance(value, dict):
            for each in value.values():
                yield from files(each)
        elif isinstance(value, list):
            for each in value:
                yield from files(each)
        elif isinstance(value, str) and value.startswith("dir::"):
            yield written.path / value.removeprefix("dir::")

    named = list(files(config))
    assert len(named) > 20
    assert [path for path in named if not path.is_file()] == []
    _, _, width, height = config["DIE_AREA"]
    for base, (x, y) in places(config).values():
        text = (written.path / "tiles" / f"{base}.lef").read_text()
        size = re.search(r"SIZE (\S+) BY (\S+) ;", text)
        assert size
        assert 0 < x < x + float(size[1]) < width
        assert 0 < y < y + float(size[2]) < height
    assert len(places(config)) == written.connected
    assert len(config["FP_OBSTRUCTIONS"]) == 1  # the tile that no circuit reads
    assert len(written.plan.places) == written.connected + 1


ELABORATE = "from pyosys import libyosys as y; y.run_pass('script chip.ys', y.Design())"


def need_python() -> None:
    """Skip where LibreLane's environment is not there."""
    if not PYTHON.is_file():
        pytest.skip("LibreLane is not installed: make .venv/librelane/installed")
    if subprocess.run(
        [PYTHON, "-c", "import tkinter"], capture_output=True, check=False
    ).returncode:
        pytest.skip("LibreLane's loader needs tkinter: apt-get install python3-tk")


def test_the_netlist_has_the_instances_that_are_placed(written, config, tmp_path):
    """yosys elaborates the chip, flattens it, and finds exactly the tiles of the configuration."""
    need_python()
    sources = [written.path / each.removeprefix("dir::") for each in config["VERILOG_FILES"]]
    stubs = [written.path / "tiles" / f"{base}.v" for base in config["MACROS"]]
    commands = [f"read_verilog -sv -defer {path}" for path in sources]
    commands = [*(f"read_verilog -lib {path}" for path in stubs), *commands,
                "hierarchy -check -top chip", "proc -noopt", "flatten",
                "tee -o tiles.txt select -list t:base_*"]  # fmt: skip
    (tmp_path / "chip.ys").write_text("\n".join(commands) + "\n")
    subprocess.run(
        [PYTHON, "-c", ELABORATE], cwd=tmp_path, check=True, capture_output=True, timeout=600
    )
    listed = (tmp_path / "tiles.txt").read_text().splitlines()
    assert sorted(each.removeprefix("chip/") for each in listed) == sorted(places(config))


def test_verilator_elaborates_the_chip_with_what_tiles_do(written, config, tmp_path):
    sources = [written.path / each.removeprefix("dir::") for each in config["VERILOG_FILES"]]
    models = [written.path / "simulation" / f"{base}.v" for base in config["MACROS"]]
    defined = tmp_path / "defined.v"
    defined.write_text("`define SIMULATION\n")
    lint([defined, *sources, *models], "chip")


def simulator(folder: Path, work: Path, package: Package) -> Path:
    """The chip down to its tiles, as a program."""
    rtl = work / "rtl"
    rtl.mkdir(parents=True)
    for path in [*(folder / "rtl").iterdir(), *(folder / "simulation").glob("*.v")]:
        (rtl / path.name).write_text("`define SIMULATION\n" + path.read_text())
    shutil.copy(package.path / "rtl" / STATIONS, rtl)
    write_layout(work, *layout_of(package))
    return assemble(rtl, HARNESS, work)


def test_the_chip_down_to_its_tiles_is_the_integer_model(written, tmp_path):
    """Every operation, with codes and ROM words out of the tiles, in the planned cycles; and the
    first one that a tile's wrong contact changes is found."""
    package = open_package(written.path.parent / "chip")
    program = simulator(written.path, tmp_path / "work", package)
    codes = written.path / "simulation" / "codes"
    ids, count = [5, 6, 7, 8, 9], 4
    planned = Schedule(package.plan).run([User(len(ids), count, Sampling())])
    verdict = verify(
        package.model, program, codes, ids, count, Sampling(), planned_cycles=planned,
        plan=package.plan,
    )  # fmt: skip
    assert verdict.first_difference is None
    assert verdict.equal
    assert verdict.positions == len(ids) + count
    damaged = tmp_path / "codes"
    shutil.copytree(codes, damaged)
    tile = damaged / "o_narrow.1.0.0.hex"
    words = tile.read_text().splitlines()
    words[0] = f"{int(words[0], 16) ^ 1 << 8:0{len(words[0])}x}"  # a bit of its first multiplier
    tile.write_text("\n".join(words) + "\n")
    wrong = verify(
        package.model, program, damaged, ids, count, Sampling(), planned_cycles=planned,
        plan=package.plan,
    ).first_difference  # fmt: skip
    assert wrong is not None
    assert (wrong.layer, wrong.op, wrong.element) == (1, "o", 0)


def loaded(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """LibreLane's own loader over a configuration, with a PDK of nothing but its names."""
    need_python()
    for name in ("", "sky130_fd_sc_hd"):
        own = folder / "pdk" / "sky130A" / "libs.tech" / "librelane" / name / "config.tcl"
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text("set ::env(STD_CELL_LIBRARY) sky130_fd_sc_hd\n")
    return subprocess.run(
        [PYTHON, LOADER, config, folder / "pdk"], capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def test_librelane_loads_the_configuration(written, config, tmp_path):
    ran = loaded(written.path / "config.json", tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "WARNING" not in ran.stdout + ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["instances"] == written.connected
    assert found["macros"] == len(config["MACROS"])
    assert found["libraries"] == 3 * found["macros"]
    assert found["period"] == written.period
    assert found["die"] == config["DIE_AREA"]


@pytest.mark.parametrize("change", [{"CLOCK_PERIODS": 5}, {"DIE_AREA": "wide"}])
def test_librelane_refuses_a_damaged_one(written, config, change, tmp_path):
    own = written.path / "damaged.json"
    own.write_text(json.dumps(config | change))
    try:
        ran = loaded(own, tmp_path)
    finally:
        own.unlink()
    assert ran.returncode != 0
    assert next(iter(change)) in ran.stdout + ran.stderr


def test_whole_matrices_keep_the_rules_together(written, tmp_path):
    """Two that stand beside each other on the die, with their codes."""
    pytest.importorskip("klayout.db")
    masks = written.path.parent / "chip" / "masks"
    near = [*written.plan.of("layers.0.k"), *written.plan.of("layers.0.v")]
    assert len(near) > 4
    assembly.write_assembly(assembly.assemble(near, masks, RULES), tmp_path / "die.oas")
    layers = regions({tmp_path / "die.oas": assembly.DIE}, RULES)
    checked = [rule for rule in RULES.rules.values() if rule.check not in BY_CONSTRUCTION]
    assert [rule.name for rule in checked if violations(layers, rule)] == []
