"""Exact cycles: how long a chip takes, position by position.

Every block takes a fixed number of cycles from the last beat it accepts to the first it gives,
independent of the data; then beats flow one per cycle. The numbers stand in ``BLOCKS`` and in the
hardware; tests hold both to what the RTL does. A layer works on one position at a time, so the
chain is a recurrence over layers and positions.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from intaglio.golden.number import CANDIDATES
from intaglio.golden.sample import Sampling
from intaglio.plan.adapter import AdapterPlan, added_cycles
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import DRAIN, GROUPS, FabricPlan


@dataclass(frozen=True, slots=True)
class User:
    """One user of a run: so many prompt tokens, so many generated, and how they are sampled.

    ``adapted``: an adapter is on at all of them.
    """

    prompt: int
    generated: int
    sampling: Sampling = field(default_factory=Sampling)
    adapted: bool = False


class Schedule:
    """The cycles of one chip.

    Cycles are clock edges: a beat is accepted at an edge. ``run`` counts from the edge at which the
    first token is accepted to the edge at which the last result is.
    """

    def __init__(self, plan: ChipPlan) -> None:
        self.plan = plan
        self.beats = plan.architecture.width // plan.beat
        self._alone: dict[Sampling, int] = {}
        self._fixed = [self._layer_fixed(fabrics, {}) for fabrics in plan.layers]
        self._adapted = [
            self._layer_fixed(fabrics, adapters)
            for fabrics, adapters in zip(plan.layers, plan.adapters, strict=True)
        ]
        kinds: dict[Hashable, list[int]] = {}
        for index in range(len(plan.layers)):
            kinds.setdefault(self.kind(index), []).append(index)
        self._alike = [(indices[0], len(indices)) for indices in kinds.values()]

    def kind(self, index: int) -> Hashable:
        """What is equal of layers that take equally long at every position."""
        return self._fixed[index], self._adapted[index]

    def layer(self, index: int, position: int, *, adapted: bool = False) -> int:
        """Cycles from a layer's first beat in to its first beat out.

        ``adapted``: with an adapter. Beats that wait for addends count as if they had left one per
        cycle, the last when it does: whatever follows waits for that one.
        """
        fixed = self._adapted if adapted else self._fixed
        return fixed[index] + attention_gap(self.plan, position)

    def interval(self, index: int, position: int, *, adapted: bool = False) -> int:
        """Layer interval: cycles between two positions entering the layer, nothing in the way."""
        return self.layer(index, position, adapted=adapted) + self.beats

    def adapter_cycles(self, index: int) -> dict[str, int]:
        """Cycles that an adapter adds to a layer, by group; 0 where the fabrics hide it."""
        fabrics, adapters = self.plan.layers[index], self.plan.adapters[index]
        return {
            group: added_cycles(group, fabrics, adapters) if adapters else 0 for group in GROUPS
        }

    def head(self, sampling: Sampling) -> int:
        """Cycles from the head's first beat in to its token."""
        columns = -(-self.plan.architecture.vocabulary // self.plan.beat)
        gaps = norm_gap(self.plan) + linear_gap([self.plan.head], self.plan.beat)
        chosen = sampler_gap(self.plan, sampling) + TOKEN_REGISTER
        return 2 * (self.beats - 1) + gaps + (columns - 1) + chosen

    def streamed(self) -> int:
        """Cycles from the head's first beat in to the last beat of logits at the port: host
        sampling mode, the port never held up."""
        columns = -(-self.plan.architecture.vocabulary // self.plan.beat)
        gaps = norm_gap(self.plan) + linear_gap([self.plan.head], self.plan.beat)
        return 2 * (self.beats - 1) + gaps + (columns - 1) + PORT_GAP

    def host_run(self, prompt: int, generated: int, *, adapted: bool = False) -> int:
        """Cycles of a run of one user in host sampling mode, those in which it waits for the host
        left out: from every token accepted to the last beat of the logits after it."""
        stations, entrance, done = Stations(self), 0, 0
        for position in range(prompt):
            entrance, done = stations.send(position, entrance, None, adapted=adapted)
        layers = done  # of the last position: where the head begins
        total = layers + self.streamed()
        for position in range(prompt, prompt + generated - 1):
            own = sum(n * self.layer(i, position, adapted=adapted) for i, n in self._alike)
            total += EMBEDDING_GAP + own + self.streamed()
        return total

    def alone(self, sampling: Sampling) -> int:
        """Cycles of a token outside the layers."""
        if sampling not in self._alone:
            self._alone[sampling] = EMBEDDING_GAP + self.head(sampling) + RING
        return self._alone[sampling]

    def token(
        self, position: int, sampling: Sampling | None = None, *, adapted: bool = False
    ) -> int:
        """Cycles from a token's entrance to the next token's, at ``position``, for one user."""
        layers = sum(
            count * self.layer(index, position, adapted=adapted) for index, count in self._alike
        )
        return layers + self.alone(sampling or GREEDY)

    def run(self, users: Sequence[User]) -> int:
        """Cycles of a whole run: prompts interleaved by position, then every user's ring."""
        if any(user.adapted for user in users) and not self.plan.adapter_rank:
            raise ValueError("adapted users must have a chip with side memory")
        return Run(self, users).cycles()

    def check(
        self,
        position: int,
        drafted: int,
        sampling: Sampling | None = None,
        *,
        adapted: bool = False,
    ) -> int:
        """Cycles from a token's entrance at ``position`` to the last of ``drafted`` + 1 tokens.

        The drafted tokens follow the first one layer behind the other, and the head says what comes
        after each: one of them is believed if the token said before it is the same.
        """
        stations, entrance, done = Stations(self), 0, 0
        for place in range(position, position + drafted + 1):
            entrance, done = stations.send(place, entrance, sampling or Sampling(), adapted=adapted)
        return done

    def _layer_fixed(self, fabrics: dict[str, FabricPlan], adapters: dict[str, AdapterPlan]) -> int:
        """Cycles of a layer without those that grow with the position."""
        gaps = {
            group: linear_gap([fabrics[name] for name in names], self.plan.beat)
            + (added_cycles(group, fabrics, adapters) if adapters else 0)
            for group, names in GROUPS.items()
        }
        return self._attention_fixed(gaps) + self._gated_fixed(gaps)

    def _attention_fixed(self, gaps: dict[str, int]) -> int:
        """From a layer's first beat in to the first beat after attention is added."""
        plan, a, beats = self.plan, self.plan.architecture, self.beats
        query, mixed = a.query_width // plan.beat, (a.query_width + 2 * a.kv_width) // plan.beat
        attention = (beats - 1) + norm_gap(plan) + (beats - 1) + gaps["qkv"]
        # the sines begin a cycle after the first beat; as a rule they are ready long before
        attention = max(attention, 1 + a.head_width + ROTARY_LATENCY)
        attention += (mixed - 1) + ROTARY_GAP
        return attention + (query - 1) + SHRINK_GAP + (query - 1) + gaps["o"] + RESIDUAL_GAP

    def _gated_fixed(self, gaps: dict[str, int]) -> int:
        """From the first beat after attention to a layer's first beat out."""
        plan, beats = self.plan, self.beats
        inner = plan.architecture.inner // plan.beat
        mlp = (beats - 1) + norm_gap(plan) + (beats - 1) + gaps["mlp"] + GATE_GAP
        return mlp + (inner - 1) + SHRINK_GAP + (inner - 1) + gaps["down"] + RESIDUAL_GAP


class Stations:
    """A chip's layers and head, and the edge from which each can accept another first beat."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.free = [0] * (len(schedule.plan.layers) + 1)

    def send(
        self, position: int, entrance: int, sampling: Sampling | None, *, adapted: bool = False
    ) -> tuple[int, int]:
        """Send a position in at an edge; without ``sampling`` the head lets it go.

        Returns the edge at which the next may enter, and the one at which its token comes out.
        """
        schedule, beats, head = self.schedule, self.schedule.beats, len(self.free) - 1
        ready = entrance + EMBEDDING_GAP
        into: list[int] = []
        for station in range(head + 1):
            skipped = station == head and sampling is None
            into.append(ready if skipped else max(ready, self.free[station]))
            if station < head:
                ready = into[station] + schedule.layer(station, position, adapted=adapted)
        for station in range(head):
            self.free[station] = into[station + 1] + beats
        done = into[head]
        if sampling is not None:
            done += schedule.head(sampling)
            self.free[head] = done + 1
        return into[0] + beats, done


class Run:
    """One run of a chip: which position enters when, and when its token comes back."""

    def __init__(self, schedule: Schedule, users: Sequence[User]) -> None:
        self.stations, self.users = Stations(schedule), users
        self.ring: deque[tuple[int, int, int]] = deque()  # (edge, user, position)
        self.end = 0

    def cycles(self) -> int:
        """Edges from the first token accepted to the last result accepted."""
        prompts = deque(
            (user, position)
            for position in range(max(user.prompt for user in self.users))
            for user in range(len(self.users))
            if position < self.users[user].prompt
        )
        entrance = 0
        while prompts or self.ring:
            if self.ring and (not prompts or self.ring[0][0] <= entrance):
                edge, user, position = self.ring.popleft()
                entrance = max(entrance, edge)
            else:
                user, position = prompts.popleft()
            entrance = self._pass(user, position, entrance)
        return self.end

    def _pass(self, user: int, position: int, entrance: int) -> int:
        """Send a position through; return the edge at which the next may enter."""
        who = self.users[user]
        wanted = who.sampling if position >= who.prompt - 1 else None
        following, done = self.stations.send(position, entrance, wanted, adapted=who.adapted)
        if wanted is not None:
            self.end = max(self.end, done)
            if position + 1 < who.prompt + who.generated - 1:
                self.ring.append((done + RING, user, position + 1))
        return following


GREEDY = Sampling()
EMBEDDING_GAP = 5
RESIDUAL_GAP = 1
PORT_GAP = 1  # the queue before the port
RING = 1  # from a result to the embedding
ROTARY_GAP = 3
ROTARY_LATENCY = 7  # from the start to the first sine, and to the first beat after the last one
SHRINK_GAP = 4
GATE_GAP = 9
ATTENTION_GAP = 33  # pipelines of both passes 5 and 5, reciprocal 18, output 5
NARROW_STAGES = 4
TOKEN_REGISTER = 1  # between the sampler and the port
SAMPLER_RANKED = 2
SAMPLER_CHOICE = 37  # weights 8, the cut and the choice: a binary search of 12 each, and registers
NORM_GAP = 15
NORM_TREE = 16  # terms that one register of the norm's adder tree takes


def norm_gap(plan: ChipPlan) -> int:
    """From a norm's last beat in to its first out."""
    registers, terms = 0, plan.beat
    while terms > 1:
        registers, terms = registers + 1, -(-terms // NORM_TREE)
    return NORM_GAP + registers


def linear_gap(fabrics: Sequence[FabricPlan], beat: int) -> int:
    """From the last activation beat to the first narrowed beat; the slowest fabric counts."""
    return max(fabric.tail(beat) for fabric in fabrics) + DRAIN + NARROW_STAGES


def attention_gap(plan: ChipPlan, position: int) -> int:
    """From the last value beat to the first beat of the mean."""
    return ATTENTION_GAP + 2 * (position // plan.positions + 1)


def sampler_gap(plan: ChipPlan, sampling: Sampling) -> int:
    """From the last beat of logits to the token."""
    beat, vocabulary = plan.beat, plan.architecture.vocabulary
    width = beat.bit_length() - 1
    network = width * (width + 1) // 2  # stages that sort a beat
    tree = min(beat, CANDIDATES).bit_length() - 1  # levels that find the best of the queues
    ranked = SAMPLER_RANKED + network + tree
    if sampling.greedy:
        return ranked + 1
    return ranked + min(sampling.top_k, vocabulary) - 1 + SAMPLER_CHOICE
