# ruff: noqa: ARG002 - a stand-in takes what the seam gives
"""Builders of what the agent sees, and stand-ins that remember what was asked of them; they know no Kubernetes."""

import asyncio
import copy

from agent.executor.api import ExecutionResult
from agent.pods.report import Reporter
from agent.pods.restore_controller import RestoreController
from contract.api import keys
from contract.api.states import AccessMode
from contract.config.storage import Storage
from contract.nodes.node_facts import NodeFacts
from kube.errors import NotFoundError

ID = "3bff874d069f0ed5"
UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
FIRST, SECOND = "a" * 64, "b" * 64
DIGEST = "blake3:" + "0" * 64
RESTORED = ExecutionResult(ok=True, seconds={"criu": 0.5, "total": 0.75}, size=1 << 20, container_id=FIRST)
NOT_YET = ExecutionResult(ok=False, reason="standby-not-up", message="not up yet", retry=True)


def storage(mode=AccessMode.AGENT_MOUNT):
    return Storage(mode, "snapshot-pvc", "/checkpoints", create=True, size="1Ti", storage_class="", pvc_access_mode="")


def running(container_id=FIRST, name="main", **fields):
    state = {"running": {"startedAt": "2026-11-21T03:00:00Z"}}
    return {"name": name, "containerID": f"containerd://{container_id}", "state": state, "image": "img:1", **fields}


def terminated(code, container_id=FIRST, name="main", **fields):
    state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}}
    return {"name": name, "containerID": f"containerd://{container_id}", "state": state, **fields}


def waiting(name="main", **fields):
    return {"name": name, "state": {"waiting": {"reason": "ContainerCreating"}}, **fields}


def _pod(name, labels, annotations, statuses, phase, spec):
    control = {"name": keys.CONTROL_VOLUME, "mountPath": keys.CONTROL_DIR, "subPath": "main"}
    spec = {
        "nodeName": "node-1",
        "containers": [{"name": "main", "volumeMounts": [control]}],
        "volumes": [{"name": keys.CONTROL_VOLUME, "emptyDir": {}}],
        **spec,
    }
    metadata = {"name": name, "namespace": "ns", "uid": UID, "resourceVersion": "1"}
    status = {"phase": phase, "containerStatuses": list(statuses)}
    metadata |= {"labels": {k: v for k, v in labels.items() if v is not None}, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def target(*statuses, labels=None, annotations=None, phase="Running", deleting=False, **spec):
    """Build a restore pod."""
    notes = {keys.ANN_CHECKPOINT: "qwen", keys.ANN_ARTIFACT_VERSION: "1", **(annotations or {})}
    pod = _pod("web-1", {keys.LABEL_CHECKPOINT_ID: ID, **(labels or {})}, notes, statuses, phase, spec)
    if deleting:
        pod["metadata"]["deletionTimestamp"] = "2026-11-21T03:00:00Z"
    return pod


def placeholder(*statuses, image="img:1", **parts):
    """Build a restore pod that was a placeholder before a checkpoint was named on it."""
    found = target(*statuses, **parts)
    found["spec"]["containers"][0] |= {"image": image, "command": [keys.STANDBY, keys.STANDBY_WAIT, "--", "worker"]}
    return found


def parking(*statuses, **parts):
    """Build a restore pod whose worker is parked once it is restored."""
    found = target(*statuses, **parts)
    found["spec"]["containers"][0]["command"] = [keys.STANDBY, keys.STANDBY_PARK, "--", "worker"]
    return found


def reported(status, container_id=FIRST):
    return {
        keys.ANN_RESTORE_STATUS_PREFIX + "main": status,
        keys.ANN_RESTORE_CONTAINER_ID_PREFIX + "main": container_id,
    }


def source(*statuses, labels=None, annotations=None, phase="Running", **spec):
    """Build the pod of a capture Job."""
    marks = {keys.LABEL_IS_SOURCE: "true", keys.LABEL_CHECKPOINT_ID: ID, keys.LABEL_JOB_NAME: "job-1", **(labels or {})}
    notes = {keys.ANN_TARGET_CONTAINERS: "main", keys.ANN_READY_SIGNAL: "File", **(annotations or {})}
    pod = _pod("job-1-x", marks, notes, statuses, phase, spec)
    pod["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "job-1", "uid": "job-uid", "controller": True}]
    return pod


def job(annotations=None):
    metadata = {"name": "job-1", "namespace": "ns", "uid": "job-uid", "resourceVersion": "1"}
    metadata["annotations"] = dict(annotations or {})
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}


def checkpoint(**status):
    found = {
        "phase": "Ready",
        "checkpointID": ID,
        "manifestDigest": DIGEST,
        "location": f"/checkpoints/{ID}/versions/1",
        **status,
    }
    return {"kind": "DynamoCheckpoint", "metadata": {"name": "qwen", "namespace": "ns"}, "status": found}


class RecordingKube:
    """Gives the objects it was made with, takes every patch into them, remembers what was asked in order."""

    def __init__(self, *objects):
        self.objects = {(each["kind"], each["metadata"]["name"]): each for each in objects}
        self.patches = []
        self.calls = []
        self.failures = []
        self.changed = lambda _: None

    async def get(self, resource, name, namespace=None):
        self.calls.append(("get", resource.kind, name))
        await self._maybe_fail()
        if (resource.kind, name) not in self.objects:
            raise NotFoundError(404, "NotFound", name)
        return copy.deepcopy(self.objects[resource.kind, name])

    async def create(self, resource, body, namespace=None, *, dry_run=False):
        self.calls.append(("create", resource.kind, body["metadata"].get("name")))
        self.objects[resource.kind, body["metadata"]["name"]] = body
        body["metadata"]["resourceVersion"] = "1"
        return copy.deepcopy(body)

    async def patch(self, resource, name, body, namespace=None, **_):
        self.calls.append(("patch", resource.kind, name))
        await self._maybe_fail()
        stored = self.objects[resource.kind, name] = copy.deepcopy(self.objects[resource.kind, name])
        self.patches.append((resource.kind, name, body))
        for part in ("annotations", "labels"):
            merged = stored["metadata"].get(part, {}) | body.get("metadata", {}).get(part, {})
            stored["metadata"][part] = {key: value for key, value in merged.items() if value is not None}
        stored["spec"] = stored.get("spec", {}) | body.get("spec", {})
        stored["metadata"]["resourceVersion"] = str(int(stored["metadata"]["resourceVersion"]) + 1)
        self.changed(stored)
        return copy.deepcopy(stored)

    async def delete(self, resource, name, namespace=None, **_):
        self.calls.append(("delete", resource.kind, name))
        del self.objects[resource.kind, name]

    async def _maybe_fail(self):
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)

    def annotations(self, kind, name):
        return self.objects[kind, name]["metadata"]["annotations"]

    def written(self, kind):
        """Return the annotations of each patch, in order."""
        return [body["metadata"]["annotations"] for found, _, body in self.patches if found == kind]


class Said:
    """A recorder that keeps what was said."""

    def __init__(self):
        self.events = []

    def record(self, about, kind, reason, message):
        self.events.append((about["kind"], kind, reason, message))

    def reasons(self, kind="Pod"):
        return [reason for about, _, reason, _ in self.events if about == kind]


class ScriptedEngine:
    """Answers from *outcomes* in order, the last one for ever; each answer takes *seconds*."""

    def __init__(self, *outcomes, seconds=0.0, problems=(), node_gpus=None):
        self.outcomes = list(outcomes)
        self.seconds = seconds
        self.problems = problems
        self.node_gpus = node_gpus
        self.node_facts = NodeFacts(architecture="amd64", kernel="6.1.0", criu="4.2.1", cpu_flags=frozenset({"avx2"}))
        self.orders = []

    async def _answer(self, request):
        self.orders.append(request)
        await asyncio.sleep(self.seconds)
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]

    capture = capture_running = restore = reject = provide_image_config = _answer

    async def check(self):
        return self.problems

    async def gpus(self):
        return self.node_gpus

    async def facts(self):
        return self.node_facts


class Stage:
    """Restores over stand-ins: what a pod becomes is passed to ``see``, as an informer would."""

    def __init__(self, engine, *objects):
        self.kube = RecordingKube(*objects)
        self.said = Said()
        self.engine = engine
        self.restores = RestoreController(self.kube, engine, Reporter(self.kube, self.said, "node-1"), storage())

    def see(self, pod):
        self.kube.objects["Pod", pod["metadata"]["name"]] = pod
        self.restores.see(pod)

    def statuses(self):
        return [notes[keys.ANN_RESTORE_STATUS_PREFIX + "main"] for notes in self.kube.written("Pod")]
