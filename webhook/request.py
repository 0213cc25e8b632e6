"""What a pod asks for: restore from which checkpoint, by name or by its own template, and whether it would wait."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.api.states import Admission, StartupPolicy
from contract.pods import common
from contract.pods.template_hash import automatic_id, automatic_name, automatic_target, per_pod_identity, template_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.config.values import Values

Json = dict[str, Any]

SYSTEM_NAMESPACE: Final = "kube-system"
_STAMP: Final = re.compile(r"[0-9a-f]{32}")
_POLICIES: Final = frozenset(policy.value for policy in StartupPolicy)


class NotEligible(Exception):  # noqa: N818 - not an error: the row of the table that ends the search
    """The pod stays as it is, for this reason."""

    def __init__(self, code: Admission, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


class RestoreRequest(NamedTuple):
    """What a pod asks for, once it is eligible."""

    namespace: str
    name: str
    """Of the DynamoCheckpoint, whether it exists or not."""
    may_wait: bool
    """Whether the pod is to be held until the checkpoint is Ready."""
    checkpoint_id: str = ""
    """Of an automatic pod's checkpoint; empty: it restores by name."""
    stamp: str = ""
    target: str = ""

    @property
    def automatic(self) -> bool:
        """Whether the checkpoint is made from the pod's own template."""
        return bool(self.stamp)

    @property
    def notes(self) -> dict[str, str]:
        """Annotations from which the controller makes an automatic checkpoint, whatever becomes of this pod."""
        return {keys.ANN_TEMPLATE_HASH: self.stamp, keys.ANN_CHECKPOINT: self.name} if self.automatic else {}


def opted_in(pod: Json) -> bool:
    """Say whether the pod asks for anything: then the answer is written on it."""
    return ckpt.labels_of(pod).get(keys.LABEL_RESTORE) in (keys.RESTORE_BY_NAME, keys.RESTORE_AUTO) or is_candidate(pod)


def is_candidate(pod: Json) -> bool:
    """Say whether it is marked as a worker of a graph deployment; those wait at zero replicas, never behind a gate."""
    return ckpt.annotations_of(pod).get(keys.ANN_RESTORE_CANDIDATE) == "true"


def says_shaped(pod: Json) -> bool:
    """Say whether an earlier look at this pod mutated it."""
    return ckpt.annotations_of(pod).get(keys.ANN_ADMISSION) in (Admission.RESTORE_SHAPED, Admission.HELD)


def parse_request(request: Mapping[str, Any], pod: Json, values: Values) -> RestoreRequest:
    """Apply the rows of the table that need no checkpoint, in their order; the first that applies ends it.

    Raises:
        NotEligible: if one applies.
        TargetError: if the container that an automatic checkpoint would capture cannot be determined.
    """
    namespace = (pod.get("metadata") or {}).get("namespace") or request.get("namespace") or ""
    _check_installation(namespace, values)
    _check_labels(pod)
    may_wait = _may_wait(pod, values)
    if ckpt.labels_of(pod).get(keys.LABEL_RESTORE) == keys.RESTORE_AUTO and not is_candidate(pod):
        return _automatic(namespace, pod, values, may_wait=may_wait)
    return RestoreRequest(namespace, _checkpoint_name(pod), may_wait)


def _check_installation(namespace: str, values: Values) -> None:
    if not values.checkpoint.enabled:
        raise NotEligible(
            Admission.CHECKPOINT_DISABLED,
            "checkpoints are switched off; set the chart value checkpoint.enabled=true",
        )
    if namespace == SYSTEM_NAMESPACE or namespace in values.webhook.excluded_namespaces:
        raise NotEligible(
            Admission.NAMESPACE_EXCLUDED,
            f"namespace {namespace} is excluded; see the chart value webhook.excludedNamespaces",
        )


def _check_labels(pod: Json) -> None:
    labels = ckpt.labels_of(pod)
    if labels.get(keys.LABEL_CHECKPOINT_ID) or labels.get(keys.LABEL_IS_SOURCE):
        raise NotEligible(
            Admission.ALREADY_SHAPED,
            f"the pod carries label {keys.LABEL_CHECKPOINT_ID} or {keys.LABEL_IS_SOURCE} already; "
            "take these labels out of the pod template if they were copied from another pod",
        )
    if not opted_in(pod):
        raise NotEligible(
            Admission.NOT_OPTED_IN,
            f"the pod has neither label {keys.LABEL_RESTORE}={keys.RESTORE_BY_NAME} or ={keys.RESTORE_AUTO} "
            f"nor annotation {keys.ANN_RESTORE_CANDIDATE}=true",
        )


def _may_wait(pod: Json, values: Values) -> bool:
    said = ckpt.annotations_of(pod).get(keys.ANN_STARTUP_POLICY)
    policy = said if said in _POLICIES else values.startup_policy
    if policy != StartupPolicy.WAIT_FOR_CHECKPOINT or is_candidate(pod):
        return False
    # The API server refuses a gate on a pod that has its node.
    return not (pod.get("spec") or {}).get("nodeName")


def _checkpoint_name(pod: Json) -> str:
    annotations = ckpt.annotations_of(pod)
    name = annotations.get(keys.ANN_CHECKPOINT_NAME) or annotations.get(keys.ANN_RESTORE_FROM)
    if not name:
        raise NotEligible(
            Admission.CHECKPOINT_NAME_MISSING,
            f"no checkpoint is named; add annotation {keys.ANN_CHECKPOINT_NAME} with the name of a DynamoCheckpoint "
            "of this namespace",
        )
    labels = ckpt.labels_of(pod)
    missing = [key for key in keys.GRAPH_LABELS if not labels.get(key)]
    if labels.get(keys.LABEL_RESTORE) != keys.RESTORE_BY_NAME and missing:
        raise NotEligible(
            Admission.NOT_OPERATOR_STAMPED,
            f"the pod is a restore candidate without label {', '.join(missing)}; outside a graph deployment use label "
            f"{keys.LABEL_RESTORE}={keys.RESTORE_BY_NAME} instead of the candidate annotation",
        )
    return name


def _automatic(namespace: str, pod: Json, values: Values, *, may_wait: bool) -> RestoreRequest:
    target = automatic_target(pod)
    check_supported(pod)
    _check_identity(pod, target)
    container = ckpt.find_container(pod["spec"], target) or {}
    if not container.get("startupProbe") and not container.get("readinessProbe"):
        raise NotEligible(
            Admission.NO_READY_SIGNAL,
            f"container {target} has neither a startup nor a readiness probe, so nothing says when it is worth "
            "capturing; add a readiness probe to the pod template",
        )
    if problem := common.not_capturable(container):
        raise NotEligible(Admission.POD_UNSUPPORTED, f"spec.{problem[0]} {problem[1]}")
    stamp = _earlier_stamp(namespace, pod) or template_hash(pod, target, values.automatic.hash_annotations)
    checkpoint_id = automatic_id(namespace, stamp)
    return RestoreRequest(namespace, automatic_name(checkpoint_id), may_wait, checkpoint_id, stamp, target)


def check_supported(pod: Json) -> None:
    """Check that the pod is of a kind that can be captured and restored.

    Raises:
        NotEligible: if it is not.
    """
    if problem := common.unsupported(pod.get("spec") or {}):
        raise NotEligible(Admission.POD_UNSUPPORTED, f"spec.{problem[0]} {problem[1]}")


def _check_identity(pod: Json, target: str) -> None:
    if ckpt.annotations_of(pod).get(keys.ANN_IDENTITY) == keys.IDENTITY_REFRESHED:
        return
    if path := per_pod_identity(pod, target):
        raise NotEligible(
            Admission.PER_POD_IDENTITY,
            f"{path} gives each replica an identity of its own, which all replicas restored from one checkpoint would "
            "share; take it out, or, if the worker renews its identity after a restore, add annotation "
            f"{keys.ANN_IDENTITY}={keys.IDENTITY_REFRESHED} to the pod template",
        )


def _earlier_stamp(namespace: str, pod: Json) -> str:
    """Return the hash of an earlier look at the same pod: what other webhooks changed since makes no other template."""
    annotations = ckpt.annotations_of(pod)
    stamp = annotations.get(keys.ANN_TEMPLATE_HASH, "")
    if annotations.get(keys.ANN_ADMISSION, Admission.WEBHOOK_UNREACHABLE) == Admission.WEBHOOK_UNREACHABLE:
        return ""
    if not _STAMP.fullmatch(stamp):
        return ""
    fitting = annotations.get(keys.ANN_CHECKPOINT) == automatic_name(automatic_id(namespace, stamp))
    return stamp if fitting and not _sent_by_client(pod, keys.ANN_TEMPLATE_HASH) else ""


def _sent_by_client(pod: Json, annotation: str) -> bool:
    """Say whether the annotation came with the request, in a manifest copied from another pod, and not from a webhook.

    The API server notes the owners of fields before it asks webhooks.
    """
    for entry in (pod.get("metadata") or {}).get("managedFields") or ():
        fields = (entry.get("fieldsV1") or {}).get("f:metadata") or {}
        if f"f:{annotation}" in (fields.get("f:annotations") or {}):
            return True
    return False
