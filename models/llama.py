"""A Llama forward pass in PyTorch, as a function of named weights.

The weights carry the names of a Hugging Face checkpoint. Training with quantization in the loop
hands in other weights under the same names; the function does not know the difference.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Weights = dict[str, Tensor]

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
FINAL_NORM = "model.norm.weight"
ATTENTION_NORM = "input_layernorm.weight"
GATE_NORM = "post_attention_layernorm.weight"
BLOCK = 64


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model."""

    width: int = 192
    layers: int = 3
    heads: int = 6
    kv_heads: int = 2
    head_width: int = 32
    inner: int = 512
    vocabulary: int = 1024
    context: int = 512
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Return the (outputs, inputs) of each matrix in a layer, by its short name."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        return {
            "self_attn.q_proj.weight": (queries, self.width),
            "self_attn.k_proj.weight": (keys, self.width),
            "self_attn.v_proj.weight": (keys, self.width),
            "self_attn.o_proj.weight": (self.width, queries),
            "mlp.gate_proj.weight": (self.inner, self.width),
            "mlp.up_proj.weight": (self.inner, self.width),
            "mlp.down_proj.weight": (self.width, self.inner),
        }


def layer_name(layer: int, short: str) -> str:
    """Return the checkpoint's name of tensor ``short`` in ``layer``."""
    return f"model.layers.{layer}.{short}"


def initial_weights(shape: Shape, seed: int) -> Weights:
    """Draw the weights a training starts from; outputs into the residual stream start small."""
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int, deviation: float) -> Tensor:
        return deviation * torch.randn(rows, columns, generator=generator)

    weights = {EMBEDDING: normal(shape.vocabulary, shape.width, 0.02)}
    for layer in range(shape.layers):
        for short, (rows, columns) in shape.matrices().items():
            small = 0.1 if "o_proj" in short or "down_proj" in short else 1.0
            weights[layer_name(layer, short)] = normal(rows, columns, small * columns**-0.5)
        for short in (ATTENTION_NORM, GATE_NORM):
            weights[layer_name(layer, short)] = torch.ones(shape.width)
    weights[FINAL_NORM] = torch.ones(shape.width)
    return weights


def turns(shape: Shape) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of each position's rotary angles, (context, head width)."""
    exponents = torch.arange(0, shape.head_width, 2) / shape.head_width
    angles = torch.outer(torch.arange(shape.context).float(), shape.rope_base**-exponents)
    angles = torch.cat((angles, angles), dim=1)
    return angles.cos(), angles.sin()


def rotate_pairs(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn channel i of each head against channel i + half, in the order of Hugging Face."""
    half = x.shape[-1] // 2
    swapped = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cosine + swapped * sine).to(x.dtype)


def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Mix ``value`` by causal softmax, each block of queries against only the keys it sees.

    On a CPU and compiled, this is about twice as fast as PyTorch's own fused attention.
    """
    length, mixed = query.shape[2], []
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        scores = query[:, :, start:stop] @ key[:, :, :stop].transpose(-1, -2)
        later = torch.ones(stop - start, stop, dtype=torch.bool).triu(start + 1)
        shares = scores.float().masked_fill(later, -1e30).softmax(-1)
        mixed.append(shares.to(value.dtype) @ value[:, :, :stop])
    return torch.cat(mixed, dim=2)


def attention(x: Tensor, layer: Weights, shape: Shape, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Compute causal attention on normed ``x`` (batch, length, width), without the residual."""
    batch, length, _ = x.shape
    names = ("q_proj", "k_proj", "v_proj")
    joined = torch.cat([layer[f"self_attn.{name}.weight"] for name in names])
    heads = F.linear(x, joined).view(batch, length, -1, shape.head_width).transpose(1, 2)
    query, key, value = heads.split((shape.heads, shape.kv_heads, shape.kv_heads), dim=1)
    query, key = rotate_pairs(query, *turn), rotate_pairs(key, *turn)
    group = shape.heads // shape.kv_heads
    key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
    mixed = causal(query * shape.head_width**-0.5, key, value)
    return F.linear(mixed.transpose(1, 2).flatten(2), layer["self_attn.o_proj.weight"])


def gated(x: Tensor, layer: Weights) -> Tensor:
    """Compute the gated feed-forward block on normed ``x``, without the residual."""
    joined = torch.cat((layer["mlp.gate_proj.weight"], layer["mlp.up_proj.weight"]))
    gate, up = F.linear(x, joined).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, layer["mlp.down_proj.weight"])


def logits(weights: Weights, tokens: Tensor, shape: Shape, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Compute the logits (batch, length, vocabulary) of ``tokens`` (batch, length)."""
    turn = tuple(part[: tokens.shape[1]] for part in turn)
    x = F.embedding(tokens, weights[EMBEDDING])
    for index in range(shape.layers):
        start = layer_name(index, "")
        layer = {name.removeprefix(start): w for name, w in weights.items() if start in name}
        normed = F.rms_norm(x, (shape.width,), layer[ATTENTION_NORM], shape.epsilon)
        x = x + attention(normed, layer, shape, turn)
        normed = F.rms_norm(x, (shape.width,), layer[GATE_NORM], shape.epsilon)
        x = x + gated(normed, layer)
    x = F.rms_norm(x, (shape.width,), weights[FINAL_NORM], shape.epsilon)
    return F.linear(x, weights.get(HEAD, weights[EMBEDDING]))


def loss(weights: Weights, windows: Tensor, shape: Shape, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy, in nats, of predicting each window's next tokens."""
    scores = logits(weights, windows[:, :-1], shape, turn)
    return F.cross_entropy(scores.flatten(0, 1).float(), windows[:, 1:].flatten())
