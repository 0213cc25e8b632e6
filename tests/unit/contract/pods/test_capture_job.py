"""From a checkpoint to its capture Job: the target's command, probes, volumes, and what is refused."""

import copy
import json

import pytest

from contract.api import keys
from contract.pods.canary import canary_call, command_stamp
from contract.pods.capture_job import InvalidTemplateError
from tests.support.builders.capture_jobs import PROBE, named, pod_of, shape, target_of
from tests.support.builders.objects import ID, checkpoint, container, template


def test_the_job_is_single_attempt_owned_and_named_after_the_artifact():
    job = shape(checkpoint(job={"activeDeadlineSeconds": 60, "backoffLimit": 3, "ttlSecondsAfterFinished": 9}))
    assert f"checkpoint-job-{ID}-1" == job["metadata"]["name"]
    assert "ns" == job["metadata"]["namespace"]
    assert {keys.LABEL_CHECKPOINT_ID: ID, keys.LABEL_LEGACY_SOURCE: "true"} == job["metadata"]["labels"]
    assert "qwen" == job["metadata"]["annotations"][keys.ANN_CHECKPOINT]
    (owner,) = job["metadata"]["ownerReferences"]
    assert ("uid-1", True) == (owner["uid"], owner["controller"])
    assert (0, 60, 300) == tuple(
        job["spec"][key] for key in ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
    )
    assert "Never" == pod_of(job)["restartPolicy"]


def test_the_version_annotation_names_another_job():
    job = shape(checkpoint(annotations={keys.ANN_ARTIFACT_VERSION: " 7 "}))
    assert f"checkpoint-job-{ID}-7" == job["metadata"]["name"]
    assert "7" == job["spec"]["template"]["metadata"]["annotations"][keys.ANN_ARTIFACT_VERSION]


def test_without_a_uid_there_is_no_owner():
    obj = checkpoint()
    del obj["metadata"]["uid"]
    assert "ownerReferences" not in shape(obj)["metadata"]


def test_the_template_is_not_changed():
    obj = checkpoint()
    before = copy.deepcopy(obj)
    shape(obj)
    assert before == obj


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"command": ["python3"], "args": ["-m", "w"]}, ["--capture", "--", "python3"], id="command-and-args"
        ),
        pytest.param({"command": ["python3"], "args": None}, ["--capture", "--", "python3"], id="command"),
        pytest.param({"command": None, "args": ["-m"]}, ["--capture", "--image-entrypoint", "--"], id="args"),
        pytest.param({"command": None, "args": None}, ["--capture", "--image-entrypoint", "--"], id="neither"),
        pytest.param(
            {"command": [keys.STANDBY, "--", "python3"]}, ["--capture", "--", "python3"], id="of-a-restored-pod"
        ),
        pytest.param(
            {"command": ["python3"], "resources": {"limits": {"nvidia.com/gpu": "2"}}},
            ["--capture", "--", "python3"],
            id="two-gpus",
        ),
        pytest.param(
            {"command": None, "args": None, "resources": {"limits": {"nvidia.com/gpu": "2"}}},
            ["--capture", "--image-entrypoint", "--"],
            id="two-gpus-and-no-command",
        ),
    ],
)
def test_standby_runs_the_command(fields, expected):
    given = {key: value for key, value in container(**fields).items() if value is not None}
    target = target_of(shape(checkpoint(pod_template=template(given))))
    assert [keys.STANDBY, *expected] == target["command"]
    assert given.get("args") == target.get("args")


def test_ready_signal_file_replaces_the_probes():
    probes = {"readinessProbe": PROBE, "livenessProbe": PROBE, "startupProbe": PROBE}
    job = shape(checkpoint(pod_template=template(container(**probes))))
    target = target_of(job)
    ready = {"exec": {"command": ["cat", "/snapshot-control/ready-for-snapshot"]}, "periodSeconds": 1}
    assert ready == target["readinessProbe"]
    assert not {"livenessProbe", "startupProbe"} & target.keys()
    notes = job["spec"]["template"]["metadata"]["annotations"]
    assert "File" == notes[keys.ANN_READY_SIGNAL]
    assert keys.ANN_SETTLE_SECONDS not in notes


@pytest.mark.parametrize(
    ("expected", "job", "fields"),
    [
        pytest.param(8000, {}, {"readinessProbe": PROBE}, id="file"),
        pytest.param(None, {}, {}, id="file-and-no-probe"),
        pytest.param(None, {}, {"env": [{"name": keys.ENV_PROBE, "value": "{}"}]}, id="only-ours-is-believed"),
        pytest.param(None, {"readySignal": "Probe"}, {"readinessProbe": PROBE}, id="probe"),
    ],
)
def test_the_probe_that_the_ready_file_replaces_is_kept_for_the_proof(expected, job, fields):
    target = target_of(shape(checkpoint(pod_template=template(container(**fields)), job=job)))
    said = named(target["env"], keys.ENV_PROBE)
    assert expected == (said and json.loads(said["value"])["port"])


def test_a_canary_goes_to_the_port_of_the_probe_that_the_ready_file_replaces():
    job = shape(
        checkpoint(
            pod_template=template(container(readinessProbe=PROBE), metadata={"annotations": {keys.ANN_CANARY: "/x"}})
        )
    )
    found = canary_call(job["spec"]["template"], "main")
    assert found is not None
    assert 8000 == found.port


@pytest.mark.parametrize("probe", [pytest.param({"httpGet": "/health"}, id="text"), pytest.param("x", id="no-probe")])
def test_a_probe_that_is_none_is_refused_by_name(probe):
    with pytest.raises(InvalidTemplateError) as refused:
        shape(checkpoint(pod_template=template(container(readinessProbe=probe))))
    assert "spec.job.podTemplateSpec.spec.containers[main].readinessProbe" == refused.value.field


@pytest.mark.parametrize("kind", ["readinessProbe", "startupProbe"])
def test_ready_signal_probe_keeps_the_templates_probes(kind):
    worker = container(livenessProbe=PROBE, **{kind: PROBE})
    job = shape(checkpoint(pod_template=template(worker), job={"readySignal": "Probe", "settleSeconds": 0}))
    assert PROBE == target_of(job)[kind]
    assert "livenessProbe" not in target_of(job)
    notes = job["spec"]["template"]["metadata"]["annotations"]
    assert ("Probe", "0") == (notes[keys.ANN_READY_SIGNAL], notes[keys.ANN_SETTLE_SECONDS])


def test_automatic_checkpoints_use_the_probes():
    obj = checkpoint(
        pod_template=template(container(readinessProbe=PROBE)), annotations={keys.ANN_AUTO_CHECKPOINT: "true"}
    )
    assert "Probe" == shape(obj)["spec"]["template"]["metadata"]["annotations"][keys.ANN_READY_SIGNAL]


def test_control_directory_environment_and_memory():
    job = shape(checkpoint())
    target = target_of(job)
    assert {"name": "snapshot-control", "mountPath": "/snapshot-control", "subPath": "main"} in target["volumeMounts"]
    assert {"name": "snapshot-control", "emptyDir": {}} in pod_of(job)["volumes"]
    assert {"name": "DYN_SNAPSHOT_CONTROL_DIR", "value": "/snapshot-control"} in target["env"]
    done = {"name": "DYN_CHECKPOINT_SIGNAL_FILE", "value": "/snapshot-control/snapshot-complete"}
    assert done in target["env"]
    assert {"medium": "Memory", "sizeLimit": "8Gi"} == named(pod_of(job)["volumes"], "shared-memory")["emptyDir"]
    assert "/dev/shm" == named(target["volumeMounts"], "shared-memory")["mountPath"]


def test_a_control_directory_of_the_workers_own_is_kept():
    own = {"name": keys.ENV_CONTROL_DIR, "value": "/run/ctl"}
    target = target_of(shape(checkpoint(pod_template=template(container(env=[own])))))
    assert own in target["env"]
    assert "/run/ctl" == named(target["volumeMounts"], "snapshot-control")["mountPath"]
    assert ["cat", "/run/ctl/ready-for-snapshot"] == target["readinessProbe"]["exec"]["command"]


@pytest.mark.parametrize(
    ("job", "worker", "expected"),
    [
        pytest.param({"sharedMemory": {"size": "1Gi"}}, {}, "1Gi", id="size"),
        pytest.param({"sharedMemory": {"disabled": True}}, {}, None, id="disabled"),
        pytest.param({}, {"volumeMounts": [{"name": "own", "mountPath": "/dev/shm/"}]}, None, id="has-its-own"),
    ],
)
def test_shared_memory(job, worker, expected):
    volumes = pod_of(shape(checkpoint(pod_template=template(container(**worker)), job=job)))["volumes"]
    found = named(volumes, "shared-memory")
    assert expected == (found and found["emptyDir"]["sizeLimit"])


def test_agent_mount_gives_the_pod_no_storage():
    job = shape(checkpoint())
    assert named(pod_of(job)["volumes"], "checkpoint-storage") is None
    assert keys.ANN_STORAGE_TYPE not in job["spec"]["template"]["metadata"]["annotations"]


def test_pod_mount_gives_the_target_the_volume():
    side = container("side")
    job = shape(checkpoint(pod_template=template(container(), side)), "storage: {accessMode: podMount}")
    claim = {"claimName": "snapshot-pvc"}
    assert claim == named(pod_of(job)["volumes"], "checkpoint-storage")["persistentVolumeClaim"]
    assert {"name": "checkpoint-storage", "mountPath": "/checkpoints"} in target_of(job)["volumeMounts"]
    assert "volumeMounts" not in pod_of(job)["initContainers"][0]
    notes = job["spec"]["template"]["metadata"]["annotations"]
    assert ("pvc", "/checkpoints") == (notes[keys.ANN_STORAGE_TYPE], notes[keys.ANN_STORAGE_BASE_PATH])


def test_a_mapped_runtime_image_becomes_its_placeholder():
    values = "placeholder: {images: {'example.test/vllm-placeholder:1': 'example.test/other:2'}}"
    assert "example.test/other:2" == target_of(shape(checkpoint(), values))["image"]


@pytest.mark.parametrize(
    ("obj", "field", "message"),
    [
        pytest.param(
            checkpoint(job={"targetContainerName": "gpu"}),
            "spec.job.targetContainerName",
            "container 'gpu' is not in the pod; it has: main",
            id="target-missing",
        ),
        pytest.param(
            checkpoint(pod_template={"spec": {"containers": []}}),
            "spec.job.podTemplateSpec.spec.containers",
            "at least one container",
            id="no-containers",
        ),
        pytest.param(
            checkpoint(job={"targetContainerName": "m" * 34}, pod_template=template(container("m" * 34))),
            "spec.job.targetContainerName",
            "longer than 33 characters",
            id="name-too-long",
        ),
        *(
            pytest.param(
                checkpoint(pod_template=template(**{field: True})),
                f"spec.job.podTemplateSpec.spec.{field}",
                "must not be true",
                id=field,
            )
            for field in ("hostPID", "hostNetwork", "hostIPC", "shareProcessNamespace")
        ),
        pytest.param(
            checkpoint(job={"readySignal": "Probe"}), "spec.job.readySignal", "no-ready-signal", id="no-ready-signal"
        ),
        pytest.param(
            checkpoint(gpuMemoryService={"enabled": True}), "spec.gpuMemoryService.enabled", "not supported", id="gms"
        ),
        pytest.param(
            checkpoint(annotations={keys.ANN_ARTIFACT_VERSION: "../1"}),
            f"metadata.annotations[{keys.ANN_ARTIFACT_VERSION}]",
            "artifact version '../1'",
            id="hostile-version",
        ),
        pytest.param(
            checkpoint(labels={keys.LABEL_CHECKPOINT_ID: "a/b"}),
            f"metadata.labels[{keys.LABEL_CHECKPOINT_ID}]",
            "checkpoint id 'a/b'",
            id="hostile-id",
        ),
        pytest.param(
            checkpoint(labels={keys.LABEL_CHECKPOINT_ID: "a" * 50}),
            f"metadata.annotations[{keys.ANN_ARTIFACT_VERSION}]",
            "at most 63 fit",
            id="name-of-the-job-too-long",
        ),
        pytest.param(
            checkpoint(identity={}), "spec.identity.model", "needed to compute the checkpoint id", id="no-identity"
        ),
    ],
)
def test_what_cannot_be_captured_is_refused_by_field(obj, field, message):
    with pytest.raises(InvalidTemplateError) as caught:
        shape(obj)
    assert field == caught.value.field
    assert message in caught.value.message


def test_a_path_that_storage_needs_is_refused():
    taken = container(volumeMounts=[{"name": "data", "mountPath": "/checkpoints/"}])
    with pytest.raises(InvalidTemplateError, match=r"containers\[main\].volumeMounts: .*'data' at /checkpoints"):
        shape(checkpoint(pod_template=template(taken)), "storage: {accessMode: podMount}")


def test_the_command_of_a_canary_is_stamped_in_the_capture_pod():
    pod = template(container())
    pod["metadata"] = {**pod.get("metadata", {}), "annotations": {keys.ANN_CANARY: '{"exec": {"command": ["true"]}}'}}
    target = target_of(shape(checkpoint(pod_template=pod)))
    assert command_stamp(pod).items() <= {entry["name"]: entry.get("value") for entry in target["env"]}.items()
    assert command_stamp(pod)


def test_a_canary_that_cannot_be_asked_makes_no_job():
    obj = checkpoint()
    obj["spec"]["job"]["podTemplateSpec"].setdefault("metadata", {})["annotations"] = {keys.ANN_CANARY: '{"port": 1}'}
    with pytest.raises(InvalidTemplateError, match="path: field required") as caught:
        shape(obj)
    assert f"spec.job.podTemplateSpec.metadata.annotations[{keys.ANN_CANARY}]" == caught.value.field
