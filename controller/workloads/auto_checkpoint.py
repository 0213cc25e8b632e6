"""The DynamoCheckpoint that an automatic pod asks for: its name follows from the pod's stamp, so no race makes two."""

from collections.abc import Iterable
from dataclasses import dataclass

from contract.api import keys
from contract.api.checkpoint import TargetError
from contract.api.states import ReadySignal
from contract.pods.template_hash import automatic_id, automatic_name, automatic_target, template_hash
from controller.workloads import pods
from controller.workloads.template import template_of
from kube.api import Object
from kube.resources import CHECKPOINTS, PODS
from kube.store import key_of


@dataclass(frozen=True, slots=True)
class Workload:
    """Where a pod comes from."""

    top: str
    """``<kind>/<name>`` of the owner that has none itself: what people deploy, and what checkpoints are kept for."""
    source: Object
    """What has the template: a ReplicaSet, or the pod itself."""

    @property
    def name(self) -> str:
        """The name of the topmost owner."""
        return self.top.partition("/")[2]


def fits(pod: Object, template: Object, more: Iterable[str] = ()) -> bool:
    """Say whether *template*, or a whole pod, is what the stamp of *pod* was made of.

    Args:
        pod: a pod with a stamp.
        template: a pod template or a pod, shaped or not.
        more: the chart value ``automatic.hashAnnotations``.
    """
    try:
        target = automatic_target(template)
    except TargetError:
        return False
    # The annotations that count are those of the whole: some that do are not the template's own.
    plain = template_of(template) | {"metadata": template.get("metadata") or {}}
    return template_hash(plain, target, more) == pods.stamp_of(pod)


def automatic_checkpoint(pod: Object, workload: Workload) -> Object:
    """Return the checkpoint that *pod* asks for.

    Args:
        pod: a pod that asks (``controller.workloads.pods.asks``).
        workload: where it comes from.

    Raises:
        TargetError: the template has not the container that would be captured.
    """
    namespace, stamp = key_of(pod)[0], pods.stamp_of(pod)
    checkpoint_id = automatic_id(namespace, stamp)
    source = workload.source
    written = source if source["kind"] == PODS.kind else source["spec"]["template"]
    running = pods.triggers(pod)
    return {
        "apiVersion": CHECKPOINTS.api_version,
        "kind": CHECKPOINTS.kind,
        "metadata": {
            "name": automatic_name(checkpoint_id),
            "namespace": namespace,
            "labels": {keys.LABEL_CHECKPOINT_ID: checkpoint_id},
            "annotations": {
                keys.ANN_AUTO_CHECKPOINT: "true",
                keys.ANN_ARTIFACT_VERSION: keys.DEFAULT_ARTIFACT_VERSION,
                keys.ANN_WORKLOAD: workload.top,
                keys.ANN_TEMPLATE_HASH: stamp,
            },
            # From the first moment on: whatever is made for it is cleaned up after it.
            "finalizers": [keys.FINALIZER],
        },
        "spec": {
            "identity": {"model": f"{namespace}/{workload.name}", "backendFramework": "generic"},
            "job": {
                "podTemplateSpec": template_of(written),
                "targetContainerName": automatic_target(written),
                "readySignal": (ReadySignal.FILE if running else ReadySignal.PROBE).value,
            },
        }
        | ({"source": running_source(pod)} if running else {}),
    }


def running_source(pod: Object) -> Object:
    """Return the ``spec.source`` that names a pod."""
    return {"podName": pod["metadata"]["name"], "podUID": pod["metadata"]["uid"]}
