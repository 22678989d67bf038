"""The words at the chip's host port and on its ring, and the names of its probes."""

from amaranth.lib import data, stream

from intaglio.golden.number import RANK_LIMIT
from intaglio.plan.adapter import CONSTANT_BITS
from intaglio.plan.chip import ChipPlan

SLOT_BITS = 8
EPOCH_BITS = 8
POSITION_BITS = 20
TOKEN_BITS = 20
ADAPTER_BITS = 8

COMMAND = data.StructLayout(
    {
        "kind": 1,  # 0: a token, 1: settings of a slot
        "slot": SLOT_BITS,
        "epoch": EPOCH_BITS,
        # a token to run at a position; last: its logits are wanted
        "position": POSITION_BITS,
        "token": TOKEN_BITS,
        "last": 1,
        # settings: golden.sample.Sampling's words, and when to stop
        "beta": 20,
        "top_k": 7,
        "top_p": 17,
        "seed": 64,
        "host": 1,  # host sampling mode: logits leave by the port, no token is chosen
        "limit": POSITION_BITS,  # no token is generated for this position or beyond
        "stop": TOKEN_BITS,
        "stop_enable": 1,
    }
)
"""What the host sends: a token of a slot, or a slot's settings (which include its epoch)."""

RESULT = data.StructLayout(
    {
        "slot": SLOT_BITS,
        "epoch": EPOCH_BITS,
        "position": POSITION_BITS,  # of this token
        "token": TOKEN_BITS,
        "final": 1,  # the slot generates no more: its limit or its stop token was reached
    }
)
"""What the chip returns: a generated token, already on its way round the ring unless final."""

HEADER = data.StructLayout(
    {"slot": SLOT_BITS, "epoch": EPOCH_BITS, "position": POSITION_BITS, "last": 1}
)
"""What travels beside every residual vector."""

ADAPTED = {"adapted": 1, "adapter": ADAPTER_BITS}
"""With side memory: a position runs with an adapter, and with which."""

SETTINGS = (
    "epoch", "beta", "top_k", "top_p", "seed", "host", "limit", "stop", "stop_enable",
)  # fmt: skip


def header_layout(plan: ChipPlan) -> data.StructLayout:
    """What travels beside the residual in a chip of this plan."""
    return data.StructLayout({**HEADER.members, **ADAPTED}) if plan.adapter_rank else HEADER


def command_layout(plan: ChipPlan) -> data.StructLayout:
    """What the host of a chip of this plan sends.

    With side memory a token is run with an adapter or none; and a command whose ``write`` is set is
    neither a token nor settings, but one write.
    """
    if not plan.adapter_rank:
        return COMMAND
    return data.StructLayout({**COMMAND.members, **ADAPTED, "write": 1, "side": side_layout(plan)})


def side_layout(plan: ChipPlan) -> data.StructLayout:
    """One write into side memory, as it passes from layer to layer.

    ``matrix``: its number in a layer. The rest is of
    :func:`~intaglio.hardware.side_memory.write_layout`.
    """
    blocks = [block for layer in plan.adapters for block in layer.values()]
    words = max(block.count * max(block.words, block.constant_words) for block in blocks)
    return data.StructLayout(
        {
            "layer": 16,
            "matrix": 3,
            "lane": range(RANK_LIMIT + 1),
            "word": range(max(words, 2)),
            "data": plan.beat * CONSTANT_BITS,
        }
    )


def logits_layout(beat: int, bits: int, header: data.StructLayout = HEADER) -> data.StructLayout:
    """One beat of logits in host sampling mode, element 0 in the low bits of ``data``."""
    return data.StructLayout({"header": header, "data": beat * bits})


def residual_signature(plan: ChipPlan) -> stream.Signature:
    """The stream between layers: a header and ``beat`` elements of 32 bits."""
    return stream.Signature(
        data.StructLayout({"header": header_layout(plan), "data": plan.beat * 32})
    )


PROBES = (
    "embedding",
    "norm_attention", "q", "k", "v", "rotary_q", "rotary_k", "attention", "attention_shrink",
    "o", "residual_attention",
    "norm_mlp", "gate", "up", "product", "product_shrink", "down", "residual_mlp",
    "norm", "logits",
)  # fmt: skip
"""Operations whose results a simulation shows, as golden's trace names them, by probe number."""
