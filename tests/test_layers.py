"""The architecture of the code, as a test: a module imports only from the rows above its own."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "intaglio"
ROWS = [  # top to bottom = first to last; names in one row do not know each other
    {"errors"},
    {"quantity", "architecture"},
    {"checkpoint", "golden"},
    {"quantize", "plan", "twin"},
    {"hardware", "layout"},
    {"verify", "silicon"},
    {"flow"},
    {"report", "serve"},
    {"cli"},
]
ROW = {name: row for row, names in enumerate(ROWS) for name in names}
DATA = {"market", "models", "presets", "targets"}  # folders without code
FORBIDDEN = {  # independence of evidence: who is checked shares no code with who checks
    ("hardware", "golden.ops"), ("hardware", "golden.forward"),
    ("twin", "golden.ops"), ("twin", "golden.forward"),
    ("golden.model", "golden.ops"), ("verify.mask", "layout"),
}  # fmt: skip
MODULES = sorted(ROOT.rglob("*.py"))


def module_name(path: Path) -> str:
    """``golden.ops``; a package's ``__init__`` is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(source: str) -> Iterator[str]:
    """What a module imports of intaglio, lazily or not: ``golden.ops``, ``golden.ops.narrow``."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports must be written in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("intaglio."):
                yield name.removeprefix("intaglio.")


def within(name: str, prefix: str) -> bool:
    return f"{name}.".startswith(f"{prefix}.")


def violations(here: str, source: str) -> list[str]:
    """The imports of module ``here`` that the rows forbid."""
    mine = here.split(".")[0]
    found = []
    for target in imports(source):
        theirs = target.split(".")[0]
        if theirs == "__version__" or mine in ("", "__main__"):
            continue
        if theirs != mine and not ROW[theirs] < ROW[mine]:
            found.append(f"{here} may not import {target}")
        for who, what in FORBIDDEN:
            if within(here, who) and within(target, what):
                found.append(f"{here} may not import {target}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: module_name(path) or "intaglio")
def test_imports_point_one_way(path):
    assert violations(module_name(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("here", "source", "target"),
    [
        ("golden.ops", "from intaglio.quantize.solve import x", "quantize.solve.x"),
        ("golden.ops", "import intaglio.checkpoint.gguf", "checkpoint.gguf"),
        ("hardware.norm", "from intaglio.golden import number, ops", "golden.ops"),
        ("twin.engine", "def f():\n    from intaglio.golden.forward import attend",
         "golden.forward.attend"),
        ("verify.mask", "from intaglio import layout", "layout"),
        ("plan", "from intaglio.twin.engine import Twin", "twin.engine.Twin"),
    ],
)  # fmt: skip
def test_a_forbidden_import_is_found(here, source, target):
    assert violations(here, source) == [f"{here} may not import {target}"]


def test_an_allowed_import_is_not():
    source = (
        "from intaglio import __version__\nfrom intaglio.golden.number import Int\nimport numpy"
    )
    assert violations("hardware.norm", source) == []


def test_every_package_has_a_row():
    found = {module_name(path).split(".")[0] for path in MODULES}
    assert found - {"", "__main__"} <= set(ROW)
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(ROW) | DATA


def test_data_folders_hold_no_code():
    assert [path for name in DATA for path in (ROOT / name).rglob("*.py")] == []


def test_no_module_reaches_itself():
    """Within a package too: nobody imports who imports them."""
    native = ROOT.rglob("*.pyi")  # native modules, by their stubs
    names = {module_name(path) for path in (*MODULES, *native)}

    def module_of(target: str) -> str:
        while target not in names and "." in target:
            target = target.rpartition(".")[0]
        return target

    graph = {
        module_name(path): {module_of(target) for target in imports(path.read_text())}
        for path in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("word", ["utils", "common", "core", "manager", "helper"])
def test_no_module_is_named_by_a_word_that_says_nothing(word):
    assert [path for path in MODULES if word in path.stem.split("_")] == []
