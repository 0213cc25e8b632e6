"""The chart on an API server without nodes: Helm makes its objects, and its processes run here, as their accounts.

What they may do is what the chart's roles give them, and admission goes the way it does in a cluster: policies,
webhook, policies again. Only the webhook's address and certificate are of this machine.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certs.mint import issue_leaf, mint_authority
from cluster.builder.build import build
from cluster.builder.cache import Cache
from cluster.builder.toolchain import HELM
from cluster.config import kubeconfig
from cluster.errors import CommandError
from cluster.ports import free_port
from cluster.progress import Silent
from contract.api import keys
from tests.support.waiting import until
from webhook.server import PATH

ROOT = Path(__file__).resolve().parents[2]
RELEASE = "snapshot"


class Installed:
    """One release in a namespace of its own.

    Args:
        plane: the API server.
        namespace: which must exist.
        folder: for files of this release.
        settings: the chart's values, as ``--set`` takes them.
        webhook_here: the webhook is to be called on this machine, not through its Service.
    """

    def __init__(self, plane, namespace, folder, *settings, webhook_here=True):
        self.plane, self.namespace, self.folder = plane, namespace, folder
        self.kubectl = plane.kubectl
        self.port, self._ports = free_port(), {}
        self._helm = build(Cache.from_env(os.environ), [HELM], Silent()).path("helm")
        self._running = {}
        folder.mkdir(parents=True, exist_ok=True)
        flags = [flag for setting in settings for flag in ("--set", setting)]
        self.helm("upgrade", "--install", RELEASE, str(ROOT / "charts/snapshot"), *flags)
        if webhook_here:
            self._point_webhook_here()
        config = self.kubectl.json("get", "configmap", f"{RELEASE}-config", "-n", namespace)
        (folder / "config.yaml").write_text(config["data"]["config.yaml"])

    def helm(self, *arguments):
        environment = os.environ | {"KUBECONFIG": str(self.plane.kubeconfig)}
        argv = [str(self._helm), *arguments, "--namespace", self.namespace]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    def uninstall(self):
        """Without the hook's Job, which nobody would run here."""
        self.helm("uninstall", RELEASE, "--no-hooks", "--ignore-not-found")

    @property
    def configuration(self):
        """Name of its webhook configuration."""
        return f"{RELEASE}-{self.namespace}"

    def _point_webhook_here(self):
        authority = mint_authority("test", datetime.now(UTC), timedelta(days=1))
        leaf = issue_leaf(authority, ["localhost"], datetime.now(UTC), timedelta(hours=12))
        certificates = self.folder / "certificates"
        certificates.mkdir(exist_ok=True)
        (certificates / "tls.key").write_text(leaf.key)
        (certificates / "tls.crt").write_text(leaf.certificate)
        client = {
            "url": f"https://localhost:{self.port}{PATH}",
            "caBundle": b64encode(authority.certificate.encode()).decode(),
        }
        change = [{"op": "replace", "path": "/webhooks/0/clientConfig", "value": client}]
        self.kubectl(
            "patch", "mutatingwebhookconfiguration", self.configuration, "--type=json", "-p", json.dumps(change)
        )

    def start(self, component):
        """Run one of its processes, if it does not run, until it is ready."""
        if component in self._running:
            return
        health = self._ports[component] = free_port()
        deployment = self.kubectl.json("get", "deployment", f"{RELEASE}-{component}", "-n", self.namespace)
        environment = self.environment(component, deployment) | {"SNAPSHOT_HEALTH_PORT": str(health)}
        argv = [sys.executable, "-m", component]
        if component == "webhook":
            argv += ["--port", str(self.port), "--health-port", str(health)]
            argv += ["--certificates", str(self.folder / "certificates")]
        with (self.folder / f"{component}.log").open("ab") as log:
            self._running[component] = subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=log)
        until(lambda: self.ready(component), lambda: f"{component} ready:\n{self.log(component)[-3000:]}")

    def environment(self, component, workload):
        """What a workload's container would find in its environment, with its account's token."""
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        said = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        ours = {
            "KUBECONFIG": str(self._login(component)),
            "POD_NAME": f"{component}-0",
            "POD_NAMESPACE": self.namespace,
            "SNAPSHOT_CONFIG": str(self.folder / "config.yaml"),
        }
        return os.environ | said | ours

    def ready(self, component):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[component]}/readyz", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def calls(self):
        """How many reviews the webhook has answered."""
        lines = self.metrics("webhook").splitlines()
        found = [line for line in lines if line.startswith("snapshot_admission_decisions_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def metrics(self, component):
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[component]}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def log(self, component):
        return (self.folder / f"{component}.log").read_text()

    def _login(self, component):
        """A kubeconfig with a token of the component's account."""
        token = self.kubectl("create", "token", f"{RELEASE}-{component}", "-n", self.namespace).strip()
        authority = (self.plane.folder / "pki/ca.crt").read_bytes()
        path = self.folder / f"{component}.kubeconfig"
        path.write_text(json.dumps(kubeconfig(self.plane.server, authority, token)))
        return path

    def kill(self, component):
        process = self._running.pop(component, None)
        if process is not None:
            process.kill()
            process.wait()

    def end(self):
        for component in tuple(self._running):
            self.kill(component)

    def create(self, body, *options, namespace=None):
        """The object as the API server stored it, or would store it."""
        where = ("-n", namespace or self.namespace)
        return json.loads(self.kubectl("create", *where, *options, "-o", "json", "-f", "-", stdin=json.dumps(body)))

    def refused(self, body, *options, namespace=None):
        """What the API server says when it refuses."""
        try:
            made = self.create(body, *options, namespace=namespace)
        except CommandError as error:
            return str(error)
        raise AssertionError(f"accepted: {made['metadata']}")

    def code(self, body, namespace=None):
        """The admission code that a pod would get."""
        made = self.create(body, "--dry-run=server", namespace=namespace)
        return made["metadata"].get("annotations", {}).get(keys.ANN_ADMISSION)

    def checkpoint(self, body, status, namespace=None):
        """Store a checkpoint with a status, as the controller would leave it."""
        where = ("-n", namespace or self.namespace)
        name = body["metadata"]["name"]
        plain = body | {
            "metadata": {key: value for key, value in body["metadata"].items() if key in ("name", "labels")}
        }
        self.kubectl("create", *where, "-f", "-", stdin=json.dumps(plain))
        change = json.dumps({"status": status})
        self.kubectl("patch", "dckpt", name, *where, "--subresource=status", "--type=merge", "-p", change)


def new_namespace(plane, name):
    """A namespace with the account that pods use."""
    plane.kubectl("create", "namespace", name)
    if not plane.kubectl("get", "serviceaccount", "default", "-n", name, "--ignore-not-found", "-o", "name"):
        plane.kubectl("create", "serviceaccount", "default", "-n", name)
    return name
