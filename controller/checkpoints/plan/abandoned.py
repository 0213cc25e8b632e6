"""A capture that waits for a node while no pod requests its checkpoint any more is ended; a new pod restarts it.

Its pod would have a cluster autoscaler buy a node for nothing. Whether a pod requests it is noted on the object by
``controller.workloads.demand``, which knows the pods; here is decided what follows from that.
"""

from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, is_given_up
from contract.api.states import CheckpointReason, ConditionType, Phase
from contract.api.times import parsed_time
from contract.config.values import duration_seconds
from controller.checkpoints.actions import DeleteJob
from controller.checkpoints.observed import Pass, belongs_to
from controller.checkpoints.plan.status import Status, Step
from controller.checkpoints.reasons import Problem
from kube.api import Object

REMEDY: Final = "a new pod of the same template has it captured by itself"


def grace_left(current: Pass, status: Status) -> float | None:
    """Return the seconds until the capture is ended if no pod requests it; None: it goes on.

    Each capture has the whole grace: a version that was raised by hand meanwhile is a request too.
    """
    since = parsed_time(annotations_of(current.checkpoint).get(keys.ANN_UNWANTED))
    if since is None or _got_further(current, status):
        return None
    begun = (current.job.created if current.job is not None else None) or since
    passed = (current.now - max(since, begun)).total_seconds()
    return max(duration_seconds(current.values.automatic.unwanted_grace) - passed, 0.0)


def give_up(current: Pass, status: Status) -> Step:
    """Failed, and nothing left that waits for a node."""
    checkpoint, job = current.checkpoint, current.job
    workload = annotations_of(checkpoint).get(keys.ANN_WORKLOAD, "its workload")
    words = (
        f"the capture found no node, {workload} no longer exists, and no pod has named this checkpoint for "
        f"{current.values.automatic.unwanted_grace} (chart value automatic.unwantedGrace); {REMEDY}"
    )
    problem = Problem(CheckpointReason.WORKLOAD_GONE, words)
    status = status.unmet(ConditionType.JOB_COMPLETED, problem).failed(problem)
    return Step(status, (DeleteJob(job.raw),) if job is not None and belongs_to(job.raw, checkpoint) else ())


def wanted_again(checkpoint: Object, status: Status) -> bool:
    """Say whether it was given up, and a pod names it since."""
    # The planned status too, since a new version may have restarted it in this very pass.
    given_up = status.phase == Phase.FAILED and is_given_up(checkpoint)
    return given_up and keys.ANN_UNWANTED not in annotations_of(checkpoint)


def _got_further(current: Pass, status: Status) -> bool:
    """Say whether it has had a node, or is over."""
    job = current.job
    if job is not None and (keys.ANN_CHECKPOINT_STATUS in job.annotations or job.is_finished):
        return True
    # Noted or seen: the pod may no longer exist, and a node that was paid for is no reason to end the capture.
    noted = status.condition(ConditionType.SCHEDULED) or {}
    return noted.get("status") == "True" or any(pod.is_true("PodScheduled") for pod in current.pods)
