"""A chip for LibreLane: its Verilog down to the tiles, the tiles' views, and the configuration.

The tiles' views are of the base die. Which model the chip holds is in the programmable layer alone,
which is laid over the finished layout.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio.flow.die import chip_floorplan
from intaglio.flow.folder import whole_folder
from intaglio.flow.masks import masks_of, shown
from intaglio.flow.package import Package, refuse_no_new_folder
from intaglio.flow.progress import Progress, silent
from intaglio.hardware.structure import (
    CELLS,
    MAP,
    START,
    RomKind,
    kinds,
    rom_choice,
    structure,
)
from intaglio.layout.assembly import assemble, write_assembly
from intaglio.layout.contents import UNREAD, Rom, contents, fabric_array, fabrics, roms
from intaglio.layout.die import PROCESS
from intaglio.layout.fabric import Tile, tiles
from intaglio.layout.floorplan import Floorplan, Place
from intaglio.layout.liberty import CONDITIONS, is_simulated, reads
from intaglio.layout.library import write_cells
from intaglio.layout.pen import UM
from intaglio.layout.rules import Rules, rules
from intaglio.layout.tile import base_cells
from intaglio.layout.views import macro, write_views
from intaglio.layout.wrapper import (
    behaviour,
    cells,
    image,
    image_name,
    instance_name,
    reader,
)
from intaglio.plan.chip import ChipPlan

DESIGN, CLOCK = "chip", "clk"
CORNERS = {"typical": "*_tt_025C_1v80", "slow": "*_ss_100C_1v60", "fast": "*_ff_n40C_1v95"}
"""LibreLane's corners of sky130 by the simulated conditions; tiles are slowest at -40 C."""
LEFT_OUT = re.compile(r"fabric_\w+\.sv|selection\.sv|rom\.sv")
"""Contract models, which gates and tiles take the places of."""
WRITING = "writing the chip for LibreLane"
INSTANCE = re.compile(r"^  (\w+)(?: #\((.*?)^  \))?\s+(\\\S+|\w+)\s+\((.*?)^  \);", re.M | re.S)
"""An instance of a module in Amaranth's Verilog: module, parameters, name, ports."""


@dataclass(frozen=True)
class ForLibreLane:
    """What was written: the folder, its floorplan, the tiles in the netlist and the chip's."""

    path: Path
    plan: Floorplan
    connected: int
    period: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "folder": str(self.path), "config": str(self.path / "config.json"),
            "die_um": [self.plan.width * UM, self.plan.height * UM],
            "tiles": len(self.plan.places), "connected": self.connected,
            "clock_period_ns": self.period,
        }  # fmt: skip


def write_librelane(package: Package, folder: Path, progress: Progress = silent) -> ForLibreLane:
    """Write all that LibreLane reads of an engraved chip to a new folder."""
    refuse_no_new_folder(folder)
    masks, r, plan = masks_of(package.path), rules(PROCESS), package.plan
    progress(WRITING, 0, "")
    told = shown(progress, WRITING)
    found = chip_floorplan(package)
    with whole_folder(folder) as made:
        sources = write_sources(package, made / "rtl", r)
        told(0.5, "tiles")
        bases = {place.tile.base: place.tile for place in found.places}
        write_kinds(bases, made / "tiles", r)
        write_simulation(package, made / "simulation", r)
        told(0.8, "programmable layer")
        write_assembly(assemble(found.places, masks, r, base=False), made / "programmable.oas")
        names = connected(made / "rtl", plan)
        period = clock_period([p.tile for p in found.places if p.tile.name in names], r)
        config = configuration(found, names, sources, period, made / "tiles", r)
        (made / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    progress(WRITING, 1, "")
    return ForLibreLane(folder, found, len(names), period)


def write_sources(package: Package, folder: Path, r: Rules) -> list[str]:
    """The chip's Verilog with fabrics down to their tiles; the files' names."""
    folder.mkdir()
    texts = {
        path.name: path.read_text("utf-8")
        for path in sorted((package.path / "rtl").iterdir())
        if path.suffix in (".v", ".sv") and not LEFT_OUT.fullmatch(path.name)
    }
    made = structure(package.plan)
    if twice := texts.keys() & made.keys():
        raise AssertionError(f"two modules of one name: {sorted(twice)}")
    texts |= made
    for kind in kinds(package.plan).values():
        array = fabric_array(kind.matrix, kind.fabric)
        text = cells(kind.cells, kind.matrix, [*tiles(array, r)])
        texts[f"{kind.cells}.sv"] = text
    readers = rom_kinds(package.plan, r)
    texts["rom.v"] = rom_choice(readers.values())
    for rom in roms(package.plan, r).values():
        if (kind := readers.get(kind_of(rom))) and f"{kind.module}.sv" not in texts:
            text = reader(kind.module, kind.name, rom, [*tiles(rom.array, r)])
            texts[f"{kind.module}.sv"] = text
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    return sorted(texts)


def rom_kinds(plan: ChipPlan, r: Rules) -> dict[tuple[str, int, int], RomKind]:
    """Every kind of ROM that a circuit reads."""
    found: dict[tuple[str, int, int], RomKind] = {}
    for rom in roms(plan, r).values():
        name, width, words = key = kind_of(rom)
        if name != UNREAD and key not in found:
            number = sum(kind.name == name for kind in found.values())
            found[key] = RomKind(name, width, words, f"{name}_{number}_rom")
    return found


def kind_of(rom: Rom) -> tuple[str, int, int]:
    """What the RTL knows a ROM by, its layer aside: name, bits of a word, words."""
    return rom.name.rpartition(".")[2], rom.width, rom.words


def write_kinds(bases: Mapping[str, Tile], folder: Path, r: Rules) -> None:
    """The views of every kind of tile: LEF, Liberty, stub, and GDS without contacts of a model."""
    folder.mkdir()
    for name, tile in sorted(bases.items()):
        write_views(tile, folder, r)
        write_cells(name, base_cells([tile], r), folder / f"{name}.gds", r)


def write_simulation(package: Package, folder: Path, r: Rules) -> None:
    """What tiles do, and the codes of every one of them that is read."""
    (folder / "codes").mkdir(parents=True)
    plan = package.plan
    bases: dict[str, Tile] = {}
    for array, codes in contents(package.model, plan, roms(plan, r)):
        number, _, matrix = array.name.removeprefix("layers.").rpartition(".")
        if matrix == UNREAD:
            continue
        for tile in tiles(array, r):
            bases[tile.base] = tile
            path = folder / "codes" / image_name(matrix, number or 0, tile)
            path.write_text(image(tile, codes), "utf-8")
    for base, tile in bases.items():
        (folder / f"{base}.v").write_text(behaviour(tile), "utf-8")


def connected(rtl: Path, plan: ChipPlan) -> dict[str, str]:
    """Every tile in the netlist: the path of its instance by its name on the die."""
    r, found = rules(PROCESS), {}
    shapes, made = dict(fabrics(plan)), kinds(plan)
    words, readers = roms(plan, r), rom_kinds(plan, r)

    def read(path: str, name: str) -> None:
        kind = readers[kind_of(words[name])]
        for tile in tiles(words[name].array, r):
            found[tile.name] = f"{path}.{kind.module}.chosen.{instance_name(tile)}"

    for path, name in paths(rtl, DESIGN, "", "0"):
        if name not in shapes:
            read(path, name if name in words else name.rpartition(".")[2])
            continue
        kind = made[name.rpartition(".")[2], shapes[name]]
        own = f"{path}.{kind.path}"
        for tile in tiles(fabric_array(name, kind.fabric), r):
            found[tile.name] = f"{own}.{CELLS}.{instance_name(tile)}"
        read(f"{own}.{START}", f"{name}_start")
        if kind.fabric.extra_rows:
            read(f"{own}.{MAP}", f"{name}_map")
    return found


def paths(rtl: Path, module: str, path: str, layer: str) -> Iterator[tuple[str, str]]:
    """Instances of fabrics and ROMs below a module, and their full names."""
    source = rtl / f"{module}.v"
    if not source.is_file():
        return
    for kind, parameters, instance, ports in INSTANCE.findall(source.read_text("utf-8")):
        own = f"{path}.{instance.removeprefix(chr(92))}".removeprefix(".")
        number = re.search(r"\.id\(\d+'[hd]([0-9a-f]+)\)", ports)
        index = str(int(number[1], 16)) if number else layer
        if kind.startswith("fabric_b") or kind == "rom":
            named = re.search(r'\.NAME\("(\w+)"\)', parameters)
            assert named, own
            yield own, named[1] if named[1] == "head" else f"layers.{index}.{named[1]}"
        else:
            yield from paths(rtl, kind, own, index)


def clock_period(made: list[Tile], r: Rules) -> float:
    """ns that the slower phase of the slowest kind of tile takes, twice: the phases are halves."""
    longest = 0.0
    for tile in {tile.base: tile for tile in made}.values():
        own = macro(tile, r)
        if is_simulated(own):
            read = reads(own, "slow")
            longest = max(longest, read["precharge"], *(max(row) for row in read["read"]))
    return round(2 * longest, 2)


def configuration(
    plan: Floorplan, names: Mapping[str, str], sources: list[str], period: float, folder: Path,
    r: Rules,
) -> dict[str, Any]:  # fmt: skip
    """LibreLane's variables."""
    macros: dict[str, dict[str, Any]] = {}
    kept: list[list[float]] = []
    for place in plan.places:
        if place.tile.name in names:
            entry = macros.setdefault(place.tile.base, views_of(place.tile.base, folder))
            entry["instances"][names[place.tile.name]] = {
                "location": [place.x * UM, place.y * UM], "orientation": "N",
            }  # fmt: skip
        else:
            kept.append(corners(place, r))
    return {
        "meta": {"version": 2, "flow": "Classic"},
        "DESIGN_NAME": DESIGN,
        "PDK": "sky130A",
        "STD_CELL_LIBRARY": "sky130_fd_sc_hd",
        "VERILOG_FILES": [f"dir::rtl/{name}" for name in sources],
        "CLOCK_PORT": CLOCK,
        "CLOCK_PERIOD": period,
        "FP_SIZING": "absolute",
        "DIE_AREA": [0, 0, round(plan.width * UM, 3), round(plan.height * UM, 3)],
        "FP_OBSTRUCTIONS": kept,
        "MACROS": macros,
        "PDN_MACRO_CONNECTIONS": [r".*\.tile_\d+_\d+ VPWR VGND VPWR VGND"],
    }


def corners(place: Place, r: Rules) -> list[float]:
    """A tile's rectangle on the die, um."""
    width, height = place.tile.size(r)
    ends = (place.x, place.y, place.x + width, place.y + height)
    return [round(value * UM, 3) for value in ends]


def views_of(base: str, folder: Path) -> dict[str, Any]:
    """The files of a kind of tile."""
    libraries = {
        CORNERS[name]: [f"dir::tiles/{base}_{name}.lib"]
        for name in CONDITIONS
        if (folder / f"{base}_{name}.lib").is_file()
    }
    return {
        "gds": [f"dir::tiles/{base}.gds"], "lef": [f"dir::tiles/{base}.lef"],
        "vh": [f"dir::tiles/{base}.v"], "lib": libraries, "instances": {},
    }  # fmt: skip
