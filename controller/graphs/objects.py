"""The objects that a graph's services amount to: Deployments, and DynamoCheckpoints of their own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from contract.api import keys
from contract.api.checkpoint import find_container
from contract.api.states import DeletionPolicy, ReadySignal
from contract.pods.template_hash import automatic_name
from controller.graphs import identity
from controller.graphs.services import CheckpointPolicy, Service
from controller.graphs.template import merged

Json = dict[str, Any]

MAX_LABEL: Final = 63
DEPLOYMENT_KIND: Final = "Deployment"
_STALE_LABELS: Final = frozenset(
    {
        keys.LABEL_IS_SOURCE,
        keys.LABEL_IS_RESTORE_TARGET,
        keys.LABEL_CHECKPOINT_ID,
        keys.LABEL_RESTORE,
    }
)
"""On a candidate's template these would say that the pod is something else."""
_OURS: Final = ("nvidia.com/snapshot-", "nvidia.com/dynamo-checkpoint-", keys.ANN_RESTORE_FROM)


@dataclass(frozen=True, slots=True)
class Graph:
    """Who owns what is made."""

    namespace: str
    name: str
    uid: str
    backend: str

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> Graph:
        """Read it off the DynamoGraphDeployment."""
        metadata = obj["metadata"]
        backend = str((obj.get("spec") or {}).get("backendFramework") or "")
        return cls(metadata.get("namespace", ""), metadata["name"], metadata.get("uid", ""), backend)

    def owner(self) -> Json:
        """Return the owner reference of what goes with the graph."""
        return {
            "apiVersion": keys.API_VERSION,
            "kind": keys.GRAPH_KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def checkpoint_id(self, service: Service, worker_hash: str) -> str:
        """Return the id of the checkpoint of one generation of a service."""
        return identity.checkpoint_id(
            namespace=self.namespace,
            graph=self.name,
            uid=self.uid,
            component=service.name,
            worker_hash=worker_hash,
        )


def graph_uid(checkpoint: Mapping[str, Any]) -> str:
    """UID of the graph that an automatic checkpoint was made for; empty if it does not say."""
    parameters = ((checkpoint.get("spec") or {}).get("identity") or {}).get("extraParameters") or {}
    return str(parameters.get(identity.UID_PARAMETER, ""))


def label_value(text: str) -> str:
    """Return *text* as a label's value, cut if it is too long."""
    return text[:MAX_LABEL].strip("-._")


def deployment(
    graph: Graph, service: Service, template: Mapping[str, Any], checkpoint: str | None, replicas: int | None
) -> Json:
    """Return the Deployment of a service as it is applied.

    Args:
        graph: its owner.
        service: what it runs.
        template: the user's pod template.
        checkpoint: name of the DynamoCheckpoint that new pods are restored from; None: not a candidate.
        replicas: None leaves the number to another owner, such as an autoscaler.
    """
    labels = {
        keys.LABEL_GRAPH: label_value(graph.name),
        keys.LABEL_COMPONENT: label_value(service.name),
        keys.LABEL_MANAGED_BY: keys.MANAGED_BY_VALUE,
        **({keys.LABEL_COMPONENT_TYPE: label_value(service.kind)} if service.kind else {}),
    }
    spec: Json = {
        "selector": {"matchLabels": {keys.LABEL_SELECTOR: service.deployment}},
        "template": _pod(graph, service, template, checkpoint, labels),
    }
    if replicas is not None:
        spec["replicas"] = replicas
    metadata: Json = {"name": service.deployment, "namespace": graph.namespace, "labels": labels}
    body: Json = {"apiVersion": "apps/v1", "kind": DEPLOYMENT_KIND, "metadata": metadata, "spec": spec}
    metadata["annotations"] = {keys.ANN_APPLIED: identity.applied_hash(body)}
    metadata["ownerReferences"] = [graph.owner()]
    return body


def _pod(
    graph: Graph, service: Service, template: Mapping[str, Any], checkpoint: str | None, labels: Mapping[str, str]
) -> Json:
    metadata = template.get("metadata") or {}
    own = {key: value for key, value in labels.items() if key != keys.LABEL_MANAGED_BY}
    own |= {
        keys.LABEL_NAMESPACE: label_value(
            str(service.body.get("dynamoNamespace") or f"{graph.namespace}-{graph.name}")
        ),
        keys.LABEL_SELECTOR: service.deployment,
    }
    users: Mapping[str, str] = metadata.get("labels") or {}
    notes: Json = dict(metadata.get("annotations") or {})
    if checkpoint is not None and service.policy is not None:
        users = {key: value for key, value in users.items() if key not in _STALE_LABELS}
        notes |= candidate(service.policy, checkpoint)
    elif service.switched_off:
        users, notes = _without_ours(users), _without_ours(notes)
    shaped: Json = {"labels": {**users, **own}, **({"annotations": notes} if notes else {})}
    return {"metadata": shaped, "spec": copy.deepcopy(template["spec"])}


def _without_ours(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return *metadata* without what opts a pod in to snapshots or says how it is restored."""
    return {key: value for key, value in metadata.items() if not key.startswith(_OURS)}


def candidate(policy: CheckpointPolicy, checkpoint: str) -> dict[str, str]:
    """Return the annotations by which the webhook knows a pod of a graph that shall be restored."""
    return {
        keys.ANN_RESTORE_CANDIDATE: "true",
        keys.ANN_CHECKPOINT_NAME: checkpoint,
        keys.ANN_STARTUP_POLICY: policy.startup.value,
        keys.ANN_TARGET_CONTAINERS: policy.target,
    }


def checkpoint(
    graph: Graph, service: Service, policy: CheckpointPolicy, template: Mapping[str, Any], worker_hash: str
) -> Json:
    """Return the automatic DynamoCheckpoint of one generation of a service."""
    checkpoint_id = graph.checkpoint_id(service, worker_hash)
    captured = _captured(template, policy)
    target = find_container(captured["spec"], policy.target) or {}
    probes = target.get("startupProbe") or target.get("readinessProbe")
    backend = identity.backend_of(graph.backend or policy.backend, target)
    metadata = _checkpoint_metadata(graph, service, policy, checkpoint_id, worker_hash)
    spec = {
        "identity": identity.identity(
            namespace=graph.namespace,
            graph=graph.name,
            uid=graph.uid,
            component=service.name,
            checkpoint=checkpoint_id,
            backend=backend,
        ),
        "job": {
            "podTemplateSpec": captured,
            "targetContainerName": policy.target,
            # Workers of the platform write the ready file; if the service has probes, those signal it as well.
            "readySignal": (ReadySignal.PROBE if probes else ReadySignal.FILE).value,
        },
    }
    return {"apiVersion": keys.API_VERSION, "kind": keys.CHECKPOINT_KIND, "metadata": metadata, "spec": spec}


def _checkpoint_metadata(
    graph: Graph, service: Service, policy: CheckpointPolicy, checkpoint_id: str, worker_hash: str
) -> Json:
    metadata: Json = {
        "name": automatic_name(checkpoint_id),
        "namespace": graph.namespace,
        "labels": {
            keys.LABEL_CHECKPOINT_ID: checkpoint_id,
            keys.LABEL_GRAPH: label_value(graph.name),
            keys.LABEL_COMPONENT: label_value(service.name),
            keys.LABEL_WORKER_HASH: worker_hash,
        },
        "annotations": {
            keys.ANN_ARTIFACT_VERSION: keys.DEFAULT_ARTIFACT_VERSION,
            keys.ANN_AUTO_CHECKPOINT: "true",
            keys.ANN_DELETION_POLICY: policy.deletion.value,
            keys.ANN_WORKLOAD: f"{DEPLOYMENT_KIND}/{service.deployment}",
        },
        "finalizers": [keys.FINALIZER],
    }
    if policy.deletion == DeletionPolicy.DELETE:
        metadata["ownerReferences"] = [graph.owner()]
    return metadata


def _captured(template: Mapping[str, Any], policy: CheckpointPolicy) -> Json:
    """Return the service's template with the target alone, and what the user adds for the capture."""
    alone: Json = copy.deepcopy(dict(template))
    spec = alone["spec"]
    spec["containers"] = [each for each in spec["containers"] if each.get("name") == policy.target]
    result: Json = merged(alone, policy.pod_template)
    return result
