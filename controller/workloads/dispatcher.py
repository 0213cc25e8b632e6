"""Where opted-in pods are served: six queues, each with its own question, fed by the live copies.

``checkpoints``: does a pod request one that is not there, or still the one that is being made? ``gates``: may
a held pod go? ``tales``: what is to be said about a pod's admission? ``missed``: did the webhook not see a pod?
``spares``: is a parked pod needed? ``silent``: does no agent speak of a pod that was to be restored?
Nothing is remembered that a successor would need: it asks the same questions of the same objects.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final, NoReturn

from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.pods.parking import parked_wanted
from controller.runtime.manager import ManagerContext
from controller.workloads import pods
from controller.workloads.admission_recorder import AdmissionRecorder
from controller.workloads.auto_checkpoint_controller import AutoCheckpointController
from controller.workloads.checkpoint_view import CheckpointViews
from controller.workloads.demand import waits_for_node
from controller.workloads.gates.gate_controller import GateController
from controller.workloads.informers import PodInformers
from controller.workloads.metrics import Metrics
from controller.workloads.missed_pods import MissedPods
from controller.workloads.owners import Owners
from controller.workloads.reports import Reports, is_new
from controller.workloads.restores.failing import FAILED_WORD
from controller.workloads.restores.silent import SilentPods
from controller.workloads.spares.policy import face
from controller.workloads.spares.waker import Waker
from kube.api import Object
from kube.informer import Informer, synced
from kube.queue import WorkQueue
from kube.store import Change, Key, key_of

MAKERS: Final = 4
GATEKEEPERS: Final = 16
"""Held pods are let go many at a time: they wait for nothing else."""
TELLERS: Final = 4
GATHER_SECONDS: Final = 1.0
"""A look at a checkpoint goes through all of its pods, and thousands may come at once."""


class Dispatcher:
    """Everything that is done for opted-in pods; runs in the leader, looks on in the others."""

    def __init__(self, context: ManagerContext, informers: PodInformers, reports: Reports, metrics: Metrics) -> None:
        self._informers = informers
        self._checkpoints: Informer = context.checkpoints
        self._claims = context.claims
        self._reports = reports
        self._now: Callable[[], datetime] = context.now
        self._leading = False
        self._sights = CheckpointViews(context.checkpoints)
        self.checkpoints: WorkQueue[Key] = WorkQueue()
        self.gates: WorkQueue[Key] = WorkQueue()
        self.tales: WorkQueue[Key] = WorkQueue()
        self.missed: WorkQueue[Key] = WorkQueue()
        self.spares: WorkQueue[Key] = WorkQueue()
        self.silent: WorkQueue[Key] = WorkQueue()
        owners = Owners(context.kube)
        self._maker = AutoCheckpointController(context, informers, self._sights, owners, self._wake_held)
        self._gatekeeper = GateController(context, informers, self._sights, metrics)
        self._teller = AdmissionRecorder(context, informers)
        self._missed = MissedPods(context, informers, self._sights, owners)
        self._waker = Waker(context, informers)
        self._silent = SilentPods(context, informers)
        informers.add_handler(self._pod_changed)
        self._checkpoints.add_handler(self._checkpoint_changed)

    async def run(self) -> NoReturn:
        """Serve until cancelled; only the leader does."""
        await synced(self._checkpoints, *self._informers.all, *((self._claims.informer,) if self._claims else ()))
        self._lead(on=True)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.checkpoints.run(self._maker.handle, MAKERS), name="automatic checkpoints")
                group.create_task(self.gates.run(self._gatekeeper.handle, GATEKEEPERS), name="gates")
                group.create_task(self.tales.run(self._teller.handle, TELLERS), name="admission events")
                group.create_task(self.missed.run(self._missed.handle, MAKERS), name="missed pods")
                group.create_task(self.spares.run(self._waker.handle, MAKERS), name="spare pods")
                group.create_task(self.silent.run(self._silent.handle, TELLERS), name="silent pods")
        finally:
            self._lead(on=False)
        raise AssertionError("queues run until cancelled")

    def _lead(self, *, on: bool) -> None:
        self._leading = on
        self._reports.count(on=on)
        for pod in self._informers if on else ():
            self._pod_changed(Change(None, pod))
        for checkpoint in self._checkpoints.store if on else ():
            # No pod need name it any more.
            if waits_for_node(checkpoint):
                self.checkpoints.add(key_of(checkpoint))

    def _pod_changed(self, change: Change) -> None:
        if not self._leading:
            return
        old, new = change
        if old is None or new is None or _turned(old, new):
            for pod in (old, new):
                self._ask(pod)
        elif is_new(old, new) and FAILED_WORD in annotations_of(new)[keys.ANN_RESTORE_REPORT]:
            self._ask(new)
        if any(each is not None and pods.spare(each) for each in change) and (
            old is None or new is None or face(old) != face(new)
        ):
            self.spares.add(pods.checkpoint_key(new or old or {}))
        if new is not None:
            self._look_at(old, new)

    def _look_at(self, old: Object | None, new: Object) -> None:
        """Have what the pod itself needs done, whatever its checkpoint is."""
        if pods.held(new):
            self.gates.add(key_of(new))
        if old is None or pods.admission(old) != pods.admission(new):
            self.tales.add(key_of(new))
        if old is None and self._missed.is_one(new):
            self.missed.add(key_of(new))
        if pods.awaits_word(new) and not (old is not None and pods.awaits_word(old)):
            self.silent.add(key_of(new))

    def _ask(self, pod: Object | None) -> None:
        """Have the pod's checkpoint looked at: now where it is to be made or goes, else once for many pods."""
        if pod is None or not pods.checkpoint_name(pod):
            return
        key = pods.checkpoint_key(pod)
        sight = self._sights.of(key)
        if sight.deleted is not None or (sight.checkpoint is None and (pods.asks(pod) or pods.triggers(pod))):
            self.checkpoints.add(key)
        else:
            self.checkpoints.add_after(key, GATHER_SECONDS)

    def _checkpoint_changed(self, change: Change) -> None:
        if not self._leading:
            return
        key = key_of(change.object)
        if change.new is None:
            self._sights.deleted(key, self._now())
        if change.old is None or change.new is None or _face(change.old) != _face(change.new):
            self.checkpoints.add(key)
            self.spares.add(key)
            self._wake_held(key)

    def _wake_held(self, checkpoint: Key) -> None:
        for pod in self._informers.naming(checkpoint):
            if pods.held(pod):
                self.gates.add(key_of(pod))


def _turned(old: Object, new: Object) -> bool:
    """Say whether what the pod wants of its checkpoint has changed."""
    before, after = (_wishes(pod) for pod in (old, new))
    return before != after


def _wishes(pod: Object) -> tuple[object, ...]:
    return pods.asks(pod), pods.triggers(pod), pods.alive(pod), pods.checkpoint_name(pod)


def _face(checkpoint: Object) -> tuple[object, ...]:
    """Return what of a checkpoint matters to its pods."""
    status, metadata = checkpoint.get("status") or {}, checkpoint["metadata"]
    return status.get("phase"), metadata.get("deletionTimestamp"), metadata.get("uid"), parked_wanted(checkpoint)
