"""What the agent says to the cluster: annotations on Jobs and pods, and Events.

A final status is never written over. What a status needs to be understood travels in the same patch, so nobody ever
reads one without the other.
"""

import json
from collections.abc import Callable
from typing import Any

from agent.orders import Outcome
from contract import keys
from contract.checkpoint import annotations_of
from contract.states import CaptureStatus, RestoreStatus
from kube.recorder import Recorder
from kube.resources import JOBS, PODS
from kube.seam import Kube

Object = dict[str, Any]
MAX_MESSAGE = 1024
"""Characters: an annotation is shown by describe and travels with every watch event."""


def capture_annotations(outcome: Outcome, node: str) -> dict[str, str]:
    """The Job's annotations for the end of a capture. Pure."""
    report = {"outcome": "completed" if outcome.ok else "failed", "reason": outcome.reason}
    told = {
        keys.ANN_NODE: node,
        keys.ANN_CAPTURE_REPORT: _json(report, outcome),
    }
    if not outcome.ok:
        return told | {
            keys.ANN_CAPTURE_MESSAGE: outcome.message[:MAX_MESSAGE],
            keys.ANN_CHECKPOINT_STATUS: CaptureStatus.FAILED.value,
        }
    return told | {
        keys.ANN_MANIFEST_DIGEST: outcome.manifest_digest,
        keys.ANN_ARTIFACT_SIZE: str(outcome.size),
        keys.ANN_CHECKPOINT_STATUS: CaptureStatus.COMPLETED.value,
    }


def restore_annotations(container: str, outcome: Outcome, container_id: str) -> dict[str, str]:
    """The pod's annotations for the end of a restore. Pure."""
    status = RestoreStatus.COMPLETED if outcome.ok else RestoreStatus.FAILED
    report = {"container": container, "outcome": status.value, "reason": outcome.reason}
    told = {
        keys.ANN_RESTORE_STATUS_PREFIX + container: status.value,
        keys.ANN_RESTORE_REPORT: _json(report | {"message": outcome.message[:MAX_MESSAGE]}, outcome),
    }
    return told | ({keys.ANN_RESTORE_CONTAINER_ID_PREFIX + container: container_id} if container_id else {})


def _json(report: dict[str, Any], outcome: Outcome) -> str:
    seconds = {phase: round(value, 4) for phase, value in outcome.seconds.items()}
    return json.dumps(report | {"seconds": seconds, "bytes": outcome.size}, separators=(",", ":"))


class Reporter:
    """Writes reports."""

    def __init__(self, kube: Kube, recorder: Recorder, node: str, learn: Callable[[Object], None]) -> None:
        """*learn* takes in the pod as a write left it: the watch may bring it later than the next look at the pod."""
        self._kube = kube
        self._recorder = recorder
        self._node = node
        self._learn = learn

    async def capture_began(self, pod: Object, job: Object) -> None:
        """Say that a capture begins."""
        self._recorder.record(pod, "Normal", "CheckpointRequested", "the worker is ready; capturing it")
        await self._annotate_job(job, {keys.ANN_NODE: self._node})

    async def capture_ended(self, pod: Object, job: Object, outcome: Outcome) -> None:
        """Say how a capture ended, unless that is settled already."""
        current = await self._kube.get(JOBS, job["metadata"]["name"], job["metadata"]["namespace"])
        if annotations_of(current).get(keys.ANN_CHECKPOINT_STATUS):
            return
        await self._annotate_job(current, capture_annotations(outcome, self._node))
        if outcome.ok:
            words = f"captured {outcome.size} bytes in {sum(outcome.seconds.values()):.2f} s"
            self._both(pod, current, "CheckpointSucceeded", words, ok=True)
        else:
            self._both(pod, current, "CheckpointFailed", outcome.message, ok=False)

    async def worker_ended(self, pod: Object, job: Object, exit_code: int) -> None:
        """Say that the worker ended before it could be captured."""
        name = pod["metadata"]["name"]
        words = (
            f"the worker of pod {name} ended with code {exit_code} before it was captured; "
            f"its last words: kubectl logs {name} -n {pod['metadata']['namespace']}"
        )
        self._recorder.record(pod, "Warning", "CheckpointWorkerFailed", words)
        await self.capture_ended(pod, job, Outcome(ok=False, reason="worker-ended", message=words))

    async def restore_began(self, pod: Object, container: str) -> None:
        """Say that a restore begins."""
        self._recorder.record(pod, "Normal", "RestoreRequested", f"restoring container {container}")
        await self._annotate_pod(pod, {keys.ANN_RESTORE_STATUS_PREFIX + container: RestoreStatus.IN_PROGRESS.value})

    async def restore_ended(self, pod: Object, container: str, outcome: Outcome, container_id: str) -> None:
        """Say how a restore ended."""
        await self._annotate_pod(pod, restore_annotations(container, outcome, container_id))
        if outcome.ok:
            words = f"container {container} restored in {sum(outcome.seconds.values()):.2f} s, {outcome.size} bytes"
            self._recorder.record(pod, "Normal", "RestoreSucceeded", words)
        else:
            words = f"container {container} starts cold ({outcome.reason}): {outcome.message}"
            self._recorder.record(pod, "Warning", "RestoreFailed", words)

    def _both(self, pod: Object, job: Object, reason: str, words: str, *, ok: bool) -> None:
        for each in (pod, job):
            self._recorder.record(each, "Normal" if ok else "Warning", reason, words)

    async def _annotate_job(self, job: Object, annotations: dict[str, str]) -> None:
        metadata = job["metadata"]
        await self._kube.patch(
            JOBS, metadata["name"], {"metadata": {"annotations": annotations}}, metadata["namespace"]
        )

    async def _annotate_pod(self, pod: Object, annotations: dict[str, str]) -> None:
        metadata = pod["metadata"]
        body = {"metadata": {"uid": metadata["uid"], "annotations": annotations}}
        self._learn(await self._kube.patch(PODS, metadata["name"], body, metadata["namespace"]))
