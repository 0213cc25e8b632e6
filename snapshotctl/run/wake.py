"""Write on a pod that its parked worker is to go on: the agent of its node wakes it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from contract.api.times import format_time
from contract.pods.parking import parking_containers, refuse_wake, wake_patch
from kube.errors import ConflictError
from kube.resources import PODS
from snapshotctl.errors import UserError
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.run.facts import print_facts
from snapshotctl.run.restore_pod import TRIES, look_at_node, pod_named


def wake(reach: Reach, name: str) -> None:
    """Patch the pod, and print what is woken."""

    async def work(session: Session) -> dict[str, str]:
        for _ in range(TRIES):
            pod = await pod_named(session, name)
            refusal = refuse_wake(pod)
            if refusal is not None:
                raise UserError(f"{refusal.code.value}: {refusal.message}")
            await look_at_node(session, pod)
            with suppress(ConflictError):
                body = wake_patch(pod, format_time(datetime.now(UTC)))
                patched = await session.kube.patch(PODS, pod["metadata"]["name"], body, session.namespace)
                return {
                    "status": "submitted",
                    "namespace": str(patched["metadata"].get("namespace") or session.namespace),
                    "name": str(patched["metadata"]["name"]),
                    "containers": ",".join(parking_containers(patched)),
                }
        raise UserError(f"pod {name} changes all the time; try again")

    print_facts(on_cluster(reach, work))
