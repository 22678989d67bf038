"""Talk: what golden says and what the chip says, prefixes run once, lengths refused."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_chip import PlayedChip

from intaglio.errors import BadInput
from intaglio.flow import engines as engines_module
from intaglio.flow.engines import BLOCK
from intaglio.flow.package import Package, open_package
from intaglio.flow.talk import Talk, check_length, common_prefix, encode_prompt, modelled
from intaglio.golden.forward import Golden
from intaglio.golden.sample import Sampling, sample
from intaglio.plan.outline import Outline
from intaglio.plan.process import process
from intaglio.plan.schedule import Schedule, User
from intaglio.silicon.physical import figures
from intaglio.silicon.request import Choices
from intaglio.twin import NO_NATIVE
from intaglio.twin import engine as twin_engine

BLOCKED = "target generic is no process: compile with --target n6, or another"
SAMPLED = Sampling.of(temperature=1.0, seed=3)


@pytest.fixture(scope="module")
def package(made_home) -> Package:
    return open_package(made_home(128) / "chip")


@pytest.fixture
def played(monkeypatch) -> None:
    """The RTL played by the integer model behind a simulation's interface."""
    monkeypatch.setattr(engines_module, "executable_of", lambda package, progress: (Path("x"), 0.0))
    monkeypatch.setattr(engines_module, "Simulation", play)


@pytest.fixture(params=["twin", "golden", "rtl"])
def engine(request, played):
    """Both engines."""
    return request.param


def play(executable: Path, images: Path) -> PlayedChip:
    from intaglio.golden.model import IntModel

    return PlayedChip(IntModel.load(images.parents[1] / "model.safetensors"))


def plainly(package: Package, ids: list[int], count: int, sampling: Sampling) -> list[int]:
    """What follows ``ids``, one position at a time from the beginning."""
    golden, ids = Golden(package.model), list(ids)
    for _ in range(count):
        x = golden.residual(np.array(ids))
        ids.append(sample(golden.logits(x[-1:])[0], sampling, len(ids) - 1))
    return ids[-count:]


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED], ids=["greedy", "sampled"])
def test_both_engines_say_what_the_integers_say(package, engine, sampling):
    with Talk(package, engine) as talk:
        ids = talk.encode("the list" * 15)
        assert BLOCK < len(ids) + 10 < 128
        text = "".join(talk.complete(ids, 10, sampling, stop=False))
        assert text == package.tokenizer.decode(plainly(package, ids, 10, sampling))
        assert (talk.prompt, talk.count) == (len(ids), 10)


def test_it_stops_at_the_end_of_text(package, engine):
    with Talk(package, engine) as talk:
        ids = talk.encode("the list")
        said = plainly(package, ids, 8, Sampling())
        end = next(token for token in said[2:] if token not in said[:2])
        talk.package = Package(package.path, package.manifest)
        talk.package.__dict__["tokenizer"] = replace(package.tokenizer, end_ids=frozenset([end]))
        text = "".join(talk.complete(ids, 8, Sampling()))
        assert text == package.tokenizer.decode(said[: said.index(end)])
        assert talk.count == said.index(end) + 1
        assert "".join(talk.complete(ids, 8, Sampling(), stop=False)) == package.tokenizer.decode(
            said
        )


def test_what_prompts_have_in_common_is_run_once(package, engine):
    """Whatever was said before, however it ended, the next answer is as from the beginning."""
    with Talk(package, engine) as talk:
        starts = watch(talk)
        first = talk.encode("the index of ")
        said = plainly(package, first, 6, SAMPLED)
        "".join(talk.complete(first, 6, SAMPLED, stop=False))
        assert talk.taken == [*first, *said[:-1]], "the last token was said, not taken"

        second = [*first, *said, *talk.encode(" in the 12 ")]
        text = "".join(talk.complete(second, 5, Sampling(), stop=False))
        assert text == package.tokenizer.decode(plainly(package, second, 5, Sampling()))

        third = [*first[:4], *talk.encode("another")]
        text = "".join(talk.complete(third, 5, Sampling(), stop=False))
        assert text == package.tokenizer.decode(plainly(package, third, 5, Sampling()))

        assert "".join(talk.complete(third, 5, Sampling(), stop=False)) == text
        assert starts == [0, len(first) + 5, 4, len(third) - 1]


def test_an_answer_that_is_cut_off_is_no_trap(package, engine):
    with Talk(package, engine) as talk:
        ids = talk.encode("the index of ")
        pieces = talk.complete(ids, 20, SAMPLED, stop=False)
        for _ in range(3):
            next(pieces)
        pieces.close()
        said = plainly(package, ids, 20, SAMPLED)
        longer = [*ids, *said[:4], *talk.encode("12")]
        text = "".join(talk.complete(longer, 5, Sampling(), stop=False))
        assert text == package.tokenizer.decode(plainly(package, longer, 5, Sampling()))


def watch(talk: Talk) -> list[int]:
    """The positions from which the engine is asked to run."""
    talk.start()
    source, starts = talk.source, []
    assert source
    run = source.run

    def noted(tokens, position, count, sampling):
        starts.append(position)
        return run(tokens, position, count, sampling)

    source.run = noted  # pyright: ignore[reportAttributeAccessIssue]
    return starts


def test_epochs_come_round(package, played):
    with Talk(package, "rtl") as talk:
        ids = talk.encode("12")
        for _ in range(258):
            "".join(talk.complete(ids, 1, Sampling()))
        chip = talk.source.simulation  # pyright: ignore
        assert sorted(set(chip.epochs)) == list(range(256))
    assert chip.closed


def test_the_context_can_be_filled_to_the_last_position(package, engine):
    with Talk(package, engine) as talk:
        ids = talk.encode("the list ")
        room = 128 - len(ids) + 1
        "".join(talk.complete(ids, room, SAMPLED, stop=False))
        assert talk.count == room
        with pytest.raises(BadInput, match="need 129 positions, the chip has 128"):
            "".join(talk.complete(ids, room + 1, SAMPLED))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((128, 0, 1), "the prompt has no tokens"),
        ((128, 5, 0), "tokens to generate must be at least 1, not 0"),
        ((128, 5, -3), "tokens to generate must be at least 1, not -3"),
        ((128, 129, 1), "129 prompt tokens and 1 new ones need 129 positions, the chip has 128"),
        ((128, 5, 10**9), "need 1000000004 positions, the chip has 128"),
    ],
)
def test_lengths_out_of_range(arguments, message):
    with pytest.raises(BadInput, match=message):
        check_length(*arguments)
    check_length(128, 128, 1)


def test_prompts(package):
    tokenizer = package.tokenizer
    assert encode_prompt(tokenizer, "the") == tokenizer.encode("the")
    asked = tokenizer.encode_chat([{"role": "user", "content": "the"}])
    assert encode_prompt(tokenizer, "the", chat=True) == asked
    for chat in (False, True):
        with pytest.raises(BadInput, match=r"^the prompt is empty \(give --prompt a text\)$"):
            encode_prompt(tokenizer, "", chat=chat)
    with pytest.raises(BadInput, match="text must be valid Unicode"):
        encode_prompt(tokenizer, "\udcff")


def test_an_engine_that_is_none(package):
    with pytest.raises(BadInput, match=r"^engine must be one of twin, golden, rtl, not 'gpu'$"):
        Talk(package, "gpu")


def test_common_prefix():
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 4]) == 2
    assert common_prefix([], [1]) == 0


def test_what_it_takes_here_and_on_the_chip(package):
    with Talk(package) as talk:
        ids = talk.encode("the list")
        "".join(talk.complete(ids, 5, Sampling(), stop=False))
        values = talk.summary()
        assert talk.source
    run = Schedule(package.plan).run
    cycles, first = run([User(len(ids), 5)]), run([User(len(ids), 1)])
    assert values == {
        "prompt_tokens": len(ids),
        "tokens": 5,
        "engine": "twin",
        "adapter": None,
        "runs_on": talk.source.name,
        "seconds": talk.seconds,
        "chip": {
            "grade": "modelled",
            "target": "generic",
            "adapter_rank": 0,
            "adapter_rank_assumed": False,
            "cycles": cycles,
            "clock_hz": 1e9,
            "seconds": cycles / 1e9,
            "prefill_seconds": first / 1e9,
            "decode_seconds": (cycles - first) / 1e9,
            "tokens_per_second": 4e9 / (cycles - first),
            "joules": None,
            "joules_blocked_by": BLOCKED,
        },
    }


def test_without_native_code_a_line_says_so(package, monkeypatch):
    monkeypatch.setattr(twin_engine, "native_here", lambda: False)
    with Talk(package) as talk:
        ids = talk.encode("the list")
        text = "".join(talk.complete(ids, 5, Sampling(), stop=False))
        assert talk.source is not None
        assert talk.source.remark == NO_NATIVE
        assert talk.summary()["runs_on"] == "the twin (numpy)"
    assert text == package.tokenizer.decode(plainly(package, ids, 5, Sampling()))


def test_ctrl_c_is_not_for_the_simulation():
    before = signal.getsignal(signal.SIGINT)  # a background job's is SIG_IGN already
    with engines_module.unheard_interrupts():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before


def test_on_a_process_it_takes_energy(package):
    plan = replace(package.plan, target="n6")
    short, long = (modelled(plan, 4, count, Sampling()) for count in (5, 10))
    assert 0 < short["joules"] < long["joules"]
    assert short["joules_blocked_by"] is None
    made = figures(Outline.of(plan), process("n6"), Choices(prompt=4, output=5))
    token = made.power["dynamic_millijoule"].number * 1e-3
    leakage = made.power["leakage_w"].number
    assert short["joules"] == pytest.approx(8 * token + leakage * short["seconds"])


def test_what_host_sampling_takes(package):
    """The chip's cycles, and for every token the host's time."""
    plan = package.plan
    own, host = modelled(plan, 4, 5, Sampling()), modelled(plan, 4, 5, Sampling(), host=True)
    waits = host.pop("host")
    away = waits["seconds_per_token"]
    parts = ("link_seconds", "round_trip_seconds", "choice_seconds")
    assert away == pytest.approx(sum(waits[name] for name in parts))
    assert waits["round_trip_seconds"] == 1e-6
    assert host["cycles"] == Schedule(plan).host_run(4, 5)
    assert host["seconds"] == pytest.approx(host["cycles"] / host["clock_hz"] + 5 * away)
    assert host["prefill_seconds"] + host["decode_seconds"] == pytest.approx(host["seconds"])
    assert host["tokens_per_second"] == pytest.approx(4 / host["decode_seconds"])
    assert set(host) == set(own)
    assert "host" not in own
    one = modelled(plan, 4, 1, Sampling(), host=True)
    assert one["tokens_per_second"] == pytest.approx(1 / one["seconds"])
