"""Checkpoints and the pods that belong to them, as rows for people and for programs. Reading is one call a kind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, captured_version, controller_of, labels_of, resolve_id
from contract.api.states import Phase
from contract.config.storage import BadIdError
from controller.workloads.pods import OF_GRAPHS, OPTED_IN, alive, checkpoint_name
from kube.api import KubeClient, Object
from kube.resources import CHECKPOINTS, PODS
from kube.store import Key, key_of
from snapshotctl.explain.answers import Answer, Facts, hindrance, is_shaped, lived, state_of
from snapshotctl.view import table

CHECKPOINT_HEADERS: Final = ("NAME", "PHASE", "ID", "VERSIONS", "SIZE", "USED BY", "AGE", "WHY")
POD_HEADERS: Final = ("NAME", "START", "CHECKPOINT", "VERSION", "AGE", "WHY")
_HASH_LABEL: Final = "pod-template-hash"


@dataclass(frozen=True)
class Inventory:
    """What there is, at one moment."""

    checkpoints: tuple[Object, ...]
    pods: tuple[Object, ...]
    """All that opted in."""

    @cached_property
    def _by_checkpoint(self) -> Mapping[Key, Sequence[Object]]:
        found: dict[Key, list[Object]] = {}
        for pod in filter(alive, self.pods):
            key = key_of(pod)[0], checkpoint_name(pod)
            found.setdefault(key, []).append(pod)
        return found

    @cached_property
    def _by_name(self) -> Mapping[Key, Object]:
        return {key_of(each): each for each in self.checkpoints}

    def users(self, checkpoint: Object) -> tuple[Object, ...]:
        """List living pods that were mutated to restore from it."""
        return tuple(pod for pod in self.members(checkpoint) if is_shaped(pod))

    def members(self, checkpoint: Object) -> Sequence[Object]:
        """Living pods that name it, whether they restore or not."""
        return self._by_checkpoint.get(key_of(checkpoint), ())

    def checkpoint_of(self, pod: Object) -> Object | None:
        """Find the checkpoint that a pod names."""
        return self._by_name.get((key_of(pod)[0], checkpoint_name(dict(pod))))


async def take(kube: KubeClient, namespace: str | None, fields: str = "") -> Inventory:
    """Read checkpoints and opted-in pods of one namespace, or of all.

    Args:
        kube: the cluster.
        namespace: None for all.
        fields: a selector of the checkpoints.

    Raises:
        KubeError: they cannot be read.
    """
    checkpoints, labelled, graphs = await asyncio.gather(
        kube.list(CHECKPOINTS, namespace, fields=fields),
        kube.list(PODS, namespace, labels=OPTED_IN),
        kube.list(PODS, namespace, labels=OF_GRAPHS),
    )
    found = {key_of(pod): pod for pod in (*filter(_asks, graphs.items), *labelled.items)}
    return Inventory(_sorted(checkpoints.items), _sorted(found.values()))


def _asks(pod: Object) -> bool:
    """Leave out the pods of a graph's services that have no checkpoint block, such as its frontend."""
    notes = annotations_of(pod)
    return notes.get(keys.ANN_RESTORE_CANDIDATE) == "true" or keys.ANN_ADMISSION in notes


def _sorted(objects: Iterable[Object]) -> tuple[Object, ...]:
    return tuple(sorted(objects, key=key_of))


def versions(checkpoint: Object) -> list[Object]:
    """Artifacts in storage, the newest last; of a checkpoint that lists none, the one that it was captured as."""
    status = checkpoint.get("status") or {}
    listed = [dict(each) for each in status.get("versions") or ()]
    if listed or not status.get("manifestDigest"):
        return listed
    entry = {"version": _version(checkpoint), "manifestDigest": status["manifestDigest"], "size": status.get("size")}
    return [entry | {"createdAt": status.get("createdAt")}]


def _version(checkpoint: Object) -> str:
    try:
        return captured_version(checkpoint, resolve_id(checkpoint))
    except BadIdError:
        return ""


def workload_of(pod: Object) -> str:
    """Return ``Kind/name`` of what people deployed, from the pod alone."""
    labels = labels_of(pod)
    if labels.get(keys.LABEL_GRAPH):
        return f"{keys.GRAPH_KIND}/{labels[keys.LABEL_GRAPH]}"
    owner = controller_of(dict(pod))
    if owner is None:
        return f"Pod/{pod['metadata']['name']}"
    suffix = labels.get(_HASH_LABEL)
    if owner["kind"] == "ReplicaSet" and suffix and owner["name"].endswith(f"-{suffix}"):
        return f"Deployment/{owner['name'].removesuffix(f'-{suffix}')}"
    return f"{owner['kind']}/{owner['name']}"


def origin_of(checkpoint: Object) -> str:
    """Return ``Kind/name`` of the workload or graph that it was made for; empty for one made by hand."""
    owner = controller_of(dict(checkpoint))
    if owner is not None:
        return f"{owner['kind']}/{owner['name']}"
    if graph := labels_of(checkpoint).get(keys.LABEL_GRAPH):
        return f"{keys.GRAPH_KIND}/{graph}"
    return annotations_of(checkpoint).get(keys.ANN_WORKLOAD, "")


def phase_of(checkpoint: Object) -> str:
    """Return the phase; Pending before the controller has looked."""
    return str((checkpoint.get("status") or {}).get("phase") or Phase.PENDING.value)


def checkpoint_facts(checkpoint: Object, inventory: Inventory) -> Object:
    """Describe one checkpoint for programs."""
    namespace, name = key_of(checkpoint)
    status, state = checkpoint.get("status") or {}, state_of(checkpoint)
    found = versions(checkpoint)
    sizes = [each.get("size") for each in found]
    return {
        "namespace": namespace,
        "name": name,
        "phase": phase_of(checkpoint),
        "id": status.get("checkpointID", ""),
        "versions": found,
        "size": sum(size for size in sizes if isinstance(size, int)) if found else None,
        "usedBy": [pod["metadata"]["name"] for pod in inventory.users(checkpoint)],
        "workload": origin_of(checkpoint),
        "createdAt": checkpoint["metadata"].get("creationTimestamp"),
        "lastUsedAt": status.get("lastUsedAt"),
        "reason": state.code,
        "hindered": hindrance(checkpoint) is not None,
        "message": status.get("message", ""),
    }


def checkpoint_row(facts: Object, now: datetime) -> list[str]:
    """Fill the cells of ``CHECKPOINT_HEADERS``."""
    return [
        facts["name"],
        facts["phase"],
        facts["id"],
        ",".join(str(each["version"]) for each in facts["versions"]),
        table.size(facts["size"]),
        str(len(facts["usedBy"])),
        table.age(facts["createdAt"], now),
        why(facts),
    ]


def why(facts: Object) -> str:
    """Return the reason if it says more than the phase."""
    tells = facts["hindered"] if facts["phase"] == Phase.READY else facts["reason"] != facts["phase"]
    return str(facts["reason"]) if tells else ""


def answer_for(pod: Object, inventory: Inventory) -> Answer:
    """Say why the pod starts as it does, from what is written on it."""
    return lived(Facts(pod, inventory.checkpoint_of(pod)))


def pod_facts(pod: Object, inventory: Inventory) -> Object:
    """Describe one pod for programs."""
    answer = answer_for(pod, inventory)
    return {
        "namespace": answer.namespace,
        "name": pod["metadata"]["name"],
        "outcome": answer.outcome.value,
        "code": answer.code,
        "checkpoint": checkpoint_name(pod),
        "version": annotations_of(pod).get(keys.ANN_ARTIFACT_VERSION, "") if is_shaped(pod) else "",
        "workload": workload_of(pod),
        "createdAt": pod["metadata"].get("creationTimestamp"),
    }


def pod_row(facts: Object, now: datetime) -> list[str]:
    """Fill the cells of ``POD_HEADERS``."""
    return [
        facts["name"],
        facts["outcome"],
        facts["checkpoint"],
        facts["version"],
        table.age(facts["createdAt"], now),
        facts["code"],
    ]
