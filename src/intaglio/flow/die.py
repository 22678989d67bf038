"""A chip's die: where its tiles stand, as a layout and as a picture."""

from pathlib import Path

from intaglio.flow.choose import PlanOptions
from intaglio.flow.masks import masks_of
from intaglio.flow.package import Package, refuse_no_file
from intaglio.flow.plan import run_plan
from intaglio.flow.progress import Progress, silent
from intaglio.flow.stages import write_whole
from intaglio.layout.assembly import assemble, refuse_suffix, write_assembly
from intaglio.layout.contents import fabrics
from intaglio.layout.die import PROCESS, chip_tiles
from intaglio.layout.die_picture import die_picture
from intaglio.layout.floorplan import Floorplan, floorplan
from intaglio.layout.rules import rules


def chip_floorplan(package: Package) -> Floorplan:
    """The floorplan of a chip's tiles, on a die as large as the plan's figures say."""
    r, plan = rules(PROCESS), package.plan
    planned = run_plan(str(package.path), PlanOptions(target=PROCESS))
    wanted = planned.figures["area_mm2"].number
    names = [name for name, _ in fabrics(plan)]
    return floorplan(chip_tiles(plan, r), names, r, wanted)


def write_die(package: Package, path: Path, progress: Progress = silent) -> Floorplan:
    """Write the assembled die of an engraved chip as one layout file."""
    refuse_no_file(path)
    refuse_suffix(path)
    masks = masks_of(package.path)
    progress("assembling the die", 0, "")
    found = chip_floorplan(package)
    write_assembly(assemble(found.places, masks, rules(PROCESS)), path)
    progress("assembling the die", 1, "")
    return found


def write_die_picture(package: Package, path: Path) -> None:
    """Write the picture of a chip's tiles on its die as SVG."""
    refuse_no_file(path)
    write_whole(path, die_picture(chip_floorplan(package), rules(PROCESS)).encode())
