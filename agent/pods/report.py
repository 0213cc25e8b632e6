"""What the agent says about its work: annotations on pods and Jobs for programs, Events for people.

A final word is never written over: each write builds on the object as it is and fails if it has changed meanwhile.
Everything about one attempt is written in one patch, so no reader sees half of it.
"""

import asyncio
import json
import logging
import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Final, Literal

from agent.executor.api import CaptureRequest, ContainerRef, ExecutionResult, LookResult, RestoreRequest
from agent.pods import selection
from agent.pods.restored import outcome_patch
from agent.pods.selection import Rejection
from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.api.preflight import Seen, report_of
from contract.api.reports import Filled, ImageConfig, remarks
from contract.api.running import CaptureResult
from contract.api.states import AgentReason, CaptureStatus, RestoreStatus
from contract.api.times import format_micro_time
from contract.pods.systems import architecture_of
from kube.api import KubeClient, Object, PatchKind
from kube.errors import ConflictError, KubeError, NotFoundError, bounded
from kube.recorder import Recorder
from kube.resources import JOBS, PODS, Resource

MAX_MESSAGE: Final = 1024
"""Characters of a message in an annotation; all annotations of an object share 256 KiB."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
"""Seconds between attempts to write: what was done must be reported, however long the API server is away."""

Notes = dict[str, str]
logger = logging.getLogger(__name__)


def outcome_of(refusal: Rejection) -> ExecutionResult:
    """Return a refusal as the engine would report it."""
    return ExecutionResult(ok=False, reason=refusal.reason, message=refusal.message)


def restore_patch(
    pod: Object, container: str, found: str, status: RestoreStatus, outcome: ExecutionResult, now: datetime
) -> Object | None:
    """Return all that is written about a restore: the annotations, label and condition; None after a final report."""
    notes = restore_notes(pod, container, found, status, outcome, now)
    if notes is None:
        return None
    closed = replace(outcome, reason=_closed(outcome.reason))
    patch = outcome_patch(pod, container, status, closed, now)
    return patch | {"metadata": {**patch.get("metadata", {}), "annotations": notes}}


def restore_notes(
    pod: Object, container: str, found: str, status: RestoreStatus, outcome: ExecutionResult, now: datetime
) -> Notes | None:
    """Return the annotations about a restore into the container with id *found*; None after a final report.

    The report has the moment at which it is written, *now*: a reader that counts reports knows by it which are new.
    """
    if selection.reported_id(pod, container) == found:
        return None
    notes = {
        keys.ANN_RESTORE_STATUS_PREFIX + container: status.value,
        keys.ANN_RESTORE_CONTAINER_ID_PREFIX + container: found,
    }
    if status in (RestoreStatus.IN_PROGRESS, RestoreStatus.PARKED):
        return notes
    report = _report(container, "restored" if outcome.ok else "failed", outcome) | {"at": format_micro_time(now)}
    return notes | {keys.ANN_RESTORE_REPORT: _json(report)}


def fill_notes(pod: Object, container: str, found: str, filled: Filled) -> Notes | None:
    """Return what is written when the memory of a restored container is all there; None if it was restored again."""
    annotations = annotations_of(pod)
    try:
        report = json.loads(annotations.get(keys.ANN_RESTORE_REPORT, ""))
    except ValueError:
        return None
    is_ours = isinstance(report, dict) and report.get("container") == container
    if not is_ours or selection.reported_id(pod, container) != found:
        return None
    return {keys.ANN_RESTORE_FILL: filled.as_note(report.get("at"))}


def capture_notes(job: Object, container: str, node: str, outcome: ExecutionResult) -> Notes | None:
    """Return the annotations that say how the capture ended; None after a final report."""
    if selection.terminal(job):
        return None
    report = _report(container, "captured" if outcome.ok else "failed", outcome)
    report["architecture"] = architecture_of(platform.machine())
    notes = {
        keys.ANN_NODE: node,
        keys.ANN_CAPTURE_REPORT: _json(report),
        keys.ANN_CHECKPOINT_STATUS: (CaptureStatus.COMPLETED if outcome.ok else CaptureStatus.FAILED).value,
    }
    if outcome.ok:
        if outcome.source is not None:
            notes[keys.ANN_CAPTURE_REPORT] = _json(report | {"source": outcome.source.document()})
        if outcome.image is not None:
            notes[keys.ANN_IMAGE_CONFIG] = _image(outcome.image)
        return notes | {
            keys.ANN_MANIFEST_DIGEST: outcome.manifest_digest,
            keys.ANN_ARTIFACT_SIZE: str(outcome.size),
        }
    return notes | {keys.ANN_CAPTURE_MESSAGE: bounded(outcome.message, MAX_MESSAGE)}


def _still_asks(pod: Object, request: str) -> bool:
    return annotations_of(pod).get(keys.ANN_PREFLIGHT) == request


def _report(container: str, word: str, outcome: ExecutionResult) -> dict[str, object]:
    return {
        "container": container,
        "outcome": word,
        "reason": _closed(outcome.reason) if outcome.reason else "",
        "seconds": {phase: round(seconds, 4) for phase, seconds in outcome.seconds.items()},
        "bytes": outcome.size,
    } | _details(outcome)


def _details(outcome: ExecutionResult) -> dict[str, object]:
    found: dict[str, object] = {}
    if outcome.steps:
        found["steps"] = [[each.phase.value, round(each.start, 4), round(each.seconds, 4)] for each in outcome.steps]
    if outcome.connections is not None:
        found["connections"] = asdict(outcome.connections)
    if outcome.memory is not None:
        found["memory"] = outcome.memory.value
    if outcome.engine is not None:
        found["engine"] = outcome.engine.as_rows()
    if outcome.hot is not None:
        found["hotSet"] = outcome.hot.value
    if outcome.bypassed:
        found["bypassed"] = sorted(outcome.bypassed)
    if outcome.tried:
        found["tried"] = [_closed(reason) for reason, _ in outcome.tried]
    return found


def _annotating(notes: Notes | None) -> Object | None:
    return {"metadata": {"annotations": notes}} if notes else None


def _json(found: dict[str, object]) -> str:
    return json.dumps(found, separators=(",", ":"))


def _closed(reason: str) -> str:
    """Return a reason of the closed list: metrics have a series for each."""
    return AgentReason(reason).value if reason in set(AgentReason) else AgentReason.INTERNAL_ERROR.value


def _image(image: ImageConfig) -> str:
    config: dict[str, object] = {
        "entrypoint": list(image.entrypoint),
        "cmd": list(image.cmd),
        "user": image.user,
        "workingDir": image.working_dir,
    }
    return _json(config)


def _took(outcome: ExecutionResult) -> str:
    total = outcome.seconds.get("total", sum(outcome.seconds.values()))
    words = remarks(outcome.connections, outcome.memory, outcome.engine, outcome.hot)
    return f"{total:.2f} s, {outcome.size / 2**20:.1f} MiB{words}"


def _bypassed(outcome: ExecutionResult) -> str:
    return "".join(f"; bypassed {reason}: {words}" for reason, words in outcome.bypassed.items())


def _now() -> datetime:
    return datetime.now(UTC)


class Reporter:
    """Writes notes and records Events; a write that fails is tried again until it succeeds or its object is deleted."""

    def __init__(self, kube: KubeClient, recorder: Recorder, node: str, now: Callable[[], datetime] = _now) -> None:
        self._kube = kube
        self._now = now
        self._recorder = recorder
        self._node = node

    def restore_requested(self, pod: Object, request: RestoreRequest) -> None:
        """Report that a container of *pod* is to be restored, whether it exists yet or not."""
        message = f"container {request.place.container} is to be restored from checkpoint {request.checkpoint_id}"
        self._say(pod, "Normal", "RestoreRequested", f"{message}, version {request.version}")

    async def restoring(self, pod: Object, container: str, found: str) -> None:
        """Report that the container exists and its restore runs."""
        await self._note_restore(pod, container, found, RestoreStatus.IN_PROGRESS, ExecutionResult(ok=False))

    async def restored(self, pod: Object, container: str, found: str, outcome: ExecutionResult) -> None:
        """Report how a restore ended, well or not."""
        status = RestoreStatus.COMPLETED if outcome.ok else RestoreStatus.FAILED
        for number, (reason, message) in enumerate(outcome.tried, start=1):
            words = f"container {container}: attempt {number} failed and was undone ({reason}): {message}"
            self._say(pod, "Warning", "RestoreAttemptFailed", words)
        if outcome.ok:
            words = f"container {container} restored in {_took(outcome)}{_bypassed(outcome)}"
            self._say(pod, "Normal", "RestoreSucceeded", words)
        else:
            words = f"container {container} is not restored ({outcome.reason}): {outcome.message}{_bypassed(outcome)}"
            self._say(pod, "Warning", "RestoreFailed", words)
        await self._note_restore(pod, container, found, status, outcome)

    async def parked(self, pod: Object, container: str, outcome: ExecutionResult) -> None:
        """Report that a worker is restored but for its devices, and stopped until it is woken."""
        words = f"container {container} is restored and stopped ({_took(outcome)}); `snapshotctl wake` lets it go on"
        self._say(pod, "Normal", "RestoreParked", words)
        await self._note_restore(pod, container, outcome.container_id, RestoreStatus.PARKED, outcome)

    async def filled(self, pod: Object, container: str, found: str, filled: Filled) -> None:
        """Report that the memory of a restored worker, which has been running, is all there."""
        await self._note(PODS, pod, lambda now: fill_notes(now, container, found, filled))

    async def asks(self, pod: Object, number: int) -> None:
        """Have kubelet ask a restored worker whether it is ready: it does so whenever its pod has changed."""
        await self._note(PODS, pod, lambda _: {keys.ANN_RESTORE_ASKED: str(number)})

    def attempts_ignored(self, pod: Object, message: str) -> None:
        """Report that a pod's own number of attempts is none."""
        self._say(pod, "Warning", "RestoreAttemptsIgnored", message)

    def restore_refused(self, pod: Object, refusal: Rejection) -> None:
        """Report that nothing in *pod* can be restored, not even named in an annotation."""
        self._say(pod, "Warning", "RestoreFailed", f"{refusal.message} ({refusal.reason})")

    async def capture_begun(self, job: Object, pod: Object, request: CaptureRequest) -> None:
        """Report that the worker is ready and its capture starts: from now on the Job names our node."""
        words = f"container {request.place.container} of pod {request.place.pod} is ready and is captured now"
        for about in (job, pod):
            self._say(about, "Normal", "CheckpointRequested", words)
        await self._note(JOBS, job, lambda now: None if selection.terminal(now) else {keys.ANN_NODE: self._node})

    async def captured(self, job: Object, pod: Object, container: str, outcome: ExecutionResult) -> None:
        """Report how a capture ended, well or not."""
        for about in (job, pod):
            if outcome.ok:
                self._say(about, "Normal", "CheckpointSucceeded", f"container {container} captured: {_took(outcome)}")
            else:
                exited = outcome.reason == AgentReason.WORKER_EXITED
                word = "CheckpointWorkerFailed" if exited else "CheckpointFailed"
                self._say(about, "Warning", word, f"{outcome.message} ({outcome.reason})")
        await self._note(JOBS, job, lambda now: capture_notes(now, container, self._node, outcome))

    async def asks_for_capture(self, pod: Object, request: str) -> None:
        """Ask the controller, for the worker of a pod, that the pod be captured."""
        await self._note(PODS, pod, lambda _: {keys.ANN_CAPTURE: request})

    async def captured_running(
        self, pod: Object, request: str, checkpoint: Object, work: CaptureRequest | None, outcome: ExecutionResult
    ) -> None:
        """Report how the capture of a pod that goes on ended, well or not."""
        container, version = (work.place.container, work.version) if work is not None else ("", "")
        for about in (checkpoint, pod):
            if outcome.ok:
                words = f"container {container} captured, and it goes on: {_took(outcome)}"
                self._say(about, "Normal", "CheckpointSucceeded", words)
            else:
                words = f"not captured, and it goes on: {outcome.message} ({outcome.reason})"
                self._say(about, "Warning", "CheckpointFailed", words)
        notes = capture_notes({"metadata": {}}, container, self._node, outcome) or {}
        if not outcome.ok:
            notes[keys.ANN_CAPTURE_MESSAGE] += f" ({_closed(outcome.reason)})"
        found = CaptureResult(request, checkpoint["metadata"]["uid"], version, notes)
        result = {keys.ANN_CAPTURE_RESULT: found.to_json()}
        # Also if the pod asks for another capture by now: whose this was, waits for its end.
        await self._note(PODS, pod, lambda _: result)

    async def looked(self, pod: Object, request: str, place: ContainerRef, result: LookResult) -> None:
        """Answer a preflight."""
        seen = Seen(result.findings, result.processes, result.memory)
        report = report_of(request, place.container, self._node, seen, result.error)
        notes = {keys.ANN_PREFLIGHT_REPORT: report.to_json()}
        await self._note(PODS, pod, lambda now: notes if _still_asks(now, request) else None)

    async def _note_restore(
        self, pod: Object, container: str, found: str, status: RestoreStatus, outcome: ExecutionResult
    ) -> None:
        await self._write(PODS, pod, lambda seen: restore_patch(seen, container, found, status, outcome, self._now()))

    def _say(self, about: Object, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        self._recorder.record(about, kind, reason, message)

    async def _note(self, resource: Resource, about: Object, decide: Callable[[Object], Notes | None]) -> None:
        await self._write(resource, about, lambda now: _annotating(decide(now)))

    async def _write(self, resource: Resource, about: Object, decide: Callable[[Object], Object | None]) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                if await self._try_write(resource, about["metadata"], decide):
                    return
            except NotFoundError:
                return
            except KubeError as error:
                logger.warning("%s %s: %s; again in %.1f s", resource.kind, about["metadata"]["name"], error, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _try_write(self, resource: Resource, about: Object, decide: Callable[[Object], Object | None]) -> bool:
        """Write once; False if the object changed under our hand."""
        name, namespace = about["name"], about.get("namespace")
        now = await self._kube.get(resource, name, namespace)
        patch = decide(now) if now["metadata"].get("uid") == about.get("uid") else None
        if patch is None or patch["metadata"]["annotations"].items() <= annotations_of(now).items():
            return True
        version = now["metadata"].get("resourceVersion")
        body = patch | {"metadata": {**patch["metadata"], "resourceVersion": version}}
        # The status of a pod is patched with its metadata; strategic, so that other conditions stay as they are.
        kind, part = (PatchKind.STRATEGIC, "status") if "status" in patch else (PatchKind.MERGE, "")
        try:
            await self._kube.patch(resource, name, body, namespace, kind=kind, subresource=part)
        except ConflictError:
            return False
        return True
