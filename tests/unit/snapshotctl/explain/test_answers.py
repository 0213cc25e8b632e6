"""What is written on a pod, put into one answer."""

import json
import re

import pytest

from contract.api import keys
from contract.api.states import Admission, AgentReason
from contract.remedies.admission import ADMISSION
from contract.remedies.agent import AGENT
from snapshotctl.explain.answers import CAPTURE_POD, SHAPED, Facts, Outcome, Ruling, Stage, lived, predicted, state_of
from snapshotctl.view.answer_text import as_text
from tests.support.builders.objects import ID, checkpoint, container, opted_in, pod, ready
from webhook.decide import Decision

REPORT = {"container": "main", "outcome": "failed", "reason": "restore-failed", "seconds": {"total": 1.5}, "bytes": 1}
STATUS = keys.ANN_RESTORE_STATUS_PREFIX + "main"
COLD = "SNAPSHOT_COLD_START: Falling back to cold start: no agent on this node\nmore\n"
RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint x\n"


def shaped(code="restore-shaped", **annotations):
    labels = {keys.LABEL_CHECKPOINT_ID: ID, keys.LABEL_IS_RESTORE_TARGET: "true"}
    notes = {keys.ANN_ADMISSION: code, keys.ANN_CHECKPOINT: "qwen", **annotations}
    obj = opted_in(labels=labels, annotations=notes)
    obj["metadata"]["name"] = "web-0"
    return obj


def plain(obj, **annotations):
    obj["metadata"]["name"] = "web-0"
    obj["metadata"].setdefault("annotations", {}).update(annotations)
    return obj


def gated():
    obj = shaped("held")
    obj["spec"]["schedulingGates"] = [{"name": keys.SCHEDULING_GATE}]
    return obj


HOSTILE_REPORTS = {
    "seconds-no-object": {"seconds": [1]},
    "seconds-no-numbers": {"seconds": {"open": "x"}},
    "bytes-no-number": {"bytes": "x"},
}


def report(**parts):
    return {keys.ANN_RESTORE_REPORT: json.dumps(REPORT | parts)}


@pytest.mark.parametrize(
    ("outcome", "code", "facts"),
    [
        pytest.param("restored", "restore-shaped", Facts(shaped(**{STATUS: "completed"}, **report())), id="restored"),
        pytest.param("restores", "restore-shaped", Facts(shaped(**{STATUS: "in_progress"})), id="restoring"),
        pytest.param("parked", "parked", Facts(shaped(**{STATUS: "parked"})), id="parked"),
        pytest.param("restores", "restore-shaped", Facts(shaped()), id="not-started"),
        pytest.param("starts-cold", "restore-failed", Facts(shaped(**{STATUS: "failed"}, **report())), id="failed"),
        pytest.param("starts-cold", "internal-error", Facts(shaped(**{STATUS: "failed"})), id="failed-without-report"),
        pytest.param(
            "starts-cold",
            "internal-error",
            Facts(shaped(**{STATUS: "failed", keys.ANN_RESTORE_REPORT: "{"})),
            id="report-unreadable",
        ),
        *(
            pytest.param(
                "restored", "restore-shaped", Facts(shaped(**{STATUS: "completed"}, **report(**parts))), id=case
            )
            for case, parts in HOSTILE_REPORTS.items()
        ),
        pytest.param(
            "restored",
            "restore-shaped",
            Facts(shaped(**{STATUS: "completed", keys.ANN_RESTORE_REPORT: "[" * 100_000})),
            id="report-without-end",
        ),
        pytest.param("starts-cold", "already-started", Facts(shaped(), logs={"main": COLD}), id="only-the-log-says-so"),
        pytest.param("restored", "restore-shaped", Facts(shaped(), logs={"main": RESTORED}), id="log-says-restored"),
        pytest.param("waits", "held", Facts(gated()), id="held"),
        pytest.param(
            "starts-cold", "wait-timeout", Facts(shaped("held", **{keys.ANN_GATE: "wait-timeout"})), id="let-go-cold"
        ),
        pytest.param(
            "restores",
            "restore-shaped",
            Facts(shaped(**{keys.ANN_GATE: "checkpoint-ready"})),
            id="let-go-to-restore",
        ),
        pytest.param(
            "waits",
            "volume-claim-unavailable",
            Facts(shaped(**{keys.ANN_GATE: "volume-claim-unavailable"})),
            id="let-go-without-its-claim",
        ),
        pytest.param(
            "restored",
            "restore-shaped",
            Facts(shaped(**{keys.ANN_GATE: "volume-claim-unavailable", STATUS: "completed"}, **report())),
            id="its-claim-was-made",
        ),
        pytest.param(
            "starts-cold",
            "restore-failed",
            Facts(shaped(**{keys.ANN_GATE: "volume-claim-unavailable", STATUS: "failed"}, **report())),
            id="its-claim-was-made-empty",
        ),
        pytest.param(
            "starts-cold",
            "checkpoint-failed",
            Facts(plain(opted_in(), **{keys.ANN_ADMISSION: "checkpoint-failed"})),
            id="unshaped",
        ),
        pytest.param(
            "refused",
            "restore-failed",
            Facts(shaped(**{STATUS: "failed", keys.ANN_POLICY: "Require"}, **report())),
            id="must-not-start-cold",
        ),
        pytest.param("starts-cold", "webhook-unreachable", Facts(plain(opted_in())), id="nobody-asked"),
        pytest.param(
            "starts-cold", "namespace-excluded", Facts(plain(opted_in()), unasked="not served"), id="not-served"
        ),
        pytest.param("starts-cold", "not-opted-in", Facts(plain(pod())), id="not-opted-in"),
        pytest.param(
            "starts-cold",
            "not-opted-in",
            Facts(plain(pod(), **{keys.ANN_ADMISSION: "restore-shaped"})),
            id="copied-annotation",
        ),
        pytest.param(
            "starts-cold", "already-shaped", Facts(plain(pod(labels={keys.LABEL_IS_SOURCE: "true"}))), id="capture-pod"
        ),
        pytest.param(
            "starts-cold", "later", Facts(plain(opted_in(), **{keys.ANN_ADMISSION: "later"})), id="newer-code"
        ),
    ],
)
def test_outcome_and_code(outcome, code, facts):
    answer = lived(facts)
    assert (outcome, code) == (answer.outcome.value, answer.code)
    assert code in as_text([answer], ()) or outcome == "restored"


def test_one_cold_container_makes_a_cold_pod():
    targets = {keys.ANN_TARGET_CONTAINERS: "main,side", keys.ANN_RESTORE_STATUS_PREFIX + "side": "completed"}
    obj = shaped(**{STATUS: "failed"}, **report(), **targets)
    obj["spec"]["containers"].append(container("side"))
    answer = lived(Facts(obj))
    assert (Outcome.COLD, "restore-failed") == (answer.outcome, answer.code)
    assert ["main", "side"] == [each.subject for each in answer.findings if each.stage == Stage.RESTORE]


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_bypassed_check_is_named(status):
    notes = report(outcome="restored" if status == "completed" else "failed", bypassed=["cpu-mismatch", "x\n"])
    said = [each.message for each in lived(Facts(shaped(**{STATUS: status}, **notes))).findings]
    assert any(words.endswith("; bypassed cpu-mismatch") for words in said)


@pytest.mark.parametrize("outcome", ["restored", "failed"])
def test_attempts_before_the_last_are_named(outcome):
    status = {STATUS: "completed" if outcome == "restored" else "failed"}
    found = report(outcome=outcome, tried=["restore-failed", "tree-missing", "made-up"])
    text = " ".join(as_text([lived(Facts(shaped(**status, **found)))], ()).split())
    assert "(attempt 4; before it: restore-failed, tree-missing, unknown)" in text


def test_the_words_come_from_the_closed_lists():
    answer = lived(Facts(shaped(**{STATUS: "failed"}, **report()), ready()))
    first, second, third = answer.findings
    assert ADMISSION[Admission.RESTORE_SHAPED].meaning == first.meaning
    assert AGENT[AgentReason.RESTORE_FAILED].link == second.link
    assert ("CheckpointReady", "qwen") == (third.code, third.subject)
    text = " ".join(as_text([answer], ["said once"]).split())
    assert AGENT[AgentReason.RESTORE_FAILED].remedy.replace("NAME", "qwen -n ns") in text
    assert "note said once" in text


def beside_ready(kind, status, reason):
    return {"phase": "Ready", "conditions": [{"type": kind, "status": status, "reason": reason}]}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param("Pending", None, id="new"),
        pytest.param("CheckpointReady", {"phase": "Ready"}, id="no-conditions"),
        pytest.param(
            "Unschedulable",
            {"phase": "Creating", "conditions": [{"type": "Ready", "status": "False", "reason": "Unschedulable"}]},
            id="condition",
        ),
        pytest.param("RestoresFailing", beside_ready("RestoresFailing", "True", "RestoresFailing"), id="failing"),
        pytest.param("CheckpointReady", beside_ready("RestoresFailing", "False", "RestoresResumed"), id="resumed"),
        pytest.param("CPUMismatch", beside_ready("Compatible", "False", "CPUMismatch"), id="fits-no-node"),
        pytest.param("CheckpointReady", beside_ready("Compatible", "True", "NodesCompatible"), id="fits"),
        pytest.param(
            "Creating", beside_ready("RestoresFailing", "True", "RestoresFailing") | {"phase": "Creating"}, id="again"
        ),
    ],
)
def test_where_a_checkpoint_stands(code, status):
    assert code == state_of(checkpoint(status=status)).code


FULL = "no room (storage-unwritable); to try again, raise the annotation"


@pytest.mark.parametrize(
    ("code", "phase", "message"),
    [
        pytest.param("storage-unwritable", "Failed", FULL, id="failed"),
        pytest.param("storage-unwritable", "Pending", f"attempt 2 of 3 in 60 s: {FULL}", id="tried-again"),
        pytest.param(None, "Failed", "no room (somewhere); (see-there)", id="no-code"),
        pytest.param(None, "Ready", FULL, id="long-past"),
    ],
)
def test_a_failed_capture_has_the_remedy_of_the_agents_code(code, phase, message):
    found = state_of(checkpoint(status={"phase": phase, "message": message}))

    expected = AGENT[code].link if code else found.link
    assert (expected, code is None) == (found.link, found.remedy not in {each.remedy for each in AGENT.values()})


def test_failing_restores_have_the_remedy_of_the_agents_code():
    words = "3 restores in a row failed as artifact-corrupt, the last one in pod web-0; new pods start cold"
    entry = {"type": "RestoresFailing", "status": "True", "reason": "RestoresFailing", "message": words}
    found = state_of(checkpoint(status={"phase": "Ready", "conditions": [entry]}))

    assert ("RestoresFailing", AGENT[AgentReason.ARTIFACT_CORRUPT].link) == (found.code, found.link)
    assert "`kubectl annotate dckpt qwen -n ns nvidia.com/snapshot-artifact-version=VERSION" in found.remedy


def test_a_command_that_is_advised_names_checkpoint_and_namespace():
    decision = Decision(Admission.CHECKPOINT_NOT_READY, "still being made")
    answer = predicted("Pod/x", "ns", Ruling(decision, "qwen", checkpoint(status={"phase": "Creating"})))

    assert ["`snapshotctl describe qwen -n ns`"] * 2 == [
        found for each in answer.findings for found in re.findall(r"`snapshotctl describe [^`]*`", each.remedy)
    ]


def test_a_warning_that_repeats_the_message_is_not_told_twice():
    decision = Decision(Admission.CHECKPOINT_NOT_FOUND, "no such", warnings=("this pod starts cold: no such", "other"))
    assert ("other",) == predicted("Pod/x", "ns", Ruling(decision, "qwen")).notes


@pytest.mark.parametrize("code", [pytest.param(each, id=each.value) for each in Admission])
def test_every_code_of_admission_has_an_outcome(code):
    found = predicted("Pod/x", "ns", Ruling(Decision(code, "because"))).outcome
    cold = code not in SHAPED
    assert cold == (found == Outcome.COLD)


@pytest.mark.parametrize("code", [pytest.param(each, id=each.value) for each in Admission])
def test_a_pod_that_must_not_start_cold_is_refused_or_restores(code):
    found = predicted("Pod/x", "ns", Ruling(Decision(code, "because")), required=True).outcome
    assert (found == Outcome.REFUSED) == (code not in SHAPED)


@pytest.mark.parametrize(
    ("owner", "copied"),
    [pytest.param("Job", False, id="of-a-capture-job"), pytest.param("ReplicaSet", True, id="labels-copied")],
)
def test_a_capture_pod_is_not_told_to_take_its_labels_off(owner, copied):
    capture = plain(pod(labels={keys.LABEL_IS_SOURCE: "true", keys.LABEL_CHECKPOINT_ID: ID}))
    capture["metadata"]["ownerReferences"] = [{"kind": owner, "name": "any"}]
    decision = Decision(Admission.ALREADY_SHAPED, "take these labels out")
    answer = lived(Facts(capture, checkpoint=ready(), now=decision))
    text = as_text([answer], ())

    assert copied == ("Remove labels" in text)
    assert copied == ("take these labels out" in text)
    assert copied == (answer.findings[0].meaning != CAPTURE_POD)


@pytest.mark.parametrize(
    ("now", "advice"),
    [
        pytest.param(Admission.RESTORE_SHAPED, "delete the pod", id="ready-by-now"),
        pytest.param(Admission.IMAGE_MISMATCH, "placeholder.images", id="ready-for-another-image"),
        pytest.param(Admission.CHECKPOINT_FAILED, "capture again", id="failed-by-now"),
        pytest.param(Admission.CHECKPOINT_NOT_READY, "Wait until", id="still-being-made"),
    ],
)
def test_nobody_is_told_to_wait_for_what_is_over(now, advice):
    facts = Facts(shaped("checkpoint-not-ready"), checkpoint=ready(), now=Decision(now, ""))

    assert advice in lived(facts).findings[0].remedy


def pending(**status):
    obj = shaped()
    obj["status"] = {"phase": "Pending", **status}
    return obj


def waiting(reason, message="", name="main"):
    return {"name": name, "state": {"waiting": {"reason": reason, "message": message}}}


NO_NODE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}


@pytest.mark.parametrize(
    ("note", "status"),
    [
        pytest.param("it has no node yet: 0/3 nodes are available", {"conditions": [NO_NODE]}, id="no-node"),
        pytest.param(
            "container main waits: ImagePullBackOff: not found",
            {"containerStatuses": [waiting("ImagePullBackOff", "not found")]},
            id="image",
        ),
        pytest.param(
            "container snapshot-tools waits: CreateContainerConfigError: no secret",
            {"initContainerStatuses": [waiting("CreateContainerConfigError", "no secret", "snapshot-tools")]},
            id="init",
        ),
        pytest.param(None, {"containerStatuses": [waiting("ContainerCreating")]}, id="being-made"),
        pytest.param(None, {"containerStatuses": [waiting("PodInitializing")]}, id="init-at-work"),
        pytest.param(None, {"conditions": [NO_NODE | {"reason": "SchedulingGated"}]}, id="held-by-us"),
        pytest.param(None, {"containerStatuses": [{"name": "main", "state": {"running": {}}}]}, id="runs"),
    ],
)
def test_a_pod_that_does_not_start_says_what_kubernetes_says(note, status):
    """Whether it restores is decided later; nobody looks for that while no container runs."""
    assert ((note,) if note else ()) == lived(Facts(pending(**status), ready())).notes
