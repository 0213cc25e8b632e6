"""The webhook process behind a real API server: TLS, its own copy of the checkpoints, the answer applied to pods."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from certs.mint import issue_leaf, mint_authority
from cluster.ports import free_ports
from contract.api import keys
from contract.crds.generate import crd
from tests.support.builders.objects import ID, IMAGE, checkpoint, claim, container, graph_pod, opted_in, pod, review
from tests.support.registration import configuration
from tests.support.waiting import PATIENCE, until
from webhook.server import BODY_LIMIT, DRAIN_SECONDS, PATH

ROOT = Path(__file__).resolve().parents[3]
VALUES = json.dumps(
    {"storage": {"accessMode": "podMount"}, "placeholder": {"images": {"example.test/runtime:1": IMAGE}}}
)
READY = {"phase": "Ready", "checkpointID": ID}


class Authority:
    """Signs the webhook's certificates, and writes them where it looks for them."""

    def __init__(self, folder):
        self.folder = folder
        self._pair = mint_authority("test", datetime.now(UTC), timedelta(days=1))

    @property
    def bundle(self):
        return self._pair.certificate

    def issue(self):
        leaf = issue_leaf(self._pair, ["localhost"], datetime.now(UTC), timedelta(hours=1))
        for name, text in (("tls.key", leaf.key), ("tls.crt", leaf.certificate)):
            path = self.folder / f"{name}.new"
            path.write_text(text)
            path.rename(self.folder / name)


class Webhook:
    """A webhook process."""

    def __init__(self, plane, namespace, folder, values=VALUES, **more):
        self.folder = folder
        (folder / "certs").mkdir()
        self.authority = Authority(folder / "certs")
        self.port, self.health_port = free_ports(2)
        (folder / "config.yaml").write_text(values)
        environment = os.environ | {
            "KUBECONFIG": str(plane.kubeconfig),
            "POD_NAMESPACE": namespace,
            "POD_NAME": "webhook-0",
            "RESTRICTED_NAMESPACE": namespace,
            "SNAPSHOT_CONFIG": str(folder / "config.yaml"),
            **more,
        }
        argv = [sys.executable, "-m", "webhook", "--port", str(self.port), "--health-port", str(self.health_port)]
        argv += ["--certificates", str(folder / "certs")]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=log)

    @property
    def url(self):
        return f"https://localhost:{self.port}{PATH}"

    def readiness(self):
        """Status and problems; None while the port is closed."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/readyz", timeout=5) as answer:
                return answer.status, json.load(answer)["problems"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["problems"]
        except urllib.error.URLError:
            return None

    def ready(self):
        return (self.readiness() or [0])[0] == 200

    def log(self):
        return (self.folder / "log").read_text()

    def decisions(self):
        """How many answers it gave, by code."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = re.findall(r'^snapshot_admission_decisions_total\{code="([^"]+)"\} (\S+)', text, re.MULTILINE)
        return {code: float(count) for code, count in found if float(count)}

    def post(self, body):
        request = urllib.request.Request(self.url, data=body, headers={"Content-Type": "application/json"})
        context = ssl.create_default_context(cadata=self.authority.bundle)
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def make_namespace(plane, name):
    """A namespace for pods, with the CRD and the volume claim there."""
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(crd()))
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{crd()['metadata']['name']}")
    plane.kubectl("create", "namespace", name)
    plane.kubectl("--namespace", name, "create", "serviceaccount", "default")
    plane.kubectl("--namespace", name, "create", "-f", "-", stdin=json.dumps(claim()))


@pytest.fixture(scope="module")
def namespace(control_plane):
    name = f"admission-{uuid4().hex[:8]}"
    make_namespace(control_plane, name)
    return name


@pytest.fixture(scope="module")
def webhook(control_plane, namespace, tmp_path_factory):
    running = Webhook(control_plane, namespace, tmp_path_factory.mktemp("webhook"))
    try:
        refused = until(running.readiness, "the health port opens")
        # Not ready without a certificate, whatever else is there by now.
        assert 503 == refused[0]
        assert "certificate" in refused[1]
        running.authority.issue()
        until(running.ready, running.log)
        yield running
    finally:
        running.end()


@contextmanager
def started(plane, namespace, folder, values=VALUES):
    """A webhook process that is ready."""
    running = Webhook(plane, namespace, folder, values)
    try:
        running.authority.issue()
        until(running.ready, running.log)
        yield running
    finally:
        running.end()


@contextmanager
def registered(plane, namespace, webhook, *conditions):
    """The API server, told to ask the webhook about the pods of the namespace; the result speaks to it."""
    name = f"{namespace}.snapshot"
    fields = {
        "failurePolicy": "Ignore",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        # The chart's two seconds are tested where they count; a busy machine must not look like an unreachable webhook.
        "timeoutSeconds": 20,
    }
    plane.kubectl.apply([configuration(webhook, name, *conditions, **fields)])
    api = Api(plane.kubectl, namespace)
    probe = opted_in(name="none")
    # The API server's own copy of the configuration follows a moment later.
    until(
        lambda: keys.ANN_ADMISSION in api.create(probe, "--dry-run=server")[0]["metadata"].get("annotations", {}),
        "the API server asks the webhook",
    )
    yield api
    plane.kubectl("delete", "mutatingwebhookconfiguration", name)


@pytest.fixture(scope="module")
def api(control_plane, namespace, webhook):
    with registered(control_plane, namespace, webhook) as found:
        yield found


class Api:
    """kubectl in one namespace."""

    def __init__(self, kubectl, namespace):
        self._kubectl, self.namespace = kubectl, namespace

    def run(self, *arguments, stdin=""):
        environment = os.environ | {"KUBECONFIG": str(self._kubectl.kubeconfig)}
        argv = [str(self._kubectl.program), "--namespace", self.namespace, *arguments]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=environment, check=False)
        assert 0 == done.returncode, done.stderr
        return done

    def create(self, obj, *options):
        """The stored object, and what kubectl warned of."""
        obj["metadata"]["namespace"] = self.namespace
        done = self.run("create", "-o", "json", *options, "-f", "-", stdin=json.dumps(obj))
        return json.loads(done.stdout), done.stderr

    def checkpoint(self, status=None, **parts):
        """Name of a stored checkpoint."""
        obj = checkpoint(f"c-{uuid4().hex[:8]}", **parts)
        name = obj["metadata"]["name"]
        obj["metadata"] = {"name": name}
        self.create(obj)
        if status:
            self.set_status(name, status)
        return name

    def set_status(self, name, status):
        body = json.dumps({"status": status})
        self.run("patch", "dckpt", name, "--subresource=status", "--type=merge", "-p", body)

    def admitted(self, obj, code, *options):
        """Create until the webhook's copy knows what we wrote a moment ago."""

        def attempt():
            made, warnings = self.create(obj, "--dry-run=server", *options)
            return made["metadata"].get("annotations", {}).get(keys.ANN_ADMISSION) == code and (made, warnings)

        return until(attempt, f"admission {code}")


@pytest.fixture(scope="module")
def name(api):
    """A checkpoint that is Ready."""
    found = api.checkpoint(READY)
    api.admitted(opted_in(name=found), "restore-shaped")
    return found


PROBE = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 30, "failureThreshold": 100}


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda name: opted_in(name=name), id="by-name"),
        pytest.param(lambda name: graph_pod(name=name), id="graph"),
        pytest.param(lambda name: opted_in(container(startupProbe=PROBE, livenessProbe=PROBE), name=name), id="probes"),
        pytest.param(lambda name: opted_in({"name": "main", "image": IMAGE}, name=name), id="no-command"),
        pytest.param(lambda name: opted_in(container(image="example.test/runtime:1"), name=name), id="mapped-image"),
        pytest.param(
            lambda name: opted_in(
                container(volumeMounts=[{"name": "dshm", "mountPath": "/dev/shm"}]),
                container("side"),
                name=name,
                volumes=[{"name": "dshm", "emptyDir": {"medium": "Memory"}}],
                securityContext={"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                affinity={"podAntiAffinity": {}},
                imagePullSecrets=[{"name": "a"}],
            ),
            id="everything",
        ),
    ],
)
def test_shaped_pods_are_accepted(api, name, build):
    obj = build(name)
    obj["metadata"]["generateName"] = "web-"
    made, warnings = api.create(obj)
    main = made["spec"]["containers"][0]
    assert keys.STANDBY == main["command"][0]
    assert IMAGE == main["image"]
    assert "restore-shaped" == made["metadata"]["annotations"][keys.ANN_ADMISSION]
    assert ID == made["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID]
    mount = next(mount for mount in main["volumeMounts"] if mount["name"] == "checkpoint-storage")
    assert mount["readOnly"]
    assert 1800 <= main["startupProbe"]["failureThreshold"]
    assert "this pod starts cold" not in warnings


def test_a_dry_run_shows_the_shape(api, name):
    made, _ = api.create(opted_in(name=name), "--dry-run=server")
    assert keys.STANDBY == made["spec"]["containers"][0]["command"][0]


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param({}, id="no-labels"),
        pytest.param({"labels": {"app": "x"}, "annotations": {"a": "b"}}, id="other-labels"),
        pytest.param(
            {"labels": {keys.LABEL_RESTORE: "disabled"}, "annotations": {keys.ANN_RESTORE_CANDIDATE: "false"}},
            id="opted-out",
        ),
    ],
)
def test_pods_that_did_not_ask_never_reach_the_webhook(api, webhook, obj):
    before = webhook.decisions()
    made, warnings = api.create(pod(**obj), "--dry-run=server")
    assert before == webhook.decisions()
    assert keys.ANN_ADMISSION not in made["metadata"].get("annotations", {})
    assert "" == warnings


def test_a_cold_start_is_told_on_the_pod_and_to_the_person(api):
    made, warnings = api.create(opted_in(name="none"), "--dry-run=server")
    assert "checkpoint-not-found" == made["metadata"]["annotations"][keys.ANN_ADMISSION]
    assert ["python3", "-m", "worker"] == made["spec"]["containers"][0]["command"]
    assert "Warning: nvidia.com/snapshot-admission=checkpoint-not-found: this pod starts cold" in warnings
    assert f"DynamoCheckpoint {api.namespace}/none does not exist; create it" in warnings


def test_pods_follow_the_checkpoint_through_its_life(api):
    """Each pod is judged by what is so when it is created; the copy follows without a restart."""
    name = api.checkpoint(labels={keys.LABEL_CHECKPOINT_ID: "life"})
    api.admitted(opted_in(name=name), "checkpoint-not-ready")
    api.set_status(name, {"phase": "Creating"})
    api.admitted(opted_in(name=name), "checkpoint-not-ready")
    api.set_status(name, READY)
    api.admitted(opted_in(name=name), "restore-shaped")
    api.set_status(name, {"phase": "Failed", "message": "no space left on the volume"})
    _, warnings = api.admitted(opted_in(name=name), "checkpoint-failed")
    assert "no space left on the volume" in warnings
    api.run("delete", "dckpt", name)
    api.admitted(opted_in(name=name), "checkpoint-not-found")


def test_a_new_certificate_takes_over_without_a_lost_call(api, webhook, name):
    def serial():
        context = ssl.create_default_context(cadata=webhook.authority.bundle)
        with (
            socket.create_connection(("localhost", webhook.port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            return secure.getpeercert()["serialNumber"]

    before = serial()
    webhook.authority.issue()
    codes = set()

    def swapped():
        made, _ = api.create(opted_in(name=name), "--dry-run=server")
        codes.add(made["metadata"]["annotations"][keys.ANN_ADMISSION])
        return serial() != before

    until(swapped, "the new certificate is served")
    assert {"restore-shaped"} == codes


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        pytest.param(400, b"{", "not JSON", id="not-json"),
        pytest.param(400, b"{}", "kind must be AdmissionReview", id="not-a-review"),
        pytest.param(413, b" " * (BODY_LIMIT + 1), str(BODY_LIMIT), id="too-large"),
        pytest.param(200, json.dumps(review(pod())).encode(), '"uid":"0b5d"', id="a-review"),
    ],
)
def test_direct_calls(webhook, status, body, message):
    found, text = webhook.post(body)
    assert status == found
    assert message in text


def test_a_stopping_webhook_goes_on_answering_for_a_while(control_plane, namespace, tmp_path):
    """Not ready at once, so that no new connection comes; those that come all the same are served."""
    webhook = Webhook(control_plane, namespace, tmp_path)
    try:
        webhook.authority.issue()
        until(webhook.ready, webhook.log)
        started = time.monotonic()
        webhook.process.send_signal(signal.SIGTERM)
        until(lambda: not webhook.ready(), "readiness fails")
        status, _ = webhook.post(json.dumps(review(pod())).encode())
        assert 200 == status
        assert 0 == webhook.process.wait(timeout=PATIENCE)
        assert DRAIN_SECONDS <= time.monotonic() - started
    finally:
        webhook.end()
