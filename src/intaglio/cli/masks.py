"""The commands below ``masks``: engrave, read, diff, views, librelane, die, picture."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.screen import bars, say, write_json
from intaglio.errors import BadInput

if TYPE_CHECKING:
    from intaglio.flow.electrical import ChipRead
    from intaglio.flow.masks import Engraving, Recovered
    from intaglio.layout.picture import Window

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
DIFFERENT = 1

masks = typer.Typer(
    help="Engrave a chip's model into mask layers, and read it back from them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def add(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(masks, name="masks")


@masks.command(epilog="Example: intaglio masks engrave chips/bundled")
def engrave(
    chip: Annotated[Path, typer.Argument(help="A chip package, made by `intaglio compile`.")],
    json_output: Json = False,
) -> None:
    """Write the masks of a chip (sky130) into its package: layout files and their data sheet.

    They hold the tiles of fabrics and ROMs: cells, drivers, sense amplifiers. Counters and product
    banks are not drawn (docs/masks.md).
    """
    from intaglio.flow.masks import engrave_package
    from intaglio.flow.package import open_package

    with bars() as progress:
        done = engrave_package(open_package(chip), progress)
    if json_output:
        write_json(done.as_dict())
        return
    print_engraving(done)


def print_engraving(done: "Engraving") -> None:
    """Say what was engraved."""
    made = done.made
    contacts, per = made.weights + made.rom_codes, made.bytes * 8
    say(f"{done.path}: {contacts:,} contacts, {made.bytes:,} bytes, in {done.seconds:.1f} s")
    say(f"  fabrics  {made.weights:,} codes, ROMs {made.rom_codes:,} of 2 bits")
    say(f"  files    {per / contacts:.2f} bits per contact")
    say(
        f"  density  {made.cell:.2f} um2 per code (cell), {made.array:.2f} (array), "
        f"{made.tile:.2f} (tile), {done.all_in:.2f} with synthesised counters and banks (derived)"
    )
    print_check(done.read)
    say("  not drawn: counters, product banks (docs/masks.md)")


def print_check(read: "ChipRead") -> None:
    """Say which clock the circuit allows for this model; warn where the target's is not held."""
    worst, load = read.worst, read.worst.load
    slow, typical, target = (f / 1e6 for f in (worst.slow.clock, worst.typical.clock, read.clock))
    say(
        f"  line     {load.share:.2f} of a row's columns on one line at the slowest read: "
        f"{load.tile.name}, lane {load.lane}, row {load.row} ({load.tile.array.rows} rows)"
    )
    say(
        f"  clock    {slow:.0f} MHz slow corner, {typical:.0f} typical (simulated); "
        f"target {read.target.name} {target:.0f}"
    )
    say(
        f"  ROMs     {read.worst_rom.slow.clock / 1e6:.0f} MHz slow corner, "
        f"{read.worst_rom.typical.clock / 1e6:.0f} typical, the slowest: {read.worst_rom.name}"
    )
    if read.slower:
        some = ", ".join(each.name for each in read.slower[:3])
        say(
            f"  WARNING: {len(read.slower)} of {len(read.fabrics) + len(read.roms)} arrays are too "
            f"slow for {target:.0f} MHz: {some}; run this model at "
            f"{read.slower[0].slow.clock / 1e6:.0f} MHz, or compile it with more --lanes "
            "(fewer rows)"
        )


def print_reading(
    folder: Path, found: "Recovered", output: Path | None = None, against: Path | None = None
) -> None:
    """Say which model a folder of masks holds, and where another is in it."""
    a = found.read.plan.architecture
    say(f"{folder}: {a.family}, {a.layers} layers, hash {found.read.model.hash()[:16]}")
    if output:
        say(f"  chip package {output}")
    if found.against is not None:
        say(f"  equal to {against}" if not found.against else f"  NOT equal to {against}:")
    for each in found.against or ():
        place = ", ".join(
            f"{key} {each[key]}" for key in ("row", "lane", "column") if each[key] is not None
        )
        values = "" if each["found"] is None else f": {each['found']}, not {each['expected']}"
        say(f"    {each['where']} {place}{values}")


@masks.command(epilog="Example: intaglio masks read chips/bundled/masks --against chips/bundled")
def read(
    folder: Annotated[Path, typer.Argument(help="A folder of masks, or a package that has one.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Chip package to make; a tokenizer must lie beside the masks."
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="A chip package that must hold the same model.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Recover the whole model from the layout files alone.

    Ends with 1 where --against names another model, or a contact is missing, doubled or astray.
    """
    from intaglio.flow.masks import read_chip

    with bars() as progress:
        found = read_chip(folder, output=output, against=against, progress=progress)
    if json_output:
        write_json(found.as_dict())
    else:
        print_reading(folder, found, output, against)
    if found.against:
        raise typer.Exit(DIFFERENT)


@masks.command(epilog="Example: intaglio masks diff chips/one chips/other")
def diff(
    first: Annotated[Path, typer.Argument(help="A folder of masks, or a package that has one.")],
    second: Annotated[Path, typer.Argument(help="Another of the same shape.")],
    json_output: Json = False,
) -> None:
    """Show by XOR that two models of one shape differ in the programmable layer alone.

    Ends with 1 and the cell's name where they differ in anything else.
    """
    from intaglio.flow.masks import diff_chips

    with bars() as progress:
        found = diff_chips(first, second, progress)
    if json_output:
        write_json({"only_programmable": True, **asdict(found)})
        return
    say("the base die is the same: only the programmable layer differs")
    say(
        f"  {found.changed:,} contacts stand in one of the two only, of {found.contacts:,} in "
        f"each; {found.changed_files} of {found.files} files"
    )


@masks.command(epilog="Example: intaglio masks views chips/bundled -o views --tile head.0.0")
def views(
    chip: Annotated[Path, typer.Argument(help="A chip package, made by `intaglio compile`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")],
    tile: Annotated[
        list[str] | None,
        typer.Option(help="Write this tile's netlist and GDS too, contacts included; repeatable."),
    ] = None,
    json_output: Json = False,
) -> None:
    """Write what places a chip's tiles: LEF and a Verilog stub of every kind of tile.

    A kind of tile is a macro of the base die: it depends on the shape alone. Netlist (CDL) and GDS
    hold the model too and are written of the tiles that are named.
    """
    from intaglio.flow.masks import write_chip_views
    from intaglio.flow.package import open_package

    files = write_chip_views(open_package(chip), output, tile or [])
    if json_output:
        write_json({"views": str(output), "files": [path.name for path in files]})
        return
    say(f"{output}: {len(files)} files")


@masks.command(epilog="Example: intaglio masks librelane chips/bundled -o librelane")
def librelane(
    chip: Annotated[Path, typer.Argument(help="A chip package with masks.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")],
    json_output: Json = False,
) -> None:
    """Write a chip for LibreLane: config.json, Verilog down to the tiles, the tiles' views.

    Every tile has its place on a die as large as the plan's figures say. The configuration loads,
    and the netlist is whole; no flow has been run to its end (docs/masks.md).
    """
    from intaglio.flow.librelane import write_librelane
    from intaglio.flow.package import open_package

    with bars() as progress:
        done = write_librelane(open_package(chip), output, progress)
    if json_output:
        write_json(done.as_dict())
        return
    values = done.as_dict()
    width, height = (length / 1000 for length in values["die_um"])
    say(f"{output / 'config.json'}: {done.connected:,} of {values['tiles']:,} tiles in the netlist")
    say(f"  die    {width:.2f} by {height:.2f} mm")
    say(f"  clock  {done.period:g} ns")
    say("  not connected: the residual's step, which no circuit reads (docs/masks.md)")


@masks.command(epilog="Example: intaglio masks die chips/bundled -o die.oas")
def die(
    chip: Annotated[Path, typer.Argument(help="A chip package with masks.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .oas or .gds.")],
    json_output: Json = False,
) -> None:
    """Write the assembled die: every tile in its place, contacts included, as one layout.

    Its top cell is `die`. Standard cells and the wires between tiles are not in it.
    """
    from intaglio.flow.die import write_die
    from intaglio.flow.package import open_package

    with bars() as progress:
        found = write_die(open_package(chip), output, progress)
    if json_output:
        write_json({"die": str(output), "tiles": len(found.places), "mm2": found.area})
        return
    say(f"{output}: {len(found.places):,} tiles on {found.area:.1f} mm2")


@masks.command(epilog="Example: intaglio masks picture chips/bundled head.0.0 -o head.svg")
def picture(
    chip: Annotated[Path, typer.Argument(help="A chip package, made by `intaglio compile`.")],
    tile: Annotated[
        str, typer.Argument(help="A tile, by the name of its file in masks/; or `die`: all.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="SVG file to write.")],
    window: Annotated[
        str | None, typer.Option(help="The part to show, in um: X,Y,WIDTH,HEIGHT.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Draw a tile's layers in colour, the contacts that are weights on top, as SVG.

    `die` draws the whole chip's tiles where they stand.
    """
    from intaglio.flow.die import write_die_picture
    from intaglio.flow.masks import write_picture
    from intaglio.flow.package import open_package

    if tile != "die":
        write_picture(open_package(chip), tile, output, window_of(window))
    elif window:
        raise BadInput("--window shows a part of a tile, not of the die")
    else:
        write_die_picture(open_package(chip), output)
    if json_output:
        write_json({"picture": str(output)})
        return
    say(f"{output}")


def window_of(text: str | None) -> "Window | None":
    """Four numbers as a window."""
    if text is None:
        return None
    from intaglio.layout.picture import Window

    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"--window must be X,Y,WIDTH,HEIGHT in um, not {text!r}") from None
    return Window(x, y, width, height)
