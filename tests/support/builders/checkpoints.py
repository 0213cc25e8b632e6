"""Builders of what the controller sees, on top of the contract's own."""

import json
from datetime import UTC, datetime, timedelta

from contract.api import keys
from contract.api.times import format_time
from contract.config.values import load_values
from controller.checkpoints.observed import Observed
from controller.checkpoints.plan.plan import plan
from tests.support.builders.objects import ID, checkpoint

NOW = datetime(2026, 1, 31, 10, 0, 0, tzinfo=UTC)
JOB = f"checkpoint-job-{ID}-1"
AGENT_MOUNT = load_values("")
POD_MOUNT = load_values("storage: {accessMode: podMount, pvc: {create: false}}")
POD_MOUNT_CREATE = load_values("storage: {accessMode: podMount, pvc: {create: true, size: 10Gi, storageClass: fast}}")


def ago(seconds):
    return format_time(NOW - timedelta(seconds=seconds))


def labelled(name="qwen", **parts):
    """Return a checkpoint whose label is in place."""
    labels = {keys.LABEL_CHECKPOINT_ID: ID} | parts.pop("labels", {})
    return checkpoint(name, labels=labels, **parts)


def status_of(phase, **fields):
    base = {"phase": phase, "checkpointID": ID, "identityHash": ID, "observedGeneration": 1}
    return base | fields


def pending(**parts):
    return labelled(**{"status": status_of("Pending")} | parts)


def creating(**parts):
    return labelled(**{"status": status_of("Creating", jobName=JOB)} | parts)


def failed(reason, generation=1, **fields):
    entry = {
        "type": "JobCreated",
        "status": "False",
        "reason": reason,
        "message": "",
        "lastTransitionTime": ago(60),
        "observedGeneration": generation,
    }
    return status_of("Failed", message="it failed", conditions=[entry], **fields)


def condition(kind, status="True", **fields):
    return {"type": kind, "status": status, "lastTransitionTime": ago(60), **fields}


def job(*conditions, name=JOB, annotations=None, owner="uid-1", age=120, deadline=3600, **status):
    metadata = {"name": name, "namespace": "ns", "uid": "job-uid", "creationTimestamp": ago(age)}
    metadata["annotations"] = annotations or {}
    metadata["labels"] = {keys.LABEL_CHECKPOINT_ID: ID}
    if owner:
        reference = {"kind": keys.CHECKPOINT_KIND, "name": "qwen", "uid": owner, "controller": True}
        metadata["ownerReferences"] = [reference]
    template = {"metadata": {"annotations": {keys.ANN_ARTIFACT_VERSION: "1"}}}
    template["spec"] = {"containers": [{"name": "main", "image": "example.test/ran:1"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"activeDeadlineSeconds": deadline, "template": template},
        "status": {"conditions": list(conditions), "startTime": ago(age), **status},
    }


def capture_pod(*conditions, containers=(), node="node-1", affinity=None):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{JOB}-x", "namespace": "ns", "creationTimestamp": ago(100)},
        "spec": {"nodeName": node, "affinity": affinity},
        "status": {"conditions": list(conditions), "containerStatuses": list(containers)},
    }


def agent_pod(name, kernel="6.1.0", ready="True", version="1", **source):
    """Return an agent's pod that says what its node is."""
    said = {"architecture": "amd64", "kernel": kernel, "criu": "4.2.1", "cpuFlags": "avx avx2"} | source
    metadata = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": version}
    metadata["labels"] = {keys.LABEL_AGENT: keys.LABEL_AGENT_VALUE}
    metadata["annotations"] = {keys.ANN_RESTORE_NODE: json.dumps(said)}
    status = {"conditions": [{"type": "Ready", "status": ready}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status}


def container_status(state, name="main", image="example.test/worker:1"):
    return {"name": name, "image": image, "state": state}


def claim(**fields):
    metadata = {"name": "snapshot-pvc", "namespace": "ns"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, **fields}


def lease(renewed, seconds=30):
    return {"metadata": {"name": JOB}, "spec": {"renewTime": ago(renewed), "leaseDurationSeconds": seconds}}


def step(obj, values=AGENT_MOUNT, now=NOW, **around):
    """Plan one pass."""
    return plan(Observed(checkpoint=obj, **around), now, values)


def status_after(obj, values=AGENT_MOUNT, **around):
    """Return the status after one pass, whether it changed or not."""
    planned = step(obj, values, **around).status
    return planned if planned is not None else obj["status"]


def condition_in(status, kind):
    return next((entry for entry in status["conditions"] if entry["type"] == kind), None)
