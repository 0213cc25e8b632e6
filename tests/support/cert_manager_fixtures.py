"""A real cert-manager on an API server without nodes, and our chart certified by it.

cert-manager's controller and cainjector run as processes, with the rights that its own chart gives them.
The API server finds our webhook by the chart's Service, as in a cluster: the Service is made to lead to this machine.
Where kubelet would keep the Secret's files in a pod, a task does, the way kubelet does and as late.
"""

import asyncio
import json
import os
import subprocess
import time
from base64 import b64decode
from uuid import uuid4

import yaml

from cluster.builder.build import build
from cluster.builder.cache import Cache
from cluster.builder.toolchain import CERT_MANAGER, HELM
from cluster.config import kubeconfig
from cluster.errors import CommandError
from cluster.progress import Silent
from kube.errors import NotFoundError
from kube.resources import SECRETS
from tests.support.installed import RELEASE, Installed, new_namespace
from tests.support.waiting import until

HOME = "cert-manager"
"""The namespace of cert-manager's own chart."""
CONTROLLER, INJECTOR = "cert-manager-controller", "cert-manager-cainjector"
ACCOUNTS = {CONTROLLER: "cert-manager", INJECTOR: "cert-manager-cainjector"}
FLAGS = {CONTROLLER: [], INJECTOR: ["--feature-gates=CAInjectorMerging=false"]}
"""As before cert-manager 1.19, which is the harder way: a new bundle takes the place of the one before."""
NEEDED = {"CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
"""Of cert-manager's chart; its own webhook only defaults and validates."""


class CertManager:
    """Its two programs that matter here."""

    def __init__(self, plane, folder):
        self._plane, self._folder = plane, folder
        self._programs = build(Cache.from_env(os.environ), [CERT_MANAGER, HELM], Silent())
        self._running = {}

    def install(self):
        self._plane.kubectl("create", "namespace", HOME)
        self._plane.kubectl.apply([found for found in self._objects() if found["kind"] in NEEDED])
        self._plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")

    def ensure(self, program):
        """Run it, if it does not run."""
        if program in self._running:
            return
        environment = os.environ | {"KUBECONFIG": str(self._login(ACCOUNTS[program]))}
        argv = [self._programs.path(program), *FLAGS[program]]
        with (self._folder / f"{program}.log").open("ab") as log:
            self._running[program] = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)

    def kill(self, program):
        process = self._running.pop(program)
        process.kill()
        process.wait()

    def end(self):
        for program in tuple(self._running):
            self.kill(program)

    def log(self, program):
        return (self._folder / f"{program}.log").read_text()

    def _objects(self):
        chart = self._programs.folders[CERT_MANAGER.name] / "chart"
        argv = [self._programs.path("helm"), "template", HOME, chart, "-n", HOME, "--set", "crds.enabled=true"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        return [found for found in yaml.safe_load_all(done.stdout) if found]

    def _login(self, account):
        token = self._plane.kubectl("create", "token", account, "-n", HOME).strip()
        authority = (self._plane.folder / "pki/ca.crt").read_bytes()
        path = self._folder / f"{account}.kubeconfig"
        path.write_text(json.dumps(kubeconfig(self._plane.server, authority, token)))
        return path


class Certified(Installed):
    """A release whose certificates are cert-manager's; a webhook that cannot be trusted is a pod that fails."""

    def __init__(self, plane, folder, *settings):
        namespace = new_namespace(plane, f"certified-{uuid4().hex[:6]}")
        self.settings = ("webhook.certManager.enabled=true", "webhook.failurePolicy=Fail", *settings)
        super().__init__(plane, namespace, folder, *self.settings, webhook_here=False)
        self.lead_here()

    @property
    def secret(self):
        return f"{RELEASE}-webhook-cert"

    @property
    def certificate(self):
        return f"{RELEASE}-webhook"

    def lead_here(self):
        """The Service keeps its name, for which the certificate is made."""
        service = {"spec": {"type": "ExternalName", "externalName": "localhost", "clusterIP": None, "clusterIPs": None}}
        port = [{"op": "replace", "path": "/webhooks/0/clientConfig/service/port", "value": self.port}]
        name = ("service", f"{RELEASE}-webhook", "-n", self.namespace)
        self.kubectl("patch", *name, "--type=merge", "-p", json.dumps(service))
        name = ("mutatingwebhookconfiguration", self.configuration)
        self.kubectl("patch", *name, "--type=json", "-p", json.dumps(port))

    def files(self):
        """What the Secret holds, or nothing."""
        try:
            data = self.kubectl.json("get", "secret", self.secret, "-n", self.namespace).get("data", {})
        except CommandError:
            return {}
        return {name: b64decode(data[name]) for name in ("tls.crt", "tls.key", "ca.crt") if data.get(name)}

    def bundle(self):
        (entry,) = self.kubectl.json("get", "mutatingwebhookconfiguration", self.configuration)["webhooks"]
        return b64decode(entry["clientConfig"].get("caBundle", ""))

    def begin(self):
        """Once there is a certificate, the webhook runs; until the API server trusts it."""
        folder = self.folder / "certificates"
        folder.mkdir()
        mount(folder, until(self.files, "cert-manager makes the Secret"))
        self.start("webhook")
        until(lambda: self.bundle() == self.files()["ca.crt"], "cainjector injects the bundle")


def mount(folder, files):
    """As kubelet does: the files' folder is new each time, and takes over in one step."""
    fresh = folder / f"..{time.monotonic_ns()}"
    fresh.mkdir()
    for name in ("tls.crt", "tls.key"):
        (fresh / name).write_bytes(files[name])
    former = (folder / "..data").readlink() if (folder / "..data").exists() else None
    (folder / "..data_tmp").symlink_to(fresh.name)
    (folder / "..data_tmp").rename(folder / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    if former:
        for name in ("tls.crt", "tls.key"):
            (folder / former / name).unlink()
        (folder / former).rmdir()


async def kubelet(kube, release, late, over):
    """Until *over*, follow the Secret, *late* seconds behind; a Secret that is gone changes nothing."""
    mounted = None
    while not over.is_set():
        found = await _read(kube, release)
        if found and found != mounted:
            await asyncio.sleep(late if mounted else 0)
            mount(release.folder / "certificates", found)
            mounted = found
        await asyncio.sleep(0.1)


async def _read(kube, release):
    try:
        data = (await kube.get(SECRETS, release.secret, release.namespace)).get("data", {})
    except NotFoundError:
        return None
    return {name: b64decode(data[name]) for name in ("tls.crt", "tls.key")} if data.get("tls.crt") else None
