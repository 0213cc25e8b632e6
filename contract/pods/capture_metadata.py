"""Labels and annotations of a capture pod.

Whatever selects the workload's pods by a label (a disruption budget, a Service, a network policy, the anti-affinity of
replicas, a monitor, a ReplicaSet that adopts) would count the capture pod as a replica. So of the template's labels
none is kept, except those that the installation names because a capture cannot do without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.api.states import ReadySignal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from contract.config.storage import Storage

Json = dict[str, Any]

GENERATED_LABELS: Final = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "controller-uid",
        "job-name",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
        "batch.kubernetes.io/job-completion-index",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "leaderworkerset.sigs.k8s.io/worker-index",
    }
)
"""Labels that controllers put on the pods they own: with them, that owner would adopt or count the capture pod."""

_RESTORE_LABELS: Final = frozenset({keys.LABEL_IS_RESTORE_TARGET, keys.LABEL_RESTORE})
_RESTORE_ANNOTATIONS: Final = frozenset(
    {
        keys.ANN_RESTORE_CANDIDATE,
        keys.ANN_CHECKPOINT_NAME,
        keys.ANN_RESTORE_FROM,
        keys.ANN_STARTUP_POLICY,
        keys.ANN_ADMISSION,
        keys.ANN_CHECKPOINT_STATUS,
        keys.ANN_RESTORE_REPORT,
        keys.ANN_RESTORE_FILL,
        keys.ANN_IMAGE_POLICY,
        keys.ANN_POLICY,
        keys.ANN_STORAGE_TYPE,
        keys.ANN_STORAGE_BASE_PATH,
        keys.ANN_TEMPLATE_HASH,
        keys.ANN_GATE,
        keys.ANN_REQUEST,
        keys.ANN_REPLACED,
        keys.ANN_STANDBY,
        keys.ANN_WAKE,
        keys.ANN_SPARE,
    }
)
_DROPPED_PREFIXES: Final = (
    keys.ANN_RESTORE_STATUS_PREFIX,
    keys.ANN_RESTORE_CONTAINER_ID_PREFIX,
    keys.ANN_ORIGINAL_IMAGE_PREFIX,
    # Monitors find pods by them, and would count what the capture pod says as a replica's.
    "prometheus.io/",
    "ad.datadoghq.com/",
)
_MESH_LABELS: Final = {"sidecar.istio.io/inject": "false"}
_MESH_ANNOTATIONS: Final = {
    "sidecar.istio.io/inject": "false",
    "linkerd.io/inject": "disabled",
    "kuma.io/sidecar-injection": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
}
"""A mesh proxy never ends, so the Job would not either; and its redirects would be captured."""


def pod_metadata(
    checkpoint: Mapping[str, Any], checkpoint_id: str, version: str, storage: Storage, keep: Iterable[str]
) -> Json:
    """Return the metadata of a checkpoint's capture pod.

    Args:
        checkpoint: what is captured.
        checkpoint_id: its id.
        version: of the artifact.
        storage: the checkpoint volume.
        keep: keys of the template's labels that the pod keeps.
    """
    template = ckpt.template(checkpoint)
    labels, dropped = ckpt.labels_of(template), GENERATED_LABELS | _RESTORE_LABELS
    kept = {key: labels[key] for key in keep if key in labels and key not in dropped}
    notes = {key: value for key, value in ckpt.annotations_of(template).items() if not _is_dropped_note(key)}
    signal = ckpt.ready_signal(checkpoint)
    ours = {
        keys.ANN_ARTIFACT_VERSION: version,
        keys.ANN_TARGET_CONTAINERS: ckpt.job_target(checkpoint),
        keys.ANN_CHECKPOINT: checkpoint["metadata"]["name"],
        keys.ANN_READY_SIGNAL: signal.value,
    }
    if signal == ReadySignal.PROBE:
        ours[keys.ANN_SETTLE_SECONDS] = str(ckpt.settle_seconds(checkpoint))
    if storage.in_pod:
        ours |= {keys.ANN_STORAGE_TYPE: "pvc", keys.ANN_STORAGE_BASE_PATH: storage.base_path}
    source = {keys.LABEL_IS_SOURCE: "true", keys.LABEL_CHECKPOINT_ID: checkpoint_id}
    return {"labels": {**kept, **_MESH_LABELS, **source}, "annotations": {**notes, **_MESH_ANNOTATIONS, **ours}}


def label_field(key: str) -> str:
    """Return the path by which a container refers to a label of its pod."""
    return f"metadata.labels['{key}']"


def write_out_labels(containers: Iterable[Json], labels: Mapping[str, str]) -> None:
    """Replace, in environments, references to the template's labels by their values: the pod does not have them."""
    values = {label_field(key): value for key, value in labels.items() if key not in GENERATED_LABELS}
    for container in containers:
        for entry in container.get("env") or ():
            field = ((entry.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath")
            if field in values:
                del entry["valueFrom"]
                entry["value"] = values[field]


def _is_dropped_note(key: str) -> bool:
    return key in _RESTORE_ANNOTATIONS or key.startswith(_DROPPED_PREFIXES)
