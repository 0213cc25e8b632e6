"""From a new object to its Job: ids, duplicates, storage, template, versions."""

import pytest

from contract.api import keys
from contract.api.states import CheckpointReason
from controller.checkpoints.actions import CheckJob, CreateClaim, CreateJob, SetFinalizer, SetLabel
from controller.checkpoints.observed import Refusal, Refused
from controller.checkpoints.plan.plan import REFUSED_SECONDS
from tests.support.builders import checkpoints
from tests.support.builders.checkpoints import (
    JOB,
    POD_MOUNT,
    POD_MOUNT_CREATE,
    claim,
    condition_in,
    failed,
    job,
    labelled,
    pending,
    status_after,
    status_of,
    step,
)
from tests.support.builders.devices import claim_template, claiming, exactly
from tests.support.builders.objects import ID, checkpoint, container, template

AUTO = {keys.ANN_AUTO_CHECKPOINT: "true"}


def kinds(planned):
    return [type(action) for action in planned.actions]


def test_a_new_object_becomes_pending_with_its_id_and_nothing_else_is_done():
    planned = step(checkpoint())

    assert (SetLabel(keys.LABEL_CHECKPOINT_ID, ID),) == planned.actions
    assert ("Pending", ID, ID) == tuple(planned.status[f] for f in ("phase", "checkpointID", "identityHash"))
    assert () == planned.events


@pytest.mark.parametrize(
    ("annotations", "finalizers", "expected"),
    [
        pytest.param(AUTO, None, [SetFinalizer, SetLabel], id="automatic"),
        pytest.param(AUTO, [keys.FINALIZER], [SetLabel], id="automatic-and-held"),
        pytest.param({keys.ANN_AUTO_CHECKPOINT: "True"}, None, [SetLabel], id="not-exactly-true"),
        pytest.param({}, None, [SetLabel], id="by-hand"),
    ],
)
def test_only_automatic_checkpoints_get_the_finalizer(annotations, finalizers, expected):
    obj = checkpoint(annotations=annotations)
    if finalizers:
        obj["metadata"]["finalizers"] = finalizers

    assert expected == kinds(step(obj))


def test_an_unknown_phase_goes_on_as_pending():
    planned = step(labelled(status=status_of("Dreaming")))

    assert [CreateJob] == kinds(planned)
    assert "Creating" == planned.status["phase"]


def test_creating_without_a_job_name_goes_back_and_on():
    assert [CreateJob] == kinds(step(labelled(status=status_of("Creating"))))


def test_the_id_of_the_status_wins_over_label_and_hash():
    obj = labelled(labels={keys.LABEL_CHECKPOINT_ID: "by-label"}, status=status_of("Pending", checkpointID="by-status"))
    planned = step(obj)

    assert SetLabel(keys.LABEL_CHECKPOINT_ID, "by-status") in planned.actions
    assert "checkpoint-job-by-status-1" == planned.status["jobName"]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({keys.LABEL_CHECKPOINT_ID: "../../etc"}, id="path"),
        pytest.param({keys.LABEL_CHECKPOINT_ID: "Upper"}, id="upper-case"),
    ],
)
def test_a_hostile_id_fails_and_heals_when_it_is_corrected(labels):
    status = status_after(checkpoint(labels=labels))

    assert ("Failed", CheckpointReason.INVALID_ID) == (status["phase"], condition_in(status, "JobCreated")["reason"])
    assert keys.LABEL_CHECKPOINT_ID in status["message"]
    assert "Creating" == status_after(labelled(status=status))["phase"]


def test_a_bad_version_fails_with_the_annotation_named():
    status = status_after(pending(annotations={keys.ANN_ARTIFACT_VERSION: "../2"}))

    assert "Failed" == status["phase"]
    assert keys.ANN_ARTIFACT_VERSION in status["message"]


@pytest.mark.parametrize(
    ("mine", "other", "phase"),
    [
        pytest.param("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", "Failed", id="the-other-is-older"),
        pytest.param("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "Creating", id="this-is-older"),
    ],
)
def test_of_two_with_one_id_the_older_goes_first(mine, other, phase):
    obj, sibling = pending(), pending(name="first")
    obj["metadata"]["creationTimestamp"] = mine
    sibling["metadata"]["creationTimestamp"] = other
    planned = step(obj, siblings=(sibling,))

    assert phase == planned.status["phase"]
    if phase == "Failed":
        assert "first" in planned.status["message"]
        assert CheckpointReason.DUPLICATE_ID == condition_in(planned.status, "JobCreated")["reason"]
        assert not {"jobName", "createdAt"} & planned.status.keys()
        assert [("Warning", "CheckpointFailed")] == [(note.type, note.reason) for note in planned.events]


def test_one_that_is_ready_goes_before_an_older_one():
    obj, sibling = pending(), labelled("taken", status=status_of("Ready", jobName=JOB))
    obj["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    sibling["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"

    assert "Failed" == status_after(obj, siblings=(sibling,))["phase"]


def test_a_duplicate_heals_when_the_other_is_gone():
    status = status_after(pending(), siblings=(labelled("a", status=status_of("Ready")),))

    assert "Failed" == status["phase"]
    assert "Creating" == status_after(labelled(status=status))["phase"]


def test_a_duplicate_at_rest_is_not_written_again():
    siblings = (labelled("a", status=status_of("Ready")),)
    status = status_after(pending(), siblings=siblings)

    assert step(labelled(status=status), siblings=siblings).status is None


def test_pending_creates_its_job_and_says_so():
    planned = step(pending())

    (action,) = planned.actions
    assert JOB == action.job["metadata"]["name"]
    assert ("Creating", JOB) == (planned.status["phase"], planned.status["jobName"])
    assert ("True", "JobCreated") == tuple(condition_in(planned.status, "JobCreated")[f] for f in ("status", "reason"))
    assert [("Normal", "JobCreated")] == [(note.type, note.reason) for note in planned.events]


def test_gpu_memory_service_is_refused():
    status = status_after(pending(gpuMemoryService={"enabled": True}))

    assert "Failed" == status["phase"]
    assert ("False", "GMSSnapshotDisabled") == tuple(
        condition_in(status, "JobCreated")[f] for f in ("status", "reason")
    )


def test_another_vendors_device_is_refused_before_any_job():
    amd = template(container(resources={"limits": {"amd.com/gpu": 1}}))
    planned = step(pending(pod_template=amd))
    again = step(labelled(status=planned.status, pod_template=amd))

    assert () == planned.actions
    assert "Failed" == planned.status["phase"]
    assert "AcceleratorUnsupported" == condition_in(planned.status, "JobCreated")["reason"]
    assert "resources.limits[amd.com/gpu]: AMD GPUs are not captured" in planned.status["message"]
    assert again.status is None


def test_a_corrected_template_is_tried_again():
    failed = step(pending(pod_template=template(container(resources={"limits": {"amd.com/gpu": 1}})))).status
    obj = labelled(status=failed, pod_template=template(container(resources={"limits": {"nvidia.com/gpu": 1}})))
    obj["metadata"]["generation"] = 2

    assert "Creating" == step(obj).status["phase"]


RESOURCES, OF_POD = claiming()
CLAIMS = template(container(resources=RESOURCES), **OF_POD)
TWO = {"gpus": claim_template("gpus", exactly(count=2))}


@pytest.mark.parametrize(
    ("several", "templates"),
    [
        pytest.param(True, TWO, id="two"),
        pytest.param(False, {"gpus": claim_template()}, id="one"),
        pytest.param(False, {}, id="not-known"),
    ],
)
def test_a_worker_that_claims_several_gpus_gets_their_environment(several, templates):
    (action,) = step(pending(pod_template=CLAIMS), claim_templates=templates).actions
    (target,) = action.job["spec"]["template"]["spec"]["containers"]

    assert several == ("NCCL_NVLS_ENABLE" in {entry["name"] for entry in target["env"]})


def test_a_claim_for_parts_of_a_gpu_is_refused_before_any_job():
    templates = {"gpus": claim_template("gpus", exactly(deviceClassName="mig.nvidia.com"))}
    planned = step(pending(pod_template=CLAIMS), claim_templates=templates)

    assert () == planned.actions
    assert "AcceleratorUnsupported" == condition_in(planned.status, "JobCreated")["reason"]
    assert "ResourceClaimTemplate gpus asks for devices of class mig.nvidia.com" in planned.status["message"]


def test_a_missing_claim_template_is_named_and_waited_for():
    planned = step(pending(pod_template=CLAIMS), claim_templates={"gpus": None})
    again = step(labelled(status=planned.status, pod_template=CLAIMS), claim_templates={"gpus": None})
    healed = step(labelled(status=planned.status, pod_template=CLAIMS), claim_templates=TWO)

    assert ((), REFUSED_SECONDS) == (planned.actions, planned.requeue_after)
    assert "Pending" == planned.status["phase"]
    assert ("False", "ClaimTemplateMissing") == tuple(
        condition_in(planned.status, "JobCreated")[f] for f in ("status", "reason")
    )
    assert "ResourceClaimTemplate ns/gpus" in planned.status["message"]
    assert ((), None, (), REFUSED_SECONDS) == (again.actions, again.status, again.events, again.requeue_after)
    assert "Creating" == healed.status["phase"]


@pytest.mark.parametrize(
    ("values", "there", "actions", "phase", "storage"),
    [
        pytest.param(
            checkpoints.AGENT_MOUNT,
            None,
            [CreateJob],
            "Creating",
            ("True", "AgentMountsStorage"),
            id="agent-mount",
        ),
        pytest.param(POD_MOUNT, claim(), [CreateJob], "Creating", ("True", "VolumeClaimFound"), id="claim-there"),
        pytest.param(POD_MOUNT, None, [CheckJob], "Pending", ("False", "VolumeClaimMissing"), id="claim-missing"),
        pytest.param(
            POD_MOUNT_CREATE,
            None,
            [CheckJob, CreateClaim, CreateJob],
            "Creating",
            ("True", "VolumeClaimCreated"),
            id="claim-made",
        ),
        pytest.param(
            POD_MOUNT_CREATE,
            claim(status={"phase": "Lost"}),
            [CheckJob],
            "Pending",
            ("False", "VolumeClaimLost"),
            id="claim-lost",
        ),
    ],
)
def test_storage_comes_before_the_job(values, there, actions, phase, storage):
    planned = step(pending(), values, claim=there)

    assert actions == kinds(planned)
    assert phase == planned.status["phase"]
    assert storage == tuple(condition_in(planned.status, "StorageReady")[field] for field in ("status", "reason"))


def test_a_missing_claim_names_itself_and_the_key_to_set():
    planned = step(pending(), POD_MOUNT)

    assert "ns/snapshot-pvc" in planned.status["message"]
    assert "storage.pvc.create" in planned.status["message"]
    assert [("Warning", "VolumeClaimMissing")] == [(note.type, note.reason) for note in planned.events]


def test_waiting_for_a_claim_is_at_rest_and_ends_when_it_appears():
    status = status_after(pending(), POD_MOUNT)
    again = step(labelled(status=status), POD_MOUNT)

    assert ((), None, ()) == (again.actions, again.status, again.events)
    healed = step(labelled(status=status), POD_MOUNT, claim=claim())
    assert "Creating" == healed.status["phase"]
    assert "message" not in healed.status


def test_the_claim_is_made_as_the_values_say():
    (_, made, _) = step(pending(), POD_MOUNT_CREATE).actions

    assert ("snapshot-pvc", "ns") == (made.claim["metadata"]["name"], made.claim["metadata"]["namespace"])
    assert {
        "accessModes": ["ReadWriteMany"],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": "10Gi"}},
        "storageClassName": "fast",
    } == made.claim["spec"]
    assert "checkpoint-storage" == made.claim["metadata"]["labels"]["app.kubernetes.io/component"]


def test_a_refused_claim_keeps_it_pending_with_the_servers_words():
    refusal = Refusal("PersistentVolumeClaim", Refused.FORBIDDEN, "exceeded quota")
    planned = step(pending(), POD_MOUNT_CREATE, refusal=refusal)

    assert "Pending" == planned.status["phase"]
    assert "exceeded quota" in planned.status["message"]
    assert CreateJob not in kinds(planned)


def test_a_template_that_cannot_be_shaped_fails_with_its_field():
    obj = pending(pod_template=template(container("other")))
    status = status_after(obj)

    assert "Failed" == status["phase"]
    assert "spec.job.targetContainerName" in status["message"]
    assert "False" == condition_in(status, "TemplateValid")["status"]


@pytest.mark.parametrize(
    ("how", "phase", "reason", "requeue"),
    [
        pytest.param(Refused.INVALID, "Failed", "TemplateInvalid", None, id="invalid"),
        pytest.param(Refused.FORBIDDEN, "Pending", "JobForbidden", REFUSED_SECONDS, id="forbidden"),
        pytest.param(Refused.NOT_OURS, "Pending", "JobNotOurs", REFUSED_SECONDS, id="name-taken"),
    ],
)
def test_what_the_server_refuses_is_said_in_its_words(how, phase, reason, requeue):
    planned = step(pending(), refusal=Refusal("Job", how, "spec.template: the words"))

    assert () == planned.actions
    assert (phase, requeue) == (planned.status["phase"], planned.requeue_after)
    assert reason == condition_in(planned.status, "JobCreated")["reason"]
    assert "the words" in planned.status["message"]


def test_an_invalid_template_is_tried_again_when_the_spec_changes():
    status = status_after(pending(), refusal=Refusal("Job", Refused.INVALID, "no"))
    same, changed = labelled(status=status), labelled(status=status)
    changed["metadata"]["generation"] = 2

    assert step(same).status is None
    assert "Creating" == status_after(changed)["phase"]


def test_a_job_that_is_there_and_ours_is_adopted():
    """A pass that died between Job and status leaves exactly this behind."""
    planned = step(pending(), job=job())

    assert () == planned.actions
    assert "Creating" == planned.status["phase"]


def test_a_job_of_somebody_else_is_named_and_left_alone():
    planned = step(pending(), job=job(owner="uid-of-another"))

    assert () == planned.actions
    assert "Pending" == planned.status["phase"]
    assert "uid-of-another" in planned.status["message"]


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(status_of("Ready", jobName=JOB, createdAt="x", location="/x", size=1, message="m"), id="ready"),
        pytest.param(failed("JobDeleted", jobName=JOB), id="failed"),
        pytest.param(status_of("Pending", jobName=JOB), id="pending"),
    ],
)
def test_a_new_version_starts_over(before):
    planned = step(labelled(status=before, annotations={keys.ANN_ARTIFACT_VERSION: " 2 "}))

    (action,) = planned.actions
    assert f"checkpoint-job-{ID}-2" == action.job["metadata"]["name"] == planned.status["jobName"]
    assert "Creating" == planned.status["phase"]
    assert not {"createdAt", "location", "size", "message"} & planned.status.keys()


def test_a_new_version_is_not_looked_at_while_creating():
    obj = checkpoints.creating(annotations={keys.ANN_ARTIFACT_VERSION: "2"})
    planned = step(obj, job=job(), pods=(checkpoints.capture_pod(),))

    assert ((), "Creating", JOB) == (planned.actions, planned.status["phase"], planned.status["jobName"])


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(status_of("Ready", jobName=JOB), id="ready"),
        pytest.param(failed("JobDeleted", jobName=JOB), id="failed"),
        pytest.param(failed("JobDeleted"), id="failed-without-job-name"),
    ],
)
def test_ready_and_failed_are_at_rest(status):
    settled = status_after(labelled(status=status))
    again = step(labelled(status=settled), job=None)

    assert ((), None, (), None) == (again.actions, again.status, again.events, again.requeue_after)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param("checkpoint: {enabled: false}", id="switched-off"),
        pytest.param("webhook: {excludedNamespaces: [ns]}", id="namespace-excluded"),
    ],
)
def test_nothing_is_done_where_checkpoints_are_off(values):
    planned = step(pending(), checkpoints.load_values(values))

    assert ((), None, ()) == (planned.actions, planned.status, planned.events)


def test_a_changed_spec_of_a_ready_checkpoint_only_moves_the_observed_generation():
    obj = labelled(status=status_after(labelled(status=status_of("Ready", jobName=JOB))))
    obj["metadata"]["generation"] = 7

    assert 7 == step(obj).status["observedGeneration"]
    assert () == step(obj).actions


def test_transition_times_move_only_when_a_condition_turns():
    first = status_after(pending())
    obj = labelled(status=first)
    condition_in(obj["status"], "Ready")["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    status = status_after(obj, job=job(), pods=(checkpoints.capture_pod(checkpoints.condition("PodScheduled")),))

    assert "2020-01-01T00:00:00Z" == condition_in(status, "Ready")["lastTransitionTime"]
    assert all(1 == entry["observedGeneration"] for entry in status["conditions"])
