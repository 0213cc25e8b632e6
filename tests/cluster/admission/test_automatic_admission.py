"""Automatic and held pods behind a real API server, beside other webhooks and the cluster's own rules for pods."""

import copy
import json
import ssl
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import pytest

from contract.api import keys
from contract.pods.template_hash import template_hash
from tests.cluster.admission.test_admission import make_namespace, registered, started
from tests.support.builders.objects import container, opted_in
from tests.support.builders.pods import auto_pod, checkpoint_of, name_of, stamp_of, worker
from tests.support.registration import POD_CREATES
from tests.support.waiting import until

VALUES = "{}"
WAIT = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
DRY = "--dry-run=server"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def namespace(control_plane):
    name = f"auto-{uuid4().hex[:8]}"
    make_namespace(control_plane, name)
    return name


@pytest.fixture(scope="module")
def webhook(control_plane, namespace, tmp_path_factory):
    with started(control_plane, namespace, tmp_path_factory.mktemp("webhook"), VALUES) as found:
        yield found


@pytest.fixture(scope="module")
def api(control_plane, namespace, webhook):
    with registered(control_plane, namespace, webhook) as found:
        yield found


def pod_of(api, *containers, **parts):
    """A pod of this namespace that no other test's checkpoint belongs to."""
    unique = {"checksum/test": uuid4().hex, **parts.pop("annotations", {})}
    obj = auto_pod(*containers, annotations=unique, **parts)
    obj["metadata"]["namespace"] = api.namespace
    return obj


def store(api, obj, **status):
    """The checkpoint of an automatic pod, as the controller would have made it."""
    made = checkpoint_of(obj, **status)
    said = made.pop("status")
    made["metadata"] = {key: made["metadata"][key] for key in ("name", "labels", "annotations")}
    api.create(made)
    api.set_status(made["metadata"]["name"], said)


def notes_of(made):
    return made["metadata"]["annotations"]


def test_the_stamp_is_that_of_the_template_whatever_the_api_server_adds(api):
    """The controller and the command line look at templates, the webhook at pods with all defaults filled in."""
    obj = pod_of(
        api,
        worker(
            env=[
                {"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}},
            ],
            resources={"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": 0.25}},
            volumeMounts=[{"name": name, "mountPath": f"/{name}", "readOnly": False} for name in "abcd"],
            securityContext={"runAsUser": 0, "privileged": False},
        ),
        volumes=[
            {"name": "a", "configMap": {"name": "a"}},
            {"name": "b", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {"name": "c", "emptyDir": {"sizeLimit": "1000Mi"}},
            {"name": "d", "hostPath": {"path": "/d"}},
        ],
        serviceAccountName="default",
    )
    made, warnings = api.create(obj, DRY)
    assert ("checkpoint-requested", stamp_of(obj), name_of(obj)) == tuple(
        notes_of(made)[key] for key in (keys.ANN_ADMISSION, keys.ANN_TEMPLATE_HASH, keys.ANN_CHECKPOINT)
    )
    assert "this pod starts cold: no checkpoint of this template exists yet" in warnings
    # What came back has the defaults, and would be stamped the same; so would a Deployment's template.
    assert stamp_of(obj) == template_hash(made, "main")
    meta = {"labels": obj["metadata"]["labels"], "annotations": obj["metadata"]["annotations"]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": meta, "spec": obj["spec"]},
        },
    }
    stored, _ = api.create(deployment, DRY)
    assert stamp_of(obj) == template_hash(stored["spec"]["template"], "main")


def test_a_ready_checkpoint_restores_stock_images_and_a_failed_one_does_not(api):
    obj = pod_of(api, {"name": "main", "image": "stock.test/worker:1", "readinessProbe": {"exec": {"command": ["r"]}}})
    store(api, obj)
    made, _ = api.admitted(obj, "restore-shaped")
    main = made["spec"]["containers"][0]
    assert ([keys.STANDBY, "--", "/entry"], ["serve"]) == (main["command"], main["args"])
    assert ["exec", "r"] == main["startupProbe"]["exec"]["command"][4:]
    assert "snapshot-tools" == made["spec"]["initContainers"][0]["name"]
    api.set_status(name_of(obj), {"phase": "Failed", "message": "out of memory"})
    _, warnings = api.admitted(obj, "checkpoint-failed")
    assert "out of memory" in warnings


@pytest.mark.parametrize("name", ["amd.com/gpu", "nvidia.com/mig-1g.10gb", "cloud-tpus.google.com/v3"])
def test_a_device_that_is_not_captured_is_refused_by_name(api, name):
    obj = pod_of(api, worker(resources={"limits": {name: "1"}}), annotations=WAIT)
    made, warnings = api.admitted(obj, "accelerator-unsupported")
    assert f"spec.containers[main].resources.limits[{name}]" in warnings
    assert keys.ANN_TEMPLATE_HASH not in notes_of(made)
    assert not made["spec"].get("schedulingGates")
    assert obj["spec"]["containers"][0]["command"] == made["spec"]["containers"][0]["command"]


@pytest.mark.parametrize("name", ["nvidia.com/gpu", "nvidia.com/gpu.shared"])
def test_gpus_and_time_slices_of_them_are_captured(api, name):
    api.admitted(pod_of(api, worker(resources={"limits": {name: "1"}})), "checkpoint-requested")


@pytest.mark.parametrize(
    "parts", [pytest.param({}, id="alone"), pytest.param({"schedulingGates": [{"name": "a/b"}]}, id="beside-another")]
)
def test_a_held_pod_waits_for_scheduling(api, parts):
    obj = pod_of(api, annotations=WAIT, **parts)
    obj["metadata"]["generateName"] = "held-"
    made, warnings = api.create(obj)
    assert "held" == notes_of(made)[keys.ANN_ADMISSION]
    gates = [gate["name"] for gate in made["spec"]["schedulingGates"]]
    assert [*(gate["name"] for gate in parts.get("schedulingGates", [])), keys.SCHEDULING_GATE] == gates
    (condition,) = made["status"]["conditions"]
    assert "SchedulingGated" == condition["reason"]
    assert "this pod waits for DynamoCheckpoint" in warnings


def test_a_pod_with_a_node_of_its_own_is_not_held(api):
    """The API server would refuse the gate, and with it the pod."""
    made, _ = api.create(pod_of(api, annotations=WAIT, nodeName="n1"), DRY)
    assert "checkpoint-requested" == notes_of(made)[keys.ANN_ADMISSION]


def test_debugging_a_shaped_pod_is_nobodys_business(api):
    """Ephemeral containers come through a subresource, which the webhook is not asked about."""
    obj = pod_of(api, annotations=WAIT)
    obj["metadata"] |= {"generateName": "", "name": f"debug-{uuid4().hex[:8]}"}
    name = api.create(obj)[0]["metadata"]["name"]
    body = json.dumps({"spec": {"ephemeralContainers": [{"name": "look", "image": "busybox"}]}})
    api.run("patch", "pod", name, "--subresource=ephemeralcontainers", "-p", body)
    made = json.loads(api.run("get", "pod", name, "-o", "json").stdout)
    assert "held" == notes_of(made)[keys.ANN_ADMISSION]
    assert "look" == made["spec"]["ephemeralContainers"][0]["name"]


def test_a_copied_stamp_counts_for_nothing(api):
    """Somebody writes down a pod's manifest, changes it and creates it: it is another worker."""
    obj = pod_of(api)
    first, _ = api.create(obj, DRY)
    copied = {"apiVersion": "v1", "kind": "Pod", "metadata": copy.deepcopy(first["metadata"]), "spec": first["spec"]}
    for field in ("uid", "creationTimestamp", "name", "resourceVersion"):
        copied["metadata"].pop(field, None)
    copied["spec"]["containers"][0]["args"] = ["--another"]
    made, _ = api.create(copied, DRY)
    assert notes_of(first)[keys.ANN_TEMPLATE_HASH] != notes_of(made)[keys.ANN_TEMPLATE_HASH]
    assert stamp_of(copied) == notes_of(made)[keys.ANN_TEMPLATE_HASH]


class Injector:
    """Another webhook, asked after ours: gives every pod a sidecar and the target an environment entry."""

    def __init__(self, authority):
        outer = self
        self.calls = 0
        self.entry = {"name": "MESH", "value": "on"}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.calls += 1
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = json.dumps(outer.answer(review["request"])).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.folder / "tls.crt", authority.folder / "tls.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self):
        return f"https://localhost:{self._server.server_address[1]}/"

    def answer(self, request):
        spec = request["object"]["spec"]
        response = {"uid": request["uid"], "allowed": True}
        if all(each["name"] != "mesh" for each in spec["containers"]):
            changes = [{"op": "add", "path": "/spec/containers/-", "value": container("mesh", image="mesh:1")}]
            index = next(i for i, each in enumerate(spec["containers"]) if each["name"] == "main")
            entry = self.entry
            missing = not spec["containers"][index].get("env")
            path = f"/spec/containers/{index}/env"
            changes.append(
                {"op": "add", "path": path if missing else f"{path}/-", "value": [entry] if missing else entry}
            )
            response |= {"patchType": "JSONPatch", "patch": b64encode(json.dumps(changes).encode()).decode()}
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}

    def end(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def injector(control_plane, api, webhook):
    """The other webhook, registered behind ours: configurations are asked in the order of their names."""
    found = Injector(webhook.authority)
    name = f"{api.namespace}.zz-injector"
    entry = {
        "name": "injector.example.test",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": found.url, "caBundle": b64encode(webhook.authority.bundle.encode()).decode()},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}},
        "rules": [POD_CREATES],
        "sideEffects": "None",
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    control_plane.kubectl.apply([{**kind, "metadata": {"name": name}, "webhooks": [entry]}])
    try:
        until(
            lambda: len(api.create(opted_in(name="none"), DRY)[0]["spec"]["containers"]) == 2, "the injector is asked"
        )
        yield found
    finally:
        control_plane.kubectl("delete", "mutatingwebhookconfiguration", name)
        found.end()


@pytest.mark.parametrize("policy", ["Immediate", "WaitForCheckpoint"])
def test_when_asked_again_the_first_stamp_and_shape_stay(api, webhook, injector, policy):
    obj = pod_of(api, annotations={keys.ANN_STARTUP_POLICY: policy})
    before = sum(webhook.decisions().values())
    made, warnings = api.create(obj, DRY)
    assert 2 == sum(webhook.decisions().values()) - before, "the API server asked twice"
    assert stamp_of(obj) == notes_of(made)[keys.ANN_TEMPLATE_HASH]
    main = made["spec"]["containers"][0]
    assert "on" == next(entry["value"] for entry in main["env"] if entry["name"] == "MESH")
    if policy == "Immediate":
        assert "checkpoint-requested" == notes_of(made)[keys.ANN_ADMISSION]
        assert obj["spec"]["containers"][0]["command"] == main["command"]
    else:
        assert "held" == notes_of(made)[keys.ANN_ADMISSION]
        assert [keys.STANDBY, "--"] == main["command"][:2]
        assert 1 == main["command"].count(keys.STANDBY)
    assert 1 == warnings.count("Warning: nvidia.com/snapshot-admission=")


@pytest.mark.parametrize(
    ("wait", "phase"),
    [
        pytest.param(False, None, id="asks-for-it"),
        pytest.param(True, None, id="would-be-held"),
        pytest.param(False, "Ready", id="would-be-restored"),
    ],
)
def test_an_identity_that_another_webhook_adds_is_refused_whatever_the_first_look_did(api, injector, wait, phase):
    """As Datadog's does: the worker would have the captured pod's uid."""
    injector.entry = {"name": "DD_ENTITY_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    own = {"httpGet": {"path": "/up", "port": 8000, "scheme": "HTTP"}, "periodSeconds": 7}
    obj = pod_of(api, worker(startupProbe=own), annotations=WAIT if wait else {})
    if phase:
        store(api, obj, phase=phase)
    made, warnings = api.create(obj, DRY)
    main = made["spec"]["containers"][0]

    assert "per-pod-identity" == notes_of(made)[keys.ANN_ADMISSION]
    assert "env[DD_ENTITY_ID].valueFrom.fieldRef: metadata.uid" in warnings
    assert obj["spec"]["containers"][0]["command"] == main["command"]
    assert own.items() <= main["startupProbe"].items()
    assert ["DD_ENTITY_ID"] == [each["name"] for each in main["env"]]
    assert not {"schedulingGates", "initContainers", "affinity"} & made["spec"].keys()
    ours = {keys.LABEL_CHECKPOINT_ID, keys.LABEL_IS_RESTORE_TARGET}
    assert not ours & made["metadata"]["labels"].keys()


@pytest.fixture
def strict(control_plane, namespace):
    """The namespace with the restricted profile, default resources and a quota that asks for them."""
    kubectl = control_plane.kubectl
    label = "pod-security.kubernetes.io/enforce"
    kubectl("label", "namespace", namespace, f"{label}=restricted")
    limits = [{"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "max": {"cpu": "2", "memory": "2Gi"}}]
    hard = {"requests.cpu": "4", "limits.memory": "4Gi", "pods": "5"}
    meta = {"name": "strict", "namespace": namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}}
    kubectl.apply([{"apiVersion": "v1", "kind": "LimitRange", "metadata": meta, "spec": {"limits": limits}}, quota])
    # The controller manager would do this.
    used = dict.fromkeys(hard, "0")
    status = json.dumps({"status": {"hard": hard, "used": used}})
    kubectl(
        "--namespace",
        namespace,
        "patch",
        "resourcequota",
        "strict",
        "--subresource=status",
        "--type=merge",
        "-p",
        status,
    )
    yield
    kubectl("--namespace", namespace, "delete", "resourcequota,limitrange", "strict")
    kubectl("label", "namespace", namespace, f"{label}-")


def test_held_pods_pass_pod_security_limits_and_quota(api, strict):
    """What is brought in keeps to the restricted profile and names its own resources: defaults were set before us."""
    obj = pod_of(api, worker(securityContext=RESTRICTED), annotations=WAIT)
    obj["metadata"]["generateName"] = "strict-"
    made, warnings = api.create(obj)
    assert "held" == notes_of(made)[keys.ANN_ADMISSION]
    init = made["spec"]["initContainers"][0]
    assert {"cpu": "10m", "memory": "16Mi"} == init["resources"]["requests"]
    assert "would violate" not in warnings
    assert {"cpu": "1", "memory": "1Gi"} == made["spec"]["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"nodeSelector": {"kubernetes.io/os": "windows"}}, id="selector"),
        pytest.param({"os": {"name": "windows"}}, id="os"),
        pytest.param(
            {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {
                                    "matchExpressions": [
                                        {"key": "kubernetes.io/os", "operator": "NotIn", "values": ["linux"]}
                                    ]
                                }
                            ]
                        }
                    }
                }
            },
            id="affinity",
        ),
    ],
)
def test_a_pod_for_windows_is_left_as_it_is(api, spec):
    """Neither held nor given a command of Linux, although it is to wait."""
    shell = worker(command=["powershell.exe", "-File", "C:\\app\\serve.ps1"])
    obj = pod_of(api, shell, annotations=WAIT, **copy.deepcopy(spec))
    made, warnings = api.create(obj, DRY)
    assert "os-unsupported" == notes_of(made)[keys.ANN_ADMISSION]
    assert "the pod is not for Linux" in warnings
    assert shell["command"] == made["spec"]["containers"][0]["command"]
    assert "schedulingGates" not in made["spec"]
    assert keys.ANN_TEMPLATE_HASH not in notes_of(made)


def test_an_architecture_of_its_own_is_a_checkpoint_of_its_own(api):
    arm = {"nodeSelector": {"kubernetes.io/arch": "arm64"}}
    unpinned = pod_of(api)
    pinned = copy.deepcopy(unpinned)
    pinned["spec"] |= arm
    stamps = [notes_of(api.create(obj, DRY)[0])[keys.ANN_TEMPLATE_HASH] for obj in (unpinned, pinned)]
    assert [stamp_of(unpinned), stamp_of(pinned)] == stamps
    assert stamps[0] != stamps[1]
