"""The checkpoints of a graph: what they are made of, and what becomes of them with the graph."""

import copy

import pytest

from contract.api import keys
from contract.config.values import load_values
from contract.pods.injected_tools import tools_for
from contract.pods.template_hash import automatic_name
from controller.graphs.actions import ApplyDeployment, CreateCheckpoint, DeleteCheckpoint, PatchCheckpoint
from controller.graphs.plan import orphans
from tests.support.builders.graphs import (
    AUTO,
    DEPLOYMENT,
    WORKER,
    applied,
    auto,
    condition,
    created,
    graph,
    in_phase,
    of,
    run,
    service,
)


@pytest.mark.parametrize(
    ("same", "change"),
    [
        pytest.param(True, {"replicas": 5}, id="replicas"),
        pytest.param(True, {"checkpoint": auto(deletionPolicy="Retain")}, id="policy"),
        pytest.param(False, {"envs": [{"name": "A", "value": "b"}]}, id="environment"),
        pytest.param(False, {"extraPodSpec": {"mainContainer": {"image": "i:2", "args": ["run"]}}}, id="image"),
        pytest.param(False, {"extraPodSpec": {"mainContainer": {"image": "i:1", "args": ["go"]}}}, id="args"),
    ],
)
def test_what_makes_a_new_generation(same, change):
    before, after = created(AUTO), created(graph(Worker=service(**{"checkpoint": auto(), **change})))

    assert same == (before["metadata"]["name"] == after["metadata"]["name"])


def test_the_frontend_has_no_part_in_the_generation():
    fronted = graph(Worker=service(checkpoint=auto()), Frontend={"componentType": "frontend", "replicas": 1})

    assert created(AUTO)["metadata"]["name"] == created(fronted)["metadata"]["name"]
    assert "annotations" not in applied(run(fronted), "demo-frontend")["spec"]["template"]["metadata"]


def test_the_automatic_checkpoint():
    found = created(AUTO)
    metadata = found["metadata"]
    checkpoint_id = metadata["labels"][keys.LABEL_CHECKPOINT_ID]

    assert automatic_name(checkpoint_id) == metadata["name"]
    assert ("demo", WORKER) == (metadata["labels"][keys.LABEL_GRAPH], metadata["labels"][keys.LABEL_COMPONENT])
    assert {
        keys.ANN_ARTIFACT_VERSION: "1",
        keys.ANN_AUTO_CHECKPOINT: "true",
        keys.ANN_DELETION_POLICY: "Delete",
        keys.ANN_WORKLOAD: f"Deployment/{DEPLOYMENT}",
    } == metadata["annotations"]
    assert [("uid-1", True)] == [(owner["uid"], owner["controller"]) for owner in metadata["ownerReferences"]]
    assert ("ns/demo", "generic") == (found["spec"]["identity"]["model"], found["spec"]["identity"]["backendFramework"])


@pytest.mark.parametrize(
    ("text", "injected"),
    [pytest.param("", False, id="default"), pytest.param("placeholder: {mode: inject}", True, id="inject")],
)
def test_tools_are_injected_as_placeholder_mode_says(text, injected):
    """Automatic as it is: one label is the promise for workloads, a graph names its placeholder image."""
    assert injected == (tools_for(created(AUTO), "stock:1", load_values(text), capture=True) is not None)


def test_a_retained_checkpoint_has_no_owner():
    assert "ownerReferences" not in created(graph(Worker=service(checkpoint=auto(deletionPolicy="Retain"))))["metadata"]


def test_the_captured_template_is_the_target_and_what_the_user_adds():
    added = {
        "metadata": {"labels": {"captured": "yes"}},
        "spec": {"nodeSelector": {"a": "b"}, "containers": [{"name": "main", "env": [{"name": "X", "value": "y"}]}]},
    }
    body = service(checkpoint=auto(job={"podTemplate": added}), labels={"team": "x"})
    body["extraPodSpec"]["containers"] = [{"name": "side", "image": "s"}]
    template = created(graph(Worker=body))["spec"]["job"]["podTemplateSpec"]

    assert {"team": "x", "captured": "yes"} == template["metadata"]["labels"]
    assert ["main"] == [each["name"] for each in template["spec"]["containers"]]
    assert ("i:1", "y") == (
        template["spec"]["containers"][0]["image"],
        template["spec"]["containers"][0]["env"][0]["value"],
    )
    assert {"a": "b"} == template["spec"]["nodeSelector"]


@pytest.mark.parametrize(
    ("expected", "probe"),
    [
        pytest.param("File", None, id="none"),
        pytest.param("File", "livenessProbe", id="liveness"),
        pytest.param("Probe", "readinessProbe", id="readiness"),
        pytest.param("Probe", "startupProbe", id="startup"),
    ],
)
def test_the_moment_of_capture(expected, probe):
    more = {probe: {"exec": {"command": ["true"]}}} if probe else {}

    assert expected == created(graph(Worker=service(checkpoint=auto(), **more)))["spec"]["job"]["readySignal"]


def test_a_reference_never_creates():
    obj = graph(Worker=service(checkpoint=auto(checkpointRef="qwen")))
    missing = run(obj)
    by_hand = {"metadata": {"name": "qwen", "uid": "q"}, "status": {"phase": "Ready", "checkpointID": "abc"}}
    found = run(obj, checkpoints=[by_hand])

    assert [ApplyDeployment] == [type(action) for action in missing.actions]
    assert ("False", "CheckpointNotFound") == condition(missing, "CheckpointsResolved")
    assert applied(missing) == applied(found)
    assert {
        "checkpointName": "qwen",
        "checkpointID": "abc",
        "identityHash": "abc",
        "ready": True,
        "phase": "Ready",
    } == (found.status["checkpoints"][WORKER])


@pytest.mark.parametrize(
    ("policy", "owners"),
    [pytest.param("Retain", [], id="retain"), pytest.param("Delete", ["uid-1"], id="delete")],
)
def test_a_changed_policy_reaches_checkpoints_of_all_generations(policy, owners):
    other = "Delete" if policy == "Retain" else "Retain"
    old = in_phase(created(graph(Worker=service(checkpoint=auto(deletionPolicy=other)))), "Ready")
    older = copy.deepcopy(old)
    older["metadata"]["name"] = "checkpoint-older"
    obj = graph(Worker=service(checkpoint=auto(deletionPolicy=policy)))
    step = run(obj, checkpoints=[old, older])
    patches = of(step, PatchCheckpoint)

    assert {old["metadata"]["name"], "checkpoint-older"} == {each.checkpoint["metadata"]["name"] for each in patches}
    for each in patches:
        assert policy == each.metadata["annotations"][keys.ANN_DELETION_POLICY]
        assert owners == [owner["uid"] for owner in each.metadata["ownerReferences"]]


def test_what_is_left_of_a_graph():
    own = created(AUTO)
    kept = created(graph(Worker=service(checkpoint=auto(deletionPolicy="Retain"))))
    going = copy.deepcopy(own)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    by_hand = {"metadata": {"name": "qwen", "labels": {keys.LABEL_GRAPH: "demo"}}}
    gone = orphans([own, kept, going, by_hand], "")

    assert [DeleteCheckpoint(own)] == [each for each in gone if isinstance(each, DeleteCheckpoint)]
    (released,) = [each for each in gone if isinstance(each, PatchCheckpoint)]
    assert {"labels": {keys.LABEL_GRAPH: None}, "ownerReferences": []} == released.metadata
    assert [] == orphans([own, kept, going, by_hand], "uid-1")


def test_a_graph_made_anew_inherits_nothing():
    before = created(AUTO)
    anew = copy.deepcopy(AUTO)
    anew["metadata"]["uid"] = "uid-2"
    step = run(anew, checkpoints=[before])

    assert [before] == [action.checkpoint for action in of(step, DeleteCheckpoint)]
    assert 1 == len(of(step, CreateCheckpoint))
