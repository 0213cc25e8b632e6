"""The table of how long the new workers of a graph's service wait."""

import copy
from datetime import UTC, datetime, timedelta

import pytest

from contract.api import keys
from contract.api.states import StartupPolicy
from contract.config.values import values_from
from controller.graphs.actions import ApplyDeployment
from controller.graphs.observed import Observed, Standing
from controller.graphs.plan import plan
from controller.graphs.services import services_of
from controller.graphs.waits import NO_WAIT, SETTLE_SECONDS, Wait, Waits

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
VALUES = values_from({"waitTimeout": "10m"})
LIMIT = 600.0
NAME = "checkpoint-a"


def graph(worker=None, status=None, **fields):
    checkpoint = {"enabled": True, "startupPolicy": "WaitForCheckpoint", **(worker or {})}
    main = {"image": "i:1", "args": ["run"]}
    service = {"componentType": "worker", "replicas": 2, "extraPodSpec": {"mainContainer": main}}
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.GRAPH_KIND,
        "metadata": {"name": "demo", "namespace": "ns", "uid": "u", "generation": 3, "resourceVersion": "7"},
        "spec": {"services": {"Worker": {**service, "checkpoint": checkpoint, **fields}}},
        "status": status or {},
    }


def service_of(**parts):
    (found,) = services_of(graph(**parts), StartupPolicy.IMMEDIATE)
    return found


def ago(seconds):
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def since(seconds, name=NAME):
    return {"Worker": {"checkpointName": name, "ready": False, "waitingSince": ago(seconds)}}


def ready_since(seconds):
    entry = {"type": "Ready", "status": "True", "lastTransitionTime": ago(seconds)}
    return {"metadata": {"name": NAME}, "status": {"phase": "Ready", "conditions": [entry]}}


def waiting(seconds):
    return Wait(LIMIT - seconds, NOW - timedelta(seconds=seconds), LIMIT)


@pytest.mark.parametrize(
    ("expected", "before"),
    [
        pytest.param(waiting(0), {}, id="new"),
        pytest.param(waiting(0), {"Worker": {"checkpointName": NAME, "ready": True}}, id="was-ready"),
        pytest.param(waiting(30), since(30), id="waits"),
        pytest.param(waiting(0), since(30, "checkpoint-older"), id="other-generation"),
        pytest.param(waiting(0), since(-3600), id="time-of-the-future"),
        pytest.param(waiting(LIMIT - 1), since(LIMIT - 1), id="nearly-over"),
        pytest.param(waiting(LIMIT), since(LIMIT), id="over"),
        pytest.param(Wait(0.0, NOW - timedelta(days=2), LIMIT), since(172800), id="long-over"),
    ],
)
def test_how_long_the_checkpoint_is_waited_for(expected, before):
    found = Waits(before, NOW, LIMIT).of(service_of(), NAME, Standing.WAITING, None)

    assert expected == found
    assert (expected.left == 0) == found.in_vain


@pytest.mark.parametrize(
    ("expected", "checkpoint"),
    [
        pytest.param(SETTLE_SECONDS, ready_since(0), id="now"),
        pytest.param(SETTLE_SECONDS - 2, ready_since(2), id="a-moment-ago"),
        pytest.param(0.0, ready_since(SETTLE_SECONDS), id="settled"),
        pytest.param(0.0, ready_since(3600), id="long-ago"),
        pytest.param(SETTLE_SECONDS + 1, ready_since(-1), id="clock-a-little-ahead"),
        pytest.param(0.0, ready_since(-3600), id="clock-far-ahead"),
        pytest.param(0.0, {"metadata": {}, "status": {"phase": "Ready"}}, id="no-condition"),
    ],
)
def test_workers_start_a_moment_after_their_checkpoint_is_ready(expected, checkpoint):
    """A webhook replica's copy may lag ours, so a pod made at once might start cold."""
    found = Waits({}, NOW, LIMIT).of(service_of(), NAME, Standing.READY, checkpoint)

    assert (Wait(left=expected), False) == (found, found.in_vain)


@pytest.mark.parametrize(
    ("service", "standing"),
    [
        pytest.param(service_of(worker={"startupPolicy": "Immediate"}), Standing.WAITING, id="immediate"),
        pytest.param(service_of(worker={"startupPolicy": "Immediate"}), Standing.READY, id="immediate-ready"),
        pytest.param(service_of(worker={"enabled": False}), Standing.WAITING, id="no-checkpoint"),
        pytest.param(service_of(replicas=0), Standing.WAITING, id="no-workers"),
        pytest.param(service_of(), Standing.FAILED, id="failed"),
        pytest.param(service_of(), Standing.NONE, id="none"),
    ],
)
def test_who_does_not_wait(service, standing):
    assert NO_WAIT == Waits(since(30), NOW, LIMIT).of(service, NAME, standing, ready_since(0))


def run(obj, checkpoint=None, live=None, now=NOW):
    observed = Observed(
        graph=obj,
        deployments={"demo-worker": live} if live else {},
        taken={},
        checkpoint=lambda _: checkpoint,
        referred={"qwen": "qwen"} if checkpoint else {},
        labelled=(),
    )
    return plan(observed, now, VALUES)


def applied(step):
    return [action.body["spec"].get("replicas") for action in step.actions if isinstance(action, ApplyDeployment)]


def creating(message="0/3 nodes are available: 3 Insufficient nvidia.com/gpu"):
    return {"metadata": {"name": NAME}, "status": {"phase": "Creating", "message": message}}


def live_of(step, replicas):
    (body,) = [copy.deepcopy(each.body) for each in step.actions if isinstance(each, ApplyDeployment)]
    body["metadata"] |= {"uid": "d", "generation": 1}
    body["spec"]["replicas"] = replicas
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
    return body | {"status": {"observedGeneration": 1, **counts}}


def condition(step, kind):
    (found,) = [entry for entry in step.status["conditions"] if entry["type"] == kind]
    return found


def test_from_waiting_to_cold_to_ready():
    """What a controller knows it reads off the status, so each pass may be another process's."""
    first = run(graph(), creating())
    live = live_of(first, 0)
    early = run(graph(status=first.status), creating(), live, NOW + timedelta(seconds=100))
    late = run(graph(status=first.status), creating(), live, NOW + timedelta(seconds=LIMIT))
    cold, running = graph(status=late.status), live_of(late, 2)
    after = run(cold, creating(), running, NOW + timedelta(days=1))
    over = run(cold, ready_since(0), running, NOW)

    assert [0] == applied(first)
    assert LIMIT == first.requeue_after
    assert ((), LIMIT - 100) == (early.actions, early.requeue_after)
    assert [2] == applied(late)
    said = condition(late, "StartedCold")
    assert ("True", "WaitTimedOut") == (said["status"], said["reason"])
    assert "waitTimeout" in said["message"]
    assert "Insufficient nvidia.com/gpu" in said["message"]
    assert ["StartedCold"] == [note.reason for note in late.events if note.type == "Warning"]
    # Its workers run: nothing is done or said again, and nothing is done when the checkpoint is there at last.
    assert ((), (), None) == (after.actions, after.events, after.requeue_after)
    assert ((), None, "successful") == (over.actions, over.requeue_after, over.status["state"])
    assert ("False", "CheckpointReady") == tuple(condition(over, "StartedCold")[key] for key in ("status", "reason"))
    assert "waitingSince" not in over.status["checkpoints"]["Worker"]


def test_an_older_generation_serves_on_until_the_new_one_has_waited_long_enough():
    running = live_of(run(graph(), ready_since(60)), 2)
    newer = graph(envs=[{"name": "A", "value": "b"}])
    waits = run(newer, creating(), running)
    late = run({**newer, "status": waits.status}, creating(), running, NOW + timedelta(seconds=LIMIT))

    assert ([], "waiting_for_checkpoint") == (applied(waits), condition(waits, "Ready")["reason"])
    assert [2] == applied(late)


def test_a_reference_to_nothing_is_not_waited_for_for_ever():
    obj = graph(worker={"checkpointRef": "qwen"})
    first = run(obj)
    late = run({**obj, "status": first.status}, now=NOW + timedelta(seconds=LIMIT))

    assert ([0], [2]) == (applied(first), applied(late))
    assert "qwen" in condition(late, "StartedCold")["message"]


def test_a_new_wait_after_a_failure_says_so():
    """Not Ready: the condition of the last wait must not say that it is."""
    failed = run(graph(), {"metadata": {"name": NAME}, "status": {"phase": "Failed", "message": "criu said no"}})
    again = run(graph(status=failed.status), creating(), live_of(failed, 2))

    assert "CheckpointFailed" == condition(failed, "StartedCold")["reason"]
    assert ("False", "waiting_for_checkpoint") == tuple(
        condition(again, "StartedCold")[key] for key in ("status", "reason")
    )


@pytest.mark.parametrize(
    ("expected", "age", "replicas"),
    [
        pytest.param([], 0, 0, id="just-ready"),
        pytest.param([], 1, 0, id="a-second"),
        pytest.param([2], 3, 0, id="settled"),
        pytest.param([2], 3600, 0, id="long-ago"),
    ],
)
def test_scaling_up_waits_for_the_webhooks(expected, age, replicas):
    held = live_of(run(graph(), creating()), replicas)
    step = run(graph(), ready_since(age), held)

    assert expected == applied(step)
    assert (None if expected else SETTLE_SECONDS - age) == step.requeue_after
    assert step.status["checkpoints"]["Worker"]["ready"]
