"""What the worker knows: paragraphs of the Python language reference, each with its vector, in memory only."""

import hashlib
import textwrap
from pydoc_data.topics import topics

import numpy as np

from worker.encoder import Array, Encoder

PARAGRAPHS = 150
"""How many paragraphs are read at start: six to ten seconds of compute on one busy core."""
_BATCH = 16
_SHORTEST = 200  # characters: leaves out headings and examples of one line


def paragraphs(count: int = PARAGRAPHS) -> list[str]:
    """Return the first paragraphs of running text, in the reference's own order."""
    found: dict[str, None] = {}
    for topic in topics.values():
        for block in topic.split("\n\n"):
            text = " ".join(textwrap.dedent(block).split())
            if len(text) >= _SHORTEST:
                found[text] = None
    return list(found)[:count]


class Library:
    """An index of texts by meaning."""

    def __init__(self, encoder: Encoder, texts: list[str]) -> None:
        self._encoder = encoder
        self._texts = sorted(texts, key=len)  # neighbours of one length waste no padding
        batches = [self._texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
        self._vectors: Array = np.concatenate([encoder.embed(batch) for batch in batches])

    def __len__(self) -> int:
        return len(self._texts)

    def embed(self, text: str) -> list[float]:
        """Return the unit vector of a text."""
        vector: list[float] = self._encoder.embed([text])[0].tolist()
        return vector

    def search(self, query: str, k: int) -> list[dict[str, str | float]]:
        """Return the ``k`` paragraphs nearest in meaning, best first, each with its cosine."""
        scores = self._vectors @ self._encoder.embed([query])[0]
        best = np.argsort(-scores, kind="stable")[:k]
        return [{"text": self._texts[i], "score": float(scores[i])} for i in best]

    def sha256(self) -> str:
        """Digest of the vectors in memory: equal where the state is equal."""
        return hashlib.sha256(self._vectors.tobytes()).hexdigest()
