"""Automatic pods that the webhook did not see: they start cold, and their checkpoint is asked for all the same.

A Deployment that was applied while the webhook was not reached has pods that no one stamped. Nothing would ever make
their checkpoint: their template does not change, and no other pod is created. So what the webhook would have written
on them is written here, worked out from the owner's template, from which later pods are stamped as well.
"""

import logging
from typing import Final

from contract.api import keys
from contract.api.checkpoint import Target, TargetError, annotations_of, find_targets
from contract.api.states import Admission
from contract.nodes.accelerators import refused_resource
from contract.pods import common
from contract.pods.systems import other_system
from contract.pods.template_hash import automatic_id, automatic_name, only_target, per_pod_identity, template_hash
from controller.runtime.manager import ManagerContext
from controller.workloads import pods
from controller.workloads.admission_events import admission_event
from controller.workloads.checkpoint_view import CheckpointViews
from controller.workloads.informers import PodInformers
from controller.workloads.owners import Owners
from kube.api import Object
from kube.errors import NotFoundError
from kube.resources import PODS, REPLICA_SETS
from kube.store import Key, key_of

SYSTEM_NAMESPACE: Final = "kube-system"
logger = logging.getLogger(__name__)


def capturable(pod: Object) -> Target | None:
    """Return the container that an automatic checkpoint of *pod* captures; None if admission would refuse the pod."""
    spec, renewed = pod["spec"], annotations_of(pod).get(keys.ANN_IDENTITY) == keys.IDENTITY_REFRESHED
    try:
        target = only_target(find_targets(pod))
    except TargetError:
        return None
    if other_system(spec) or common.unsupported(spec) or refused_resource(target.container):
        return None
    if not renewed and per_pod_identity(pod, target.container):
        return None
    return target if target.container.get("startupProbe") or target.container.get("readinessProbe") else None


class MissedPods:
    """Looks at one pod at a time."""

    def __init__(
        self, context: ManagerContext, informers: PodInformers, sights: CheckpointViews, owners: Owners
    ) -> None:
        self._kube = context.kube
        self._recorder = context.recorder
        self._values = context.values
        self._informers = informers
        self._sights = sights
        self._owners = owners
        webhook = context.values.webhook
        everywhere = not (webhook.namespace_selector or webhook.object_selector)
        # Without a mark, a pod may be one that the webhook is not asked about: of a namespace that it does not serve.
        self._unmarked_too = bool(context.settings.watched_namespace) and everywhere

    def is_one(self, pod: Object) -> bool:
        """Say whether the webhook should have seen the pod and did not."""
        return pods.missed(pod) and bool(pods.admission(pod) or self._unmarked_too)

    async def handle(self, key: Key) -> float | None:
        """Write on a pod what the webhook would have, if it may be captured.

        Raises:
            KubeError: a call failed.
        """
        pod = self._informers.get(key)
        if pod is None or not self.is_one(pod) or not self._served(key[0]):
            return None
        whole = await self._owners.whole(pod)
        target = capturable(whole) if whole else None
        if whole is None or target is None:
            return None
        notes = await self._notes(pod, whole, target.name)
        if Admission.CHECKPOINT_REQUESTED.value in notes.values():
            # The mark goes, so what it says is said before.
            await self._say(pod)
        await self._write(key, notes)
        return None

    async def _notes(self, pod: Object, whole: Object, target: str) -> dict[str, str]:
        """Return the stamp, the checkpoint's name and, if that is to be made, the code that asks for it."""
        namespace = key_of(pod)[0]
        owner = await self._owners.direct(pod)
        written = owner["spec"]["template"] if owner is not None and owner["kind"] == REPLICA_SETS.kind else whole
        stamp = template_hash(written, target, self._values.automatic.hash_annotations)
        name = automatic_name(automatic_id(namespace, stamp))
        notes = {keys.ANN_TEMPLATE_HASH: stamp, keys.ANN_CHECKPOINT: name}
        sight = self._sights.of((namespace, name))
        if sight.checkpoint is None and not sight.outlived_by(pod):
            notes[keys.ANN_ADMISSION] = Admission.CHECKPOINT_REQUESTED.value
        return notes

    async def _say(self, pod: Object) -> None:
        unseen = {**annotations_of(pod), keys.ANN_ADMISSION: Admission.WEBHOOK_UNREACHABLE.value}
        said = admission_event({**pod, "metadata": {**pod["metadata"], "annotations": unseen}})
        if said is not None:
            await self._recorder.say_once(pod, *said)

    async def _write(self, key: Key, notes: dict[str, str]) -> None:
        namespace, name = key
        try:
            changed = await self._kube.patch(PODS, name, {"metadata": {"annotations": notes}}, namespace)
        except NotFoundError:
            return
        self._informers.learn(changed)
        logger.info("pod not seen by the webhook", extra={"pod": name, "checkpoint": notes[keys.ANN_CHECKPOINT]})

    def _served(self, namespace: str) -> bool:
        excluded = (SYSTEM_NAMESPACE, *self._values.webhook.excluded_namespaces)
        return self._values.checkpoint.enabled and namespace not in excluded
