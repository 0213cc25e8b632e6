"""Ask the controller to take an artifact over, and print how it ended."""

from __future__ import annotations

from snapshotctl.live.adoption import adopt
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.live.waiting import Ended
from snapshotctl.run.facts import print_end, print_progress


def adopt_artifact(reach: Reach, name: str, version: str | None, timeout: float) -> None:
    """Ask, wait and print the answer."""

    async def work(session: Session) -> Ended:
        return await adopt(session.kube, session.namespace, name, version, timeout, print_progress)

    print_end(on_cluster(reach, work))
