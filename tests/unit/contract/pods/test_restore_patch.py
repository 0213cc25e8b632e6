import copy

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.api import keys
from contract.api.checkpoint import TargetError, find_targets, target_containers
from contract.config.storage import storage_from_values
from contract.config.values import load_values
from contract.pods.canary import command_stamp, refuse_later_command
from contract.pods.common import MountTakenError
from contract.pods.restore_patch import Restore, restore_operations
from contract.pods.startup_gate import startup_gate
from tests.support.builders.objects import ID, IMAGE, container, graph_pod, opted_in, pod

POD_MOUNT = storage_from_values(load_values("storage: {accessMode: podMount}"))
AGENT_MOUNT = storage_from_values(load_values(""))
PROFILE = "profiles/block-iouring.json"
PATH = f"/checkpoints/{ID}/versions/1"


def restore(**fields):
    usual = {
        "checkpoint": "qwen",
        "checkpoint_id": ID,
        "version": "1",
        "storage": AGENT_MOUNT,
        "seccomp_profile": PROFILE,
        "image": IMAGE,
    }
    return Restore(**(usual | fields))


def operations_for(obj, wanted, targets=("main",)):
    named = {"metadata": {"annotations": {keys.ANN_TARGET_CONTAINERS: ",".join(targets)}}, "spec": obj["spec"]}
    return restore_operations(obj, wanted, find_targets(named))


def shape(obj, targets=("main",), **fields):
    return jsonpatch.JsonPatch(operations_for(obj, restore(**fields), targets)).apply(obj)


def env_of(container):
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def named(items, name):
    return next((item for item in items if item["name"] == name), None)


def test_the_target_waits_in_standby_with_its_own_command_behind():
    main = shape(opted_in())["spec"]["containers"][0]
    assert [keys.STANDBY, "--", "python3", "-m", "worker"] == main["command"]
    assert ["--port", "8000"] == main["args"]


@pytest.mark.parametrize("args", [None, ["--port"]], ids=["cmd", "args"])
def test_without_a_command_standby_runs_the_images_entrypoint(args):
    worker = {"name": "main", "image": IMAGE} | ({"args": args} if args else {})
    main = shape(opted_in(worker))["spec"]["containers"][0]
    assert [keys.STANDBY, "--image-entrypoint", "--"] == main["command"]
    assert args == main.get("args")


def test_environment():
    main = shape(opted_in(container(env=[{"name": "A", "value": "1"}])))["spec"]["containers"][0]
    assert {
        "A": "1",
        "DYN_SNAPSHOT_CONTROL_DIR": "/snapshot-control",
        "DYN_SNAPSHOT_RESTORE_STANDBY": "1",
        "DYN_SNAPSHOT_CHECKPOINT_ID": ID,
        "DYN_SNAPSHOT_RESTART_POLICY": "Always",
        "DYN_CHECKPOINT_STORAGE_TYPE": "pvc",
        "DYN_CHECKPOINT_LOCATION": PATH,
        "DYN_CHECKPOINT_PATH": PATH,
        "DYN_CHECKPOINT_HASH": ID,
    } == env_of(main)


def test_environment_of_ours_is_overwritten_but_the_control_directory_kept():
    env = [
        {"name": keys.ENV_RESTORE_STANDBY, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": keys.ENV_CONTROL_DIR, "value": "/run/ctl"},
    ]
    main = shape(opted_in(container(env=env), restartPolicy="Never"))["spec"]["containers"][0]
    assert {"name": keys.ENV_RESTORE_STANDBY, "value": "1"} == main["env"][0]
    assert "/run/ctl" == env_of(main)[keys.ENV_CONTROL_DIR]
    assert "Never" == env_of(main)[keys.ENV_STANDBY_RESTART_POLICY]
    assert "/run/ctl" == named(main["volumeMounts"], "snapshot-control")["mountPath"]


def test_a_containers_own_restart_policy_goes_before_the_pods():
    main = shape(opted_in(container(restartPolicy="Never")))["spec"]["containers"][0]
    assert "Never" == env_of(main)[keys.ENV_STANDBY_RESTART_POLICY]


def test_a_port_of_the_node_stays():
    ports = [{"containerPort": 8000, "hostPort": 18000}]
    assert ports == shape(opted_in(container(ports=ports)))["spec"]["containers"][0]["ports"]


def test_require_reaches_standby():
    obj = opted_in(annotations={keys.ANN_POLICY: "Require"})
    assert "Require" == env_of(shape(obj)["spec"]["containers"][0])["DYN_SNAPSHOT_POLICY"]


PROBE = {"httpGet": {"path": "/", "port": 1}, "timeoutSeconds": 3}


@pytest.mark.parametrize(
    ("fields", "threshold"),
    [
        pytest.param({"startupProbe": PROBE}, 1800, id="startup-default-budget"),
        pytest.param({"livenessProbe": PROBE | {"initialDelaySeconds": 30}}, 1800, id="liveness"),
        pytest.param({"readinessProbe": PROBE, "livenessProbe": PROBE}, 1800, id="liveness-and-readiness"),
        pytest.param(
            {"startupProbe": PROBE | {"periodSeconds": 30, "failureThreshold": 120, "initialDelaySeconds": 60}},
            3660,
            id="longer-budget-is-kept",
        ),
        pytest.param(
            {"startupProbe": PROBE | {"periodSeconds": 100_000, "failureThreshold": 100_000}},
            2_147_483_647,
            id="no-more-than-the-api-takes",
        ),
    ],
)
def test_the_startup_gate_copies_the_probe_and_never_shortens_its_budget(fields, threshold):
    gate = startup_gate(container(**fields), "/snapshot-control")
    assert PROBE | {"periodSeconds": 1, "failureThreshold": threshold, "successThreshold": 1} == gate


def test_the_startup_probe_goes_before_the_others():
    first = {"exec": {"command": ["a"]}}
    gate = startup_gate(container(readinessProbe=PROBE, livenessProbe=PROBE, startupProbe=first), "/c")
    assert ["exec", "a"] == gate["exec"]["command"][4:]


def test_without_any_probe_the_gate_waits_for_the_restore():
    gate = startup_gate(container(), "/snapshot-control")
    assert {
        "exec": {"command": [keys.STANDBY, "--gate", "/snapshot-control", "1"]},
        "timeoutSeconds": 3,
        "periodSeconds": 1,
        "failureThreshold": 1800,
        "successThreshold": 1,
    } == gate


def test_labels_and_annotations():
    obj = graph_pod(
        labels={keys.LABEL_IS_SOURCE: "", keys.LABEL_OUTCOME: "restored", "app": "web"},
        annotations={
            "mine": "1",
            keys.ANN_STARTUP_POLICY: "Immediate",
            keys.ANN_RESTORE_STATUS_PREFIX + "main": "failed",
            "nvidia.com/snapshot-restore-status": "x",
            keys.ANN_CHECKPOINT_STATUS: "completed",
            keys.ANN_ARTIFACT_VERSION: "0",
        },
    )
    metadata = shape(obj)["metadata"]
    assert {
        **dict.fromkeys(keys.GRAPH_LABELS, "worker"),
        "app": "web",
        keys.LABEL_IS_RESTORE_TARGET: "true",
        keys.LABEL_CHECKPOINT_ID: ID,
    } == metadata["labels"]
    assert {
        "mine": "1",
        keys.ANN_TARGET_CONTAINERS: "main",
        keys.ANN_ARTIFACT_VERSION: "1",
        keys.ANN_CHECKPOINT: "qwen",
        keys.ANN_ADMISSION: "restore-shaped",
    } == metadata["annotations"]


def test_the_opt_in_label_stays_because_selectors_may_name_it():
    assert "enabled" == shape(opted_in())["metadata"]["labels"][keys.LABEL_RESTORE]


def test_another_image_is_replaced_and_noted():
    obj = shape(opted_in(container(image="example.test/runtime:1")))
    assert IMAGE == obj["spec"]["containers"][0]["image"]
    assert "example.test/runtime:1" == obj["metadata"]["annotations"]["nvidia.com/snapshot-original-image.main"]


def test_pod_mount_is_read_only():
    obj = shape(opted_in(), storage=POD_MOUNT)
    mount = named(obj["spec"]["containers"][0]["volumeMounts"], "checkpoint-storage")
    assert {"name": "checkpoint-storage", "mountPath": "/checkpoints", "readOnly": True} == mount
    claim = {"claimName": "snapshot-pvc"}
    assert claim == named(obj["spec"]["volumes"], "checkpoint-storage")["persistentVolumeClaim"]
    assert "/checkpoints" == obj["metadata"]["annotations"][keys.ANN_STORAGE_BASE_PATH]


@pytest.mark.parametrize(
    ("size", "worker", "expected"),
    [
        pytest.param("8Gi", {}, {"medium": "Memory", "sizeLimit": "8Gi"}, id="as-capture"),
        pytest.param("", {}, {"medium": "Memory"}, id="without-limit"),
        pytest.param(None, {}, None, id="capture-had-none"),
        pytest.param("8Gi", {"volumeMounts": [{"name": "own", "mountPath": "/dev/shm"}]}, None, id="has-its-own"),
    ],
)
def test_shared_memory_as_capture_had_it(size, worker, expected):
    found = named(shape(opted_in(container(**worker)), shared_memory=size)["spec"]["volumes"], "shared-memory")
    assert expected == (found and found["emptyDir"])


def test_pull_secrets_are_added_once():
    obj = shape(opted_in(imagePullSecrets=[{"name": "a"}]), pull_secrets=("a", "b"))
    assert [{"name": "a"}, {"name": "b"}] == obj["spec"]["imagePullSecrets"]


def test_only_targets_are_touched():
    side = container("side", readinessProbe=PROBE)
    obj = shape(opted_in(side, container("gpu"), container()), targets=("main", "gpu"))
    assert side == obj["spec"]["containers"][0]
    assert keys.STANDBY == obj["spec"]["containers"][1]["command"][0]
    assert {"gpu", "main"} == {c["volumeMounts"][0]["subPath"] for c in obj["spec"]["containers"][1:]}
    assert 1 == len(obj["spec"]["volumes"])
    assert "main,gpu" == obj["metadata"]["annotations"][keys.ANN_TARGET_CONTAINERS]


def test_a_missing_target_is_an_error():
    with pytest.raises(TargetError, match="container 'gpu' is not in the pod; it has: main"):
        operations_for(opted_in(), restore(), ("gpu",))


def test_a_taken_mount_path_is_an_error_not_an_invalid_pod():
    obj = opted_in(container(volumeMounts=[{"name": "data", "mountPath": "/checkpoints"}]))
    with pytest.raises(MountTakenError, match="'data' at /checkpoints"):
        operations_for(obj, restore(storage=POD_MOUNT))


@pytest.mark.parametrize(
    ("expected", "obj"),
    [
        pytest.param(("main",), pod(container("side"), container()), id="main"),
        pytest.param(("web",), pod(container("web")), id="the-only-one"),
        pytest.param(
            ("b", "a"),
            pod(container("a"), container("b"), annotations={keys.ANN_TARGET_CONTAINERS: " b , a "}),
            id="annotation",
        ),
    ],
)
def test_targets(expected, obj):
    assert expected == target_containers(obj)


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        pytest.param(pod(container("a"), container("b")), "more than one container", id="ambiguous"),
        pytest.param(pod(annotations={keys.ANN_TARGET_CONTAINERS: ""}), "comma-separated", id="empty"),
        pytest.param(pod(annotations={keys.ANN_TARGET_CONTAINERS: "main,,"}), "comma-separated", id="gap"),
        pytest.param(pod(annotations={keys.ANN_TARGET_CONTAINERS: "main,main"}), "twice", id="twice"),
        pytest.param(pod(annotations={keys.ANN_TARGET_CONTAINERS: "x"}), "not in the pod", id="absent"),
        pytest.param(pod(container("m" * 34)), "longer than 33", id="too-long"),
    ],
)
def test_bad_targets(obj, message):
    with pytest.raises(TargetError, match=message):
        target_containers(obj)


# --- properties ---

words = st.sampled_from(["a", "b", "main", "side", "x/y~z", "snapshot-control", "checkpoint-storage"])
texts = st.dictionaries(
    st.sampled_from(["a", "x/y~z", keys.ANN_RESTORE_CANDIDATE, keys.ANN_ADMISSION]), words, max_size=3
)
probes = st.fixed_dictionaries(
    {"exec": st.just({"command": ["true"]})},
    optional={name: st.integers(0, 5000) for name in ("periodSeconds", "failureThreshold", "initialDelaySeconds")},
)
mounts = st.lists(st.builds(lambda n, p: {"name": n, "mountPath": f"/{p}"}, words, st.integers(0, 9)), max_size=2)
env = st.lists(
    st.builds(
        lambda n: {"name": n, "value": "v"}, st.sampled_from(["A", keys.ENV_RESTORE_STANDBY, keys.ENV_STANDBY_ID])
    ),
    max_size=3,
)
containers = st.fixed_dictionaries(
    {"image": words},
    optional={
        "command": st.lists(words, max_size=2),
        "args": st.lists(words, max_size=2),
        "env": env,
        "volumeMounts": mounts,
        "startupProbe": probes,
        "livenessProbe": probes,
        "resources": st.just({"limits": {"cpu": "1"}}),
    },
)
required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": []}, {}]}}
specs = st.fixed_dictionaries(
    {},
    optional={
        "volumes": st.lists(st.builds(lambda n: {"name": n, "emptyDir": {}}, words), max_size=2),
        "affinity": st.sampled_from([{}, {"nodeAffinity": {}}, {"nodeAffinity": required}]),
        "securityContext": st.sampled_from([{}, {"runAsUser": 1}, {"seccompProfile": {"type": "RuntimeDefault"}}]),
        "imagePullSecrets": st.just([{"name": "a"}]),
        "tolerations": st.just([{"operator": "Exists"}]),
    },
)
metadata = st.fixed_dictionaries({}, optional={"labels": texts, "annotations": texts})
pods = st.builds(
    lambda meta, spec, main, side: {
        "metadata": meta,
        "spec": {**spec, "containers": [{"name": "side", **side}, {"name": "main", **main}]},
    },
    metadata,
    specs,
    containers,
    containers,
)
restores = st.builds(
    restore,
    storage=st.sampled_from([AGENT_MOUNT, POD_MOUNT]),
    node_affinity=st.sampled_from(["Required", "Preferred", "None"]),
    image=st.sampled_from([None, IMAGE]),
    pull_secrets=st.sampled_from([(), ("a", "b")]),
    shared_memory=st.sampled_from([None, "", "8Gi"]),
    seccomp_profile=st.sampled_from([None, PROFILE]),
)
several = st.sampled_from([("main",), ("main", "side")])
OURS = {"command", "env", "volumeMounts", "startupProbe", "image"}


@settings(max_examples=300, deadline=None)
@given(pods, restores, several)
def test_shaping_applies_to_any_pod_is_idempotent_and_leaves_the_rest_alone(obj, wanted, targets):
    before = copy.deepcopy(obj)
    operations = operations_for(obj, wanted, targets)
    assert before == obj
    once = jsonpatch.JsonPatch(operations).apply(obj)
    assert [] == operations_for(once, wanted, targets)
    for old, new in zip(before["spec"]["containers"], once["spec"]["containers"], strict=True):
        ours = OURS if old["name"] in targets else set()
        assert {k: v for k, v in old.items() if k not in ours} == {k: v for k, v in new.items() if k not in ours}
    assert before["spec"].get("tolerations") == once["spec"].get("tolerations")
    for field in ("volumes", "imagePullSecrets"):
        present = before["spec"].get(field, [])
        assert present == once["spec"].get(field, [])[: len(present)]
    for field in ("labels", "annotations"):
        foreign = {k: v for k, v in before["metadata"].get(field, {}).items() if not k.startswith("nvidia.com/")}
        assert foreign.items() <= once["metadata"].get(field, {}).items()


@pytest.mark.parametrize("fields", [{}, {"waits": True}, {"parks": True}], ids=["restores", "waits", "parks"])
def test_the_command_of_a_canary_is_stamped_where_no_update_reaches(fields):
    obj = opted_in(container())
    obj["metadata"]["annotations"] = obj["metadata"].get("annotations", {}) | {
        keys.ANN_CANARY: '{"exec": {"command": ["true"]}}'
    }
    targets = find_targets({"metadata": {"annotations": {keys.ANN_TARGET_CONTAINERS: "main"}}, "spec": obj["spec"]})
    shaped = jsonpatch.JsonPatch(restore_operations(obj, restore(**fields), targets)).apply(obj)
    refuse_later_command(shaped, "main")
    assert command_stamp(obj)[keys.ENV_CANARY] == env_of(shaped["spec"]["containers"][0])[keys.ENV_CANARY]


@pytest.mark.parametrize(
    ("gpus", "fields", "said", "expected"),
    [
        pytest.param("1", {"serves": True}, "", keys.DEVICE_MEMORY_LIBRARY, id="one-gpu"),
        pytest.param("2", {"serves": True}, "", keys.DEVICE_MEMORY_LIBRARY, id="several"),
        pytest.param("0", {"serves": True}, "", None, id="none"),
        pytest.param("1", {"serves": True, "device_memory": "Image"}, "", None, id="the-chart-says-no"),
        pytest.param("1", {"serves": True}, "image", None, id="the-owner-says-no"),
        pytest.param("1", {"serves": True}, "elsewhere", None, id="not-known"),
        pytest.param("1", {"serves": False}, "", None, id="restored"),
    ],
)
def test_a_worker_that_is_captured_while_it_runs_keeps_its_device_memory_outside(gpus, fields, said, expected):
    obj = opted_in(container(resources={"limits": {"nvidia.com/gpu": gpus}}))
    if said:
        obj["metadata"]["annotations"] = obj["metadata"].get("annotations", {}) | {keys.ANN_DEVICE_MEMORY: said}
    wanted = restore(**({"device_memory": "Outside"} | fields))
    targets = find_targets({"metadata": {"annotations": {keys.ANN_TARGET_CONTAINERS: "main"}}, "spec": obj["spec"]})
    shaped = jsonpatch.JsonPatch(restore_operations(obj, wanted, targets)).apply(obj)
    assert expected == env_of(shaped["spec"]["containers"][0]).get(keys.ENV_DEVICE_MEMORY)
