"""Says once, as Events on pod and owner, what admission decided."""

from typing import Final

from contract.api.checkpoint import controller_of
from controller.runtime.manager import ManagerContext
from controller.workloads import pods
from controller.workloads.admission_events import admission_event
from controller.workloads.informers import PodInformers
from kube.api import Object
from kube.store import Key

YOUNG_SECONDS: Final = 900.0
"""Pods older than this are not reported any more: the leader of that time did, and Events live but an hour."""


class AdmissionRecorder:
    """Looks at one pod at a time."""

    def __init__(self, context: ManagerContext, informers: PodInformers) -> None:
        self._recorder = context.recorder
        self._now = context.now
        self._informers = informers

    async def handle(self, key: Key) -> float | None:
        """Say what is to be said about one pod.

        Raises:
            KubeError: an Event could not be made.
        """
        pod = self._informers.get(key)
        if pod is None or (self._now() - pods.created(pod)).total_seconds() > YOUNG_SECONDS:
            return None
        said = admission_event(pod)
        if said is None:
            return None
        await self._recorder.say_once(pod, *said)
        owner = controller_of(pod)
        if owner and said.type == "Warning":
            # One for all of its pods: describing a Deployment's ReplicaSet is where people look next.
            await self._recorder.say_once(_about(owner, key[0]), *said)
        return None


def _about(owner: Object, namespace: str) -> Object:
    metadata = {"name": owner["name"], "namespace": namespace, "uid": owner.get("uid", "")}
    return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "metadata": metadata}
