"""The condition and the label that say what became of a pod."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.executor.api import ExecutionResult
from agent.pods.report import restore_patch
from agent.pods.restored import outcome_patch
from contract.api import keys
from contract.api.states import RestoreStatus
from contract.api.times import format_time
from tests.support.builders import agent
from tests.support.builders.agent import FIRST, RESTORED, running

NOW = datetime(2026, 1, 31, 10, 0, 0, tzinfo=UTC)
FAILED = ExecutionResult(ok=False, reason="restore-failed", message="criu said no")
DONE, LOST, GOING = RestoreStatus.COMPLETED, RestoreStatus.FAILED, RestoreStatus.IN_PROGRESS
PARKED = RestoreStatus.PARKED


def pod(condition=None, **said):
    """A pod of two containers to restore, and what is said of them already."""
    mount = [{"name": keys.CONTROL_VOLUME, "mountPath": keys.CONTROL_DIR}]
    notes = {keys.ANN_TARGET_CONTAINERS: "main,side"}
    notes |= {keys.ANN_RESTORE_STATUS_PREFIX + name: word.value for name, word in said.items()}
    containers = [{"name": name, "volumeMounts": mount} for name in ("main", "side")]
    found = agent.target(running(), annotations=notes, containers=containers)
    found["status"]["conditions"] = [condition] if condition else []
    return found


def said(patch):
    """Status, reason and label of a patch; None if it is empty."""
    if not patch:
        return None
    (entry,) = patch["status"]["conditions"]
    return entry["status"], entry["reason"], patch["metadata"]["labels"][keys.LABEL_OUTCOME]


@pytest.mark.parametrize(
    ("expected", "before", "status", "outcome"),
    [
        pytest.param(("True", "Restored", "restored"), pod(side=DONE), DONE, RESTORED, id="the last one"),
        pytest.param(None, pod(), DONE, RESTORED, id="one of two"),
        pytest.param(("False", "restore-failed", "cold"), pod(), LOST, FAILED, id="one failed"),
        pytest.param(("False", "restore-failed", "cold"), pod(side=DONE), LOST, FAILED, id="one failed after another"),
        pytest.param(None, pod(side=LOST), DONE, RESTORED, id="another failed before"),
        pytest.param(("Unknown", "Restoring", None), pod(main=DONE, side=DONE), GOING, FAILED, id="once more"),
        pytest.param(("Unknown", "Parked", "parked"), pod(side=DONE), PARKED, RESTORED, id="parked"),
        pytest.param(None, pod(side=LOST), PARKED, RESTORED, id="parked beside a failure"),
        pytest.param(("True", "Restored", "restored"), pod(main=PARKED, side=DONE), DONE, RESTORED, id="woken"),
        pytest.param(None, pod(side=LOST), GOING, FAILED, id="goes on beside a failure"),
        pytest.param(("True", "Restored", "restored"), pod(main=LOST, side=DONE), DONE, RESTORED, id="after a restart"),
    ],
)
def test_what_a_pod_is(expected, before, status, outcome):
    assert expected == said(outcome_patch(before, "main", status, outcome, NOW))


@pytest.mark.parametrize(
    ("expected", "status"),
    [pytest.param("2026-01-01T00:00:00Z", "False", id="stays"), pytest.param(format_time(NOW), "True", id="turns")],
)
def test_the_time_is_that_of_the_last_turn(expected, status):
    before = {"type": keys.CONDITION_RESTORED, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    patch = outcome_patch(pod(before), "main", LOST, FAILED, NOW)

    assert expected == patch["status"]["conditions"][0]["lastTransitionTime"]


def test_the_reason_is_one_of_the_closed_list_and_the_message_is_bounded():
    outcome = ExecutionResult(ok=False, reason="something-else", message="x" * 10_000)
    patch = restore_patch(agent.target(), "main", FIRST, LOST, outcome, NOW)
    (entry,) = patch["status"]["conditions"]

    assert "internal-error" == entry["reason"]
    assert len(entry["message"]) <= 1024


def test_all_is_written_at_once_and_never_after_a_final_report():
    patch = restore_patch(agent.target(), "main", FIRST, DONE, RESTORED, NOW)
    notes = patch["metadata"]["annotations"]
    again = agent.target(annotations=notes)

    assert "completed" == notes[keys.ANN_RESTORE_STATUS_PREFIX + "main"]
    assert ("True", "Restored", "restored") == said(patch)
    assert restore_patch(again, "main", FIRST, LOST, FAILED, NOW + timedelta(seconds=1)) is None
