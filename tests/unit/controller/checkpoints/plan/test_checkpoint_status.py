"""A status in planning is a value: changes make new ones, and what the informer holds is never touched."""

import copy

import pytest

from contract.api.states import CheckpointReason, ConditionType
from controller.checkpoints.plan.status import Status
from controller.checkpoints.reasons import Problem
from tests.support.builders.checkpoints import (
    AGENT_MOUNT,
    NOW,
    POD_MOUNT,
    ago,
    condition,
    creating,
    failed,
    job,
    labelled,
    pending,
    status_of,
    step,
)

PROBLEM = Problem(CheckpointReason.JOB_FORBIDDEN, "a quota")
VERSIONS = [{"version": "1", "size": 1}, {"version": "2", "size": 2}]


def of(**fields):
    return Status.of(labelled(status=status_of("Pending", **fields)), NOW)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda status: status.with_fields(jobName="j", versions=None), id="fields"),
        pytest.param(lambda status: status.with_version({"version": "1", "size": 7}), id="version"),
        pytest.param(lambda status: status.without_version("1"), id="without version"),
        pytest.param(lambda status: status.unmet(ConditionType.SCHEDULED, PROBLEM), id="condition that was there"),
        pytest.param(lambda status: status.unmet(ConditionType.ADOPTED, PROBLEM), id="new condition"),
        pytest.param(lambda status: status.failed(PROBLEM), id="failed"),
        pytest.param(lambda status: status.restarted(), id="restarted"),
    ],
)
def test_a_change_leaves_the_status_before_it_as_it_was(change):
    status = of(versions=copy.deepcopy(VERSIONS), conditions=[condition("Scheduled")])
    untouched = copy.deepcopy(status)

    changed = change(status)

    assert untouched == status
    assert untouched != changed


def test_a_version_keeps_its_place_and_a_last_one_leaves_no_empty_list():
    status = of(versions=VERSIONS).with_version({"version": "1", "size": 7})

    assert ["1", "2"] == [each["version"] for each in status.versions]
    assert 7 == status.versions[0]["size"]
    assert "versions" not in status.without_version("1").without_version("2").fields


def test_a_condition_that_does_not_turn_keeps_its_time():
    status = of(conditions=[condition("Scheduled", "False")])

    same = status.unmet(ConditionType.SCHEDULED, PROBLEM).condition(ConditionType.SCHEDULED)
    turned = status.with_condition(ConditionType.SCHEDULED, met=True, reason=CheckpointReason.SCHEDULED)

    assert ago(60) == same["lastTransitionTime"]
    assert ago(0) == turned.condition(ConditionType.SCHEDULED)["lastTransitionTime"]


def test_what_ends_as_it_began_is_no_change_and_has_no_event():
    settled, events = of().finish()
    again = Status.of(labelled(status=settled), NOW)

    assert () == events
    assert (None, ()) == again.finish()


@pytest.mark.parametrize(
    ("obj", "values", "around"),
    [
        pytest.param(labelled(), AGENT_MOUNT, {}, id="new"),
        pytest.param(pending(), POD_MOUNT, {}, id="no claim"),
        pytest.param(creating(), AGENT_MOUNT, {"job": job()}, id="creating"),
        pytest.param(creating(), AGENT_MOUNT, {}, id="job gone"),
        pytest.param(labelled(status=failed("DuplicateCheckpointID")), AGENT_MOUNT, {}, id="failed"),
    ],
)
def test_a_plan_leaves_what_was_observed_as_it_was(obj, values, around):
    before = copy.deepcopy((obj, around))

    assert step(obj, values, **around).status is not None
    assert before == (obj, around)
