"""A capture that waits for a node while nobody wants its checkpoint any more: ended, and begun anew for a new pod.

Its pod would have a cluster autoscaler buy a node for nobody.  Whether anybody wants it is noted on the object by the
room that knows the pods (``controller.workloads.demand``); here is decided what follows from that.
"""

from datetime import datetime
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, is_given_up
from contract.api.conditions import is_true
from contract.api.states import ConditionType, Phase
from contract.api.times import parsed_time
from contract.config.values import Values, duration_seconds
from controller.checkpoints.actions import DeleteJob
from controller.checkpoints.observed import Observed, belongs_to
from controller.checkpoints.plan.status import StatusDraft
from controller.checkpoints.reasons import Problem, Reason
from kube.api import Object

REMEDY: Final = "a new pod of the same template has it captured by itself"


def grace_left(observed: Observed, draft: StatusDraft, now: datetime, values: Values) -> float | None:
    """Seconds until the capture is ended if nobody comes; None: it goes on.

    Each capture has the whole grace, so a version that was raised by hand meanwhile is no vain wish.
    """
    since = parsed_time(annotations_of(observed.checkpoint).get(keys.ANN_UNWANTED))
    if since is None or _got_further(observed, draft):
        return None
    begun = parsed_time(observed.job["metadata"].get("creationTimestamp")) if observed.job is not None else None
    left = duration_seconds(values.automatic.unwanted_grace) - (now - max(since, begun or since)).total_seconds()
    return max(left, 0.0)


def give_up(observed: Observed, draft: StatusDraft, values: Values) -> tuple[DeleteJob, ...]:
    """Failed, and nothing left that waits for a node."""
    job = observed.job
    workload = annotations_of(observed.checkpoint).get(keys.ANN_WORKLOAD, "its workload")
    words = (
        f"the capture found no node, {workload} is gone, and no pod has named this checkpoint for "
        f"{values.automatic.unwanted_grace} (chart value automatic.unwantedGrace); {REMEDY}"
    )
    problem = Problem(Reason.WORKLOAD_GONE, words)
    draft.condition(ConditionType.JOB_COMPLETED, met=False, reason=problem.reason, message=problem.message)
    draft.fail(problem)
    return (DeleteJob(job),) if job is not None and belongs_to(job, observed.checkpoint) else ()


def wanted_again(checkpoint: Object, draft: StatusDraft) -> bool:
    """Whether it was given up, and a pod names it since."""
    # The draft too, since a new version has begun over by now.
    given_up = draft.phase == Phase.FAILED and is_given_up(checkpoint)
    return given_up and keys.ANN_UNWANTED not in annotations_of(checkpoint)


def _got_further(observed: Observed, draft: StatusDraft) -> bool:
    """Whether it has had a node, or is over."""
    noted, job = draft.condition_of(ConditionType.SCHEDULED) or {}, observed.job or {"metadata": {}}
    if keys.ANN_CHECKPOINT_STATUS in annotations_of(job) or is_true(job, "Complete") or is_true(job, "Failed"):
        return True
    return noted.get("status") == "True" or any(is_true(pod, "PodScheduled") for pod in observed.pods)
