"""The vector blocks as Verilog: Verilator has nothing to say, and no wide value is shifted."""

import re

import pytest
from amaranth.back import verilog

from intaglio.golden.number import PRODUCT, Int
from intaglio.hardware.embedding import Embedding
from intaglio.hardware.gate import Gate
from intaglio.hardware.norm import Norm
from intaglio.hardware.residual import Residual
from intaglio.hardware.rotary import Rotary
from intaglio.hardware.shrink import Shrink
from intaglio.verify.verilator import lint

BLOCKS = {
    "embedding": lambda: Embedding(vocabulary=300, width=48, beat=16),
    "gate": lambda: Gate(beat=16),
    "norm": lambda: Norm(width=48, beat=16, to=Int(8)),
    "residual": lambda: Residual(beat=16),
    "rotary": lambda: Rotary(
        heads=3, kv_heads=1, head_width=32, beat=16, fractions=range(0, 1 << 32, 1 << 28),
        query=Int(12), position_bits=20,
    ),
    "shrink": lambda: Shrink(length=48, beat=16, source=PRODUCT, to=Int(10)),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_verilog_is_clean(name, tmp_path):
    text = verilog.convert(BLOCKS[name](), name=name, emit_src=False, strip_internal_attrs=True)
    path = tmp_path / f"{name}.v"
    path.write_text(text)
    lint([path], name)
    widths = {
        match[2]: int(match[1] or 0) + 1
        for match in re.finditer(r"^ +(?:reg|wire) (?:\[(\d+):0\] )?(\S+)", text, re.M)
    }
    shifts = re.findall(r"assign (\S+) +=.*>>> \S*[a-z]", text)
    assert all(widths[wire] <= 64 for wire in shifts)
    assert bool(shifts) == (name in ("embedding", "norm", "shrink"))
