"""What a pod is to the agent, as tables."""

import pytest

from agent.pods import selection
from agent.pods.selection import Rejection, Role, Wait
from contract.api import keys
from contract.api.states import AgentReason
from tests.support.builders import agent
from tests.support.builders.agent import FIRST, SECOND, reported, running, terminated, waiting

WOKEN = {keys.ANN_WAKE: "now"}


@pytest.mark.parametrize(
    ("expected", "labels"),
    [
        pytest.param(Role.TARGET, {}, id="id alone"),
        pytest.param(Role.SOURCE, {keys.LABEL_IS_SOURCE: "true"}, id="source"),
        pytest.param(Role.NONE, {keys.LABEL_IS_SOURCE: "false"}, id="source of another value is neither"),
        pytest.param(Role.NONE, {keys.LABEL_CHECKPOINT_ID: ""}, id="empty id"),
        pytest.param(Role.NONE, {keys.LABEL_CHECKPOINT_ID: None}, id="no id"),
    ],
)
def test_role(expected, labels):
    assert expected == selection.role(agent.target(labels=labels))


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        pytest.param("", agent.target(phase="Pending"), id="bound, no container yet"),
        pytest.param("", agent.target(waiting(), phase="Pending"), id="image is pulled"),
        pytest.param(FIRST, agent.target(running()), id="runs"),
        pytest.param(FIRST, agent.target(running(), annotations=reported("in_progress")), id="cut off, again"),
        pytest.param(SECOND, agent.target(running(SECOND), annotations=reported("completed")), id="restarted"),
        pytest.param(Wait, agent.parking(running(), annotations=reported("parked")), id="parked"),
        pytest.param(FIRST, agent.parking(running(), annotations=reported("parked") | WOKEN), id="woken"),
        pytest.param(SECOND, agent.parking(running(SECOND), annotations=reported("parked")), id="another is parked"),
        pytest.param(Wait, agent.target(running(), annotations=reported("completed")), id="completed"),
        pytest.param(Wait, agent.target(running(), annotations=reported("failed")), id="failed"),
        pytest.param(Wait, agent.target(terminated(1)), id="has ended"),
        pytest.param(Wait, agent.target(waiting(restartCount=1)), id="will start again"),
        pytest.param(Wait, agent.target(running(), deleting=True), id="is being deleted"),
        pytest.param(Wait, agent.target(running(), phase="Failed"), id="pod has failed"),
    ],
)
def test_wanted(expected, pod):
    found = selection.wanted(pod, "main")

    assert isinstance(found, Wait) if expected is Wait else expected == found


def test_what_was_dealt_with_is_not_wanted_again_though_the_pod_does_not_show_it():
    assert isinstance(selection.wanted(agent.target(running()), "main", frozenset({FIRST})), Wait)
    assert isinstance(selection.wanted(agent.target(waiting()), "main", frozenset({FIRST})), Wait)
    assert SECOND == selection.wanted(agent.target(running(SECOND)), "main", frozenset({FIRST}))


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        pytest.param(("main",), agent.target(), id="default"),
        pytest.param((), agent.target(containers=[{"name": "main"}]), id="no control volume: clean-up pods"),
        pytest.param(("main",), agent.placeholder(), id="a placeholder"),
        pytest.param(
            AgentReason.TARGETS_INVALID,
            agent.target(
                containers=[
                    {"name": "side"},
                    {"name": "main", "command": [keys.STANDBY, keys.STANDBY_WAIT, "--", "w"]},
                ],
                annotations={keys.ANN_TARGET_CONTAINERS: "main,side"},
            ),
            id="one of a placeholder that does not wait",
        ),
        pytest.param(
            AgentReason.TARGETS_INVALID,
            agent.target(annotations={keys.ANN_TARGET_CONTAINERS: "main,other"}),
            id="one that is not there",
        ),
    ],
)
def test_targets(expected, pod):
    found = selection.targets(pod)

    assert expected == (found.reason if isinstance(found, Rejection) else found)


@pytest.mark.parametrize(
    ("expected", "uid"), [pytest.param(True, "job-uid", id="own"), pytest.param(False, "other", id="named by label")]
)
def test_only_its_owner_is_a_pods_job(expected, uid):
    job = agent.job()
    job["metadata"]["uid"] = uid

    assert expected == selection.owns(job, agent.source())
