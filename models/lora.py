"""LoRA in PyTorch: factors beside frozen weights, and the folder that the peft library reads.

What a matrix gets in addition is ``alpha / rank`` times B times A, A [rank, inputs] and B [outputs,
rank]. Factors are named by their matrix: ``model.layers.0.mlp.up_proj.lora_A``.
"""

import json
from pathlib import Path

import torch
from llama import Shape, Weights, layer_name
from safetensors.torch import save_file
from torch import Tensor

DOWN, UP = ".lora_A", ".lora_B"


def initial_factors(shape: Shape, rank: int, seed: int) -> Weights:
    """Draw the factors a training starts from, of all matrices; the B are 0, as in peft."""
    generator, factors = torch.Generator().manual_seed(seed), {}
    for layer in range(shape.layers):
        for short, (outputs, inputs) in shape.matrices().items():
            module = layer_name(layer, short).removesuffix(".weight")
            drawn = torch.rand(rank, inputs, generator=generator)
            factors[module + DOWN] = (2 * drawn - 1) * inputs**-0.5
            factors[module + UP] = torch.zeros(outputs, rank)
    return {name: factor.requires_grad_() for name, factor in factors.items()}


def merged(weights: Weights, factors: Weights, scale: float) -> Weights:
    """Return ``weights`` with ``scale`` times the factors' products added."""
    modules = [name.removesuffix(DOWN) for name in factors if name.endswith(DOWN)]
    added = {
        f"{module}.weight": weights[f"{module}.weight"]
        + scale * factors[module + UP] @ factors[module + DOWN]
        for module in modules
    }
    return weights | added


def passed_on(whole: Weights, gradients: Weights, factors: Weights) -> list[Tensor]:
    """Take the gradient with respect to merged weights on to the factors behind them."""
    changing = [name for name, weight in whole.items() if weight.requires_grad]
    return list(
        torch.autograd.grad(
            [whole[name] for name in changing],
            list(factors.values()),
            [gradients[name] for name in changing],
        )
    )


def halves(factors: Weights) -> Weights:
    """Return the factors as a folder stores them, in float16."""
    return {name: factor.detach().half().contiguous() for name, factor in factors.items()}


def write_peft(folder: Path, factors: Weights, rank: int, alpha: int, base: str) -> None:
    """Write the folder that the peft library writes, as far as its loader needs it."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = {name.rpartition(DOWN)[0].rpartition(".")[2] for name in factors if DOWN in name}
    config = {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted(targets),
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    named = {f"base_model.model.{name}.weight": half for name, half in halves(factors).items()}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
