"""The table of what is done for a graph, from what is there."""

import copy
from datetime import UTC, datetime, timedelta

import pytest

from contract import keys
from contract.automatic import automatic_name
from contract.states import StartupPolicy
from contract.values import values_from
from graphs.act import merge_patch
from graphs.actions import ApplyDeployment, CreateCheckpoint, DeleteCheckpoint, DeleteDeployment, PatchCheckpoint
from graphs.observed import Observed
from graphs.plan import orphans, plan
from graphs.services import services_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = values_from({})
WORKER = "Worker"
DEPLOYMENT = "demo-worker"


def service(**fields):
    main = {"image": "i:1", "args": ["run"]}
    return {"componentType": "worker", "replicas": 2, "extraPodSpec": {"mainContainer": main}, **fields}


def auto(**fields):
    return {"enabled": True, **fields}


def graph(status=None, **services):
    metadata = {"name": "demo", "namespace": "ns", "uid": "uid-1", "generation": 3, "resourceVersion": "7"}
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.GRAPH_KIND,
        "metadata": metadata,
        "spec": {"services": services},
        "status": status or {},
    }


def observed(obj, checkpoints=(), deployments=(), taken=None, refusals=None):
    by_name = {each["metadata"]["name"]: each for each in checkpoints}
    references = {s.wish.reference for s in services_of(obj, StartupPolicy.IMMEDIATE) if s.wish}
    referred = {each: each for each in references if each in by_name}
    labelled = tuple(c for c in checkpoints if keys.LABEL_GRAPH in c["metadata"].get("labels", {}))
    return Observed(
        graph=obj,
        deployments={each["metadata"]["name"]: each for each in deployments},
        taken=taken or {},
        checkpoint=by_name.get,
        referred=referred,
        labelled=labelled,
        refusals=refusals or {},
    )


def run(obj, values=VALUES, **there):
    return plan(observed(obj, **there), NOW, values)


def of(step, kind):
    return [action for action in step.actions if isinstance(action, kind)]


def applied(step, name=DEPLOYMENT):
    (found,) = [action.body for action in of(step, ApplyDeployment) if action.body["metadata"]["name"] == name]
    return found


def created(obj):
    """The checkpoint that a first pass makes."""
    (action,) = of(run(obj), CreateCheckpoint)
    body = copy.deepcopy(action.body)
    body["metadata"] |= {"uid": "c-1", "resourceVersion": "1"}
    return body


def in_phase(checkpoint, phase, message=""):
    return {**checkpoint, "status": {"phase": phase, "message": message}}


def live(body, replicas=2):
    """A Deployment as the server has it."""
    found = copy.deepcopy(body)
    found["metadata"] |= {"uid": "d-1", "generation": 1}
    found["spec"]["replicas"] = replicas
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
    found["status"] = {"observedGeneration": 1, **counts}
    return found


def condition(step, kind):
    (found,) = [entry for entry in step.status["conditions"] if entry["type"] == kind]
    return found["status"], found["reason"]


AUTO = graph(Worker=service(checkpoint=auto()))
WAIT = graph(Worker=service(checkpoint=auto(startupPolicy="WaitForCheckpoint")))


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


def test_stale_labels_do_not_reach_a_candidates_template():
    stale = {keys.LABEL_CHECKPOINT_ID: "x", keys.LABEL_RESTORE: "auto", "team": "x"}
    labels = applied(run(graph(Worker=service(checkpoint=auto(), labels=stale))))["spec"]["template"]["metadata"][
        "labels"
    ]

    assert "x" == labels["team"]
    assert not {keys.LABEL_CHECKPOINT_ID, keys.LABEL_RESTORE} & labels.keys()
    assert all(labels[key] for key in keys.GRAPH_LABELS)


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
