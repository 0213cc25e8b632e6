"""What is known about checkpoints beyond their copy: deletions seen, and creations that the server refused.

Both are a help and no more: a process that is restarted learns them again, or does without.
"""

from datetime import datetime

from contract.api.times import parse_time
from controller.workloads.gates.gate_policy import CheckpointView
from kube.api import Object
from kube.informer import Informer
from kube.store import Key


class CheckpointViews:
    """Checkpoints as their pods see them."""

    def __init__(self, checkpoints: Informer) -> None:
        self._checkpoints = checkpoints
        self._deleted: dict[Key, datetime] = {}
        self._refusals: dict[Key, str] = {}

    def of(self, key: Key) -> CheckpointView:
        """Return what is known about one checkpoint now."""
        checkpoint = self._checkpoints.store.get(*key)
        deleted = _deletion(checkpoint) if checkpoint is not None else None
        return CheckpointView(checkpoint, deleted or self._deleted.get(key), self._refusals.get(key, ""))

    def deleted(self, key: Key, moment: datetime) -> None:
        """Note that a checkpoint was deleted at *moment*."""
        self._deleted[key] = moment

    def refused(self, key: Key, words: str) -> None:
        """Note why the API server refuses it; empty: it no longer does."""
        if words:
            self._refusals[key] = words
        else:
            self._refusals.pop(key, None)

    def forget(self, key: Key) -> None:
        """No pod names the checkpoint any more."""
        self._deleted.pop(key, None)
        self._refusals.pop(key, None)


def _deletion(checkpoint: Object) -> datetime | None:
    said = checkpoint["metadata"].get("deletionTimestamp")
    return parse_time(str(said)) if said else None
