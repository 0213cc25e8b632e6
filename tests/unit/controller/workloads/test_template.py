"""From a pod back to what its author wrote."""

import copy

import jsonpatch
import pytest

from contract.api import keys
from contract.api.checkpoint import find_targets
from contract.config.storage import storage_from_values
from contract.config.values import load_values
from contract.pods.capture_job import build_capture_job
from contract.pods.restore_patch import Restore, restore_operations
from contract.pods.template_hash import template_hash
from controller.workloads.auto_checkpoint import Workload, automatic_checkpoint, fits
from controller.workloads.template import template_of
from tests.support.builders.objects import container, template
from tests.support.builders.opted_in import DEPLOYED, GATE, ID, NAME, pod, whole

PROBE = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5}
VALUES = load_values("storage: {accessMode: podMount}")
STORAGE = storage_from_values(VALUES)


def written():
    """What an author would write."""
    worker = container(
        env=[{"name": "MODEL", "value": "small"}],
        volumeMounts=[{"name": "models", "mountPath": "/models"}],
        readinessProbe=dict(PROBE),
        startupProbe=dict(PROBE),
    )
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}]
    labels = {"app": "web"}
    notes = {"checksum/config": "c0ffee", "prometheus.io/scrape": "true", keys.ANN_WRITABLE_MOUNTS: "/models"}
    return template(worker, metadata={"labels": labels, "annotations": notes}, volumes=volumes)


def admitted(author, owner=DEPLOYED, name="web-7d9c-x2x4z"):
    """What the API server and its admission make of it."""
    found = copy.deepcopy(author)
    spec = found["spec"]
    token = {"name": "kube-api-access-q2w3e", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    spec["volumes"] = [*spec.get("volumes", []), token]
    for each in spec["containers"]:
        mount = {"name": token["name"], "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}
        each["volumeMounts"] = [*each.get("volumeMounts", []), mount]
        each |= {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
        each.setdefault("resources", {})
    spec |= {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "serviceAccount": "default",
        "serviceAccountName": "default",
        "terminationGracePeriodSeconds": 30,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
        "nodeName": "node-1",
        "tolerations": [
            {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for what in ("not-ready", "unreachable")
        ],
    }
    base = whole(owner=owner, name=name)
    found["metadata"]["labels"] = found["metadata"]["labels"] | base["metadata"]["labels"]
    found["metadata"]["labels"]["pod-template-hash"] = "7d9c"
    found["metadata"]["annotations"] = found["metadata"]["annotations"] | base["metadata"]["annotations"]
    found["metadata"] = {**base["metadata"], **found["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", **found, "status": {"phase": "Pending"}}


def shaped(found, **parts):
    restore = Restore(
        checkpoint=NAME,
        checkpoint_id=ID,
        version="1",
        storage=STORAGE,
        seccomp_profile=None,
        node_affinity="None",
        **parts,
    )
    return jsonpatch.apply_patch(found, restore_operations(found, restore, find_targets(found))) | {"kind": "Pod"}


def test_what_admission_added_is_taken_out():
    assert written() == template_of(admitted(written()))


def test_the_argument_stays_as_it_is():
    found = admitted(written())
    before = copy.deepcopy(found)
    template_of(found)
    assert before == found


def test_taken_out_once_nothing_is_left_to_take_out():
    assert written() == template_of(template_of(admitted(written())))


def test_a_gate_behind_a_canary_is_taken_out():
    author = written()
    author["metadata"]["annotations"][keys.ANN_CANARY] = "/health"
    found = shaped(admitted(author))
    assert found["spec"]["containers"][0]["startupProbe"]["exec"]["command"][1] == "--gate"
    assert "startupProbe" not in template_of(found)["spec"]["containers"][0]


def test_a_held_pod_tells_its_template_too():
    """It was shaped at its admission; the startup probe that it has now asks what its own asked."""
    found = shaped(admitted(written()), image="example.test/placeholder:1")
    found["spec"]["schedulingGates"] = [GATE]
    expected = written()
    expected["spec"]["containers"][0]["startupProbe"] |= {
        "periodSeconds": 1,
        "failureThreshold": 1800,
        "successThreshold": 1,
    }
    got = template_of(found)
    environment = got["spec"]["containers"][0]["env"]

    assert [{"name": "MODEL", "value": "small"}] == [e for e in environment if e["name"] != keys.ENV_CONTROL_DIR]
    got["spec"]["containers"][0]["env"] = expected["spec"]["containers"][0]["env"]
    assert expected == got


def test_a_gate_that_only_standby_opens_does_not_go_along():
    author = written()
    for probe in ("readinessProbe", "startupProbe"):
        del author["spec"]["containers"][0][probe]
    got = template_of(shaped(admitted(author)))

    assert "startupProbe" not in got["spec"]["containers"][0]


def test_a_placeholder_that_was_restored_is_captured_as_a_worker():
    """Neither does its capture wait, nor do pods that restore from it."""
    author = written()
    author["metadata"]["annotations"][keys.ANN_STANDBY] = keys.STANDBY_WAITS
    found = shaped(admitted(author), waits=True)
    assert [keys.STANDBY, keys.STANDBY_WAIT] == found["spec"]["containers"][0]["command"][:2]
    got = template_of(found)

    assert written()["spec"]["containers"][0]["command"] == got["spec"]["containers"][0]["command"]
    assert "startupProbe" not in got["spec"]["containers"][0]
    assert keys.ANN_STANDBY not in got["metadata"]["annotations"]


def test_a_container_without_a_command_has_none_again():
    author = written()
    del author["spec"]["containers"][0]["command"]

    assert "command" not in template_of(shaped(admitted(author)))["spec"]["containers"][0]


@pytest.mark.parametrize("name", ["istio-proxy", "linkerd-proxy"])
def test_an_injected_proxy_goes_with_its_volumes(name):
    author, found = written(), admitted(written())
    proxy = {"name": name, "image": "mesh", "volumeMounts": [{"name": "mesh-certs", "mountPath": "/certs"}]}
    found["spec"]["containers"].append(proxy)
    found["spec"]["initContainers"] = [{"name": "istio-init", "image": "mesh"}]
    found["spec"]["volumes"].append({"name": "mesh-certs", "emptyDir": {}})
    found["metadata"]["annotations"]["sidecar.istio.io/status"] = "{}"

    assert author == template_of(found)


def test_a_volume_that_nobody_mounts_stays():
    """An author may well write one; only what left with a proxy goes."""
    author = written()
    author["spec"]["volumes"].append({"name": "spare", "emptyDir": {}})

    assert author == template_of(admitted(author))


def test_an_authors_own_toleration_stays():
    author = written()
    author["spec"]["tolerations"] = [
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10},
        {"key": "nvidia.com/gpu", "operator": "Exists"},
    ]
    found = admitted(author)
    found["spec"]["tolerations"] += author["spec"]["tolerations"]

    assert author == template_of(found)


def test_a_replicas_own_name_and_data_do_not_go_along():
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "s", "controller": True}
    author = written()
    author["spec"]["containers"][0]["volumeMounts"].append({"name": "data", "mountPath": "/data"})
    found = admitted(author, owner, name="db-0")
    found["spec"] |= {"hostname": "db-0", "subdomain": "db"}
    found["spec"]["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}})
    found["metadata"]["labels"] |= {"statefulset.kubernetes.io/pod-name": "db-0", "controller-revision-hash": "db-1"}
    author["spec"]["volumes"].append({"name": "data", "emptyDir": {}})

    assert author == template_of(found)


def test_a_bare_pod_keeps_the_host_name_that_somebody_gave_it():
    author = written()
    author["spec"]["hostname"] = "mine"

    assert author == template_of(admitted(author, owner=None))


def test_debugging_leaves_nothing():
    found = admitted(written())
    found["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "busybox"}]

    assert written() == template_of(found)


@pytest.mark.parametrize(
    "made", [pytest.param(admitted, id="cold"), pytest.param(lambda author: shaped(admitted(author)), id="held")]
)
def test_the_template_has_the_hash_of_its_pod(made):
    """Else the checkpoint would stand for another worker than the one that asked."""
    asked = template_hash(admitted(written()), "main")

    assert asked == template_hash(template_of(made(written())), "main") == template_hash(written(), "main")


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        pytest.param(True, {}, id="as it was"),
        pytest.param(False, {"image": "example.test/another:1"}, id="another image"),
        pytest.param(False, {"name": "other"}, id="another target"),
    ],
)
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(admitted, id="cold"),
        pytest.param(lambda a: shaped(admitted(a)), id="held"),
        pytest.param(lambda a: shaped(admitted(a), serves=True), id="capturable"),
    ],
)
def test_what_a_stamp_was_made_of(expected, change, made):
    asked = template_hash(admitted(written()), "main")
    template = made(written())
    template["spec"]["containers"][0] |= change

    assert expected == fits(pod(stamp=asked), template)


def test_a_replicas_own_claim_is_in_its_stamp_as_none():
    author = template(container(volumeMounts=[{"name": "data", "mountPath": "/data"}]))
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}
    stored = whole(name="db-0", containers=author["spec"]["containers"], volumes=[claim])

    assert fits(pod(stamp=template_hash(stored, "main")), stored)
    assert fits(pod(stamp=template_hash(author, "main")), stored)


REPLICA_SET = {"kind": "ReplicaSet", "metadata": {"name": "web-7d9c"}, "spec": {"template": written()}}


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(REPLICA_SET, id="from a ReplicaSet"),
        pytest.param(admitted(written(), owner=None), id="from a pod"),
        pytest.param(shaped(admitted(written(), owner=None)), id="from a held pod"),
    ],
)
def test_the_checkpoint_makes_a_job(source):
    found = automatic_checkpoint(pod(), Workload("Deployment/web", source))
    metadata, spec = found["metadata"], found["spec"]
    job = build_capture_job(found | {"metadata": metadata | {"uid": "u"}}, values=VALUES, storage=STORAGE)

    assert (NAME, ID) == (metadata["name"], metadata["labels"][keys.LABEL_CHECKPOINT_ID])
    assert ("true", "1", "Deployment/web") == tuple(
        metadata["annotations"][key] for key in (keys.ANN_AUTO_CHECKPOINT, keys.ANN_ARTIFACT_VERSION, keys.ANN_WORKLOAD)
    )
    assert {"model": "ns/web", "backendFramework": "generic"} == spec["identity"]
    assert ("main", "Probe") == (spec["job"]["targetContainerName"], spec["job"]["readySignal"])
    (worker,) = job["spec"]["template"]["spec"]["containers"]
    assert [keys.STANDBY, "--capture", "--", "python3", "-m", "worker"] == worker["command"]
    assert [] == [v for v in job["spec"]["template"]["spec"]["volumes"] if v["name"].startswith("kube-api-access")]
    assert [keys.TOOLS_VOLUME] == [init["name"] for init in job["spec"]["template"]["spec"]["initContainers"]]
