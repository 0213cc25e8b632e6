"""Removes what retention says: looked at after every change and now and then, written only where something goes.

Decided on live copies, and decided again on a fresh list of the pods before anything is removed: a copy may be behind.
Versions go by a cleanup Job and leave the status when it is done; checkpoints are deleted, and their finalizer does
the rest. All that there is to know is in the cluster, so a new leader goes on where the last one was.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn

from contract.api import keys
from contract.api.checkpoint import annotations_of, id_of, labels_of
from contract.api.conditions import condition, is_true
from contract.api.objects import JobView
from contract.api.states import CheckpointReason
from contract.api.times import parsed_time
from contract.config.storage import Storage
from contract.config.values import Values
from controller.checkpoints.diagnose import pods as diagnosis
from controller.checkpoints.diagnose.job_events import JobEvents
from controller.checkpoints.plan.adopting import store_namespace
from controller.checkpoints.plan.deleting import RETRY_SECONDS, has_finalizer
from controller.checkpoints.reasons import note
from controller.checkpoints.storage_jobs import build_cleanup_job, cleanup_job_name
from controller.retention.policy import Removal, Verdict, decide, rules_from, use_of, versions_of
from controller.workloads.pods import OF_GRAPHS, OPTED_IN
from kube.api import KubeClient, Object, Propagation
from kube.errors import REFUSALS, AlreadyExistsError, ConflictError, KubeError, NotFoundError
from kube.informer import Informer, synced
from kube.recorder import Recorder
from kube.resources import CHECKPOINTS, JOBS, PODS
from kube.store import Change, key_of

PERIOD: Final = 60.0
"""Seconds between looks, at most, where nothing changes: time alone makes a checkpoint old."""
PAUSE: Final = 5.0
"""Seconds after a change, so that many changes make one look."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the sweeper looks at."""

    checkpoints: Informer
    jobs: Informer
    pods: tuple[Informer, ...]
    """All pods that opted in."""
    storage: Storage
    release_namespace: str
    told: Callable[[str], None]
    """Counts an Event by its reason."""


class Sweeper:
    """One for the process; works only while that leads."""

    def __init__(
        self, kube: KubeClient, around: Surroundings, recorder: Recorder, values: Values, clock: Callable[[], datetime]
    ) -> None:
        self._kube = kube
        self._around = around
        self._recorder = recorder
        self._values = values
        self._clock = clock
        self._rules = rules_from(values)
        self._seen: dict[str, datetime] = {}
        self._told: set[tuple[str, ...]] = set()
        self._warnings = JobEvents(kube)
        self._changed = asyncio.Event()
        for informer in (around.checkpoints, around.jobs, *around.pods):
            informer.add_handler(self._wake)

    async def run(self) -> NoReturn:
        """Look again and again until cancelled."""
        await synced(self._around.checkpoints, self._around.jobs, *self._around.pods)
        while True:
            self._changed.clear()
            rest = PERIOD
            try:
                rest = await self.sweep()
            except KubeError as error:
                logger.warning("retention: %s; again in %.0f s", error, PERIOD)
            except Exception:
                # A bug that one object brings to light must not end the work on all others.
                logger.exception("retention: unexpected error; again in %.0f s", PERIOD)
            await self._rest(rest)

    def _wake(self, change: Change) -> None:
        """Ask for a look if something was made, ended or let go; most changes are none of it."""
        before, after = (_weight(each) for each in change)
        if before != after:
            self._changed.set()

    async def sweep(self) -> float:
        """Look once, and return the seconds until time alone may make something go.

        Raises:
            KubeError: a call failed; the next look goes on.
        """
        for job in tuple(self._around.jobs.store):
            await self._alone(self._finish(job))
        pods = [pod for informer in self._around.pods for pod in informer.store]
        verdict = await self._verdict(pods)
        self._say_over(verdict)
        for namespace in sorted({key_of(each.checkpoint)[0] for each in verdict.removals}):
            await self._namespace(
                namespace, [each for each in verdict.removals if key_of(each.checkpoint)[0] == namespace]
            )
        return min(PERIOD, verdict.settles_in)

    async def _verdict(self, pods: Iterable[Object]) -> Verdict:
        if not self._values.checkpoint.enabled:
            return Verdict(())
        excluded, now = self._values.webhook.excluded_namespaces, self._clock()
        checkpoints = [each for each in self._around.checkpoints.store if key_of(each)[0] not in excluded]
        use = use_of(pods)
        there = {str(each["metadata"].get("uid")): use.of(each) for each in checkpoints}
        self._seen = {uid: now if used else self._seen[uid] for uid, used in there.items() if used or uid in self._seen}
        # Thousands of checkpoints take a moment, in which everybody else goes on; objects in a copy never change.
        return await asyncio.to_thread(decide, checkpoints, use, now, self._rules, dict(self._seen))

    async def _namespace(self, namespace: str, planned: list[Removal]) -> None:
        if self._values.retention.dry_run:
            for removal in planned:
                self._once(removal.checkpoint, CheckpointReason.RETENTION_DRY_RUN, f"would remove {_what(removal)}")
            return
        pending = [each for each in planned if not each.version or self._job(each) is None]
        if not pending:
            return
        # Once more, on what the server says of the pods at this moment.
        certain = {_key(each) for each in (await self._verdict(await self._pods_of(namespace))).removals}
        for removal in pending:
            if _key(removal) in certain:
                await self._alone(self._remove(removal))

    async def _alone(self, work: Awaitable[None]) -> None:
        """Do each thing: one that cannot be done keeps no other from being done."""
        try:
            await work
        except (ConflictError, NotFoundError):
            # It was used or changed just now: the next look decides again.
            self._changed.set()
        except KubeError as error:
            logger.warning("retention: %s; the others go on", error)

    async def _pods_of(self, namespace: str) -> list[Object]:
        found = [(await self._kube.list(PODS, namespace, labels=labels)).items for labels in (OPTED_IN, OF_GRAPHS)]
        elsewhere = [pod for copy in self._around.pods for pod in copy.store if key_of(pod)[0] != namespace]
        return [*(pod for items in found for pod in items), *elsewhere]

    async def _remove(self, removal: Removal) -> None:
        try:
            await (self._remove_version(removal) if removal.version else self._delete(removal))
        except REFUSALS as error:
            what = f"version {removal.version}" if removal.version else "the checkpoint"
            words = f"{what} cannot be removed: {error}"
            self._once(removal.checkpoint, CheckpointReason.CLEANUP_BLOCKED, words)

    async def _remove_version(self, removal: Removal) -> None:
        checkpoint, version = removal.checkpoint, removal.version
        namespace = self._store_namespace(checkpoint)
        job = build_cleanup_job(
            checkpoint, id_of(checkpoint), namespace, values=self._values, storage=self._around.storage, version=version
        )
        job["metadata"]["annotations"] |= {keys.ANN_ARTIFACT_VERSION: version}
        try:
            self._around.jobs.learn(await self._kube.create(JOBS, job, namespace))
        except AlreadyExistsError:
            return
        logger.info("removing", extra={"checkpoint": key_of(checkpoint), "version": version, "why": removal.why})

    async def _delete(self, removal: Removal) -> None:
        checkpoint = removal.checkpoint
        namespace, name = key_of(checkpoint)
        metadata = checkpoint["metadata"]
        if not has_finalizer(checkpoint):
            # Made by hand, and its own spec says that it goes: its artifacts shall go with it.
            held = [*(metadata.get("finalizers") or ()), keys.FINALIZER]
            body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": held}}
            metadata = (await self._kube.patch(CHECKPOINTS, name, body, namespace))["metadata"]
        await self._kube.delete(
            CHECKPOINTS, name, namespace, uid=metadata["uid"], resource_version=metadata["resourceVersion"]
        )
        self._record(checkpoint, CheckpointReason.CHECKPOINT_EXPIRED, f"deleted: {removal.why}")
        logger.info("deleted", extra={"checkpoint": key_of(checkpoint), "why": removal.why})

    async def _finish(self, job: Object) -> None:
        """Follow a Job that removes one version to its end; if it fails, that is reported and tried again."""
        version = annotations_of(job).get(keys.ANN_ARTIFACT_VERSION, "")
        namespace = annotations_of(job).get(keys.ANN_CHECKPOINT_NAMESPACE, "")
        if not version or not namespace or job["metadata"].get("deletionTimestamp"):
            return
        checkpoint = self._around.checkpoints.store.get(namespace, annotations_of(job).get(keys.ANN_CHECKPOINT, ""))
        entry = condition(job, "Failed") if is_true(job, "Failed") else None
        if is_true(job, "Complete"):
            if checkpoint is not None and id_of(checkpoint) == labels_of(job).get(keys.LABEL_CHECKPOINT_ID):
                await self._forget(checkpoint, version)
            await self._drop(job)
        elif checkpoint is not None and (stuck := await self._stuck(job)):
            words = f"version {version} cannot be removed: {stuck}"
            # The words name a pod that was not made, another one each time.
            self._once(checkpoint, CheckpointReason.CLEANUP_BLOCKED, words, about=f"version {version}")
        elif checkpoint is not None and entry is not None:
            words = f"Job {job['metadata']['name']} failed: {entry.get('message')}; it is tried again"
            self._once(checkpoint, CheckpointReason.CLEANUP_FAILED, words)
        if entry is not None:
            since = parsed_time(entry.get("lastTransitionTime"))
            if since is None or (self._clock() - since).total_seconds() > RETRY_SECONDS:
                await self._drop(job)

    async def _stuck(self, job: Object) -> str:
        """Return what keeps a Job from beginning, or kept it until its time was over; empty if it began."""
        view = JobView(job)
        if view.had_pod:
            return ""
        return diagnosis.store_job_problem(view, None, await self._warnings.of(*key_of(job)), self._clock())

    async def _forget(self, checkpoint: Object, version: str) -> None:
        left = [each for each in versions_of(checkpoint) if each["version"] != version]
        if len(left) == len(versions_of(checkpoint)):
            return
        namespace, name = key_of(checkpoint)
        guard = {"resourceVersion": checkpoint["metadata"]["resourceVersion"]}
        body = {"metadata": guard, "status": {"versions": left}}
        try:
            made = await self._kube.patch(CHECKPOINTS, name, body, namespace, subresource="status")
        except NotFoundError:
            return
        self._around.checkpoints.learn(made)
        self._record(checkpoint, CheckpointReason.VERSION_REMOVED, f"version {version} was removed from storage")

    async def _drop(self, job: Object) -> None:
        namespace, name = key_of(job)
        try:
            uid = str(job["metadata"].get("uid", ""))
            await self._kube.delete(JOBS, name, namespace, propagation=Propagation.BACKGROUND, uid=uid)
        except (NotFoundError, ConflictError):
            return

    def _say_over(self, verdict: Verdict) -> None:
        there = {str(each["metadata"].get("uid")) for each in self._around.checkpoints.store}
        known = there | verdict.over.keys()
        self._told = {each for each in self._told if each[1] in known}
        for namespace, words in verdict.over.items():
            members = [each for each in self._around.checkpoints.store if key_of(each)[0] == namespace]
            if (CheckpointReason.QUOTA_EXCEEDED, namespace) not in self._told and members:
                self._told.add((CheckpointReason.QUOTA_EXCEEDED, namespace))
                self._record(max(members, key=key_of), CheckpointReason.QUOTA_EXCEEDED, f"{namespace}: {words}")

    def _record(self, checkpoint: Object, reason: CheckpointReason, words: str) -> None:
        told = note(reason, words)
        self._recorder.record(checkpoint, told.type, told.reason, told.message)
        self._around.told(reason)

    def _once(self, checkpoint: Object, reason: CheckpointReason, words: str, about: str = "") -> None:
        """Say it once in the life of the process: a look that finds the same again (*about*) writes nothing."""
        mark = (reason, str(checkpoint["metadata"].get("uid")), about or words)
        if mark not in self._told:
            self._told.add(mark)
            self._record(checkpoint, reason, words)

    def _job(self, removal: Removal) -> Object | None:
        namespace = self._store_namespace(removal.checkpoint)
        return self._around.jobs.store.get(namespace, cleanup_job_name(id_of(removal.checkpoint), removal.version))

    def _store_namespace(self, checkpoint: Object) -> str:
        return store_namespace(checkpoint, self._around.release_namespace, self._around.storage)

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return
        await asyncio.sleep(PAUSE)


def _weight(obj: Object | None) -> object:
    """Return what of an object retention looks at."""
    status = (obj or {}).get("status") or {}
    ended = [each.get("type") for each in status.get("conditions") or () if obj and obj["kind"] == JOBS.kind]
    return obj is None, status.get("phase"), status.get("versions"), ended


def _key(removal: Removal) -> tuple[str, str, str]:
    return (*key_of(removal.checkpoint), removal.version)


def _what(removal: Removal) -> str:
    return f"{f'version {removal.version}' if removal.version else 'the checkpoint'}: {removal.why}"
