"""What a capture that does not go on says: what it waits for, and what to do."""

import pytest

from contract.api import keys
from controller.checkpoints.actions import SetDeadline
from tests.support.builders.checkpoints import (
    ago,
    capture_pod,
    condition,
    condition_in,
    container_status,
    creating,
    job,
    labelled,
    lease,
    status_after,
    step,
)

RAN = capture_pod(condition("PodScheduled"), condition("ContainersReady", lastTransitionTime=ago(1)))


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        pytest.param(
            capture_pod(condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes: cpu")),
            "Unschedulable",
            ["0/3 nodes: cpu"],
            id="unschedulable",
        ),
        pytest.param(
            capture_pod(
                condition("PodScheduled", "False", message="didn't match Pod's node affinity/selector"),
                affinity={"nodeAffinity": keys.LABEL_NODE_READY},
            ),
            "Unschedulable",
            [f"{keys.LABEL_NODE_READY}=ready", "snapshot-agent"],
            id="no-node-with-an-agent",
        ),
        pytest.param(
            capture_pod(
                containers=[container_status({"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}})]
            ),
            "ImageNotPulled",
            ["container main", "example.test/worker:1", "no such tag", "imagePullSecrets"],
            id="image-pull",
        ),
        pytest.param(
            capture_pod(
                containers=[
                    container_status(
                        {"waiting": {"reason": "ErrImagePull", "message": "denied"}}, name="snapshot-tools"
                    )
                ]
            ),
            "ImageNotPulled",
            ["container snapshot-tools", "denied", "placeholder.inject.image", "placeholder.images"],
            id="tools-image-pull",
        ),
        pytest.param(
            capture_pod(
                containers=[
                    container_status(
                        {"waiting": {"reason": "ErrImagePull", "message": "no such host"}},
                        name="snapshot-tools",
                        image="registry.invalid/dynamo-snapshot/agent:0.1.0",
                    )
                ]
            ),
            "ImageNotPulled",
            ["chart's default", "daemonset.image.repository", "controlPlane.image.repository", "global.imageRegistry"],
            id="image-that-the-installation-never-named",
        ),
        pytest.param(
            capture_pod(
                containers=[
                    container_status(
                        {"waiting": {"reason": "CreateContainerError", "message": f"{keys.STANDBY}: no such file"}}
                    )
                ]
            ),
            "ContainerNotStarted",
            [
                "container main",
                "no such file",
                "make docker-build-placeholder",
                "automatic.inject=true",
                "placeholder.mode=inject",
            ],
            id="not-a-placeholder-image",
        ),
        pytest.param(
            capture_pod(
                containers=[
                    container_status({"waiting": {"reason": "CreateContainerError", "message": "seccomp profile"}})
                ]
            ),
            "ContainerNotStarted",
            ["seccomp", "snapshot agent", "node-1"],
            id="no-seccomp-profile",
        ),
        pytest.param(
            capture_pod(
                containers=[
                    container_status({"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x"'}})
                ]
            ),
            "ContainerNotStarted",
            ['secret "x"', "spec.job.podTemplateSpec"],
            id="missing-secret",
        ),
        pytest.param(
            capture_pod(condition("ContainersReady", lastTransitionTime=ago(31))),
            "NoAgent",
            ["node-1", "snapshot agent"],
            id="no-agent",
        ),
    ],
)
def test_a_stuck_capture_says_what_is_wrong_and_what_to_do(pod, reason, words):
    planned = step(creating(), job=job(), pods=(pod,))

    assert "Creating" == planned.status["phase"]
    assert reason == condition_in(planned.status, "Ready")["reason"]
    assert [] == [word for word in words if word not in planned.status["message"]]
    assert [("Warning", reason)] == [(note.type, note.reason) for note in planned.events]


def test_a_stuck_capture_is_at_rest_until_something_changes():
    pod = capture_pod(containers=[container_status({"waiting": {"reason": "ErrImagePull", "message": "no such tag"}})])
    status = status_after(creating(), job=job(), pods=(pod,))
    pod["status"]["containerStatuses"][0]["state"]["waiting"] = {
        "reason": "ImagePullBackOff",
        "message": 'Back-off pulling image "example.test/worker:1": ErrImagePull: no such tag',
    }

    assert step(labelled(status=status), job=job(), pods=(pod,)).status is None


def test_a_moment_without_a_node_is_a_condition_but_no_warning():
    waiting = capture_pod(condition("PodScheduled", "False", message="unbound claim", lastTransitionTime=ago(2)))
    planned = step(creating(), job=job(age=3), pods=(waiting,))

    assert "unbound claim" in condition_in(planned.status, "Scheduled")["message"]
    assert ("message" in planned.status, planned.events, planned.requeue_after) == (False, (), 3.0)


def test_a_problem_that_is_over_leaves_no_message():
    stuck = capture_pod(condition("PodScheduled", "False", message="0/1 nodes"))
    status = status_after(creating(), job=job(), pods=(stuck,))
    healed = step(labelled(status=status), job=job(), pods=(RAN,)).status

    assert "message" not in healed
    assert ("True", "node-1") == tuple(condition_in(healed, "Scheduled")[field] for field in ("status", "message"))


def test_no_agent_is_said_after_a_while_not_at_once():
    pod = capture_pod(condition("ContainersReady", lastTransitionTime=ago(10)))
    planned = step(creating(), job=job(), pods=(pod,))

    assert 20.0 == planned.requeue_after
    assert "message" not in status_after(creating(), job=job(), pods=(pod,))


def test_an_agent_that_took_the_job_is_not_missed():
    pod = capture_pod(condition("ContainersReady", lastTransitionTime=ago(600)))
    seen = job(annotations={keys.ANN_NODE: "node-1"})

    assert "message" not in status_after(creating(), job=seen, pods=(pod,))


def test_an_agent_that_holds_the_jobs_lease_is_not_missed():
    pod = capture_pod(condition("ContainersReady", lastTransitionTime=ago(600)))

    assert "message" not in status_after(creating(), job=job(), pods=(pod,), lease=lease(5))
    assert "no snapshot agent" in status_after(creating(), job=job(), pods=(pod,), lease=lease(60))["message"]


def test_a_job_without_a_pod_shows_the_job_controllers_words():
    event = {"type": "Warning", "message": 'pods "x" is forbidden: violates PodSecurity'}
    planned = step(creating(), job=job(age=60), job_events=(event,))

    assert "violates PodSecurity" in planned.status["message"]
    assert "PodNotCreated" == condition_in(planned.status, "Ready")["reason"]


def test_time_without_a_node_does_not_count():
    waiting = capture_pod(condition("PodScheduled", "False", message="0/1 nodes"))
    early = step(creating(), job=job(age=1000), pods=(waiting,))
    late = step(creating(), job=job(age=1801), pods=(waiting,))

    assert () == early.actions
    assert 800.0 == early.requeue_after
    (extended,) = late.actions
    assert isinstance(extended, SetDeadline)
    assert 1801 + 3600 == extended.seconds


def test_a_fresh_deadline_counts_from_the_scheduling():
    scheduled = capture_pod(condition("PodScheduled", lastTransitionTime=ago(10)))
    (extended,) = step(creating(), job=job(age=1010, deadline=3600), pods=(scheduled,)).actions

    assert 4600 == extended.seconds
    assert () == step(creating(), job=job(age=1010, deadline=4600), pods=(scheduled,)).actions
    assert () == step(creating(), job=job(age=40, deadline=3600), pods=(scheduled,)).actions
