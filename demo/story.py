"""The story, step by step, on any cluster that has the chart installed.

Cold start, checkpoint, restored start, cold start without the artifact: each step returns what it saw, so that the
demo can show it and the node tests can assert it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contract.api import keys
from contract.api.states import Admission, Phase
from demo import manifests
from demo.kubectl import CommandError, Kubectl, WaitError, wait_for
from demo.timeline import Start, Story

START_SECONDS = 180
CHECKPOINT_SECONDS = 300
APP = "app=minilm"
NAME = "minilm"

CONTAINER_START = (
    "import time;"
    "stat=open('/proc/1/stat').read().rsplit(')',1)[1].split();"
    "up=float(open('/proc/uptime').read().split()[0]);"
    "print(time.time()-up+int(stat[19])/100)"
)
"""When the container's first process started: field 22 of its stat, in clock ticks (100 a second) since boot."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Checkpoint:
    """A Ready checkpoint as the cluster shows it."""

    id: str
    seconds: float
    size: int
    source_token: str


def await_webhook(kubectl: Kubectl) -> None:
    """Wait until the API server reaches the webhook.

    Ready pods are not enough: the Service's rules follow some moments later, and a pod made in between would truly
    be marked ``webhook-unreachable``.
    """
    probe = json.dumps(manifests.opted_in_pod())

    def look() -> str | None:
        made = json.loads(kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=probe))
        code = made["metadata"].get("annotations", {}).get(keys.ANN_ADMISSION)
        return None if code in {None, Admission.WEBHOOK_UNREACHABLE.value} else str(code)

    wait_for(look, "an answer of the webhook", START_SECONDS)


def start_cold(kubectl: Kubectl, image: str = manifests.WORKER_IMAGE) -> None:
    """Apply the Deployment: its first pod starts cold, because no checkpoint is there."""
    deployment = manifests.with_stopwatch(manifests.example("deployment.yaml", image))
    kubectl.apply(manifests.stopwatch_configmap(), deployment)


def request_checkpoint(kubectl: Kubectl, image: str = manifests.WORKER_IMAGE) -> None:
    """Apply the DynamoCheckpoint."""
    kubectl.apply(manifests.example("checkpoint.yaml", image))


def await_checkpoint(kubectl: Kubectl, say: Say) -> Checkpoint:
    """Follow the checkpoint to Ready.

    Raises:
        WaitError: it failed or took too long; the message is the object's own.
    """
    seen: list[str] = []
    token: list[str] = []

    def look() -> dict[str, Any] | None:
        found = kubectl.get("dynamocheckpoint", NAME)
        status = found.get("status", {})
        phase = status.get("phase", "")
        token[:] = token or _source_token(kubectl, status.get("jobName", ""))
        if phase and phase not in seen:
            seen.append(phase)
            say(f"checkpoint {NAME}: {phase}  {status.get('message', '')}".rstrip())
        if phase == Phase.FAILED:
            raise WaitError(f"checkpoint {NAME} failed: {status.get('message', 'no message')}")
        return found if phase == Phase.READY else None

    found = wait_for(look, f"checkpoint {NAME} Ready", CHECKPOINT_SECONDS)
    return _checkpoint(found, token[0] if token else "")


def _source_token(kubectl: Kubectl, job: str) -> list[str]:
    if not job:
        return []
    try:
        log = kubectl("logs", f"job/{job}", "-c", "main")
    except CommandError:
        return []
    return [word for line in log.splitlines() if "token" in line for word in line.split()[-1:]]


def _checkpoint(found: dict[str, Any], token: str) -> Checkpoint:
    status = found["status"]
    created, ready = found["metadata"]["creationTimestamp"], status["createdAt"]
    return Checkpoint(
        id=status["checkpointID"],
        seconds=_seconds_between(created, ready),
        size=int(status.get("size", 0)),
        source_token=token,
    )


def _seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def add_pod(kubectl: Kubectl) -> str:
    """Scale the Deployment up by one and return the new pod's name."""
    before = {pod["metadata"]["name"] for pod in kubectl.pods(APP)}
    kubectl("scale", f"deployment/{NAME}", f"--replicas={len(before) + 1}")

    def new() -> str | None:
        fresh = [pod["metadata"]["name"] for pod in kubectl.pods(APP) if pod["metadata"]["name"] not in before]
        return fresh[0] if fresh else None

    return wait_for(new, "a new pod", START_SECONDS)


def measure(kubectl: Kubectl, pod: str) -> Start:
    """Wait for the pod's first answer and read its clock, token and reason."""
    record = wait_for(lambda: _stopwatch(kubectl, pod), f"the first answer of pod {pod}", START_SECONDS)
    started = float(kubectl("exec", pod, "-c", "main", "--", "python3", "-c", CONTAINER_START))
    info = json.loads(kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}:8000/proxy/info"))
    reason = explain(kubectl, pod)
    return Start(
        pod=pod,
        kind="restored" if "SNAPSHOT_RESTORED" in reason else "cold",
        seconds=record["first_answer_at"] - started,
        token=info["token"],
        answer=record["answer_sha256"],
        reason=reason,
    )


def _stopwatch(kubectl: Kubectl, pod: str) -> dict[str, Any] | None:
    try:
        log = kubectl("logs", pod, "-c", manifests.STOPWATCH_NAME)
    except CommandError:
        return None
    record: dict[str, Any] | None = json.loads(log.splitlines()[0]) if log.strip() else None
    return record


def explain(kubectl: Kubectl, pod: str) -> str:
    """Return what the pod itself says: its first log line if it is ours, else its admission code."""
    lines = kubectl("logs", pod, "-c", "main").splitlines()
    if lines and lines[0].startswith("SNAPSHOT_"):
        return lines[0]
    annotations = kubectl.get("pod", pod)["metadata"].get("annotations", {})
    return f"admission: {annotations.get(keys.ANN_ADMISSION, 'none')}"


def delete_artifact(kubectl: Kubectl, agent_namespace: str, checkpoint_id: str, base_path: str) -> None:
    """Remove the artifact behind the controller's back, as a lost volume would."""
    agent = Kubectl(kubectl.binary, kubectl.kubeconfig, agent_namespace)
    # The agent's image has Python and no shell.
    remove = ("python3", "-c", "import shutil, sys; shutil.rmtree(sys.argv[1])", f"{base_path}/{checkpoint_id}")
    agent("exec", "daemonset/snapshot-agent", "-c", "agent", "--", *remove)


def tell(kubectl: Kubectl, say: Say, image: str = manifests.WORKER_IMAGE) -> Story:
    """Run the whole story with the worker's *image* and return what was measured."""
    await_webhook(kubectl)
    say("a Deployment starts cold: there is no checkpoint yet")
    start_cold(kubectl, image)
    first = wait_for(lambda: next(iter(kubectl.pods(APP)), None), "the first pod", START_SECONDS)
    cold = measure(kubectl, first["metadata"]["name"])
    say(f"pod {cold.pod}: first answer after {cold.seconds:.2f} s ({cold.reason})")
    say("the checkpoint is made in the background, from a pod of its own")
    request_checkpoint(kubectl, image)
    checkpoint = await_checkpoint(kubectl, say)
    restored = measure(kubectl, add_pod(kubectl))
    say(f"pod {restored.pod}: first answer after {restored.seconds:.2f} s ({restored.reason})")
    say("the artifact is deleted; the next pod must start cold and say why")
    delete_artifact(kubectl, kubectl.namespace, checkpoint.id, keys.DEFAULT_BASE_PATH)
    fallback = measure(kubectl, add_pod(kubectl))
    say(f"pod {fallback.pod}: first answer after {fallback.seconds:.2f} s ({fallback.reason})")
    return Story(checkpoint.source_token, checkpoint.seconds, checkpoint.size, cold, restored, fallback)
