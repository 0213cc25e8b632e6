"""Rows, trees and pages made from objects."""

import time
from datetime import UTC, datetime

import pytest

from contract.api import keys
from snapshotctl.live.adoption import judged
from snapshotctl.view.details import STUCK_PAGE, next_steps
from snapshotctl.view.inventory import (
    CHECKPOINT_HEADERS,
    Inventory,
    checkpoint_facts,
    checkpoint_row,
    origin_of,
    versions,
    workload_of,
)
from snapshotctl.view.tree import BY_HAND, as_text, forest
from tests.support.builders.objects import ID, checkpoint, pod, ready
from tests.support.pages import sections

NOW = datetime(2026, 1, 31, tzinfo=UTC)
DIGEST = "blake3:" + "a" * 64


def user(name="web-0", of="qwen", version="1", **labels):
    """A pod that restores."""
    own = {keys.LABEL_RESTORE: "enabled", keys.LABEL_IS_RESTORE_TARGET: "true", **labels}
    notes = {keys.ANN_CHECKPOINT: of, keys.ANN_ADMISSION: "restore-shaped", keys.ANN_ARTIFACT_VERSION: version}
    obj = pod(labels=own, annotations=notes)
    obj["metadata"]["name"] = name
    return obj


def owned(obj, kind, name, **labels):
    obj["metadata"]["ownerReferences"] = [{"kind": kind, "name": name, "controller": True}]
    obj["metadata"].setdefault("labels", {}).update(labels)
    return obj


@pytest.mark.parametrize(
    ("name", "obj"),
    [
        pytest.param("Pod/web-0", user(), id="nobodys"),
        pytest.param("StatefulSet/web", owned(user(), "StatefulSet", "web"), id="owner"),
        pytest.param(
            "Deployment/web", owned(user(), "ReplicaSet", "web-5c4b", **{"pod-template-hash": "5c4b"}), id="deployment"
        ),
        pytest.param("ReplicaSet/web-5c4b", owned(user(), "ReplicaSet", "web-5c4b"), id="replica-set-alone"),
        pytest.param(
            "DynamoGraphDeployment/llm",
            owned(user(), "ReplicaSet", "x-1", **{keys.LABEL_GRAPH: "llm", "pod-template-hash": "1"}),
            id="graph",
        ),
    ],
)
def test_what_a_pod_belongs_to(name, obj):
    assert name == workload_of(obj)


@pytest.mark.parametrize(
    ("name", "obj"),
    [
        pytest.param("", ready(), id="by-hand"),
        pytest.param("Deployment/web", ready(annotations={keys.ANN_WORKLOAD: "Deployment/web"}), id="automatic"),
        pytest.param("DynamoGraphDeployment/llm", owned(ready(), "DynamoGraphDeployment", "llm"), id="graph"),
        pytest.param(
            "DynamoGraphDeployment/llm", ready(labels={keys.LABEL_GRAPH: "llm"}), id="retained-by-a-graph-that-went"
        ),
    ],
)
def test_what_a_checkpoint_was_made_for(name, obj):
    assert name == origin_of(obj)


def test_a_status_without_a_list_of_versions_has_the_captured_one():
    status = {"phase": "Ready", "checkpointID": ID, "jobName": f"checkpoint-job-{ID}-7", "manifestDigest": DIGEST}
    assert ["7"] == [each["version"] for each in versions(checkpoint(status=status | {"size": 5}))]
    assert [] == versions(checkpoint())


def test_ended_pods_use_nothing():
    gone, there = user("gone"), user("there")
    gone["status"] = {"phase": "Succeeded"}
    assert ["there"] == checkpoint_facts(ready(), Inventory((ready(),), (gone, there)))["usedBy"]


def test_the_forest_has_every_pod_once():
    """Below its version; a version that is gone from storage still has its pods; what never restores stands aside."""
    status = {"phase": "Ready", "checkpointID": ID, "versions": [{"version": "2", "manifestDigest": DIGEST, "size": 9}]}
    cold = user("cold")
    del cold["metadata"]["labels"][keys.LABEL_IS_RESTORE_TARGET]
    cold["metadata"]["annotations"][keys.ANN_ADMISSION] = "image-mismatch"
    lost = user("lost", of="none")
    pods = (user("new", version="2"), user("old", version="1"), cold, lost)
    (namespace,) = forest(Inventory((checkpoint("qwen", status=status),), pods))
    assert ["Pod/lost", BY_HAND] == [each["workload"] for each in namespace["workloads"]]
    text = as_text([namespace])
    assert all(1 == text.count(f" {name}  ") for name in ("new", "old", "cold", "lost"))
    assert "version 1  not in storage" in text
    assert "image-mismatch" in text


def test_a_checkpoint_that_one_workload_uses_stands_below_it():
    users = (owned(user("a"), "StatefulSet", "web"), owned(user("b"), "StatefulSet", "web"))
    (namespace,) = forest(Inventory((ready(),), users))
    assert ["StatefulSet/web"] == [each["workload"] for each in namespace["workloads"]]


def test_thousands_are_put_together_at_once(figure):
    checkpoints = tuple(ready(f"c-{number}") for number in range(5000))
    inventory = Inventory(checkpoints, tuple(user(f"p-{number}", of=f"c-{number}") for number in range(2000)))
    started = time.perf_counter()
    forest(inventory)
    figure(f"a forest of 5,000 checkpoints and 2,000 pods in {time.perf_counter() - started:.2f} s")


def leaving(obj, *finalizers):
    """Deleted, and still there."""
    obj["metadata"] |= {"deletionTimestamp": "2026-01-31T10:00:00Z", "finalizers": list(finalizers)}
    return obj


@pytest.mark.parametrize(
    ("words", "obj"),
    [
        pytest.param("nvidia.com/dynamo-checkpoint-name: qwen", ready(), id="ready"),
        pytest.param("by themselves", ready(annotations={keys.ANN_AUTO_CHECKPOINT: "true"}), id="automatic"),
        pytest.param(
            "snapshot-artifact-version=4 --overwrite",
            checkpoint(
                status={"phase": "Failed", "versions": [{"version": "3", "manifestDigest": DIGEST}]},
                annotations={keys.ANN_ARTIFACT_VERSION: "2"},
            ),
            id="failed",
        ),
        pytest.param("do this", checkpoint(), id="pending"),
        pytest.param("writes the file ready-for-snapshot", checkpoint(status={"phase": "Creating"}), id="signal-file"),
        pytest.param(
            "probes",
            checkpoint(status={"phase": "Creating"}, annotations={keys.ANN_AUTO_CHECKPOINT: "true"}),
            id="signal-probe",
        ),
        pytest.param("spec.job.readySignal: Probe", checkpoint(status={"phase": "Creating"}), id="no such file, ever"),
        pytest.param(
            f"`kubectl delete job checkpoint-job-{ID}-1 -n ns`",
            checkpoint(
                status={"phase": "Creating", "checkpointID": ID, "jobName": f"checkpoint-job-{ID}-1"},
                annotations={keys.ANN_ARTIFACT_VERSION: "2"},
            ),
            id="another version is asked for",
        ),
        pytest.param(
            "kubectl describe job j -n ns", checkpoint(status={"phase": "Creating", "jobName": "j"}), id="job"
        ),
        pytest.param(
            """kubectl patch dckpt qwen -n ns --type=merge -p '{"metadata":{"finalizers":null}}'""",
            leaving(ready(), keys.FINALIZER),
            id="deleted, its artifacts first",
        ),
        pytest.param(STUCK_PAGE, leaving(ready(), keys.FINALIZER), id="deleted, where to read on"),
        pytest.param("example.com/backup", leaving(ready(), "example.com/backup"), id="deleted, held by others"),
    ],
)
def test_what_to_do_next(words, obj):
    assert words in " ".join(next_steps(obj, "do this"))


def ready_but(kind, status, reason):
    return checkpoint(
        status={
            "phase": "Ready",
            "conditions": [{"type": kind, "status": status, "reason": reason}],
            "versions": [{"version": "1", "manifestDigest": DIGEST}],
        }
    )


FAILING = ready_but("RestoresFailing", "True", "RestoresFailing")
NOWHERE = ready_but("Compatible", "False", "NoNodes")


@pytest.mark.parametrize(
    ("expected", "obj"),
    [
        pytest.param(
            "do this Capture again: `kubectl annotate dckpt qwen -n ns nvidia.com/snapshot-artifact-version=2 "
            "--overwrite`",
            FAILING,
            id="failing",
        ),
        pytest.param("do this", NOWHERE, id="no-agent"),
    ],
)
def test_what_to_do_if_new_pods_start_cold_though_it_is_ready(expected, obj):
    assert expected == " ".join(next_steps(obj, "do this"))


def test_a_remedy_that_captures_again_names_the_next_version():
    remedy = f"Capture again: `x {keys.ANN_ARTIFACT_VERSION}=VERSION --overwrite`, with a VERSION that it has not had."

    assert [f"Capture again: `x {keys.ANN_ARTIFACT_VERSION}=2 --overwrite`."] == next_steps(FAILING, remedy)


def test_a_list_shows_what_keeps_a_ready_one_from_being_restored():
    row = checkpoint_row(checkpoint_facts(FAILING, Inventory((), ())), NOW)

    assert "RestoresFailing" == row[CHECKPOINT_HEADERS.index("WHY")]


def test_nobody_is_told_to_restore_from_what_was_deleted():
    assert "restore from it" not in " ".join(next_steps(leaving(ready(), keys.FINALIZER), "do this"))


def test_what_runs_is_not_told_the_signal_of_what_comes_after_it():
    asked = {keys.ANN_ARTIFACT_VERSION: "2"}
    status = {"phase": "Creating", "checkpointID": ID, "jobName": f"checkpoint-job-{ID}-1"}

    assert "It is captured when" not in " ".join(next_steps(checkpoint(status=status, annotations=asked), ""))


def test_the_page_to_read_on_is_there():
    page, anchor = STUCK_PAGE.split("#")

    assert keys.FINALIZER.partition("/")[2] in sections(page)[anchor]


VERSION = [{"version": "7", "manifestDigest": DIGEST, "size": 5}]
ADOPTED = {"type": "Adopted", "status": "True", "reason": "Adopted", "message": "taken over"}
REFUSED = {"type": "Adopted", "status": "False", "reason": "AdoptionFailed", "message": "not there"}


@pytest.mark.parametrize(
    ("ok", "words", "annotations", "status"),
    [
        pytest.param(None, "", {keys.ANN_ADOPT: "7"}, {}, id="open"),
        pytest.param(True, "", {}, {"phase": "Ready", "versions": VERSION, "conditions": [ADOPTED]}, id="taken-over"),
        pytest.param(False, "not there", {}, {"phase": "Failed", "conditions": [REFUSED]}, id="refused"),
        pytest.param(
            False, "not there", {}, {"phase": "Ready", "versions": VERSION, "conditions": [REFUSED]}, id="stays-ready"
        ),
        pytest.param(False, "does not say why", {}, {}, id="taken-away-by-somebody-else"),
        pytest.param(None, "", {keys.ANN_ADOPT: "7"}, {"phase": "Ready", "versions": VERSION}, id="not-yet-taken-away"),
    ],
)
def test_the_answer_to_an_adoption(ok, words, annotations, status):
    found = judged(checkpoint(annotations=annotations, status=status), "7")
    assert ok is (None if found is None else found.ok)
    assert found is None or words in found.message
