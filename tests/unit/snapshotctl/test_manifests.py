"""From manifests to the pods that their controllers make, and from shaped pods back to what was asked for."""

import copy
from random import Random

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.api import keys
from contract.config.values import values_from
from snapshotctl.explain.original_pod import original_pod
from snapshotctl.offline.workload_pods import candidates
from tests.support.builders.objects import ID, IMAGE, checkpoint, container, opted_in, pod, ready
from tests.support.builders.pods import auto_pod, checkpoint_of, random_pod
from webhook.decide import decide

TEMPLATE = {"metadata": {"labels": {"app": "web"}, "name": "dropped"}, "spec": {"containers": [container()]}}


def workload(kind, **spec):
    return {"kind": kind, "metadata": {"name": "web"}, "spec": {"template": TEMPLATE, **spec}}


@pytest.mark.parametrize(
    ("origins", "obj"),
    [
        pytest.param(["Pod/x"], pod() | {"metadata": {"name": "x"}}, id="pod"),
        pytest.param(["Deployment/web"], workload("Deployment"), id="deployment"),
        pytest.param(["Job/web"], workload("Job"), id="job"),
        pytest.param(
            ["CronJob/web"],
            {"kind": "CronJob", "metadata": {"name": "web"}, "spec": {"jobTemplate": workload("Job")}},
            id="cron-job",
        ),
        pytest.param(["Rollout/web"], workload("Rollout"), id="any-kind-with-a-template"),
        pytest.param(
            ["LeaderWorkerSet/web spec.g.leaderTemplate", "LeaderWorkerSet/web spec.g.workerTemplate"],
            {
                "kind": "LeaderWorkerSet",
                "metadata": {"name": "web"},
                "spec": {"g": {"leaderTemplate": TEMPLATE, "workerTemplate": TEMPLATE}},
            },
            id="several-templates",
        ),
        pytest.param(
            ["JobSet/web spec.replicatedJobs[0].template.spec.template"],
            {
                "kind": "JobSet",
                "metadata": {"name": "web"},
                "spec": {"replicatedJobs": [{"template": workload("Job")}, {"template": {}}]},
            },
            id="templates-in-lists",
        ),
        pytest.param([], {"kind": "Service", "metadata": {"name": "x"}, "spec": {}}, id="no-template"),
        pytest.param([], ready(), id="checkpoints-are-no-workload"),
        pytest.param([], {"kind": "Deployment", "metadata": {"name": "x"}, "spec": None}, id="empty"),
    ],
)
def test_where_pods_come_from(origins, obj):
    found = [each.origin for each in candidates(obj)]
    assert origins == found or (len(origins) == 1 and [origins[0].partition(" ")[0]] == found)


def test_objects_are_not_changed():
    obj = workload("StatefulSet", volumeClaimTemplates=[{"metadata": {"name": "data"}}], serviceName="s")
    before = copy.deepcopy(obj)
    (made,) = candidates(obj)
    made.pod["spec"]["containers"].clear()
    assert before == obj


def test_a_stateful_pod_has_its_name_and_claims():
    claims = [{"metadata": {"name": "data"}}]
    (made,) = candidates(workload("StatefulSet", volumeClaimTemplates=claims, serviceName="s"))
    assert "web-0" == made.pod["metadata"]["name"]
    assert ("web-0", "s") == (made.pod["spec"]["hostname"], made.pod["spec"]["subdomain"])
    assert [{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}] == made.pod["spec"]["volumes"]


def test_an_indexed_job_gives_each_pod_its_number():
    (made,) = candidates(workload("Job", completionMode="Indexed"))
    assert ["JOB_COMPLETION_INDEX"] == [entry["name"] for entry in made.pod["spec"]["containers"][0]["env"]]


def test_pods_name_their_owner_and_not_the_templates_name():
    (made,) = candidates(workload("Deployment"))
    metadata = made.pod["metadata"]
    assert ("ReplicaSet", "web-0-") == (metadata["ownerReferences"][0]["kind"], metadata["generateName"])
    assert "name" not in metadata


# --- And back --------------------------------------------------------------------------------------------------------

VALUES = values_from({"storage": {"accessMode": "podMount"}, "startupPolicy": "Immediate"})
INJECT = values_from({"placeholder": {"mode": "inject"}})


def admitted(obj, checkpoints, values):
    """Decision, and the pod as it is stored then."""
    known = {each["metadata"]["name"]: each for each in checkpoints}
    request = {"operation": "CREATE", "namespace": "ns", "object": obj}
    decision = decide(request, lambda _, name: known.get(name), values)
    patched = jsonpatch.JsonPatch(copy.deepcopy(list(decision.operations))).apply(obj)
    return decision, patched


@pytest.mark.parametrize(
    ("obj", "checkpoints"),
    [
        pytest.param(opted_in(), [ready()], id="by-name"),
        pytest.param(opted_in(container(image="example.test/runtime:1")), [ready()], id="mapped-image"),
        pytest.param(auto_pod(), [checkpoint_of(auto_pod())], id="automatic"),
        pytest.param(opted_in(name="none"), [], id="unshaped"),
        pytest.param(pod(), [], id="not-opted-in"),
    ],
)
def test_a_shaped_pod_is_judged_as_its_template_would_be(obj, checkpoints):
    values = values_from({"placeholder": {"images": {"example.test/runtime:1": IMAGE}}})
    first, stored = admitted(obj, checkpoints, values)
    stored["metadata"]["name"] = "web-0"
    stored["spec"]["nodeName"] = "node-0"
    again, _ = admitted(original_pod(stored), checkpoints, values)
    assert (first.code, first.message) == (again.code, again.message)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), inject=st.booleans())
def test_every_pod_is_judged_again_as_it_was_first(seed, inject):
    """Whatever a pod holds: what shaping added is found and taken away before the second look."""
    obj = random_pod(Random(seed))
    # Remains of an earlier life are taken away by shaping itself, the wish to wait too: it is spent.
    for key in (keys.ANN_ADMISSION, keys.ANN_GATE, keys.ANN_STARTUP_POLICY):
        obj["metadata"]["annotations"].pop(key, None)
    values = INJECT if inject else VALUES
    checkpoints = [ready(status={"phase": "Ready", "checkpointID": ID, "image": {"reference": IMAGE, "cmd": ["x"]}})]
    if obj["metadata"]["labels"].get(keys.LABEL_RESTORE) == keys.RESTORE_AUTO:
        checkpoints.append(checkpoint_of(obj))
    first, stored = admitted(obj, checkpoints, values)
    again, _ = admitted(original_pod(stored), checkpoints, values)
    assert (first.code, first.message) == (again.code, again.message)


def test_a_graphs_worker_asks_again():
    """Shaping takes the wish of a candidate away, and with it the checkpoint's name."""
    labels = {keys.LABEL_CHECKPOINT_ID: ID, keys.LABEL_IS_RESTORE_TARGET: "true", keys.LABEL_COMPONENT: "w"}
    found = original_pod(pod(labels=labels, annotations={keys.ANN_CHECKPOINT: "qwen"}))
    assert {keys.ANN_CHECKPOINT_NAME: "qwen", keys.ANN_RESTORE_CANDIDATE: "true"} == found["metadata"]["annotations"]


def test_checkpoints_in_a_file_are_not_asked_about():
    assert [] == candidates(checkpoint())
