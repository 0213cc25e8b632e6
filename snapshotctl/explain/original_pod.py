"""A live pod as it was before admission mutated it: for pods without a template."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from contract.api import keys
from contract.pods.unshape import unshaped
from kube.api import Object

_LABELS: Final = frozenset({keys.LABEL_CHECKPOINT_ID, keys.LABEL_IS_RESTORE_TARGET, keys.LABEL_OUTCOME})
_ANNOTATIONS: Final = frozenset(
    {
        keys.ANN_ADMISSION,
        keys.ANN_CHECKPOINT,
        keys.ANN_ARTIFACT_VERSION,
        keys.ANN_STORAGE_TYPE,
        keys.ANN_STORAGE_BASE_PATH,
        keys.ANN_RESTORE_REPORT,
        keys.ANN_RESTORE_FILL,
        keys.ANN_GATE,
        keys.ANN_TEMPLATE_HASH,
        keys.ANN_REPLACED,
    }
)
_STAMP: Final = (keys.ANN_TEMPLATE_HASH, keys.ANN_CHECKPOINT, keys.ANN_ADMISSION)
"""Of an automatic pod: which kind it is, as the webhook found when it was created."""
_PREFIXES: Final = (
    keys.ANN_RESTORE_STATUS_PREFIX,
    keys.ANN_RESTORE_CONTAINER_ID_PREFIX,
    keys.ANN_ORIGINAL_IMAGE_PREFIX,
)


def original_pod(pod: Mapping[str, Any]) -> Object:
    """Take away the pod's node, its gate and what admission added; a pod that was never mutated stays as it is."""
    metadata: Mapping[str, Any] = pod.get("metadata") or {}
    before: Mapping[str, str] = metadata.get("annotations") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key not in _LABELS}
    shaped = keys.LABEL_IS_RESTORE_TARGET in (metadata.get("labels") or {})
    annotations = {
        key: value for key, value in before.items() if key not in _ANNOTATIONS and not key.startswith(_PREFIXES)
    }
    if labels.get(keys.LABEL_RESTORE) == keys.RESTORE_AUTO:
        # The hash cannot be made again: of a stock image the command was written out, without a note.
        annotations |= {key: before[key] for key in _STAMP if key in before}
    elif shaped and before.get(keys.ANN_CHECKPOINT):
        annotations |= _request(labels, before[keys.ANN_CHECKPOINT])
    spec = unshaped(pod)["spec"] if shaped else copy.deepcopy(dict(pod.get("spec") or {}))
    spec.pop("nodeName", None)
    spec.pop("schedulingGates", None)
    kept = {key: metadata[key] for key in ("name", "namespace", "ownerReferences") if key in metadata}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": kept | {"labels": labels, "annotations": annotations},
        "spec": spec,
    }


def _request(labels: Mapping[str, str], name: str) -> dict[str, str]:
    """Return what the pod asked for: admission removes the request once it is served."""
    wanted = {keys.ANN_CHECKPOINT_NAME: name}
    return wanted if labels.get(keys.LABEL_RESTORE) else wanted | {keys.ANN_RESTORE_CANDIDATE: "true"}
