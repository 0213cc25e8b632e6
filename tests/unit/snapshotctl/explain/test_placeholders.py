"""Placeholders of checkpoints and manifests: what is created, and what ``why`` says of them."""

import re

import pytest

from contract.api import control_files, keys
from contract.api.states import Admission
from snapshotctl.errors import UserError
from snapshotctl.explain.answers import Facts, Outcome, Ruling, lived, predicted
from snapshotctl.offline.placeholders import containers_of, placeholder_body, placeholder_facts, pod_of_checkpoint
from tests.support.builders.objects import ID, checkpoint, container, pod, ready, template
from webhook.decide import Decision

COLD = control_files.LOG_COLD_START.format(reason="the agent died")


def test_it_is_the_pod_of_the_checkpoints_template():
    metadata = {"labels": {"app": "web"}, "annotations": {"team": "ml"}}
    of_a_job = {"restartPolicy": "Never", "activeDeadlineSeconds": 60, "nodeName": "node-7"}
    spec = template(container(), container("side"), metadata=metadata, serviceAccountName="web", **of_a_job)
    found = pod_of_checkpoint(ready(pod_template=spec), None)

    assert re.fullmatch(r"qwen-placeholder-[0-9a-f]{6}", found["metadata"]["name"])
    assert {"app": "web"} == found["metadata"]["labels"]
    assert {"team": "ml", keys.ANN_TARGET_CONTAINERS: "main"} == found["metadata"]["annotations"]
    assert {"containers": [container(), container("side")], "serviceAccountName": "web"} == found["spec"]


def test_a_name_of_its_own_fits_every_checkpoint():
    long = pod_of_checkpoint(checkpoint("a" * 39 + "-" + "b" * 200), None)["metadata"]["name"]

    assert len(long) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", long)
    assert "spare" == pod_of_checkpoint(ready(), "spare")["metadata"]["name"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param("no container main", ready(pod_template=template(container("other"))), id="target"),
        pytest.param("cannot be read", ready(pod_template={"spec": {"containers": 7}}), id="no list"),
        pytest.param("cannot be read", ready(pod_template={**template(), "metadata": "x"}), id="no metadata"),
        pytest.param("cannot be read", ready(pod_template={"spec": "x"}), id="no spec"),
    ],
)
def test_a_template_of_which_no_pod_can_be_made(words, found):
    with pytest.raises(UserError, match=words):
        pod_of_checkpoint(found, None)


@pytest.mark.parametrize(
    ("expected", "checkpoint_name"),
    [
        pytest.param({keys.ANN_CHECKPOINT_NAME: "qwen"}, "qwen", id="like a checkpoint"),
        pytest.param({}, None, id="like itself"),
    ],
)
def test_it_asks_to_wait_and_for_nothing_else(expected, checkpoint_name):
    notes = {keys.ANN_RESTORE_FROM: "old", "team": "ml"}
    labels = {keys.LABEL_RESTORE: "auto", keys.LABEL_CHECKPOINT_ID: "old", "app": "web"}
    body = placeholder_body(pod(labels=labels, annotations=notes), None, checkpoint_name, "ns")

    assert {"app": "web", keys.LABEL_RESTORE: "enabled"} == body["metadata"]["labels"]
    assert (
        expected | {"team": "ml", keys.ANN_TARGET_CONTAINERS: "main", keys.ANN_STANDBY: "Wait"}
        == (body["metadata"]["annotations"])
    )


def test_one_that_is_printed_has_the_namespace_of_its_reader():
    assert "namespace" not in placeholder_body(pod(), None, None, None)["metadata"]


def test_the_facts_say_what_admission_made_of_it():
    body = placeholder_body(pod(), None, None, "ns") | {}
    body["metadata"] |= {"name": "web-1"}
    unseen = placeholder_facts(body, ready())

    assert ("created", "web-1", ID, "main", "webhook-unreachable") == (
        unseen["status"],
        unseen["name"],
        unseen["checkpoint_id"],
        unseen["containers"],
        unseen["admission"],
    )


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        pytest.param(("a", "b"), None, id="all that wait"),
        pytest.param(("b",), "b", id="named"),
        pytest.param(("b", "a"), "b, a", id="two"),
    ],
)
def test_which_containers_are_restored(expected, said):
    assert expected == containers_of(("a", "b"), said)


def made(*, named=False, status=""):
    labels = {keys.LABEL_RESTORE: "enabled", keys.LABEL_IS_RESTORE_TARGET: "true"}
    notes = {keys.ANN_ADMISSION: "placeholder", keys.ANN_STANDBY: "Wait", keys.ANN_TARGET_CONTAINERS: "main"}
    if named:
        labels[keys.LABEL_CHECKPOINT_ID] = ID
        notes |= {keys.ANN_CHECKPOINT: "qwen", keys.ANN_ARTIFACT_VERSION: "1"}
    if status:
        notes[keys.ANN_RESTORE_STATUS_PREFIX + "main"] = status
    found = pod(labels=labels, annotations=notes)
    found["metadata"] |= {"name": "web-1"}
    return found


@pytest.mark.parametrize(
    ("outcome", "code", "words", "facts"),
    [
        pytest.param(Outcome.WAITS, "placeholder", "snapshotctl restore --pod", Facts(made()), id="waits"),
        pytest.param(Outcome.RESTORES, "restore-shaped", "", Facts(made(named=True)), id="named, and not claimed yet"),
        pytest.param(
            Outcome.RESTORES, "restore-shaped", "", Facts(made(named=True, status="in_progress")), id="in progress"
        ),
        pytest.param(
            Outcome.RESTORED, "restore-shaped", "", Facts(made(named=True, status="completed")), id="restored"
        ),
        pytest.param(
            Outcome.COLD,
            "internal-error",
            "the agent died",
            Facts(
                made(named=True, status="failed"),
                logs={"main": f"{control_files.LOG_WAITING}\n{COLD}\nworker output\n"},
            ),
            id="cold, with the line below the first",
        ),
        pytest.param(
            Outcome.COLD,
            "already-started",
            "the agent died",
            Facts(made(named=True), logs={"main": f"{control_files.LOG_WAITING}\n{COLD}\n"}),
            id="cold, before the agent's word is on the pod",
        ),
    ],
)
def test_why_says_what_becomes_of_it(outcome, code, words, facts):
    answer = lived(facts)
    said = " ".join(f"{each.message} {each.remedy}" for each in answer.findings)

    assert (outcome, code) == (answer.outcome, answer.code)
    assert words in said
    assert (outcome == Outcome.WAITS) == ("snapshotctl restore --pod" in said)


def test_one_that_would_be_created_waits():
    ruling = Ruling(Decision(Admission.PLACEHOLDER, "waits"), "qwen", ready())

    assert (Outcome.WAITS, "placeholder") == (
        predicted("Pod/x", "ns", ruling).outcome,
        predicted("Pod/x", "ns", ruling).code,
    )
