"""A small model as vLLM loads it: Llama's shape, weights from a seed, and a tokenizer that knows its ids by number.

Not vLLM's own dummy weights: their output is nearly constant, so that a wrong restore might not show.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

VOCABULARY: Final = 32000
HIDDEN: Final = 1024
LAYERS: Final = 8
HEAD: Final = 128
HEADS: Final = 8
KEY_HEADS: Final = 4
"""Even, so that two cards share them."""
MLP: Final = 4096
SEED: Final = 7
SPECIAL: Final = ("<unk>", "<s>", "</s>")

CONFIG: Final = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "head_dim": HEAD,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def make_model(folder: Path) -> None:
    """Write the model's files; about 350 MB of weights."""
    folder.mkdir(parents=True)
    files = {
        "config.json": CONFIG,
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True)),
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    _write_weights(folder / "model.safetensors")


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of every weight; those with one dimension are norms."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (HIDDEN,)
        for name, heads in (("q", HEADS), ("k", KEY_HEADS), ("v", KEY_HEADS)):
            yield f"{prefix}.self_attn.{name}_proj.weight", (heads * HEAD, HIDDEN)
        yield f"{prefix}.self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD)
        yield f"{prefix}.post_attention_layernorm.weight", (HIDDEN,)
        for name in ("gate", "up"):
            yield f"{prefix}.mlp.{name}_proj.weight", (MLP, HIDDEN)
        yield f"{prefix}.mlp.down_proj.weight", (HIDDEN, MLP)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def _write_weights(path: Path) -> None:
    import torch  # noqa: PLC0415 - of the GPU machine
    from safetensors.torch import save_file  # noqa: PLC0415

    chance = torch.Generator().manual_seed(SEED)

    def weight(shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16)
        # By width, so that the residual stream neither vanishes nor grows out of bfloat16.
        return (torch.randn(shape, generator=chance) * shape[1] ** -0.5).to(torch.bfloat16)

    weights = {name: weight(shape) for name, shape in shapes()}
    weights["model.embed_tokens.weight"] *= HIDDEN**0.5  # each component about one: not small against the layers'
    save_file(weights, str(path), metadata={"format": "pt"})
    path.chmod(0o644)  # save_file leaves it to its owner, and the worker is another user


def _tokenizer() -> dict[str, object]:
    words = [*SPECIAL, *(f"t{number}" for number in range(len(SPECIAL), VOCABULARY))]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "added_tokens": [{"id": id_, "content": word, "special": True, **flags} for id_, word in enumerate(SPECIAL)],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {
            "type": "WordLevel",
            "unk_token": SPECIAL[0],
            "vocab": {word: number for number, word in enumerate(words)},
        },
    }
