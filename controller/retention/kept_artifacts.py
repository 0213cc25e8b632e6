"""Says what a deleted checkpoint leaves in storage.

A user who deletes a checkpoint made by hand keeps its artifacts; an object without our finalizer goes at once: the
last thing that can be said is an Event about an object that is no more, found by ``kubectl get events``.
"""

from collections.abc import Callable
from pathlib import PurePosixPath

from contract.api import keys
from contract.api.checkpoint import id_of
from contract.api.states import CheckpointReason
from controller.checkpoints.plan.deleting import has_finalizer
from controller.checkpoints.reasons import note
from controller.retention.policy import versions_of
from kube.api import Object
from kube.informer import Informer
from kube.recorder import Recorder
from kube.store import Change


class KeptArtifacts:
    """Looks on while checkpoints go."""

    def __init__(self, recorder: Recorder, told: Callable[[str], None], leading: Callable[[], bool]) -> None:
        self._recorder = recorder
        self._told = told
        self._leading = leading
        self._ours: set[str] = set()
        """Uids of those that carried our finalizer: with them their artifacts go, or it is reported why not."""

    def follow(self, checkpoints: Informer) -> None:
        """Report every deletion to it from now on; call before it runs."""
        checkpoints.add_handler(self._see)

    def _see(self, change: Change) -> None:
        old, new = change
        self._ours |= {_uid(each) for each in change if each is not None and has_finalizer(each)}
        if old is None or (new is not None and _uid(new) == _uid(old)):
            return
        ours = _uid(old) in self._ours
        self._ours.discard(_uid(old))
        words = "" if ours or not self._leading() else kept_words(old)
        if words:
            said = note(CheckpointReason.ARTIFACT_KEPT, words)
            self._recorder.record(old, said.type, said.reason, said.message)
            self._told(said.reason)


def kept_words(checkpoint: Object) -> str:
    """Return what stays of a deleted *checkpoint*, and what may be done with it; empty if there is nothing."""
    status = checkpoint.get("status") or {}
    location, there = str(status.get("location") or ""), versions_of(checkpoint)
    if not location or not there:
        return ""
    names = ("version " if len(there) == 1 else "versions ") + ", ".join(str(each["version"]) for each in there)
    size = sum(int(each.get("size") or 0) for each in there) / 2**20
    # <base>/<id>/versions/<version>
    current = PurePosixPath(location)
    return (
        f"the object was deleted, its artifacts stay in storage: {current.parent}, {names}, {size:.1f} MiB "
        f"(id {id_of(checkpoint)}); to use them again, create the checkpoint again "
        f"with annotation {keys.ANN_ADOPT}={current.name}; to remove them, "
        "see docs/operating.md#what-may-be-removed"
    )


def _uid(checkpoint: Object) -> str:
    return str(checkpoint["metadata"].get("uid", ""))
