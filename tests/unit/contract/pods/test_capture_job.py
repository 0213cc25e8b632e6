import copy
import json

import pytest

from contract.api import keys
from contract.config.storage import storage_from_values
from contract.config.values import load_values
from contract.pods.canary import canary_call, command_stamp
from contract.pods.capture_job import InvalidTemplateError, build_capture_job
from tests.support.builders.objects import ID, checkpoint, container, template

PROBE = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5}


def shape(obj, values=""):
    loaded = load_values(values)
    return build_capture_job(obj, values=loaded, storage=storage_from_values(loaded))


def pod_of(job):
    return job["spec"]["template"]["spec"]


def target_of(job):
    (target,) = pod_of(job)["containers"]
    return target


def named(items, name):
    return next((item for item in items if item["name"] == name), None)


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


SEVERAL = {
    "NCCL_NVLS_ENABLE": "0",
    "NCCL_IB_DISABLE": "1",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
}
IN_IMAGE = SEVERAL | {"NCCL_P2P_DISABLE": "1", "NCCL_CUMEM_HOST_ENABLE": "0"}
EACH = {"TORCH_NCCL_ENABLE_MONITORING": "0", "NCCL_SOCKET_IFNAME": "lo"}


@pytest.mark.parametrize(
    ("gpus", "own", "values", "expected"),
    [
        pytest.param({}, {}, "", {}, id="none"),
        pytest.param({"nvidia.com/gpu": "1"}, {}, "", EACH, id="one"),
        pytest.param({"nvidia.com/gpu": "2"}, {}, "", EACH | SEVERAL, id="two"),
        pytest.param({"nvidia.com/gpu.shared": 2}, {}, "", EACH | SEVERAL, id="two-time-slices"),
        pytest.param(
            {"nvidia.com/gpu": "2"}, {}, "{capture: {deviceMemory: Image}}", EACH | IN_IMAGE, id="two-in-the-image"
        ),
        pytest.param(
            {"nvidia.com/gpu": "2"},
            {"NCCL_P2P_DISABLE": "0"},
            "",
            EACH | SEVERAL | {"NCCL_P2P_DISABLE": "0"},
            id="its-own-wins",
        ),
        pytest.param(
            {"nvidia.com/gpu": "2"},
            {},
            "{capture: {gpuEnvironment: {always: {}, severalGpus: {NCCL_DEBUG: INFO, NCCL_IB_DISABLE: null}}}}",
            {"NCCL_DEBUG": "INFO"},
            id="other-values",
        ),
    ],
)
def test_environment_of_workers_with_gpus(gpus, own, values, expected):
    env = [{"name": name, "value": value} for name, value in own.items()]
    target = target_of(shape(checkpoint(pod_template=template(container(env=env, resources={"limits": gpus}))), values))
    found = {entry["name"]: entry["value"] for entry in target["env"] if entry["name"].startswith(("NCCL_", "TORCH_"))}
    assert expected == found
    assert len(target["env"]) == len({entry["name"] for entry in target["env"]})


@pytest.mark.parametrize(
    ("gpus", "said", "values", "expected"),
    [
        pytest.param("1", {}, "", [keys.DEVICE_MEMORY_LIBRARY], id="one"),
        pytest.param("2", {}, "", [keys.DEVICE_MEMORY_LIBRARY], id="several"),
        pytest.param("2", {keys.ANN_DEVICE_MEMORY: "image"}, "", [], id="several-and-the-owner-says-no"),
        pytest.param("0", {}, "", [], id="none"),
        pytest.param("1", {keys.ANN_DEVICE_MEMORY: "image"}, "", [], id="the-owner-says-no"),
        pytest.param("1", {}, "{capture: {deviceMemory: Image}}", [], id="the-chart-says-no"),
        pytest.param(
            "1",
            {keys.ANN_DEVICE_MEMORY: "outside"},
            "{capture: {deviceMemory: Image}}",
            [keys.DEVICE_MEMORY_LIBRARY],
            id="the-owner-goes-before",
        ),
    ],
)
def test_device_memory_of_gpu_workers_stays_outside(gpus, said, values, expected):
    pod = template(container(resources={"limits": {"nvidia.com/gpu": gpus}}))
    pod["metadata"] = {**pod.get("metadata", {}), "annotations": said}
    target = target_of(shape(checkpoint(pod_template=pod), values))
    assert expected == [entry["value"] for entry in target["env"] if entry["name"] == keys.ENV_DEVICE_MEMORY]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        pytest.param(keys.ANN_DEVICE_MEMORY, "outside or image", id="where-it-is-left"),
        pytest.param(keys.ANN_WEIGHTS, "referenced or stored", id="what-becomes-of-weights"),
    ],
)
def test_a_word_for_device_memory_that_is_not_known(annotation, words):
    pod = template(container(resources={"limits": {"nvidia.com/gpu": "1"}}))
    pod["metadata"] = {**pod.get("metadata", {}), "annotations": {annotation: "elsewhere"}}
    with pytest.raises(InvalidTemplateError, match=rf"{annotation}.*'elsewhere'; set it to {words}"):
        shape(checkpoint(pod_template=pod))


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


def test_containers_beside_the_target_end_with_it():
    side = container("side", startupProbe=PROBE, livenessProbe=PROBE, readinessProbe=PROBE)
    spec = pod_of(shape(checkpoint(pod_template=template(container(), side, initContainers=[container("init")]))))
    first, second = spec["initContainers"]
    assert ("init", None) == (first["name"], first.get("restartPolicy"))
    assert ("side", "Always", PROBE) == (second["name"], second["restartPolicy"], second["readinessProbe"])
    assert not {"startupProbe", "livenessProbe"} & second.keys()
    assert side["command"] == second["command"]


def test_native_sidecars_stay_as_they_are_and_injected_ones_go():
    sidecar = container("logs", restartPolicy="Always", startupProbe=PROBE)
    inits = [container("istio-proxy", restartPolicy="Always"), sidecar, container("fetch"), container("linkerd-init")]
    spec = pod_of(shape(checkpoint(pod_template=template(container("proxy"), container(), initContainers=inits))))
    assert ["logs", "fetch", "proxy"] == [each["name"] for each in spec["initContainers"]]
    assert sidecar == spec["initContainers"][0]


def test_what_a_shaped_pod_carries_is_not_taken_along():
    """Templates of automatic checkpoints may come from pods, which were held, stamped or debugged."""
    notes = {keys.ANN_TEMPLATE_HASH: "0" * 32, keys.ANN_GATE: "wait-timeout", keys.ANN_ADMISSION: "held"}
    env = [{"name": name, "value": "x"} for name in (keys.ENV_CHECKPOINT_PATH, keys.ENV_CHECKPOINT_HASH, "MINE")]
    pod = template(container(env=env), metadata={"annotations": notes}, ephemeralContainers=[container("debug")])
    job = shape(checkpoint(pod_template=pod))
    assert not notes.keys() & job["spec"]["template"]["metadata"]["annotations"].keys()
    assert "ephemeralContainers" not in pod_of(job)
    names = [entry["name"] for entry in target_of(job)["env"]]
    assert ["MINE", keys.ENV_CONTROL_DIR, keys.ENV_CHECKPOINT_SIGNAL_FILE] == names


def test_nothing_routes_to_counts_or_favours_a_capture_pod():
    metadata = {
        "name": "web-0",
        "labels": {"app": "web", "pod-template-hash": "1", "job-name": "x", keys.LABEL_RESTORE: "enabled"},
        "annotations": {"mine": "1", keys.ANN_CHECKPOINT_NAME: "q", keys.ANN_RESTORE_STATUS_PREFIX + "main": "failed"},
    }
    proxies = [container("istio-proxy")]
    job = shape(
        checkpoint(
            pod_template=template(
                container(),
                *proxies,
                metadata=metadata,
                nodeName="n1",
                priority=1,
                priorityClassName="high",
                preemptionPolicy="PreemptLowerPriority",
                schedulingGates=[{"name": "g"}],
                readinessGates=[{"conditionType": "theirs"}],
                initContainers=[container("istio-init")],
            )
        )
    )
    meta, spec = job["spec"]["template"]["metadata"], pod_of(job)
    assert {"labels", "annotations"} == meta.keys()
    assert {
        "sidecar.istio.io/inject": "false",
        keys.LABEL_IS_SOURCE: "true",
        keys.LABEL_CHECKPOINT_ID: ID,
    } == meta["labels"]
    assert "1" == meta["annotations"]["mine"]
    assert "disabled" == meta["annotations"]["linkerd.io/inject"]
    assert not {keys.ANN_CHECKPOINT_NAME, keys.ANN_RESTORE_STATUS_PREFIX + "main"} & meta["annotations"].keys()
    gone = {"nodeName", "priority", "priorityClassName", "preemptionPolicy", "schedulingGates", "initContainers"}
    assert not gone & spec.keys()
    assert [{"conditionType": "theirs"}, {"conditionType": keys.READINESS_GATE_SOURCE}] == spec["readinessGates"]


def test_only_labels_that_the_installation_names_are_kept():
    labels = {"app": "web", "egress": "hub", "pod-template-hash": "1", keys.LABEL_RESTORE: "auto"}
    obj = checkpoint(pod_template=template(metadata={"labels": labels}))
    keep = f"capture: {{keepLabels: [egress, absent, pod-template-hash, {keys.LABEL_RESTORE}]}}"
    found = shape(obj, keep)["spec"]["template"]["metadata"]["labels"]
    ours = {"sidecar.istio.io/inject": "false", keys.LABEL_IS_SOURCE: "true", keys.LABEL_CHECKPOINT_ID: ID}
    assert {"egress": "hub"} | ours == found


def test_monitors_do_not_find_a_capture_pod():
    notes = {"prometheus.io/scrape": "true", "ad.datadoghq.com/main.checks": "{}", "mine": "1"}
    obj = checkpoint(pod_template=template(metadata={"annotations": notes}))
    assert {"mine"} == notes.keys() & shape(obj)["spec"]["template"]["metadata"]["annotations"].keys()


def of_label(key):
    return {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{key}']"}}


def test_the_environment_has_the_labels_values_all_the_same():
    """The pod lacks the labels, so a reference to one would be empty, and that is what would be captured."""
    env = [
        {"name": "TIER", "valueFrom": of_label("tier")},
        {"name": "HASH", "valueFrom": of_label("pod-template-hash")},
    ]
    labels = {"tier": "gold", "pod-template-hash": "1"}
    beside = container("logs", env=copy.deepcopy(env))
    job = shape(checkpoint(pod_template=template(container(env=env), beside, metadata={"labels": labels})))
    for each in (target_of(job), *pod_of(job)["initContainers"]):
        assert {"name": "TIER", "value": "gold"} == named(each["env"], "TIER")
        assert of_label("pod-template-hash") == named(each["env"], "HASH")["valueFrom"]


def test_what_is_meant_for_serving_replicas_is_not_the_captures():
    """A port of the node is taken where a replica serves; and a capture need not be beside or apart from one."""
    ports = [{"containerPort": 8000, "name": "http", "hostPort": 18000, "hostIP": "127.0.0.1"}]
    terms = [{"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}]
    beside = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    gone = {"topologySpreadConstraints": [{"maxSkew": 1}], "activeDeadlineSeconds": 12}
    kept = {"nodeSelector": {"gpu": "a"}, "tolerations": [{"operator": "Exists"}], "runtimeClassName": "nvidia"}
    spec = pod_of(
        shape(
            checkpoint(
                pod_template=template(
                    container(ports=copy.deepcopy(ports)),
                    container("logs", ports=copy.deepcopy(ports)),
                    initContainers=[container("fetch", ports=copy.deepcopy(ports))],
                    affinity={"podAntiAffinity": beside, "podAffinity": beside},
                    **gone,
                    **kept,
                )
            )
        )
    )
    assert {"nodeAffinity"} == spec["affinity"].keys()
    assert not gone.keys() & spec.keys()
    assert kept.items() <= spec.items()
    found = [each["ports"] for each in (*spec["containers"], *spec["initContainers"])]
    assert [[{"containerPort": 8000, "name": "http"}]] * 3 == found


def test_a_capture_is_one_attempt_whatever_the_containers_own_rules():
    own = {"restartPolicy": "Always", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In"}}]}
    job = shape(checkpoint(pod_template=template(container(**own), container("logs", **own))))
    assert not own.keys() & target_of(job).keys()
    (sidecar,) = pod_of(job)["initContainers"]
    assert ("Always", False) == (sidecar["restartPolicy"], "restartPolicyRules" in sidecar)


def test_seccomp_keeps_the_other_fields_and_can_be_switched_off():
    obj = checkpoint(pod_template=template(securityContext={"runAsUser": 1000}))
    profile = {"type": "Localhost", "localhostProfile": "profiles/block-iouring.json"}
    assert {"runAsUser": 1000, "seccompProfile": profile} == pod_of(shape(obj))["securityContext"]
    off = shape(obj, "checkpoint: {seccomp: {disabled: true}}")
    assert {"runAsUser": 1000} == pod_of(off)["securityContext"]


READY = {"key": "nvidia.com/snapshot-node", "operator": "In", "values": ["ready"]}
ZONE = {"key": "zone", "operator": "In", "values": ["a"]}


def test_required_affinity_goes_into_every_alternative():
    terms = [{"matchExpressions": [ZONE]}, {"matchFields": [ZONE]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    spec = pod_of(shape(checkpoint(pod_template=template(affinity={"nodeAffinity": required, "podAffinity": {}}))))
    shaped = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [
        {"matchExpressions": [ZONE, READY]},
        {"matchFields": [ZONE], "matchExpressions": [READY]},
    ] == shaped
    assert {"nodeAffinity"} == spec["affinity"].keys()


def test_affinity_can_be_preferred_or_absent():
    preferred = pod_of(shape(checkpoint(), "admission: {nodeAffinity: Preferred}"))["affinity"]["nodeAffinity"]
    entry = {"weight": 100, "preference": {"matchExpressions": [READY]}}
    assert {"preferredDuringSchedulingIgnoredDuringExecution": [entry]} == preferred
    assert "affinity" not in pod_of(shape(checkpoint(), "admission: {nodeAffinity: None}"))


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
