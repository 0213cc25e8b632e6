"""Views of Jobs and Pods: what is there is parsed, what is absent is empty."""

from datetime import UTC, datetime

import pytest

from contract.api.objects import Condition, ContainerState, JobView, PodView

TEN = datetime(2026, 1, 31, 10, tzinfo=UTC)


def job(**parts):
    return JobView({"metadata": {"name": "capture"}, **parts})


def pod(**parts):
    return PodView({"metadata": {"name": "capture-x"}, **parts})


def test_a_bare_object_has_nothing_but_its_name():
    bare = job()

    assert ("capture", {}, {}, {}) == (bare.name, bare.labels, bare.annotations, bare.conditions)
    assert (None, None, None, None) == (bare.created, bare.started, bare.completed, bare.deadline)
    assert (False, False, False, False) == (bare.is_complete, bare.is_failed, bare.had_pod, bare.is_deleting)
    assert {} == bare.template_annotations


def test_a_bare_pod_is_nowhere_and_has_no_containers():
    bare = pod(status=None, spec=None)

    assert ("", {}, (), ()) == (bare.node, bare.affinity, bare.init_containers, bare.containers)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        pytest.param("2026-01-31T10:00:00Z", TEN, id="time"),
        pytest.param(None, None, id="absent"),
        pytest.param("soon", None, id="malformed"),
    ],
)
def test_a_condition_is_parsed_with_its_time(since, expected):
    entry = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "lastTransitionTime": since}
    found = job(status={"conditions": [entry]})

    assert {"Failed": Condition("True", "DeadlineExceeded", "", expected)} == found.conditions
    assert found.is_failed


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param("True", True, id="true"),
        pytest.param("False", False, id="false"),
        pytest.param("Unknown", False, id="unknown"),
    ],
)
def test_only_true_is_true(status, expected):
    assert expected is job(status={"conditions": [{"type": "Complete", "status": status}]}).is_complete


def test_of_two_conditions_of_one_type_the_first_counts():
    entries = [{"type": "Complete", "status": "True"}, {"type": "Complete", "status": "False"}]

    assert job(status={"conditions": entries}).is_complete


@pytest.mark.parametrize("count", ["active", "succeeded", "failed"])
def test_any_count_says_that_there_was_a_pod(count):
    assert job(status={count: 1}).had_pod


def test_states_of_containers_are_the_runtimes_words():
    waits = {"name": "main", "image": "i:1", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
    ended = {"name": "tools", "state": {"terminated": {"reason": "Error", "exitCode": 3}}}
    found = pod(status={"containerStatuses": [waits], "initContainerStatuses": [ended]})

    (main,), (tools,) = found.containers, found.init_containers
    assert ("main", "i:1", ContainerState("ImagePullBackOff", "no")) == (main.name, main.image, main.waiting)
    assert (ContainerState(), ContainerState("Error", "", 3)) == (tools.waiting, tools.terminated)
