"""What is said of a pod that was to be restored and of which no agent speaks."""

import pytest

from contract.api import keys
from controller.workloads.pods import awaits_word, kept
from controller.workloads.restores.silent import PATIENCE
from tests.support.builders.opted_in import ago, whole
from tests.unit.controller.workloads.test_dispatcher import Scene

TARGET = {keys.LABEL_IS_RESTORE_TARGET: "true", keys.LABEL_CHECKPOINT_ID: "abc"}
SPOKEN = {f"{keys.ANN_RESTORE_STATUS_PREFIX}main": "in_progress"}


def shaped(started=60, *, labels=TARGET, notes=None, phase="Running"):
    """Return a pod that was shaped, whose container has run for so many seconds; None: it does not run yet."""
    found = whole("restore-shaped", labels=labels, notes=notes, nodeName="node-7")
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    state = waiting if started is None else {"running": {"startedAt": ago(started)}}
    return found | {"status": {"phase": phase, "containerStatuses": [{"name": "main", "state": state}]}}


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        pytest.param(True, shaped(), id="nobody-spoke"),
        pytest.param(False, shaped(notes=SPOKEN), id="an-agent-has-it"),
        pytest.param(False, shaped(None), id="not-started"),
        pytest.param(False, shaped(labels={}), id="not-shaped"),
        pytest.param(False, shaped(labels={keys.LABEL_IS_RESTORE_TARGET: "true"}), id="a-placeholder-that-waits"),
        pytest.param(False, shaped(phase="Succeeded"), id="ended"),
    ],
)
def test_whom_an_agent_is_to_speak_of(expected, pod):
    assert [expected, expected] == [awaits_word(pod), awaits_word(kept(pod))]


def said(pod):
    found = [each for each in Scene(pod).run().named("Event") if each["reason"] == "AgentSilent"]
    return [(each["type"], each["message"]) for each in found]


def test_it_is_said_with_the_node_and_what_to_do():
    ((kind, message),) = said(shaped(PATIENCE + 1))
    assert "Warning" == kind
    assert "Node node-7." in message
    assert "snapshotctl doctor" in message


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(shaped(PATIENCE - 1), id="too-early"),
        pytest.param(shaped(PATIENCE + 1, notes=SPOKEN), id="an-agent-spoke"),
    ],
)
def test_nothing_is_said(pod):
    assert [] == said(pod)
