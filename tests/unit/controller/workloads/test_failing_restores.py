"""When restores of a checkpoint fail one like the other, and when that is over."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api import keys
from contract.api.reports import read_report
from contract.api.states import NOT_OF_THE_CHECKPOINT, AgentReason, CheckpointReason, ConditionType
from contract.api.times import format_micro_time
from controller.workloads.restores.failing import judge, newest_run
from tests.support.builders.opted_in import ID, NOW, ago, deleting, of_phase, pod, ready

PAUSE = 3600.0
LOST, OTHER = AgentReason.RESTORE_FAILED, AgentReason.ARTIFACT_CORRUPT
OK = ""
COUNTING = sorted(set(AgentReason) - NOT_OF_THE_CHECKPOINT)


def text(reason, seconds):
    """A report from *seconds* ago."""
    at = format_micro_time(NOW - timedelta(seconds=seconds))
    outcome = "failed" if reason else "restored"
    return json.dumps({"container": "main", "outcome": outcome, "reason": reason, "at": at}, separators=(",", ":"))


def users(*reasons, version="1", age=0.0, checkpoint_id=ID):
    """Pods with reports, the newest first, a second between them."""
    return [
        pod(
            "restore-shaped",
            f"web-{number}",
            labels={keys.LABEL_CHECKPOINT_ID: checkpoint_id},
            notes={keys.ANN_ARTIFACT_VERSION: version, keys.ANN_RESTORE_REPORT: text(reason, age + number)},
        )
        for number, reason in enumerate(reasons)
    ]


def marked(status, seconds, found=None):
    """A checkpoint whose condition turned *seconds* ago."""
    entry = {"type": ConditionType.RESTORES_FAILING.value, "status": status, "lastTransitionTime": ago(seconds)}
    found = found or ready()
    found["status"] |= {"conditions": [entry]}
    return found


def verdict(checkpoint, pods, in_a_row=3):
    found, again = judge(checkpoint, pods, NOW, in_a_row, PAUSE)
    return (found and (found.failing, found.reason)), again


FAILING = ((True, CheckpointReason.RESTORES_FAILING), PAUSE)
RESUMED = ((False, CheckpointReason.RESTORES_RESUMED), None)
QUIET = (None, None)


@pytest.mark.parametrize(
    ("expected", "checkpoint", "pods"),
    [
        pytest.param(QUIET, ready(), [], id="no pod"),
        pytest.param(QUIET, ready(), users(LOST, LOST), id="two of three"),
        pytest.param(FAILING, ready(), users(LOST, LOST, LOST), id="three"),
        pytest.param(FAILING, ready(), users(LOST, LOST, LOST, OK), id="three after a success"),
        pytest.param(QUIET, ready(), users(OK, LOST, LOST, LOST), id="a success since"),
        pytest.param(QUIET, ready(), users(LOST, LOST, OK, LOST), id="a success between"),
        pytest.param(QUIET, ready(), users(LOST, OTHER, LOST, LOST), id="another reason between"),
        pytest.param(FAILING, ready(), users(LOST, LOST, "already-started", LOST), id="what says nothing is left out"),
        pytest.param(QUIET, ready(), users(*["agent-died"] * 5), id="the agent's own failures"),
        pytest.param(QUIET, ready(), users(LOST, LOST, LOST, version="2"), id="of another version"),
        pytest.param(QUIET, ready(), users(LOST, LOST, LOST, checkpoint_id="x"), id="of another artifact"),
        pytest.param(QUIET, of_phase("Creating"), users(LOST, LOST, LOST), id="not Ready"),
        pytest.param(QUIET, deleting(ready()), users(LOST, LOST, LOST), id="being deleted"),
        pytest.param(QUIET, ready(), users(LOST, LOST, LOST, age=-3600), id="of the future"),
        pytest.param((None, PAUSE - 60), marked("True", 60), users(LOST, LOST, LOST), id="in the pause"),
        pytest.param((None, PAUSE - 60), marked("True", 60), [], id="in the pause, the pods are gone"),
        pytest.param((None, PAUSE), marked("True", -9000), [], id="the clock was set back"),
        pytest.param(RESUMED, marked("True", PAUSE), users(LOST, LOST, LOST), id="the pause is over"),
        pytest.param(QUIET, marked("False", 60), users(LOST, LOST, LOST, age=61), id="failures before the pause ended"),
        pytest.param(FAILING, marked("False", 60), users(LOST, LOST, LOST), id="failures since"),
    ],
)
def test_what_the_condition_becomes(expected, checkpoint, pods):
    assert expected == verdict(checkpoint, pods)


@pytest.mark.parametrize(
    ("expected", "checkpoint"),
    [pytest.param(QUIET, ready(), id="never failing"), pytest.param(RESUMED, marked("True", 1), id="ends at once")],
)
def test_it_can_be_switched_off(expected, checkpoint):
    assert expected == verdict(checkpoint, users(*[LOST] * 9), in_a_row=0)


def test_the_message_says_what_why_and_until_when():
    found, _ = judge(ready(), users(LOST, LOST, LOST), NOW, 3, PAUSE)

    assert "3 restores in a row failed as restore-failed, the last one in pod web-0" in found.message
    assert f"until {ago(-PAUSE)}" in found.message
    assert keys.ANN_ARTIFACT_VERSION in found.message


@given(st.lists(st.sampled_from([OK, *COUNTING, *sorted(NOT_OF_THE_CHECKPOINT)]), max_size=30), st.randoms())
def test_the_run_is_that_of_the_newest_whatever_the_order(reasons, random):
    """Compared with a plain walk from the newest report to the oldest."""
    entries = [(f"web-{n}", read_report(text(reason, n))) for n, reason in enumerate(reasons)]
    random.shuffle(entries)
    counted = [reason for reason in reasons if reason not in NOT_OF_THE_CHECKPOINT]
    length = 0
    while length < len(counted) and counted[length] and counted[length] == counted[0]:
        length += 1
    run = newest_run(entries)

    assert (length, counted[0] if length else None) == ((run.length, run.reason) if run else (0, None))
