"""A `chip` that plays golden's own trace back, beat by beat: what lockstep is tested on.

Its program, one word per cycle, is written here from golden; a test spoils it as it likes.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fake_chip import VERILOG, field, head

from intaglio.golden.forward import Golden
from intaglio.golden.model import IntModel
from intaglio.golden.sample import sample
from intaglio.hardware.port import PROBES, RESULT
from intaglio.verify.simulation import HARNESS, write_layout
from intaglio.verify.trace import Request
from intaglio.verify.verilator import build

BEAT = 16
END, TAKE, SHOW, RETURN, HANG = range(5)
LENGTH = 1 << 14  # words of a program


# Operations whose beats follow each other one by one, in the chip's order.
FLOWS = (
    ("norm_attention",), ("q", "rotary_q"), ("k", "rotary_k"), ("v",), ("attention",),
    ("attention_shrink",), ("o", "residual_attention"), ("norm_mlp",), ("gate", "up", "product"),
    ("product_shrink",), ("down", "residual_mlp"),
)  # fmt: skip
ORDER = {op: (step, place) for step, ops in enumerate(FLOWS) for place, op in enumerate(ops)}


@dataclass(frozen=True)
class Word:
    """One cycle of the chip."""

    kind: int
    slot: int = 0
    layer: int = 0
    op: str = "embedding"
    position: int = 0
    token: int = 0
    final: bool = False
    values: tuple[int, ...] = ()
    first: int = 0  # element number of the first value

    def encode(self) -> int:
        bits, at = 0, 0
        for value, width in (
            (self.kind, 4), (self.slot, 8), (self.layer & 0xFFFF, 16),
            (PROBES.index(self.op), 8), (self.position, 20), (self.token, 20), (self.final, 4),
            *((int(value) & 0xFFFFFFFF, 32) for value in self.values),
        ):  # fmt: skip
            bits |= int(value) << at
            at += width
        return bits


def verilog() -> str:
    return f"""{head(BEAT)}
  import "DPI-C" function void intaglio_probe(
    input int op, input int count, input int bits, input shortint unsigned layer,
    input byte unsigned slot, input int unsigned position, input bit [511:0] data
  );
  string folder;
  logic [591:0] words [{LENGTH}];
  initial begin
    if ($value$plusargs("rom=%s", folder)) $readmemh({{folder, "/program.hex"}}, words);
  end
  logic [13:0] at;
  wire [591:0] word = words[at];
  wire [3:0] kind = word[3:0];
  wire [19:0] position = word[55:36];
  assign busy = kind == {SHOW} || kind == {RETURN} || kind == {HANG};
  assign command__ready = kind == {TAKE};
  assign result__valid = kind == {RETURN};
  assign {field("result__payload", RESULT, "slot")} = word[11:4];
  assign {field("result__payload", RESULT, "epoch")} = 0;
  assign {field("result__payload", RESULT, "position")} = position;
  assign {field("result__payload", RESULT, "token")} = word[75:56];
  assign {field("result__payload", RESULT, "final")} = word[76];
  assign logits__valid = 0;
  assign logits__payload = 0;
  wire moves = kind == {SHOW} || (kind == {TAKE} && command__valid)
    || (kind == {RETURN} && result__ready);
  always_ff @(posedge clk)
    if (rst) at <= 0;
    else begin
      if (kind == {SHOW})
        intaglio_probe(32'(word[35:28]), {BEAT}, 32, word[27:12], word[11:4], 32'(position),
                       word[591:80]);
      if (moves) at <= at + 1;
    end
endmodule
"""


def build_replay(folder: Path, vocabulary: int) -> Path:
    """The program, with the real chip's harness."""
    folder.mkdir(exist_ok=True)
    source = folder / "chip.sv"
    source.write_text(verilog())
    write_layout(folder, BEAT, vocabulary)
    return build([VERILOG / "clock_gate.sv", source], "chip", HARNESS, folder)


def program(model: IntModel, requests: Sequence[Request]) -> list[Word]:
    """What a right chip shows for the requests, one position after the other."""
    golden = Golden(model, len(requests))
    words = [Word(TAKE) for _ in requests]
    following = [0] * len(requests)

    def run(slot: int, position: int, token: int, last: bool) -> None:
        def show(layer: int, op: str, at: int, rows: np.ndarray) -> None:
            values = rows[0].tolist()
            for first in range(0, len(values), BEAT):
                part = tuple(values[first : first + BEAT])
                words.append(Word(SHOW, slot, layer, op, at, values=part, first=first))

        start = len(words)
        x = golden.residual(np.array([token]), position, slot, show)
        words[start:] = sorted(words[start:], key=in_chip_order)
        if last:
            request = requests[slot]
            logits = golden.logits(x, position, show)[0]
            following[slot] = sample(logits, request.sampling, position)
            final = position + 1 == len(request.prompt) + request.count - 1
            words.append(
                Word(RETURN, slot, position=position + 1, token=following[slot], final=final)
            )

    for position in range(max(len(request.prompt) for request in requests)):
        for slot, request in enumerate(requests):
            if position < len(request.prompt):
                words.append(Word(TAKE))
                last = position == len(request.prompt) - 1
                run(slot, position, request.prompt[position], last)
    for turn in range(1, max(request.count for request in requests)):
        for slot, request in enumerate(requests):
            if turn < request.count:
                run(slot, len(request.prompt) + turn - 1, following[slot], True)
    return words


def in_chip_order(word: Word) -> tuple[int, ...]:
    """Golden traces an operation's whole vector; in the chip the beats of several alternate."""
    step, place = ORDER.get(word.op, (0, 0))
    return word.layer, step, word.first, place


def write_program(folder: Path, words: Sequence[Word]) -> Path:
    """Make ``folder`` the chip's ROM folder."""
    assert len(words) < LENGTH
    lines = [f"{word.encode():x}" for word in words] + ["0"] * (LENGTH - len(words))
    (folder / "program.hex").write_text("\n".join(lines) + "\n")
    return folder


def index_of(words: Sequence[Word], **wanted) -> int:
    """The first word with these fields."""
    return next(
        index for index, word in enumerate(words)
        if all(getattr(word, name) == value for name, value in wanted.items())
    )  # fmt: skip


def spoil(word: Word, element: int) -> Word:
    """The word with one value changed by its lowest bit."""
    values = list(word.values)
    values[element] ^= 1
    return dataclasses.replace(word, values=tuple(values))
