"""Architecture: what it derives, what it refuses, its plain values."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from intaglio.architecture import Architecture, RopeScaling
from intaglio.errors import UnsupportedModel

SMOL = Architecture(
    family="llama", vocabulary=49152, width=576, layers=30, heads=9, kv_heads=3, head_width=64,
    inner=1536, context=8192, rope_base=1e5, norm_epsilon=1e-5, tied=True,
)  # fmt: skip
LLAMA = Architecture(
    family="llama", vocabulary=128256, width=4096, layers=32, heads=32, kv_heads=8, head_width=128,
    inner=14336, context=131072, rope_base=5e5, norm_epsilon=1e-5, tied=False,
    rope_scaling=RopeScaling(8.0, 1.0, 4.0, 8192),
)  # fmt: skip


def test_parameters_of_published_models():
    assert SMOL.parameters == 134_515_008
    assert SMOL.block_parameters == 106_168_320
    assert LLAMA.parameters == 8_030_261_248


def test_derived_widths():
    assert (SMOL.query_width, SMOL.kv_width, SMOL.group) == (576, 192, 3)
    assert (LLAMA.query_width, LLAMA.kv_width, LLAMA.group) == (4096, 1024, 4)
    assert replace(SMOL, head_width=32).query_width == 288


@pytest.mark.parametrize("architecture", [SMOL, LLAMA])
def test_plain_values_and_back_through_json(architecture):
    again = Architecture.from_dict(json.loads(json.dumps(architecture.as_dict())))
    assert again == architecture


def test_from_dict_leaves_its_argument_alone():
    values = LLAMA.as_dict()
    Architecture.from_dict(values)
    assert values == LLAMA.as_dict()


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        SMOL.width = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "gpt2"}, "model family must be 'llama', not 'gpt2'"),
        ({"width": 0}, "width must be a positive integer, not 0"),
        ({"inner": 1.5}, "inner must be a positive integer, not 1.5"),
        ({"context": "8"}, "context must be a positive integer, not '8'"),
        ({"layers": -1}, "layers must be a positive integer, not -1"),
        ({"vocabulary": None}, "vocabulary must be a positive integer, not None"),
        ({"heads": 0}, "heads must be a positive integer, not 0"),
        ({"kv_heads": 0}, "kv_heads must be a positive integer, not 0"),
        ({"head_width": 0}, "head_width must be a positive integer, not 0"),
        ({"heads": 8}, "heads must be a multiple of kv_heads, not 8 and 3"),
        ({"head_width": 63}, "head_width must be even for rotary, not 63"),
        ({"rope_base": 1.0}, "rope_base must be greater than 1, not 1.0"),
        ({"rope_base": float("nan")}, "rope_base must be greater than 1, not nan"),
        ({"norm_epsilon": 0.0}, "norm_epsilon must be between 0 and 1, not 0.0"),
        ({"norm_epsilon": 1.0}, "norm_epsilon must be between 0 and 1, not 1.0"),
    ],
)
def test_illegal_architecture(change, message):
    with pytest.raises(UnsupportedModel) as caught:
        replace(SMOL, **change)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            (0.0, 1.0, 4.0, 8192),
            "rope_scaling must have factor > 0 and 0 < low_freq_factor < high_freq_factor, "
            "not 0.0, 1.0, 4.0",
        ),
        (
            (8.0, 4.0, 4.0, 8192),
            "rope_scaling must have factor > 0 and 0 < low_freq_factor < high_freq_factor, "
            "not 8.0, 4.0, 4.0",
        ),
        (
            (8.0, 1.0, 4.0, 0),
            "rope_scaling original_max_position_embeddings must be positive, not 0",
        ),
    ],
)
def test_illegal_rope_scaling(values, message):
    with pytest.raises(UnsupportedModel) as caught:
        RopeScaling(*values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(sliding_window=4096),
        lambda v: v.pop("tied"),
        lambda v: v["rope_scaling"].update(unknown=1),
    ],
)
def test_from_dict_refuses_a_missing_or_unknown_key(change):
    values = LLAMA.as_dict()
    change(values)
    with pytest.raises(UnsupportedModel, match=r"^architecture has a missing or unknown key: "):
        Architecture.from_dict(values)
