"""Write a trained checkpoint as a Hugging Face folder with a model card.

python models/export.py build/bundled-float src/intaglio/models/bundled-float
"""

import argparse
import json
import platform
import shutil
from pathlib import Path
from string import Template

import torch
from corpus import held_out, training
from evaluate import bits_per_byte, load
from hardwire import hardwired, settled
from llama import Shape
from safetensors.torch import save_file
from tokens import END_OF_TEXT_ID, encode
from train_bundled import SEED, THREADS, TOKENS_PER_STEP

HERE = Path(__file__).parent
BITS = 4


def config(shape: Shape) -> dict:
    """Return config.json of a tied Llama in float16."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "initializer_range": 0.02,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.context,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": shape.epsilon,
        "rope_scaling": None,
        "rope_theta": shape.rope_base,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": shape.vocabulary,
    }


def export(work: Path, folder: Path, bits: int | None) -> None:
    """Write config, weights in float16 and tokenizer of the checkpoint in ``work``.

    ``bits``: write the weights that hardwiring at this width settles on, not those trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = torch.load(work / "checkpoint.pt")
    weights = stored["weights"] if bits is None else settled(stored["weights"], Shape(), bits)
    halves = {name: weight.half().contiguous() for name, weight in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(Shape()), indent=2) + "\n")
    shutil.copyfile(work / "tokenizer.json", folder / "tokenizer.json")


def facts(work: Path, folder: Path) -> dict[str, str]:
    """Measure the exported model and gather what its card says."""
    stored = torch.load(work / "checkpoint.pt")
    weights, shape, tokenizer = load(folder)
    library, tests = training()
    texts = held_out()
    plain = bits_per_byte(weights, shape, tokenizer, texts)
    rounded = bits_per_byte(hardwired(weights, shape, BITS), shape, tokenizer, texts)
    size = sum(len(text.encode()) for text in texts.values())
    tokens = sum(len(document) - 1 for document in encode(tokenizer, texts.values()))
    return {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "seed": str(SEED),
        "threads": str(THREADS),
        "step": str(stored["step"]),
        "tokens_seen": f"{stored['step'] * TOKENS_PER_STEP / 1e6:.0f}",
        "minutes": f"{stored['seconds'] / 60:.0f}",
        "parameters": f"{sum(weight.numel() for weight in weights.values()):,}",
        "library_files": str(len(library)),
        "library_bytes": f"{sum(len(text.encode()) for text in library.values()):,}",
        "test_files": str(len(tests)),
        "test_bytes": f"{sum(len(text.encode()) for text in tests.values()):,}",
        "held_out_files": str(len(texts)),
        "held_out_bytes": f"{size:,}",
        "held_out_tokens": f"{tokens:,}",
        "float_all": f"{plain['all']:.4f}",
        "float_code": f"{plain['without_encodings']:.4f}",
        "rounded_all": f"{rounded['all']:.4f}",
        "rounded_code": f"{rounded['without_encodings']:.4f}",
    }


def main() -> None:
    """Export the checkpoint of a working folder, measure it and fill in its card."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--settle", type=int, metavar="BITS", help="export what hardwiring settles on"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    export(arguments.work, arguments.folder, arguments.settle)
    card = Template((HERE / f"{arguments.folder.name}.card.md").read_text())
    known = facts(arguments.work, arguments.folder)
    (arguments.folder / "README.md").write_text(card.substitute(known))
    print(json.dumps(known, indent=2))


if __name__ == "__main__":
    main()
