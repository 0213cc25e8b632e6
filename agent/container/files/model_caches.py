"""Caches of models that a worker's own environment names: what a library has downloaded there it downloads again.

Such a model is in the worker's memory already. Stored with its files it would be there twice, in each version of the
checkpoint, and an emptyDir with it would mostly be too large to be captured.
"""

import glob
import posixpath
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from linux.proc import PROC, environment

_OFFLINE: Final = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_HUB: Final = ("models--*", "datasets--*", "spaces--*")
_CACHES: Final[Mapping[str, tuple[str, ...]]] = {
    "HF_HOME": (*(f"hub/{folder}" for folder in _HUB), "xet"),
    "HF_HUB_CACHE": _HUB,
    "HUGGINGFACE_HUB_CACHE": _HUB,
    "HF_XET_CACHE": ("*",),
    "TRANSFORMERS_CACHE": _HUB,
    "SENTENCE_TRANSFORMERS_HOME": _HUB,
    "TORCH_HOME": ("hub/checkpoints",),
    "MODELSCOPE_CACHE": ("hub", "models"),
}
"""What each variable's folder has of the library's making; nothing else in it is a cache."""


def model_caches(variables: Mapping[str, str]) -> list[str]:
    """Return patterns of the paths of cached models, as ``rootfs.skipper`` takes them; pure.

    There is none if the worker is not to download: the cache is all that it has then.
    """
    if any(variables.get(name, "").lower() in ("1", "on", "yes", "true") for name in _OFFLINE):
        return []
    folders = {name: variables[name] for name in _CACHES if variables.get(name, "").startswith("/")}
    return [
        posixpath.join(glob.escape(posixpath.normpath(folder)), part)
        for name, folder in folders.items()
        for part in _CACHES[name]
    ]


def read_model_caches(pids: Iterable[int], proc: Path = PROC) -> list[str]:
    """Return the patterns of all processes of a worker, each by the environment that it was started with."""
    found: dict[str, None] = {}
    for pid in pids:
        with suppress(OSError):
            found |= dict.fromkeys(model_caches(environment(pid, proc)))
    return list(found)
