"""The DynamoCheckpoint that an automatic pod asks for: its name follows from the pod's stamp, so no race makes two."""

from collections.abc import Iterable
from dataclasses import dataclass

from contract.api import keys
from contract.api.checkpoint import TargetError, annotations_of
from contract.api.states import AgentReason, ReadySignal
from contract.pods.common import unsupported
from contract.pods.parking import parked_said
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
    # The annotations that count are those of the whole: some that do are not the template's own. So do the volumes: a
    # replica's own claim is none in its stamp, and an emptyDir in the template.
    spec = template_of(template)["spec"] | {"volumes": template["spec"].get("volumes") or []}
    plain = {"metadata": template.get("metadata") or {}, "spec": spec}
    return template_hash(plain, target, more) == pods.stamp_of(pod)


class ForeignPodError(Exception):
    """A pod asks for a checkpoint from which others would get what is not theirs."""

    def __init__(self, reason: AgentReason, words: str) -> None:
        super().__init__(words)
        self.reason = reason


def check_origin(
    pod: Object, workload: Workload, whole: Object | None, more: Iterable[str] = (), checkpoint: Object | None = None
) -> None:
    """Check that a pod asks for what is its own: its stamp is an annotation, which others than the webhook may write.

    Args:
        pod: a pod that asks.
        workload: where it comes from.
        whole: all that is stored of it, if its own memory is to be captured.
        more: the chart value ``automatic.hashAnnotations``.
        checkpoint: the one that is there already.

    Raises:
        ForeignPodError: it does not.
    """
    name = pod["metadata"]["name"]
    for written in (written_in(workload), *([] if whole is None else [whole])):
        if not fits(pod, written, more):
            words = f"pod {name} is not of the template whose hash is in its annotation {keys.ANN_TEMPLATE_HASH}"
            raise ForeignPodError(AgentReason.TEMPLATE_DIFFERS, words)
    if problem := unsupported((whole or {}).get("spec") or {}):
        raise ForeignPodError(AgentReason.TEMPLATE_DIFFERS, f"pod {name}: spec.{problem[0]} {problem[1]}")
    owner = annotations_of(checkpoint or {}).get(keys.ANN_WORKLOAD, "")
    if checkpoint is not None and owner != workload.top:
        words = (
            f"DynamoCheckpoint {checkpoint['metadata']['name']} was asked for by {owner or 'no workload'}, "
            f"pod {name} is of {workload.top}"
        )
        raise ForeignPodError(AgentReason.OTHER_WORKLOAD, words)


def written_in(workload: Workload) -> Object:
    """Return the template of a workload, or the pod itself."""
    source: Object = workload.source
    template: Object = source if source["kind"] == PODS.kind else source["spec"]["template"]
    return template


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
    written = written_in(workload)
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
        | ({"source": running_source(pod)} if running else {})
        | ({"parked": parked} if (parked := parked_said(written)) else {}),
    }


def running_source(pod: Object) -> Object:
    """Return the ``spec.source`` that names a pod."""
    return {"podName": pod["metadata"]["name"], "podUID": pod["metadata"]["uid"]}
