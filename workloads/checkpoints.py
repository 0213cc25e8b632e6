"""The DynamoCheckpoint that an automatic pod asks for: its name follows from the pod's stamp, so no race makes two."""

from dataclasses import dataclass

from contract import keys
from contract.automatic import automatic_id, automatic_name, automatic_target
from contract.states import ReadySignal
from kube.resources import CHECKPOINTS
from kube.seam import Object
from kube.store import key_of
from workloads import pods
from workloads.template import template_of


@dataclass(frozen=True, slots=True)
class Workload:
    """Where a pod comes from."""

    top: str
    """``<kind>/<name>`` of the owner that nobody owns: what people deploy, and what checkpoints are kept for."""
    source: Object
    """What has the template: a ReplicaSet, or the pod itself."""

    @property
    def name(self) -> str:
        """The name of the topmost owner."""
        return self.top.partition("/")[2]


def automatic_checkpoint(pod: Object, workload: Workload) -> Object:
    """The checkpoint that *pod* asks for.

    Args:
        pod: a pod that asks (``workloads.pods.asks``).
        workload: where it comes from.

    Raises:
        TargetError: the template has not the container that would be captured.
    """
    namespace, stamp = key_of(pod)[0], pods.stamp_of(pod)
    checkpoint_id = automatic_id(namespace, stamp)
    source = workload.source
    template = template_of(source["spec"]["template"] if source["kind"] != "Pod" else source)
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
                "podTemplateSpec": template,
                "targetContainerName": automatic_target(
                    source["spec"]["template"] if source["kind"] != "Pod" else source
                ),
                "readySignal": ReadySignal.PROBE.value,
            },
        },
    }
