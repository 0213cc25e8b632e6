"""What is remembered of a pod that opted in, and what it says about itself.

Thousands of them may be there at once, so only what is read here is kept: a fiftieth of the object.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, controller_of, labels_of
from contract.api.conditions import condition
from contract.api.running import read_result, requested_checkpoint
from contract.api.states import Admission
from contract.api.times import parse_time, parsed_time
from contract.pods.template_hash import automatic_id, automatic_name
from kube.api import Object
from kube.store import Key, key_of

BY_CHECKPOINT: Final = "checkpoint"
OPTED_IN: Final = f"{keys.LABEL_RESTORE} in ({keys.RESTORE_BY_NAME},{keys.RESTORE_AUTO}),!{keys.LABEL_IS_SOURCE}"
OF_GRAPHS: Final = ",".join((*keys.GRAPH_LABELS, f"!{keys.LABEL_RESTORE}", f"!{keys.LABEL_IS_SOURCE}"))
"""A selector cannot ask for the candidates' annotation, so all pods of graph deployments are looked at."""

_OURS: Final = f"{keys.GROUP}/"
_METADATA: Final = ("name", "namespace", "generateName", "uid", "resourceVersion", "creationTimestamp")
_ASKING: Final = frozenset({Admission.CHECKPOINT_REQUESTED.value, Admission.HELD.value})
_STAMP: Final = re.compile(r"[0-9a-f]{32}")
_ENDED: Final = frozenset({"Succeeded", "Failed"})


def kept(pod: Object) -> Object:
    """Return what of *pod* is remembered."""
    before, spec = pod["metadata"], pod.get("spec") or {}
    metadata = {field: before[field] for field in (*_METADATA, "deletionTimestamp") if field in before}
    metadata["labels"] = {key: value for key, value in labels_of(pod).items() if key.startswith(_OURS)}
    metadata["annotations"] = {key: value for key, value in annotations_of(pod).items() if key.startswith(_OURS)}
    if owner := controller_of(pod):
        metadata["ownerReferences"] = [owner]
    containers = [{field: each.get(field, "") for field in ("name", "image")} for each in spec.get("containers") or ()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "containers": containers,
            "schedulingGates": list(spec.get("schedulingGates") or ()),
            "nodeName": spec.get("nodeName", ""),
            **_store(spec),
        },
        "status": {"phase": (pod.get("status") or {}).get("phase", ""), **_readiness(pod), **_running(pod)},
    }


def _running(pod: Object) -> Object:
    """Return when the containers of a pod started of which an agent is to speak."""
    if not awaits_word(pod):
        return {}
    return {"containerStatuses": [{"state": each.get("state") or {}} for each in pod["status"]["containerStatuses"]]}


def _readiness(pod: Object) -> Object:
    """Return whether a pod that others stand by for is ready."""
    found = condition(pod, "Ready") if spare(pod) else None
    return {"conditions": [found]} if found else {}


def spare(pod: Object) -> bool:
    """Say whether it is parked for its checkpoint's ``spec.parked``, until it is needed."""
    return annotations_of(pod).get(keys.ANN_SPARE) == "true"


def _store(spec: Object) -> Object:
    found = [each for each in spec.get("volumes") or () if each.get("name") == keys.STORAGE_VOLUME]
    return {"volumes": found} if found else {}


def store_claim(pod: Object) -> str:
    """Return the name of the claim with artifacts that it mounts; empty if it mounts none."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    found = (each.get("persistentVolumeClaim") or {} for each in volumes if each.get("name") == keys.STORAGE_VOLUME)
    return str(next(found, {}).get("claimName") or "")


def by_checkpoint(pod: Object) -> Iterable[str]:
    """Index of pods by ``namespace/name`` of the checkpoint that they name."""
    name = checkpoint_name(pod)
    return (f"{key_of(pod)[0]}/{name}",) if name else ()


def checkpoint_name(pod: Object) -> str:
    """Return the checkpoint that the pod belongs to, or asks for by name; empty if it says none."""
    notes = annotations_of(pod)
    wishes = (keys.ANN_CHECKPOINT, keys.ANN_CHECKPOINT_NAME, keys.ANN_RESTORE_FROM)
    return next((notes[key] for key in wishes if notes.get(key)), "")


def checkpoint_key(pod: Object) -> Key:
    """Namespace and name of that checkpoint."""
    return key_of(pod)[0], checkpoint_name(pod)


def admission(pod: Object) -> str:
    """Return the admission code on the pod; empty if nothing decided about it."""
    return annotations_of(pod).get(keys.ANN_ADMISSION, "")


def created(pod: Object) -> datetime:
    """Say when it was created."""
    return parse_time(str(pod["metadata"]["creationTimestamp"]))


def alive(pod: Object) -> bool:
    """Say whether it runs, or may run yet."""
    return not pod["metadata"].get("deletionTimestamp") and (pod.get("status") or {}).get("phase") not in _ENDED


def held(pod: Object) -> bool:
    """Say whether our gate keeps it from being scheduled."""
    gates: Iterable[Object] = (pod.get("spec") or {}).get("schedulingGates") or ()
    return alive(pod) and any(gate.get("name") == keys.SCHEDULING_GATE for gate in gates)


def required(pod: Object) -> bool:
    """Say whether it must not start cold."""
    return annotations_of(pod).get(keys.ANN_POLICY) == keys.POLICY_REQUIRE


def stamp_of(pod: Object) -> str:
    """Return the template hash that the webhook wrote; empty if there is none that can be one."""
    stamp = annotations_of(pod).get(keys.ANN_TEMPLATE_HASH, "")
    return stamp if _STAMP.fullmatch(stamp) else ""


def missed(pod: Object) -> bool:
    """Say whether it wants an automatic checkpoint, and no webhook has looked at it, nor we in its place."""
    if labels_of(pod).get(keys.LABEL_RESTORE) != keys.RESTORE_AUTO or not alive(pod):
        return False
    notes = annotations_of(pod)
    unseen = admission(pod) in ("", Admission.WEBHOOK_UNREACHABLE)
    # With a stamp or a checkpoint of an earlier life it is a copied manifest, about which nothing is known.
    return unseen and not notes.get(keys.ANN_CHECKPOINT) and not notes.get(keys.ANN_TEMPLATE_HASH)


def triggers(pod: Object) -> bool:
    """Say whether a pod without an artifact of its template asks to be captured while it runs, for that template."""
    notes = annotations_of(pod)
    request = notes.get(keys.ANN_CAPTURE, "")
    if (
        admission(pod) != Admission.CAPTURABLE
        or not alive(pod)
        or requested_checkpoint(request) != checkpoint_name(pod)
    ):
        return False
    result = read_result(notes.get(keys.ANN_CAPTURE_RESULT, ""))
    return (result is None or result.request != request) and _is_of_its_stamp(pod)


def _is_of_its_stamp(pod: Object) -> bool:
    """Say whether the pod names the checkpoint that follows from its stamp: any client may write annotations."""
    stamp = stamp_of(pod)
    return bool(stamp) and checkpoint_name(pod) == automatic_name(automatic_id(key_of(pod)[0], stamp))


def asks(pod: Object) -> bool:
    """Say whether the pod waits for an automatic checkpoint to be made.

    It asks from its admission on. It stops when it ends, when its gate is lifted, or when the checkpoint that it
    asked for was deleted: else the pods of a running workload would undo every deletion.
    """
    notes = annotations_of(pod)
    if labels_of(pod).get(keys.LABEL_RESTORE) != keys.RESTORE_AUTO or admission(pod) not in _ASKING:
        return False
    if notes.get(keys.ANN_REQUEST) == keys.REQUEST_WITHDRAWN or keys.ANN_GATE in notes or not alive(pod):
        return False
    return _is_of_its_stamp(pod)


def awaits_word(pod: Object) -> bool:
    """Say whether an agent is to speak of a restore of this pod, and none has yet."""
    labels = labels_of(pod)
    is_named = labels.get(keys.LABEL_IS_RESTORE_TARGET) == "true" and keys.LABEL_CHECKPOINT_ID in labels
    spoken = any(key.startswith(keys.ANN_RESTORE_STATUS_PREFIX) for key in annotations_of(pod))
    return is_named and not spoken and alive(pod) and running_since(pod) is not None


def running_since(pod: Object) -> datetime | None:
    """Return when the first of its containers started; None if none runs."""
    states = [each.get("state") or {} for each in (pod.get("status") or {}).get("containerStatuses") or ()]
    started = [parsed_time((state.get("running") or {}).get("startedAt")) for state in states]
    return min((each for each in started if each is not None), default=None)
