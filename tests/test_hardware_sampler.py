# amaranth: UnusedElaboratable=no
"""The sampler against golden's choice, for every setting."""

import numpy as np
import pytest
from streams import Job, gap, run

from intaglio.golden.number import LOGIT
from intaglio.golden.sample import Sampling, sample
from intaglio.hardware.sampler import Sampler, sorting_network

GREEDY = Sampling()


class Bench:
    """Jobs for a sampler, and what golden chooses."""

    def __init__(self, vocabulary: int, beat: int, seed: int = 0) -> None:
        self.block = Sampler(vocabulary=vocabulary, beat=beat)
        self.rng = np.random.default_rng(seed)
        self.jobs: list[Job] = []
        self.expected: list[int] = []
        self.samplings: list[Sampling] = []

    def send(self, logits: np.ndarray, sampling: Sampling, position: int = 0) -> None:
        """One set of logits; what fills the last beat is as large as can be."""
        padding = np.full(-len(logits) % self.block.beat, LOGIT.high)
        beats = np.concatenate([logits, padding]).reshape(-1, self.block.beat)
        settings = {
            "beta": sampling.beta, "top_k": sampling.top_k, "top_p": sampling.top_p,
            "seed": sampling.seed, "position": position,
        }  # fmt: skip
        self.jobs.append(Job({"i": beats.tolist()}, {"o": 1}, settings))
        self.expected.append(sample(np.asarray(logits, np.int64), sampling, position))
        self.samplings.append(sampling)

    def logits(self, scale: float = 4096.0) -> np.ndarray:
        return np.rint(self.rng.normal(0, scale, self.block.vocabulary)).astype(np.int64)

    def settings(self) -> Sampling:
        rng = self.rng
        return Sampling(
            beta=int(rng.integers(1, 1 << rng.integers(1, 21))),
            top_k=int(rng.integers(1, 65)),
            top_p=int(rng.integers(1, (1 << 16) + 1)),
            seed=int(rng.integers(0, 1 << 63)) * 2 + 1,
        )

    def check(self, **options) -> None:
        results = run(self.block, self.jobs, deadline=80_000, **options)
        assert [flows["o"].payloads[0] for flows in results] == self.expected
        if not options.get("stall"):
            gaps = [gap(flows) for flows in results]
            assert gaps == [self.block.gap(sampling) for sampling in self.samplings]


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16])
def test_the_network_sorts(lanes):
    # a network that sorts every sequence of zeros and ones sorts every sequence
    rows = np.arange(1 << lanes)[:, None] >> np.arange(lanes) & 1
    for pairs in sorting_network(lanes):
        for high, low in pairs:
            x, y = rows[:, high].copy(), rows[:, low].copy()
            rows[:, high], rows[:, low] = np.maximum(x, y), np.minimum(x, y)
    assert np.all(np.diff(rows, axis=1) <= 0)


@pytest.mark.parametrize(
    ("vocabulary", "beat"),
    [(300, 4), (257, 16), (96, 8), (64, 2), (65, 1), (7, 4), (3, 4), (1, 2), (130, 32)],
)
def test_sampler_chooses_as_golden(vocabulary, beat):
    bench = Bench(vocabulary, beat, seed=vocabulary)
    for position in range(4):
        bench.send(bench.logits(), GREEDY, position)
        bench.send(bench.logits(), bench.settings(), position)
        bench.send(bench.logits(40), bench.settings(), (1 << 20) - 1 - position)
    bench.check()


@pytest.mark.parametrize("beat", [4, 16])
def test_every_candidate_counts(beat):
    """All logits nearly equal: every place of every list can be chosen, in any order of arrival."""
    bench = Bench(256, beat)
    base = np.arange(256)
    orders = [base, base[::-1], base % 64, base // 64, np.zeros(256), base % 5 * 1000]
    orders += [np.where(base % beat == 1, 1000 + base, base), bench.rng.permutation(256)]
    for order in orders:
        logits = order.astype(np.int64)
        for seed in range(3):
            bench.send(logits, Sampling(beta=16, seed=seed << 20, top_k=64), seed)
        bench.send(logits, GREEDY)
    bench.check()


def test_settings_at_their_ends():
    bench = Bench(100, 4)
    for sampling in (
        Sampling(beta=(1 << 20) - 1),
        Sampling(beta=1, top_k=1),
        Sampling(beta=1, top_p=1),
        Sampling(beta=5909, top_p=1 << 16, seed=(1 << 64) - 1),
        Sampling(beta=5909, top_k=2, top_p=32768),
    ):
        bench.send(bench.logits(), sampling, 17)
    ends = np.where(np.arange(100) % 2, LOGIT.low, LOGIT.high)
    for sampling in (GREEDY, Sampling(beta=(1 << 20) - 1), Sampling(beta=1, seed=7)):
        bench.send(ends, sampling, 1)
        bench.send(-1 - ends, sampling, 1)
    bench.send(np.full(100, LOGIT.low), Sampling(beta=9000, seed=3), 2)
    bench.check()


def test_stalled_with_its_clock_gated():
    bench = Bench(90, 8)
    for position in range(6):
        bench.send(bench.logits(), bench.settings() if position % 3 else GREEDY, position)
    bench.check(stall=0.4, gated=True)


@pytest.mark.parametrize(
    ("vocabulary", "beat", "message"),
    [
        (0, 4, r"^vocabulary must be from 1 to 1048576, not 0$"),
        (9, 3, r"^beat must be a power of two, not 3$"),
    ],
)
def test_shape_wrong(vocabulary, beat, message):
    with pytest.raises(ValueError, match=message):
        Sampler(vocabulary=vocabulary, beat=beat)
