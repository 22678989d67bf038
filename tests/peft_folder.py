"""PEFT folders as the library writes them, and random factors to put into them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from reference_logits import write_safetensors

from intaglio.architecture import Architecture
from intaglio.checkpoint.huggingface import STORED
from intaglio.checkpoint.tensors import MATRICES, tensor_shapes

# adapter_config.json as peft 0.21.2 writes it
CONFIG: dict[str, Any] = {
    "alora_invocation_tokens": None, "alpha_pattern": {}, "arrow_config": None,
    "auto_mapping": None, "base_model_name_or_path": "tiny", "bias": "none",
    "corda_config": None, "ensure_weight_tying": False, "eva_config": None,
    "exclude_modules": None, "fan_in_fan_out": False, "inference_mode": True,
    "init_lora_weights": True, "kasa_config": None, "layer_replication": None,
    "layers_pattern": None, "layers_to_transform": None, "loftq_config": {}, "lora_alpha": 8,
    "lora_bias": False, "lora_dropout": 0.0, "lora_ga_config": None, "megatron_config": None,
    "megatron_core": "megatron.core", "modules_to_save": None, "monteclora_config": None,
    "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4,
    "rank_pattern": {}, "revision": None,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "target_parameters": None, "task_type": "CAUSAL_LM", "trainable_token_indices": None,
    "use_bdlora": None, "use_dora": False, "use_qalora": False, "use_rslora": False,
    "velora_config": None,
}  # fmt: skip


def stored_name(layer: int, name: str, factor: str) -> str:
    """What PEFT calls a factor (A or B) of a matrix."""
    return f"base_model.model.model.layers.{layer}.{STORED[name]}.lora_{factor}.weight"


def random_factors(
    architecture: Architecture,
    ranks: Mapping[str, int] | None = None,
    layers: Iterable[int] | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Factors by PEFT's names, of the matrices in ``ranks`` (default: all seven, of rank 4)."""
    rng = np.random.default_rng(seed)
    ranks = dict.fromkeys(MATRICES, 4) if ranks is None else ranks
    shapes, found = tensor_shapes(architecture), {}
    for layer in range(architecture.layers) if layers is None else layers:
        for name, rank in ranks.items():
            outputs, inputs = shapes[f"layers.{layer}.{name}"]
            down = rng.standard_normal((rank, inputs)) / inputs**0.5
            up = rng.standard_normal((outputs, rank)) / rank**0.5
            found[stored_name(layer, name, "A")] = down.astype(np.float32)
            found[stored_name(layer, name, "B")] = up.astype(np.float32)
    return found


def write_peft(
    folder: Path, tensors: Mapping[str, np.ndarray], dtype: str = "F32", **changes: Any
) -> Path:
    """Write a PEFT folder: the factors, and the config with some of its keys changed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("# A model card\n")
    (folder / "adapter_config.json").write_text(
        json.dumps(CONFIG | changes, indent=2, sort_keys=True)
    )
    write_safetensors(folder / "adapter_model.safetensors", dict(tensors), dtype)
    return folder
