"""Automatic pods that the webhook did not see: which they are, and what is written on them."""

from random import Random

import pytest

from contract.api import keys
from contract.config.values import load_values
from contract.pods.template_hash import automatic_id, automatic_name, template_hash
from controller.workloads.missed_pods import capturable
from controller.workloads.pods import kept, missed
from tests.support.builders.objects import container, request
from tests.support.builders.opted_in import DEPLOYED, ago, of_phase
from tests.support.builders.pods import PROBE, auto_pod, random_pod
from tests.unit.controller.workloads.test_dispatcher import Scene
from webhook.candidate import Candidate
from webhook.checks import REQUEST_CHECKS, first_refusal

VALUES = load_values("")
MARK = {keys.ANN_ADMISSION: "webhook-unreachable"}
KEY = ("ns", "web-1")


def pod(*containers, annotations=MARK, owner=DEPLOYED, **parts):
    """Return a pod as it is stored; by default a replica that the policy marked."""
    found = auto_pod(*(containers or (container(readinessProbe=PROBE),)), annotations=annotations, **parts)
    found["metadata"] |= {
        "name": "web-1",
        "uid": "uid-web-1",
        "resourceVersion": "7",
        "creationTimestamp": ago(5),
        "ownerReferences": [owner] if owner else [],
    }
    return found | {"status": {"phase": "Running"}}


def replica_set(obj):
    """Return the owner of a pod, whose template is the pod as its author wrote it."""
    template = {"metadata": {"labels": obj["metadata"]["labels"]}, "spec": obj["spec"]}
    return {"kind": "ReplicaSet", "metadata": {"name": "web-7d9c", "uid": "rs-uid"}, "spec": {"template": template}}


def notes_written(scene):
    return [body["metadata"]["annotations"] for kind, _, body, _ in scene.run().patched if kind == "Pod"]


def names_of(obj):
    stamp = template_hash(obj, "main")
    return {keys.ANN_TEMPLATE_HASH: stamp, keys.ANN_CHECKPOINT: automatic_name(automatic_id("ns", stamp))}


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param(True, pod(), id="marked"),
        pytest.param(True, pod(annotations={}), id="unmarked"),
        pytest.param(False, pod(annotations={keys.ANN_ADMISSION: "checkpoint-requested"}), id="seen"),
        pytest.param(False, pod(annotations=MARK | {keys.ANN_TEMPLATE_HASH: "x"}), id="a-copied-stamp"),
        pytest.param(False, pod(annotations=MARK | {keys.ANN_CHECKPOINT: "x"}), id="a-copied-name"),
        pytest.param(False, pod(labels={keys.LABEL_RESTORE: "enabled"}), id="by-name"),
        pytest.param(False, pod() | {"status": {"phase": "Succeeded"}}, id="ended"),
    ],
)
def test_who_was_missed(expected, found):
    assert expected == missed(kept(found))


def test_its_checkpoint_is_asked_for_by_the_owners_template():
    found = pod(container(readinessProbe=PROBE, env=[{"name": "ADDED", "value": "by another webhook"}]))
    owner = replica_set(pod())
    scene = Scene(found)
    scene.server.stored["ReplicaSet", "web-7d9c"] = owner

    assert [names_of(pod()) | {keys.ANN_ADMISSION: "checkpoint-requested"}] == notes_written(scene)
    assert ("Pod", "WebhookUnreachable") in scene.server.events()


def test_without_a_template_the_pod_itself_says_it():
    assert [names_of(pod()) | {keys.ANN_ADMISSION: "checkpoint-requested"}] == notes_written(Scene(pod(owner=None)))


def test_an_existing_checkpoint_is_named_and_not_asked_for():
    names = names_of(pod())
    scene = Scene(pod(owner=None), checkpoint=of_phase("Ready", names[keys.ANN_CHECKPOINT]))

    assert [names] == notes_written(scene)


@pytest.mark.parametrize(
    ("found", "values"),
    [
        pytest.param(pod(hostNetwork=True), "", id="unsupported"),
        pytest.param(pod(container()), "", id="no-probe"),
        pytest.param(pod(nodeSelector={"kubernetes.io/os": "windows"}), "", id="windows"),
        pytest.param(pod(owner=DEPLOYED | {"kind": "StatefulSet"}), "", id="identity"),
        pytest.param(pod(annotations={}), "", id="unmarked-and-all-namespaces-served"),
        pytest.param(pod(), "webhook: {excludedNamespaces: [ns]}", id="excluded"),
        pytest.param(pod(), "checkpoint: {enabled: false}", id="switched-off"),
    ],
)
def test_nothing_is_written_on_a_pod_that_would_not_ask(found, values):
    assert [] == notes_written(Scene(found, values=values))


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        pytest.param(1, "", id="of-the-only-namespace-served"),
        pytest.param(0, "webhook: {namespaceSelector: {matchLabels: {a: b}}}", id="some-namespaces"),
        pytest.param(0, "webhook: {objectSelector: {matchLabels: {a: b}}}", id="some-pods"),
    ],
)
def test_an_unmarked_pod_counts_where_the_webhook_is_asked_about_every_pod(expected, values):
    assert expected == len(notes_written(Scene(pod(annotations={}, owner=None), values=values, watched="ns")))


def test_what_may_be_captured_is_what_admission_would_let_ask():
    """Two rooms say it; this holds them together."""
    said = []
    for seed in range(400):
        obj = random_pod(Random(seed), wanted="auto")
        candidate = Candidate(request(obj), lambda *_: None, VALUES)
        said.append(first_refusal(REQUEST_CHECKS, candidate) is None)
        assert said[-1] == (capturable(obj) is not None)
    assert 50 < sum(said) < 350
