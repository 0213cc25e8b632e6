"""The table of what is done for a graph, from what is there."""

import copy
from datetime import timedelta

import pytest

from contract.api import keys
from contract.config.values import values_from
from controller.graphs.act import merge_patch
from controller.graphs.actions import ApplyDeployment, CreateCheckpoint, DeleteDeployment
from controller.graphs.plan import plan
from tests.support.builders.graphs import (
    AUTO,
    DEPLOYMENT,
    NOW,
    VALUES,
    WAIT,
    WORKER,
    applied,
    auto,
    condition,
    created,
    graph,
    in_phase,
    live,
    observed,
    of,
    run,
    service,
)


def test_immediate_makes_both_and_the_pods_are_candidates_from_the_first():
    step = run(AUTO)
    (checkpoint,) = of(step, CreateCheckpoint)
    body = applied(step)
    name = checkpoint.body["metadata"]["name"]

    assert [CreateCheckpoint, ApplyDeployment] == [type(action) for action in step.actions]
    assert 2 == body["spec"]["replicas"]
    assert name == body["spec"]["template"]["metadata"]["annotations"][keys.ANN_CHECKPOINT_NAME]
    assert {"checkpointName": name, "ready": False} == {
        key: step.status["checkpoints"][WORKER][key] for key in ("checkpointName", "ready")
    }
    assert "pending" == step.status["state"]


@pytest.mark.parametrize("phase", ["Pending", "Creating", "Ready", "Failed"])
def test_what_becomes_of_the_checkpoint_changes_nothing_in_the_template(phase):
    checkpoint = in_phase(created(AUTO), phase)
    step = run(AUTO, checkpoints=[checkpoint], deployments=[live(applied(run(AUTO)))])

    assert () == step.actions
    assert (phase == "Ready") == step.status["checkpoints"][WORKER]["ready"]
    assert "successful" == step.status["state"]


@pytest.mark.parametrize(
    ("expected", "phase"),
    [
        pytest.param(0, None, id="absent"),
        pytest.param(0, "Pending", id="pending"),
        pytest.param(0, "Creating", id="creating"),
        pytest.param(2, "Ready", id="ready"),
        pytest.param(2, "Failed", id="failed"),
    ],
)
def test_workers_wait(expected, phase):
    step = run(WAIT, checkpoints=[in_phase(created(WAIT), phase)] if phase else [])

    assert expected == applied(step)["spec"]["replicas"]
    assert (expected == 0) == (condition(step, "Ready")[1] == "waiting_for_checkpoint")
    assert (phase == "Failed") == any(entry["type"] == "StartedCold" for entry in step.status["conditions"])


def test_a_failure_is_told_once_and_taken_back():
    checkpoint = created(WAIT)
    first = run(WAIT, checkpoints=[in_phase(checkpoint, "Failed", "criu said no")])
    told = {**WAIT, "status": first.status}
    again = run(told, checkpoints=[in_phase(checkpoint, "Failed", "criu said no")])
    over = run(told, checkpoints=[in_phase(checkpoint, "Ready")])

    assert ["StartedCold"] == [note.reason for note in first.events if note.type == "Warning"]
    assert "criu said no" in first.events[-1].message
    assert () == again.events
    assert ("False", "CheckpointReady") == condition(over, "StartedCold")


def test_running_workers_are_not_taken_away_while_the_next_checkpoint_is_made():
    """An image changed: the old generation serves on, untouched; once Ready the new one rolls out."""
    old = live(applied(run(WAIT, checkpoints=[in_phase(created(WAIT), "Ready")])))
    newer = copy.deepcopy(WAIT)
    newer["spec"]["services"][WORKER]["extraPodSpec"]["mainContainer"]["image"] = "i:2"
    checkpoint = created(newer)
    waiting = run(newer, deployments=[old])
    rolled = run(newer, deployments=[old], checkpoints=[in_phase(checkpoint, "Ready")])

    assert [CreateCheckpoint] == [type(action) for action in waiting.actions]
    assert ("False", "waiting_for_checkpoint") == condition(waiting, "Ready")
    assert 2 == applied(rolled)["spec"]["replicas"]


def test_replicas_left_out_are_not_ours():
    free = service(checkpoint=auto(startupPolicy="WaitForCheckpoint"))
    del free["replicas"]
    obj = graph(Worker=free)

    assert 0 == applied(run(obj))["spec"]["replicas"]
    assert "replicas" not in applied(run(obj, checkpoints=[in_phase(created(obj), "Ready")]))["spec"]


def test_stale_labels_do_not_reach_a_candidates_template():
    stale = {keys.LABEL_CHECKPOINT_ID: "x", keys.LABEL_RESTORE: "auto", "team": "x"}
    labels = applied(run(graph(Worker=service(checkpoint=auto(), labels=stale))))["spec"]["template"]["metadata"][
        "labels"
    ]

    assert "x" == labels["team"]
    assert not {keys.LABEL_CHECKPOINT_ID, keys.LABEL_RESTORE} & labels.keys()
    assert all(labels[key] for key in keys.GRAPH_LABELS)


@pytest.mark.parametrize(
    ("reason", "fatal", "body", "values"),
    [
        pytest.param("GMSSnapshotDisabled", True, {"gpuMemoryService": {"enabled": True}}, {}, id="gpu-memory-service"),
        pytest.param("NotAWorker", False, {"componentType": "frontend"}, {}, id="frontend"),
        pytest.param("TargetContainerMissing", False, {"checkpoint": auto(targetContainerName="x")}, {}, id="target"),
        pytest.param("CheckpointsDisabled", False, {}, {"checkpoint": {"enabled": False}}, id="switched-off"),
        pytest.param("CheckpointsDisabled", False, {}, {"webhook": {"excludedNamespaces": ["ns"]}}, id="excluded"),
    ],
)
def test_what_cannot_have_a_checkpoint(reason, fatal, body, values):
    """Most start without one; what would not be what the user asked for does not start at all."""
    obj = graph(Worker=service(**{"checkpoint": auto(startupPolicy="WaitForCheckpoint"), **body}))
    step = run(obj, values=values_from(values))

    assert ("False", reason) == condition(step, "CheckpointsResolved")
    assert [] == of(step, CreateCheckpoint)
    assert ([] if fatal else [2]) == [action.body["spec"]["replicas"] for action in of(step, ApplyDeployment)]
    assert fatal == (step.status["state"] == "failed")
    assert reason in [note.reason for note in step.events]


def test_names_that_are_taken():
    foreign = run(AUTO, taken={DEPLOYMENT: "ReplicaSet x"})
    twins = run(graph(worker=service(), Worker=service()))

    for step in (foreign, twins):
        assert () == step.actions
        assert ("False", "failed_to_reconcile_the_resources") == condition(step, "Ready")
        assert step.requeue_after
    assert "ReplicaSet x" in foreign.events[0].message


def test_groups_of_nodes_are_not_served():
    step = run(graph(Worker=service(multinode={"nodeCount": 2})))

    assert () == step.actions
    assert ("False", "failed_to_reconcile_the_resources") == condition(step, "Ready")
    assert "multinode.nodeCount" in step.events[0].message


def test_what_the_server_refuses_is_told_and_tried_again():
    name = created(WAIT)["metadata"]["name"]
    step = run(WAIT, refusals={f"DynamoCheckpoint/{name}": "quota exceeded"})
    worker = run(AUTO, refusals={f"Deployment/{DEPLOYMENT}": "spec is bad"})

    assert 2 == applied(step)["spec"]["replicas"]
    assert ("False", "CheckpointRefused") == condition(step, "CheckpointsResolved")
    assert ("True", "CheckpointFailed") == condition(step, "StartedCold")
    assert "failed" == worker.status["state"]
    assert step.requeue_after == worker.requeue_after == 30


def test_nothing_to_do_is_nothing_done():
    checkpoint, deployment = in_phase(created(AUTO), "Ready"), live(applied(run(AUTO)))
    first = run(AUTO, checkpoints=[checkpoint], deployments=[deployment])
    later = plan(
        observed({**AUTO, "status": first.status}, checkpoints=[checkpoint], deployments=[deployment]),
        NOW + timedelta(days=1),
        VALUES,
    )

    assert ((), None, (), None) == (later.actions, later.status, later.events, later.requeue_after)


def test_a_number_set_by_others_stays():
    deployment = live(applied(run(AUTO)), replicas=7)

    assert [] == of(run(AUTO, checkpoints=[created(AUTO)], deployments=[deployment]), ApplyDeployment)


def test_a_service_that_is_gone_takes_its_deployment_along():
    extra = live(applied(run(graph(Worker=service(), Other=service())), "demo-other"))
    step = run(graph(Worker=service()), deployments=[extra])

    assert [extra] == [action.deployment for action in of(step, DeleteDeployment)]


@pytest.mark.parametrize(
    ("expected", "old", "new"),
    [
        pytest.param({"a": None}, {"a": 1}, {}, id="gone"),
        pytest.param({"a": {"b": None, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": 2}}, id="nested"),
        pytest.param({"a": [2]}, {"a": [1]}, {"a": [2]}, id="list"),
    ],
)
def test_a_status_is_replaced_by_a_merge_patch(expected, old, new):
    assert expected == merge_patch(old, new)
