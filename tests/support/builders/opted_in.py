"""Builders of opted-in pods as the API server shows them, and of their checkpoints."""

from datetime import UTC, datetime, timedelta

from contract.api import keys
from contract.api.times import format_time
from contract.pods.template_hash import automatic_id, automatic_name, template_hash
from controller.workloads.pods import kept
from tests.support.builders.objects import IMAGE, checkpoint, container, template

NOW = datetime(2026, 1, 31, 10, 0, 0, tzinfo=UTC)
STAMP = template_hash(template(), "main")
ID = automatic_id("ns", STAMP)
NAME = automatic_name(ID)
GATE = {"name": keys.SCHEDULING_GATE}
DEPLOYED = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9c", "uid": "rs-uid", "controller": True}


def ago(seconds):
    return format_time(NOW - timedelta(seconds=seconds))


def whole(
    code="checkpoint-requested",
    name="web-1",
    *,
    age=5,
    auto=True,
    named=None,
    stamp=STAMP,
    gates=(),
    notes=None,
    owner=None,
    labels=None,
    version=7,
    **spec,
):
    """Return a pod as the webhook left it."""
    annotations = {keys.ANN_ADMISSION: code, keys.ANN_CHECKPOINT: NAME if named is None else named}
    annotations |= {keys.ANN_TARGET_CONTAINERS: "main"} | ({keys.ANN_TEMPLATE_HASH: stamp} if auto else {})
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": ago(age),
        "labels": {"app": "web", keys.LABEL_RESTORE: "auto" if auto else "enabled"} | (labels or {}),
        "annotations": annotations | (notes or {}),
    }
    if owner:
        metadata["ownerReferences"] = [owner]
    body = {"containers": [container()], **spec} | ({"schedulingGates": list(gates)} if gates else {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body, "status": {"phase": "Pending"}}


def pod(*arguments, **parts):
    """Build the same, as the informer cache keeps it."""
    return kept(whole(*arguments, **parts))


def waiting(**parts):
    """Build a held pod."""
    return pod(parts.pop("code", "held"), gates=parts.pop("gates", (GATE,)), **parts)


def of_phase(phase, name=NAME, **parts):
    """Build a checkpoint in a phase."""
    status = {"phase": phase, "checkpointID": ID, "jobName": f"checkpoint-job-{ID}-1"} if phase else {}
    status |= parts.pop("status", {})
    found = checkpoint(name, status=status, **parts)
    found["metadata"]["resourceVersion"] = "3"
    return found


def ready(**parts):
    status = {"image": {"reference": IMAGE}} | parts.pop("status", {})
    return of_phase("Ready", status=status, **parts)


def deleting(found):
    found["metadata"]["deletionTimestamp"] = ago(1)
    return found
