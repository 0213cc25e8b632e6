"""A small model as vLLM loads it: Llama's shape, weights from a seed, and a tokenizer that knows its ids by number.

Not vLLM's own dummy weights: their output is nearly constant, so that a wrong restore might not show.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VOCABULARY: Final = 32000
HEAD: Final = 128
SEED: Final = 7
SPECIAL: Final = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class Shape:
    """What differs between the models. An even number of key heads, so that two cards share them."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    mlp: int

    def config(self) -> dict[str, object]:
        """Return the content of ``config.json``."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "bfloat16",
            "vocab_size": VOCABULARY,
            "hidden_size": self.hidden,
            "intermediate_size": self.mlp,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
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

    def weights(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and shape of every weight; those with one dimension are norms."""
        yield "model.embed_tokens.weight", (VOCABULARY, self.hidden)
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}"
            yield f"{prefix}.input_layernorm.weight", (self.hidden,)
            for name, heads in (("q", self.heads), ("k", self.key_heads), ("v", self.key_heads)):
                yield f"{prefix}.self_attn.{name}_proj.weight", (heads * HEAD, self.hidden)
            yield f"{prefix}.self_attn.o_proj.weight", (self.hidden, self.heads * HEAD)
            yield f"{prefix}.post_attention_layernorm.weight", (self.hidden,)
            for name in ("gate", "up"):
                yield f"{prefix}.mlp.{name}_proj.weight", (self.mlp, self.hidden)
            yield f"{prefix}.mlp.down_proj.weight", (self.hidden, self.mlp)
        yield "model.norm.weight", (self.hidden,)
        yield "lm_head.weight", (VOCABULARY, self.hidden)


SMALL: Final = Shape(hidden=1024, layers=8, heads=8, key_heads=4, mlp=4096)
"""About 350 MB of weights."""
LARGE: Final = Shape(hidden=4096, layers=17, heads=32, key_heads=8, mlp=14336)
"""7.4 GiB of weights."""
SHAPES: Final = {"small": SMALL, "large": LARGE}


def make_model(folder: Path, shape: Shape = SMALL) -> None:
    """Write the model's files."""
    folder.mkdir(parents=True)
    files = {
        "config.json": shape.config(),
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True)),
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    _write_weights(folder / "model.safetensors", shape)


def _write_weights(path: Path, model: Shape) -> None:
    import torch  # noqa: PLC0415 - of the GPU machine
    from safetensors.torch import save_file  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    chance = torch.Generator(device).manual_seed(SEED)

    def weight(shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16, device=device)
        # By width, so that the residual stream neither vanishes nor grows out of bfloat16.
        return (torch.randn(shape, generator=chance, device=device) * shape[1] ** -0.5).to(torch.bfloat16)

    weights = {name: weight(shape) for name, shape in model.weights()}
    weights["model.embed_tokens.weight"] *= model.hidden**0.5  # each component about one: not small against the layers'
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
