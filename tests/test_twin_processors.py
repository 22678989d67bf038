"""The native kernels elsewhere: compiled for others, under sanitizers, and not compiled at all."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TOOLS = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
MODELS = "4"  # random models that the engines are compared on
ARM_COMPILER = "aarch64-linux-gnu-g++"
ARM_LIBRARIES = Path("/usr/aarch64-linux-gnu")
LIBRARIES = ("libasan.so", "libstdc++.so")  # loaded before Python, which is linked with neither


def tool(*names: str) -> str:
    """The first of the programs that is installed; skips the test where none is."""
    for name in names:
        if found := shutil.which(name, path=TOOLS):
            return found
    pytest.skip(f"{' or '.join(names)} is not installed")


def run(*words: str | Path, **environment: str) -> str:
    """Output of a program that must succeed."""
    done = subprocess.run(
        [str(word) for word in words], env={**os.environ, **environment}, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def build(folder: Path, target: str, **options: str | Path) -> Path:
    """Compile a target of CMakeLists.txt and return its folder."""
    cmake, ninja = tool("cmake"), tool("ninja")
    words = [f"-D{name}={value}" for name, value in options.items()]
    run(cmake, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-S", ROOT, "-B", folder, *words)
    run(cmake, "--build", folder, "--target", target, "--parallel", str(os.cpu_count()))
    return folder


# --- engines against the portable one, without Python


def hashes(output: str) -> dict[str, str]:
    """By engine, the hash of all its results."""
    lines = output.splitlines()
    assert all(f" {MODELS} models equal, hash " in line for line in lines), output
    return {line.split(":")[0]: line.split()[-1] for line in lines}


@pytest.fixture(scope="module")
def check(tmp_path_factory) -> Path:
    tool("c++", "g++", "clang++")
    return build(tmp_path_factory.mktemp("check"), "check", INTAGLIO_CHECK="ON") / "check"


@cache
def own_hashes(check: Path) -> dict[str, str]:
    return hashes(run(check, MODELS))


def test_engines_of_this_processor_are_equal(check):
    found = own_hashes(check)
    assert list(found)[-1] == "portable"
    assert len(set(found.values())) == 1


def test_a_difference_is_seen(check):
    for what in ("pass", "memory", "attend", "linear", "sample"):
        done = subprocess.run([check, "1", what], capture_output=True, text=True, timeout=100)
        assert done.returncode == 1
        assert f"model 0: {what} [" in done.stdout


@pytest.fixture(scope="module")
def arm_check(tmp_path_factory) -> Path:
    compiler = tool(ARM_COMPILER)
    return build(
        tmp_path_factory.mktemp("arm"), "check", INTAGLIO_CHECK="ON", CMAKE_SYSTEM_NAME="Linux",
        CMAKE_SYSTEM_PROCESSOR="aarch64", CMAKE_CXX_COMPILER=compiler,
    ) / "check"  # fmt: skip


@pytest.mark.parametrize(
    ("processor", "engines"), [("max", ["neon", "portable"]), ("cortex-a72", ["portable"])]
)
def test_engines_of_arm_equal_those_here(check, arm_check, processor, engines):
    """With dot products, and on a processor that has none."""
    emulator = tool("qemu-aarch64", "qemu-aarch64-static")
    if not ARM_LIBRARIES.exists():
        pytest.skip(f"no {ARM_LIBRARIES}")
    output = run(emulator, "-L", ARM_LIBRARIES, "-cpu", processor, arm_check, MODELS)
    found = hashes(output)
    assert list(found) == engines
    assert set(found.values()) == set(own_hashes(check).values())


# --- sanitizers


def libraries() -> list[str]:
    """The compiler's own sanitizer and C++ libraries; skips the test where they are not."""
    compiler = tool("g++")
    found = [run(compiler, f"-print-file-name={name}").strip() for name in LIBRARIES]
    for path in found:
        if not Path(path).is_file():
            pytest.skip(f"{compiler} has no {path}")
    return found


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory) -> dict[str, str]:
    """Environment of a Python whose native module reports memory errors."""
    if platform.system() != "Linux":
        pytest.skip("the sanitizers are loaded as on Linux")
    nanobind = pytest.importorskip("nanobind")
    preload = ":".join(libraries())
    folder = build(
        tmp_path_factory.mktemp("sanitized"), "_native", INTAGLIO_SANITIZE="ON",
        CMAKE_CXX_COMPILER=tool("g++"), Python_EXECUTABLE=sys.executable,
        nanobind_ROOT=nanobind.cmake_dir(),
    )  # fmt: skip
    (module,) = folder.glob("_native*.so")
    return {
        "INTAGLIO_NATIVE": str(module),
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps what it has
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # every object a piece of its own
        "OPENBLAS_NUM_THREADS": "1",
    }


@pytest.mark.parametrize(
    "file", ["test_twin_native.py", "test_twin_engine.py", "test_twin_fuzz.py"]
)
def test_sanitizers_find_nothing(sanitized, file):
    # uncaptured: a report ends the process
    words = ["-s", "-x", "-p", "sanitized_native", "-p", "no:cacheprovider", "-p", "no:xdist"]
    path = {"PYTHONPATH": str(Path(__file__).parent)}
    output = run(
        sys.executable, "-m", "pytest", *words, Path(__file__).parent / file, **sanitized, **path
    )
    assert " passed" in output
    assert "Sanitizer" not in output
    assert "runtime error" not in output


# --- no compiler


WITHOUT = """
import sys, intaglio
from random_model import random_model
from intaglio.golden.forward import Golden
from intaglio.twin.engine import Twin, native_here
assert intaglio.__file__.startswith(sys.argv[1]), intaglio.__file__
assert not native_here()
model = random_model(0)
twin, golden = Twin(model), Golden(model)
assert twin.fallback and twin.engine == "numpy", twin.engine
assert (twin.logits([1, 2, 3]) == golden.logits(golden.residual([1, 2, 3]))).all()
"""


def install(target: Path) -> None:
    """Install into a folder where no compiler is; skips the test without the build's own needs."""
    words = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--target",
        str(target),
        str(ROOT),
    ]
    if find_spec("scikit_build_core") and find_spec("nanobind"):
        words.append("--no-build-isolation")
    done = subprocess.run(
        words,
        env={**os.environ, "CXX": "/nowhere/c++"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("pip does not reach what the build needs")
    assert done.returncode == 0, done.stderr[-5000:]


def test_without_a_compiler_the_twin_runs_on_numpy(tmp_path):
    install(tmp_path / "installed")
    assert not list((tmp_path / "installed").rglob("_native*.so"))
    paths = [tmp_path / "installed", Path(__file__).parent, sysconfig.get_path("purelib")]
    # -S: an editable install would come first
    run(
        sys.executable, "-S", "-c", WITHOUT, tmp_path / "installed",
        PYTHONPATH=":".join(map(str, paths)),
    )  # fmt: skip
