"""Since when nobody wants a checkpoint whose capture waits for a node, beside a scripted server."""

import asyncio

import pytest

from contract.api import keys
from controller.workloads.demand import LOOK_SECONDS, YOUNG_SECONDS, mark, waits_for_node
from tests.support.builders.opted_in import NAME, NOW, ago, deleting, of_phase, pod
from tests.unit.controller.workloads.test_dispatcher import Scene


def made(phase="Creating", *, workload="Deployment/web", unwanted=None, age=60, automatic=True, scheduled=None):
    notes = {keys.ANN_AUTO_CHECKPOINT: "true"} if automatic else {}
    notes |= {keys.ANN_WORKLOAD: workload} if workload else {}
    notes |= {keys.ANN_UNWANTED: ago(unwanted)} if unwanted is not None else {}
    conditions = [{"type": "Scheduled", "status": scheduled}] if scheduled else []
    found = of_phase(phase, annotations=notes, status={"conditions": conditions})
    found["metadata"]["creationTimestamp"] = ago(age)
    return found


@pytest.mark.parametrize(
    ("expected", "checkpoint"),
    [
        pytest.param(True, made(), id="creating"),
        pytest.param(True, made("Pending"), id="pending"),
        pytest.param(True, made(None), id="new"),
        pytest.param(True, made(scheduled="False"), id="unschedulable"),
        pytest.param(False, made(scheduled="True"), id="has-a-node"),
        pytest.param(False, made("Ready"), id="ready"),
        pytest.param(False, made("Failed"), id="failed"),
        pytest.param(False, made(automatic=False), id="made-by-hand"),
        pytest.param(False, made(workload=""), id="of-no-workload"),
        pytest.param(False, deleting(made()), id="deleting"),
    ],
)
def test_whose_capture_waits_for_a_node(expected, checkpoint):
    assert expected == waits_for_node(checkpoint)


@pytest.mark.parametrize(
    ("expected", "unwanted", "wanted"),
    [
        pytest.param(None, None, True, id="wanted"),
        pytest.param({keys.ANN_UNWANTED: "2026-01-31T10:00:00Z"}, None, False, id="unwanted-from-now-on"),
        pytest.param(None, 30, False, id="unwanted-still"),
        pytest.param({keys.ANN_UNWANTED: None}, 30, True, id="wanted-again"),
    ],
)
def test_what_is_noted(expected, unwanted, wanted):
    assert expected == mark(made(unwanted=unwanted), NOW, wanted=wanted)


ENDED = pod() | {"status": {"phase": "Succeeded"}}
THERE = {"kind": "Deployment", "metadata": {"name": "web"}}
GOING = {"kind": "Deployment", "metadata": {"name": "web", "deletionTimestamp": ago(1)}}
SINCE = {keys.ANN_UNWANTED: ago(0)}
NO_MORE = {keys.ANN_UNWANTED: None}


@pytest.mark.parametrize(
    ("expected", "again", "checkpoint", "users", "workload"),
    [
        pytest.param(SINCE, LOOK_SECONDS, made(), [], None, id="gone"),
        pytest.param(SINCE, LOOK_SECONDS, made(), [], GOING, id="going"),
        pytest.param(SINCE, LOOK_SECONDS, made(), [ENDED], None, id="its-pod-has-ended"),
        pytest.param(SINCE, LOOK_SECONDS, made(workload="Pod/bare"), [], None, id="a-pod-that-nobody-owned"),
        pytest.param(None, LOOK_SECONDS, made(unwanted=9), [], None, id="gone-for-some-time"),
        pytest.param(None, LOOK_SECONDS, made(), [], THERE, id="scaled-to-zero"),
        pytest.param(None, LOOK_SECONDS, made(workload="Rollout/web"), [], None, id="a-kind-that-nobody-can-read"),
        pytest.param(None, YOUNG_SECONDS - 2, made(age=2), [], None, id="made-before-its-workload"),
        pytest.param(None, None, made(), [pod()], None, id="named-by-a-pod"),
        pytest.param(NO_MORE, None, made(unwanted=9), [pod()], None, id="named-again"),
        pytest.param(NO_MORE, LOOK_SECONDS, made(unwanted=9), [], THERE, id="deployed-again"),
        pytest.param(NO_MORE, None, made("Failed", unwanted=999), [pod()], None, id="given-up-and-named-again"),
        pytest.param(None, None, made("Failed", unwanted=999), [], THERE, id="given-up-and-deployed-without-pods"),
        pytest.param(NO_MORE, None, made("Ready", unwanted=999), [], None, id="ready-in-time"),
        pytest.param(None, None, made(scheduled="True"), [], None, id="has-a-node"),
    ],
)
def test_who_wants_it(expected, again, checkpoint, users, workload):
    scene = Scene(checkpoint=checkpoint)
    if workload:
        scene.server.stored["Deployment", "web"] = workload
    found = asyncio.run(scene.desk._maker._interest.look(checkpoint, users))

    assert ([] if expected is None else [expected]) == [
        body["metadata"]["annotations"] for _, _, body, _ in scene.server.patched
    ]
    assert again == found


def test_a_new_leader_looks_at_what_no_pod_names():
    server = Scene(checkpoint=made()).run()

    assert [(NAME, SINCE)] == [(name, body["metadata"]["annotations"]) for _, name, body, _ in server.patched]
