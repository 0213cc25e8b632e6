"""How long a held pod may wait before its own workload gives it up.

A Job's ``activeDeadlineSeconds`` runs from the Job's start, also while its pod is held: a wait that uses it up kills
the work that it was to help. A pod's own deadline is no such thing, because it begins on the node.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from contract.api.checkpoint import controller_of
from contract.api.times import parsed_time
from controller.workloads import pods
from kube.api import KubeClient, Object
from kube.errors import ForbiddenError, NotFoundError
from kube.resources import JOBS
from kube.store import key_of

SHARE: Final = 10
"""A wait takes at most this part of what is left. How long the work takes is not known; a Job that has no tenth of its
deadline to spare would also miss it by a slow pull of its image."""
LEAST_SECONDS: Final = 30.0
"""A shorter wait is none: a capture takes a start of the worker, some seconds to settle, and the dump."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the pod's workload lets it wait."""

    seconds: float
    """Since the pod's creation."""
    why: str
    """What sets the limit."""


FOR_EVER: Final = 10 * 365 * 86400
"""Seconds: a deadline beyond it limits nothing, and dates have an end."""


def allowance(pod: Object, job: Object) -> Allowance | None:
    """Return how long *pod* may wait; None if its Job sets no limit.

    Args:
        pod: a held pod.
        job: the Job that owns it.
    """
    name = f"Job {job['metadata']['name']}"
    owner = controller_of(job)
    if owner and owner.get("kind") == "CronJob":
        # What its concurrencyPolicy does to a run that still waits is not ours to read; the next run comes by itself.
        return Allowance(0.0, f"{name} is a run of CronJob {owner['name']}, which may replace it with its next run")
    deadline = (job.get("spec") or {}).get("activeDeadlineSeconds")
    started = parsed_time((job.get("status") or {}).get("startTime") or job["metadata"].get("creationTimestamp"))
    if deadline is None or started is None or deadline > FOR_EVER:
        return None
    left = (started + timedelta(seconds=deadline) - pods.created(pod)).total_seconds()
    allowed = left / SHARE if left / SHARE >= LEAST_SECONDS else 0.0
    words = f"{name} ends {deadline} s after its start (activeDeadlineSeconds), and waiting may take a tenth of that"
    return Allowance(allowed, words if allowed else f"{words}, but not less than {LEAST_SECONDS:.0f} s")


class Deadlines:
    """Reads the Jobs of held pods."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube

    async def of(self, pod: Object) -> Allowance | None:
        """Return how long a held pod may wait; None if nothing that we may read sets a limit.

        Raises:
            KubeError: a call failed.
        """
        owner = controller_of(pod)
        if owner is None or owner.get("kind") != JOBS.kind or owner.get("apiVersion") != JOBS.api_version:
            return None
        try:
            job = await self._kube.get(JOBS, owner["name"], key_of(pod)[0])
        except (NotFoundError, ForbiddenError) as error:
            logger.info("Job of a held pod not read: %s", error)
            return None
        return allowance(pod, job) if job["metadata"].get("uid") == owner.get("uid") else None
