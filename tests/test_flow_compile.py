"""Compile: same bytes, whenever interrupted; bases; refusals before any work is done."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from reference_logits import sample_config, sample_tensors, write_folder, write_gguf
from tiny_chip import QUICK, TEXT, environment, quick_emit, run_quick, tiny_checkpoint, tree

from intaglio.errors import BadCheckpoint, BadInput, BadPackage, DoesNotFit
from intaglio.flow import compile as compile_module
from intaglio.flow.cache import ArrayStore, Store, cache_folder
from intaglio.flow.compile import CompileOptions, compile_model
from intaglio.flow.package import MANIFEST, open_package
from intaglio.hardware import emit
from intaglio.plan.chip import MOST_SLOTS
from intaglio.plan.tiling import MOST_LANES

TESTS = Path(__file__).parent
MIXED = replace(QUICK, bits=3.5, uniform=False)
REAL_EMIT = emit.emit


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """An own cache, and quick Verilog."""
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(emit, "emit", quick_emit)


@pytest.fixture
def tiny(tmp_path) -> Path:
    return tiny_checkpoint(tmp_path / "tiny")


def rtl(chip: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(chip / "rtl").items() if "rom/" not in name}


def test_a_package_comes_out(tiny, tmp_path):
    steps = []
    made = compile_model(
        str(tiny), tmp_path / "deep" / "chip", QUICK, progress=lambda *step: steps.append(step)
    )
    assert not made.cached
    assert made.source == "tiny (from f32)"
    assert made.package.manifest == open_package(tmp_path / "deep" / "chip").manifest
    assert made.peak_memory > 1 << 20
    assert os.listdir(tmp_path / "deep") == ["chip"]
    shares = {}
    for step, share, _ in steps:
        assert shares.get(step, 0) <= share <= 1, step
        shares[step] = share
    assert shares == dict.fromkeys(shares, 1)
    assert list(shares) == [
        compile_module.READING, compile_module.QUANTIZING, compile_module.WRITING,
        compile_module.PUTTING,
    ]  # fmt: skip
    assert not (cache_folder() / "steps").exists() or not os.listdir(cache_folder() / "steps")


def test_a_second_compile_comes_from_the_cache(tiny, tmp_path, monkeypatch):
    compile_model(str(tiny), tmp_path / "a", QUICK)

    def never(*arguments, **options):
        raise AssertionError("nothing may be computed again")

    monkeypatch.setattr(compile_module, "quantize", never)
    made = compile_model(str(tiny), tmp_path / "b", QUICK)
    assert made.cached
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    before = (tmp_path / "b").stat().st_ino
    assert compile_model(str(tiny), tmp_path / "b", QUICK).cached
    assert (tmp_path / "b").stat().st_ino == before, "what is in place stays in place"


def test_the_same_input_gives_the_same_bytes_anywhere(tmp_path, monkeypatch):
    """Another folder, another cache, another process with another hash seed: the same tree."""
    first = compile_model(str(tiny_checkpoint(tmp_path / "tiny")), tmp_path / "a", QUICK)
    other = tiny_checkpoint(tmp_path / "elsewhere" / "another name")
    (tmp_path / "text").write_text(TEXT)
    done = run_quick(
        ["compile", str(other), "-o", "b", "--bits", "4", "--uniform", "--calibration", "../text"],
        cwd=tmp_path / "elsewhere",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache2"))
    assert not compile_model(str(other), tmp_path / "c", QUICK).cached
    assert first.package.source == "llama (from f32)"
    assert tree(tmp_path / "a") == tree(tmp_path / "elsewhere" / "b") == tree(tmp_path / "c")


def test_every_option_makes_another_package(tiny, tmp_path):
    changes = [
        {}, {"bits": 3}, {"context": 32}, {"slots": 3}, {"lanes": 5}, {"calibration": TEXT + "x"},
        {"adapter_rank": 2}, {"adapter_rank": 2, "adapter_count": 2},
    ]  # fmt: skip
    made = [compile_model(str(tiny), tmp_path / "chip", replace(QUICK, **c)) for c in changes]
    assert [m.cached for m in made] == [False] * len(changes)
    texts = {json.dumps(m.package.manifest) for m in made}
    assert len(texts) == len(changes)
    # what the default is, said aloud, and a bound that holds, make the same
    assert compile_model(str(tiny), tmp_path / "chip", replace(QUICK, context=64)).cached


def test_what_decides_no_integer_chooses_none_again(tiny, tmp_path, monkeypatch):
    first = compile_model(str(tiny), tmp_path / "a", QUICK)
    real, calls = compile_module.quantize, []
    monkeypatch.setattr(
        compile_module, "quantize", lambda *a, **k: calls.append(1) or real(*a, **k)
    )
    for changes in ({"lanes": 5}, {"slots": 3}, {"adapter_rank": 2}):
        made = compile_model(str(tiny), tmp_path / "b", replace(QUICK, **changes))
        assert not made.cached
        assert made.package.hash == first.package.hash
    assert calls == []
    compile_model(str(tiny), tmp_path / "b", replace(QUICK, bits=3))
    assert calls == [1]


@pytest.mark.parametrize("damage", [b"", b"0" * 64, None])
def test_damaged_integers_are_chosen_again(tiny, tmp_path, damage):
    first = compile_model(str(tiny), tmp_path / "a", QUICK)
    (kept,) = [p for p in (tmp_path / "cache" / "integers").iterdir() if p.is_dir()]
    if damage is None:
        (kept / compile_module.MODEL).write_bytes(b"12345678")
    else:
        (kept / compile_module.HASH).write_bytes(damage)
    made = compile_model(str(tiny), tmp_path / "b", replace(QUICK, lanes=5))
    assert made.package.hash == first.package.hash
    assert (kept / compile_module.HASH).read_text() == first.package.hash


def test_calibration_by_default_and_bits_mixed(tiny, tmp_path):
    made = compile_model(str(tiny), tmp_path / "chip", MIXED)
    assert 3 < made.package.bits_per_weight <= 3.5


def test_a_damaged_cache_is_made_again(tiny, tmp_path):
    first = compile_model(str(tiny), tmp_path / "a", QUICK)
    (cached,) = [p for p in (tmp_path / "cache" / "packages").iterdir() if p.is_dir()]
    (cached / "plan.json").write_text("{}")
    made = compile_model(str(tiny), tmp_path / "b", QUICK)
    assert not made.cached
    assert tree(tmp_path / "b") == tree(tmp_path / "a")
    (cached / MANIFEST).unlink()
    assert not compile_model(str(tiny), tmp_path / "c", QUICK).cached
    assert first.package.manifest == made.package.manifest


def test_what_a_crash_at_the_last_moment_left_is_removed(tiny, tmp_path):
    """The new package is in place, the one before is not deleted yet."""
    compile_model(str(tiny), tmp_path / "chip", QUICK)
    shutil.copytree(tmp_path / "chip", tmp_path / ".chip.0123abcd.partial")
    assert compile_model(str(tiny), tmp_path / "chip", QUICK).cached
    assert sorted(os.listdir(tmp_path)) == ["cache", "chip", "tiny"]


def test_a_damaged_output_is_replaced(tiny, tmp_path):
    compile_model(str(tiny), tmp_path / "chip", QUICK)
    whole = tree(tmp_path / "chip")
    (tmp_path / "chip" / "rtl" / "chip.v").write_text("")
    assert compile_model(str(tiny), tmp_path / "chip", QUICK).cached
    assert tree(tmp_path / "chip") == whole


def test_the_output_may_be_a_link_an_empty_folder_or_here(tiny, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    compile_model(str(tiny), tmp_path / "link", QUICK)
    assert (tmp_path / "link").is_symlink()
    assert open_package(tmp_path / "empty").manifest == open_package(tmp_path / "link").manifest
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    compile_model(str(tiny), Path("."), QUICK)
    assert open_package(tmp_path / "here").hash


@pytest.mark.parametrize("kind", ["file", "folder", "link to nothing"])
def test_an_output_that_is_no_package_is_never_touched(tiny, tmp_path, kind):
    output = tmp_path / "out"
    if kind == "file":
        output.write_text("precious")
    elif kind == "folder":
        output.mkdir()
        (output / "thesis.txt").write_text("precious")
    else:
        output.symlink_to(tmp_path / "nowhere")
        compile_model(str(tiny), output, QUICK)
        assert open_package(tmp_path / "nowhere").hash
        return
    with pytest.raises(BadInput, match=r"^.*out: exists and is not a chip package \(choose"):
        compile_model(str(tiny), output, QUICK)
    assert "precious" in (output if kind == "file" else output / "thesis.txt").read_text()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1}, "bits must be from 2 to 8, not 1"),
        ({"bits": 8.5}, "bits must be from 2 to 8, not 8.5"),
        ({"bits": float("nan")}, "bits must be from 2 to 8, not nan"),
        ({"bits": 3.5, "uniform": True}, "bits must be a whole number where uniform, not 3.5"),
        ({"slots": 0}, f"slots must be from 1 to {MOST_SLOTS}, not 0"),
        ({"slots": MOST_SLOTS + 1}, f"slots must be from 1 to {MOST_SLOTS}"),
        ({"lanes": 0}, f"lanes must be auto or from 1 to {MOST_LANES}, not 0"),
        ({"die": 0.0}, "die must be an area in mm2 greater than 0, not 0"),
        ({"die": float("inf")}, "die must be an area in mm2 greater than 0, not inf"),
        ({"adapter_rank": -1}, "adapter rank must be from 0 to 64, not -1"),
        ({"adapter_rank": 65}, "adapter rank must be from 0 to 64, not 65"),
        ({"adapter_rank": 4, "adapter_count": 0}, "adapter count must be from 1 to 256, not 0"),
        ({"adapter_count": 2}, "adapter count 2 needs side memory to hold them"),
        ({"target": "n2"}, "target must be one of n3, n5, n6, n7, n16, n28, n65, sky130, "),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(BadInput) as caught:
        CompileOptions(**options)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"context": 0}, BadInput, "context must be from 1 to the model's 64, not 0"),
        ({"context": 65}, BadInput, "context must be from 1 to the model's 64, not 65"),
        ({"die": 1.0}, BadInput, "target generic has no cell area, so --die cannot be checked"),
        ({"die": 0.01, "target": "sky130"}, DoesNotFit, "need at least .* the 0.01 mm2 there are"),
        ({"die": 1e-9, "target": "sky130"}, DoesNotFit, "more than the 1e-09 mm2 there are"),
    ],
)
def test_refused_before_any_work(tiny, tmp_path, monkeypatch, options, kind, message):
    monkeypatch.setattr(compile_module, "quantize", None)
    with pytest.raises(kind, match=message):
        compile_model(str(tiny), tmp_path / "chip", replace(QUICK, **options))
    assert not (tmp_path / "chip").exists()


def test_a_die_is_checked_on_a_cached_package_too(tiny, tmp_path):
    roomy = replace(QUICK, target="sky130")
    area = compile_model(str(tiny), tmp_path / "chip", roomy).package.plan.cell_area()
    assert area
    assert compile_model(str(tiny), tmp_path / "chip", replace(roomy, die=area * 1.01)).cached
    with pytest.raises(DoesNotFit, match="more than the"):
        compile_model(str(tiny), tmp_path / "other", replace(roomy, die=area * 0.99))
    assert not (tmp_path / "other").exists()


def test_a_bad_checkpoint_leaves_nothing(tiny, tmp_path):
    with pytest.raises(BadInput, match="model must be a Hugging Face folder"):
        compile_model(str(tmp_path / "missing"), tmp_path / "chip", QUICK)
    (tiny / "model.safetensors").write_bytes(b"12345678")
    with pytest.raises(BadCheckpoint):
        compile_model(str(tiny), tmp_path / "chip", QUICK)
    with pytest.raises(BadInput, match="calibration text must have at least two tokens"):
        compile_model("bundled", tmp_path / "chip", replace(QUICK, calibration=""))
    assert not (tmp_path / "chip").exists()
    leftovers = [p.name for p in tmp_path.rglob("*") if p.name.endswith(".partial")]
    assert leftovers == []


def test_a_weight_that_no_model_has_is_refused_before_any_work(tmp_path, monkeypatch):
    config = sample_config()
    tensors = sample_tensors(config)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = 1e30
    folder = write_folder(tmp_path / "tiny", config, tensors)
    monkeypatch.setattr(compile_module, "quantize", None)
    message = r"^model\.safetensors: tensor layers\.1\.up must be .*, found 1e\+30 at \(3, 5\)$"
    with pytest.raises(BadCheckpoint, match=message):
        compile_model(str(folder), tmp_path / "chip", QUICK)
    assert not (tmp_path / "chip").exists()


def test_a_gguf_file(tmp_path):
    config = sample_config()
    path = write_gguf(tmp_path / "tiny.gguf", config, sample_tensors(config))
    made = compile_model(str(path), tmp_path / "chip", QUICK)
    assert made.package.source == "llama (from F32)"


@pytest.mark.parametrize(
    ("options", "verilog"),
    [
        pytest.param(QUICK, quick_emit, id="uniform"),
        pytest.param(MIXED, quick_emit, id="mixed"),
        pytest.param(MIXED, REAL_EMIT, id="real", marks=pytest.mark.slow),
    ],
)
def test_two_models_under_one_shape_have_one_rtl(tiny, tmp_path, monkeypatch, options, verilog):
    monkeypatch.setattr(emit, "emit", verilog)
    shape = replace(options, slots=3, lanes=7, adapter_rank=3, adapter_count=2)
    first = compile_model(str(tiny), tmp_path / "a", shape)
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    based = CompileOptions(calibration=TEXT)
    second = compile_model(str(other), tmp_path / "b", based, base=tmp_path / "a")
    assert first.package.hash != second.package.hash
    widths = {fabric.bits for layer in first.package.plan.layers for fabric in layer.values()}
    assert (len(widths) > 1) == (options is MIXED)
    assert rtl(tmp_path / "a") == rtl(tmp_path / "b")
    plans = [(tmp_path / name / "plan.json").read_bytes() for name in "ab"]
    assert plans[0] == plans[1]
    images = [tree(tmp_path / name / "rtl" / "rom") for name in "ab"]
    assert images[0].keys() == images[1].keys()
    for name, image in images[0].items():
        assert image.count(b"\n") == images[1][name].count(b"\n"), name
    assert images[0] != images[1]
    # the base chip's own checkpoint comes out as it was
    again = compile_model(str(tiny), tmp_path / "c", based, base=tmp_path / "b")
    assert again.package.hash == first.package.hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intermediate_size": 96}, "inner must be the base chip's 64, not 96"),
        ({"num_hidden_layers": 3}, "layers must be the base chip's 2, not 3"),
        ({"max_position_embeddings": 32}, "context must be the base chip's 64, not 32"),
        ({"tie_word_embeddings": True}, "tied must be the base chip's False, not True"),
    ],
)
def test_a_model_of_another_shape_is_refused_at_once(tiny, tmp_path, monkeypatch, changes, message):
    compile_model(str(tiny), tmp_path / "base", QUICK)
    monkeypatch.setattr(compile_module, "quantize", None)
    other = tiny_checkpoint(tmp_path / "other", **changes)
    with pytest.raises(BadInput, match=f"^{message} "):
        compile_model(str(other), tmp_path / "chip", QUICK, base=tmp_path / "base")


def test_a_base_that_is_none(tiny, tmp_path):
    with pytest.raises(BadPackage, match="no such chip package"):
        compile_model(str(tiny), tmp_path / "chip", QUICK, base=tmp_path / "missing")


def test_an_interrupted_compile_goes_on_where_it_stopped(tiny, tmp_path, monkeypatch):
    whole = compile_model(str(tiny), tmp_path / "whole", QUICK)
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache2"))

    def stop(step: str, share: float, detail: str) -> None:
        if "layers.1.gate" in detail:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_model(str(tiny), tmp_path / "chip", QUICK, progress=stop)
    assert not (tmp_path / "chip").exists()
    (steps,) = (cache_folder() / "steps").iterdir()
    kept = len(ArrayStore(steps.name))
    assert kept >= 7
    for path in list(steps.iterdir())[:2]:
        path.write_bytes(path.read_bytes()[:-9])  # and two are damaged
    made = compile_model(str(tiny), tmp_path / "chip", QUICK)
    assert made.package.manifest == whole.package.manifest
    assert tree(tmp_path / "chip") == tree(tmp_path / "whole")
    assert not steps.exists()


COMPILE = ["--bits", "4", "--uniform", "--calibration", "text", "-o", "chip"]


def kill_and_go_on(tmp_path: Path, rounds: int) -> None:
    """Kill compiles at spread moments; the one that is let be gives the bytes of an undisturbed."""
    tiny_checkpoint(tmp_path / "tiny")
    (tmp_path / "text").write_text(TEXT)
    started = time.monotonic()
    assert run_quick(["compile", "tiny", *COMPILE], cwd=tmp_path).returncode == 0
    whole, seconds = tree(tmp_path / "chip"), time.monotonic() - started
    shutil.rmtree(tmp_path / "chip")
    shutil.rmtree(tmp_path / "cache")
    for number in range(rounds):
        process = subprocess.Popen(
            [sys.executable, TESTS / "tiny_chip.py", "compile", "tiny", *COMPILE],
            cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(seconds * (0.4 + 0.6 * (number + 1) / (rounds + 1)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "chip").exists():
            open_package(tmp_path / "chip")
    assert run_quick(["compile", "tiny", *COMPILE], cwd=tmp_path).returncode == 0
    assert tree(tmp_path / "chip") == whole
    assert sorted(os.listdir(tmp_path)) == ["cache", "chip", "text", "tiny"]
    packages = os.listdir(tmp_path / "cache" / "packages")
    assert [name for name in packages if name.endswith(".partial")] == []


def test_killed_compiles_leave_nothing_that_matters(tmp_path):
    kill_and_go_on(tmp_path, rounds=2)


@pytest.mark.slow
def test_compiles_killed_at_many_moments(tmp_path):
    kill_and_go_on(tmp_path, rounds=20)


CRASHES = """
import os, shutil, sys
from pathlib import Path
from crash_moments import crash_moments, lives
from tiny_chip import QUICK, quick_emit, tiny_checkpoint, tree
from intaglio.flow import folder
from intaglio.flow.compile import compile_model
from intaglio.flow.package import open_package
from intaglio.hardware import emit, images
work, way, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
emit.emit = quick_emit
if way == "two renames":
    folder.exchange = lambda first, second: False
old, new = (str(tiny_checkpoint(work / f"tiny{seed}", seed)) for seed in (0, 1))
chip, cache = work / "chip", work / "cache"
assert lives(lambda: compile_model(new, work / "whole", QUICK), work)
assert lives(lambda: compile_model(old, chip, QUICK), work)
trees = tree(chip), tree(work / "whole")
shutil.copytree(chip, work / "old")
moments, new_seen = 0, 0
shutil.rmtree(cache)
for moment in crash_moments(lambda: compile_model(new, chip, QUICK), work, step):
    open_package(chip)  # which brings back what was left aside
    found = tree(chip)
    assert found in trees, moment
    new_seen += found == trees[1]
    moments += 1
    # going on from here gives the same bytes and leaves nothing behind
    assert lives(lambda: compile_model(new, chip, QUICK), work)
    assert tree(chip) == trees[1], moment
    left = sorted(os.listdir(work))
    assert left == ["cache", "chip", "old", "tiny0", "tiny1", "whole"], (moment, left)
    shutil.rmtree(cache)
    shutil.rmtree(chip)
    shutil.copytree(work / "old", chip)
assert moments > 2
print(moments, new_seen)
"""


def crash(tmp_path: Path, way: str, step: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, str(tmp_path), way, str(step)],
        cwd=TESTS, env=environment(), capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_crash_at_some_moments_of_a_compile(tmp_path):
    crash(tmp_path, "exchange", 67)


def test_a_file_put_into_a_package_is_not_lost(tiny, tmp_path):
    chip = tmp_path / "chip"
    compile_model(str(tiny), chip, QUICK)
    (chip / "notes.txt").write_text("precious")
    with pytest.raises(BadInput, match=r"chip: holds notes\.txt, which is not the package's"):
        compile_model(str(tiny), chip, QUICK)
    assert (chip / "notes.txt").read_text() == "precious"


def test_the_root_is_no_package(tiny):
    with pytest.raises(BadInput, match="/: cannot be a chip package"):
        compile_model(str(tiny), Path("/"), QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["exchange", "two renames"])
def test_a_crash_at_every_seventh_moment_of_a_compile(tmp_path, way):
    crash(tmp_path, way, 7)


def test_compiles_of_the_same_at_the_same_time(tmp_path):
    """Two into one package and one beside it: one of them does the work, all get the same."""
    tiny_checkpoint(tmp_path / "tiny")
    (tmp_path / "text").write_text(TEXT)
    command = [sys.executable, TESTS / "tiny_chip.py", "compile", "tiny", *COMPILE, "--json"]
    outputs = ("chip", "chip", "other")
    running = [
        subprocess.Popen([*command, "-o", output], cwd=tmp_path, env=environment(),
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for output in outputs
    ]  # fmt: skip
    ends = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], ends
    values = [json.loads(out) for out, _ in ends]
    assert [value["cached"] for value in values].count(False) == 1
    assert tree(tmp_path / "chip") == tree(tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == ["cache", "chip", "other", "text", "tiny"]


def test_a_full_disk_is_no_package(tiny, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compile_module, "copy_package", full)
    with pytest.raises(OSError, match="No space left"):
        compile_model(str(tiny), tmp_path / "chip", QUICK)
    assert not (tmp_path / "chip").exists()
    assert Store("packages").root.is_dir()
