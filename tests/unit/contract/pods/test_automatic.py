import copy
import re

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.api import keys
from contract.api.checkpoint import TargetError, find_container, find_targets
from contract.config.storage import storage_from_values
from contract.config.values import load_values
from contract.pods.restore_patch import Restore, restore_operations
from contract.pods.template_hash import automatic_id, automatic_name, automatic_target, per_pod_identity, template_hash
from tests.support.builders.objects import container, pod, template

TOKEN_MOUNT = {"name": "kube-api-access-x7k2p", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
RICH = container(
    env=[
        {"name": "A", "value": "1"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        {"name": "ZONE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ],
    envFrom=[{"configMapRef": {"name": "settings"}}],
    resources={"limits": {"nvidia.com/gpu": 1, "cpu": "1000m", "memory": "1Gi"}},
    volumeMounts=[{"name": "cache", "mountPath": "/cache"}, {"name": "conf", "mountPath": "/etc/worker"}],
    securityContext={"runAsUser": 0},
)
VOLUMES = [
    {"name": "cache", "persistentVolumeClaim": {"claimName": "models"}},
    {"name": "conf", "configMap": {"name": "worker"}},
    {"name": "unused", "emptyDir": {}},
]
ANNOTATIONS = {"checksum/config": "1", "kubectl.kubernetes.io/restartedAt": "t0", "team": "x"}


def rich(*sidecars, **parts):
    return pod(
        copy.deepcopy(RICH), *sidecars, **{"volumes": copy.deepcopy(VOLUMES), "annotations": ANNOTATIONS, **parts}
    )


def changed(change):
    obj = copy.deepcopy(rich())
    change(obj, obj["spec"]["containers"][0])
    return obj


HASH = template_hash(rich(), "main")


def test_thirty_two_hex_digits():
    assert re.fullmatch("[0-9a-f]{32}", HASH)
    assert HASH == template_hash(rich(), "main")


def test_the_hash_of_a_known_pod_never_changes():
    """Another value would make every automatic checkpoint again with the next release."""
    assert "f1b85b61ce357312335b5090ae736dbc" == template_hash(rich(), "main")


COUNTS = [
    pytest.param(lambda _, c: c.update(image="other:2"), id="image"),
    pytest.param(lambda _, c: c["command"].append("x"), id="command"),
    pytest.param(lambda _, c: c.update(command=[]), id="no-command"),
    pytest.param(lambda _, c: c["args"].append(""), id="args"),
    pytest.param(lambda _, c: c["env"][0].update(value="2"), id="env-value"),
    pytest.param(lambda _, c: c["env"][0].update(name="B"), id="env-name"),
    pytest.param(lambda _, c: c["env"].append({"name": "B"}), id="env-more"),
    pytest.param(lambda p, _: p["spec"].update(nodeSelector={"kubernetes.io/arch": "arm64"}), id="architecture"),
    pytest.param(lambda _, c: c["env"][1]["valueFrom"]["secretKeyRef"].update(name="y"), id="secret-name"),
    pytest.param(lambda _, c: c["env"][1]["valueFrom"]["secretKeyRef"].update(key="y"), id="secret-key"),
    pytest.param(lambda _, c: c["envFrom"][0]["configMapRef"].update(name="y"), id="config-map-name"),
    pytest.param(lambda _, c: c["envFrom"][0].update(prefix="P_"), id="env-prefix"),
    pytest.param(lambda _, c: c["resources"]["limits"].update({"nvidia.com/gpu": 2}), id="gpus"),
    pytest.param(lambda _, c: c["resources"].update(requests={"memory": "512Mi"}), id="requests"),
    pytest.param(lambda _, c: c["volumeMounts"][0].update(mountPath="/c"), id="mount-path"),
    pytest.param(lambda _, c: c["volumeMounts"][0].update(readOnly=True), id="mount-read-only"),
    pytest.param(lambda p, _: p["spec"]["volumes"][0]["persistentVolumeClaim"].update(claimName="y"), id="claim"),
    pytest.param(lambda p, _: p["spec"]["volumes"][1].update(configMap={"name": "y"}), id="volume-config-map"),
    pytest.param(lambda _, c: c.update(workingDir="/work"), id="working-dir"),
    pytest.param(lambda _, c: c["securityContext"].update(runAsUser=1000), id="user"),
    pytest.param(lambda _, c: c["securityContext"].pop("runAsUser"), id="no-user"),
    pytest.param(lambda p, _: p["spec"].update(securityContext={"fsGroup": 1}), id="pod-user"),
    pytest.param(lambda p, _: p["spec"].update(serviceAccountName="robot"), id="service-account"),
    pytest.param(
        lambda p, _: p["metadata"]["annotations"].update({"kubectl.kubernetes.io/restartedAt": "t1"}), id="restarted"
    ),
    pytest.param(lambda p, _: p["metadata"]["annotations"].update({"checksum/config": "2"}), id="checksum"),
    pytest.param(
        lambda p, _: p["metadata"]["annotations"].update({keys.ANN_WRITABLE_MOUNTS: "/data"}), id="writable-mounts"
    ),
    pytest.param(lambda p, _: p["metadata"]["annotations"].update({keys.ANN_CANARY: "/health"}), id="canary"),
    pytest.param(lambda p, _: p["metadata"]["annotations"].update({"checksum/other": "2"}), id="checksum-more"),
    pytest.param(lambda _, c: c["env"].append({"name": keys.ENV_CONTROL_DIR, "value": "/mine"}), id="own-control-dir"),
]


@pytest.mark.parametrize("change", COUNTS)
def test_what_reaches_the_workers_memory_makes_another_checkpoint(change):
    assert HASH != template_hash(changed(change), "main")


def _name(obj, _):
    obj["metadata"].update(name="web-1", generateName="web-", uid="u", ownerReferences=[{"kind": "Job", "name": "j"}])


def _scheduled(obj, _):
    obj["spec"].update(nodeName="n1", hostname="web-1", subdomain="web", priority=3, schedulerName="default-scheduler")
    obj["spec"]["tolerations"] = [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]
    obj["status"] = {"podIP": "10.0.0.1", "hostIP": "10.0.0.2"}


def _token(obj, main):
    obj["spec"]["volumes"].append({"name": TOKEN_MOUNT["name"], "projected": {"sources": []}})
    main["volumeMounts"].append(TOKEN_MOUNT)
    obj["spec"].update(serviceAccountName="default", serviceAccount="default")


def _defaults(obj, main):
    """As the API server writes what a template leaves out."""
    main.update(terminationMessagePath="/dev/termination-log", imagePullPolicy="IfNotPresent")
    main["env"][2]["valueFrom"]["fieldRef"]["apiVersion"] = "v1"
    main["env"][1]["valueFrom"]["secretKeyRef"]["optional"] = False
    main["resources"] = {
        "limits": {"nvidia.com/gpu": "1", "cpu": "1", "memory": "1024Mi"},
        "requests": {"nvidia.com/gpu": "1", "cpu": "1", "memory": "1073741824"},
    }
    main["securityContext"]["procMount"] = "Default"
    obj["spec"]["volumes"][1]["configMap"]["defaultMode"] = 420
    obj["spec"].update(securityContext={}, dnsPolicy="ClusterFirst", enableServiceLinks=True)


def _renamed_volume(obj, main):
    obj["spec"]["volumes"][0]["name"] = main["volumeMounts"][0]["name"] = "cache-8f2a1"


def _sidecar(obj, _):
    obj["spec"]["containers"].insert(0, container("istio-proxy", image="mesh:1"))
    obj["spec"]["initContainers"] = [container("istio-init")]
    obj["spec"]["volumes"].append({"name": "istio-token", "emptyDir": {}})


DOES_NOT_COUNT = [
    pytest.param(lambda p, _: p["metadata"].update(labels={"pod-template-hash": "x"}), id="generated-labels"),
    pytest.param(lambda p, _: p["metadata"]["annotations"].update(team="y"), id="other-annotations"),
    pytest.param(
        lambda p, _: p["metadata"]["annotations"].update({keys.ANN_ADMISSION: "webhook-unreachable"}), id="our-mark"
    ),
    pytest.param(_name, id="name-and-owner"),
    pytest.param(_scheduled, id="node-and-addresses"),
    pytest.param(_token, id="token-volume"),
    pytest.param(_defaults, id="defaults"),
    pytest.param(_renamed_volume, id="generated-volume-name"),
    pytest.param(_sidecar, id="injected-sidecar"),
    pytest.param(lambda p, _: p["spec"]["volumes"][2].update(emptyDir={"medium": "Memory"}), id="volume-not-mounted"),
    pytest.param(lambda _, c: c.update(readinessProbe={"httpGet": {"port": 1}}), id="probe"),
    pytest.param(
        lambda _, c: c["env"].append({"name": "LWS_LEADER_ADDRESS", "value": "web-0.web.ns"}), id="group-address"
    ),
    pytest.param(lambda _, c: c["env"].append({"name": keys.ENV_STANDBY_ID, "value": "x"}), id="our-environment"),
    pytest.param(
        lambda _, c: c["env"].append({"name": keys.ENV_CONTROL_DIR, "value": "/snapshot-control"}), id="control-dir"
    ),
]


@pytest.mark.parametrize("change", DOES_NOT_COUNT)
def test_what_differs_from_replica_to_replica_does_not(change):
    assert HASH == template_hash(changed(change), "main")


def test_a_template_and_its_pod_are_the_same():
    metadata = {"annotations": ANNOTATIONS}
    assert HASH == template_hash(template(RICH, volumes=VOLUMES, metadata=metadata), "main")


def test_a_stateful_sets_own_claim_does_not_count():
    mount = {"name": "data", "mountPath": "/data"}
    hashes = set()
    for ordinal in range(3):
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-web-{ordinal}"}}
        obj = pod(container(volumeMounts=[mount]), volumes=[volume])
        obj["metadata"]["name"] = f"web-{ordinal}"
        hashes.add(template_hash(obj, "main"))
    assert {template_hash(template(container(volumeMounts=[mount])), "main")} == hashes


def test_further_annotations_by_value():
    plain, other = rich(), rich(annotations=ANNOTATIONS | {"team": "y"})
    assert template_hash(plain, "main", ["team"]) != template_hash(other, "main", ["team"])
    assert HASH != template_hash(plain, "main", ["team"])
    assert HASH == template_hash(plain, "main", ["absent"])


def test_no_such_container_no_hash():
    assert "" == template_hash(pod(), "other")


TEXT = st.text(max_size=6)
ENTRIES = st.lists(st.fixed_dictionaries({"name": TEXT, "value": TEXT}), max_size=4)
CONTAINERS = st.fixed_dictionaries(
    {"name": st.just("main"), "image": TEXT},
    optional={"command": st.lists(TEXT, max_size=3), "args": st.lists(TEXT, max_size=3), "env": ENTRIES},
)


def parts_of(main):
    env = [(entry["name"], entry["value"]) for entry in main.get("env", [])]
    return main["image"], main.get("command", []), main.get("args", []), env


@settings(deadline=None)
@given(CONTAINERS, CONTAINERS)
def test_two_workers_share_a_checkpoint_only_if_they_start_alike(one, two):
    same = template_hash(pod(one), "main") == template_hash(pod(two), "main")
    assert (parts_of(one) == parts_of(two)) == same


@settings(deadline=None)
@given(CONTAINERS, st.booleans())
def test_a_probe_less_shape_adds_nothing_that_counts(main, in_pod):
    """Environment and volumes of ours do not count, so a hash never depends on an earlier one."""
    main = main | {"command": [keys.STANDBY, *main.get("command", [])]}
    mode = "podMount" if in_pod else "agentMount"
    storage = storage_from_values(load_values(f"storage: {{accessMode: {mode}}}"))
    restore = Restore("c", "id", "1", storage, "p.json", shared_memory="1Gi")
    obj = pod(main)
    shaped = jsonpatch.JsonPatch(restore_operations(obj, restore, find_targets(obj))).apply(obj)
    assert template_hash(obj, "main") == template_hash(shaped, "main")


def test_ids_differ_by_namespace():
    found = automatic_id("ns", HASH)
    assert re.fullmatch("[0-9a-f]{32}", found)
    assert found != automatic_id("other", HASH)
    assert f"checkpoint-{found}" == automatic_name(found)


@pytest.mark.parametrize(
    ("obj", "target"),
    [
        pytest.param(pod(container("x")), "x", id="only-one"),
        pytest.param(pod(container("x"), container("main")), "main", id="main"),
        pytest.param(
            pod(container("x"), container("y"), annotations={keys.ANN_TARGET_CONTAINERS: "y"}), "y", id="named"
        ),
    ],
)
def test_the_target(obj, target):
    assert target == automatic_target(obj)


def test_one_target_only():
    obj = pod(container("x"), container("y"), annotations={keys.ANN_TARGET_CONTAINERS: "x,y"})
    with pytest.raises(TargetError, match="names 2 containers, an automatic checkpoint is taken of one"):
        automatic_target(obj)


def _field(path):
    return pod(container(env=[{"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": path}}}]))


FIELDS = ["metadata.name", "metadata.uid", "spec.nodeName", "status.podIP", "status.podIPs", "status.hostIP"]
DOWNWARD = {"items": [{"path": "me", "fieldRef": {"fieldPath": "metadata.name"}}]}


def _downward(volume, mounts=("info",)):
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in mounts]
    return pod(container(volumeMounts=mounts), volumes=[{"name": "info", **volume}])


def test_a_label_counts_only_if_the_environment_takes_its_value():
    """Else each label of another Deployment would make another checkpoint."""
    hashes = []
    for field in ("metadata.labels['tier']", "metadata.labels['other']"):
        for tier in ("gold", "silver"):
            obj = _field(field)
            obj["metadata"]["labels"] = {"tier": tier}
            hashes.append(template_hash(obj, "main"))
    gold, silver, *unread = hashes
    assert gold != silver
    assert 1 == len(set(unread))


def test_a_generated_label_makes_no_other_checkpoint():
    hashes = set()
    for value in ("1", "2"):
        obj = _field("metadata.labels['pod-template-hash']")
        obj["metadata"]["labels"] = {"pod-template-hash": value}
        hashes.add(template_hash(obj, "main"))
    assert 1 == len(hashes)


def _owned(kind):
    obj = pod()
    obj["metadata"]["ownerReferences"] = [{"kind": kind, "name": "web"}]
    return obj


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        *(
            pytest.param(_field(field), f"spec.containers[main].env[ME].valueFrom.fieldRef: {field}", id=field)
            for field in FIELDS
        ),
        pytest.param(
            _field("metadata.annotations['batch.kubernetes.io/job-completion-index']"),
            "spec.containers[main].env[ME].valueFrom.fieldRef: "
            "metadata.annotations['batch.kubernetes.io/job-completion-index']",
            id="index-of-a-job",
        ),
        pytest.param(
            _downward({"downwardAPI": DOWNWARD}),
            "spec.volumes[info].downwardAPI.items[me].fieldRef: metadata.name",
            id="downward-volume",
        ),
        pytest.param(
            _downward({"projected": {"sources": [{"secret": {"name": "s"}}, {"downwardAPI": DOWNWARD}]}}),
            "spec.volumes[info].projected.sources[1].downwardAPI.items[me].fieldRef: metadata.name",
            id="projected-downward",
        ),
        pytest.param(_owned("StatefulSet"), "metadata.ownerReferences: StatefulSet web", id="stateful-set"),
        pytest.param(_owned("ReplicaSet"), None, id="replica-set"),
        pytest.param(_field("metadata.namespace"), None, id="namespace"),
        pytest.param(_field("metadata.labels['app']"), None, id="label"),
        pytest.param(_downward({"downwardAPI": DOWNWARD}, mounts=()), None, id="not-mounted"),
        pytest.param(pod(), None, id="plain"),
    ],
)
def test_identity_of_one_pod(obj, path):
    assert path == per_pod_identity(obj, find_container(obj["spec"], "main"))


def test_another_containers_identity_is_its_own_business():
    side = _field("metadata.name")["spec"]["containers"][0] | {"name": "side"}
    assert per_pod_identity(pod(container(), side), container()) is None
