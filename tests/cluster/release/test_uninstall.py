"""R24, uninstalling in many states: no webhook stays, nothing hangs on us, and pods are made at once as ever.

Helm runs its hook as in a cluster; where a kubelet would run the hook's container, the test does.
"""

import json
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from uuid import uuid4

import pytest

from cluster.api import ControlPlane
from cluster.errors import CommandError
from contract.api import keys
from tests.support.builders.objects import checkpoint, opted_in
from tests.support.fixtures.installed import RELEASE, ROOT, Installed
from tests.support.waiting import PATIENCE, until

KINDS = "mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles"
SECONDS = 1.0
"""Within which a pod must be made after the uninstall."""
CRD = "crd/dynamocheckpoints.nvidia.com"


@pytest.fixture(scope="module")
def plane():
    """With the controllers: they delete namespaces, collect what has lost its owner, and run the hook's Job."""
    with ControlPlane.start(controllers=True) as started:
        yield started


@pytest.fixture(scope="module")
def ended(plane):
    """Namespaces that were told to go; nothing of ours may keep any."""
    names = []
    yield names

    def left():
        found = plane.kubectl("get", "namespaces", "-o", "name").split()
        return [name for name in names if f"namespace/{name}" in found]

    until(lambda: not left(), lambda: f"namespaces go: {left()}")


@pytest.fixture
def install(plane, tmp_path):
    """Installs the chart, in a namespace of its own."""
    made = []

    def run(*settings, **options):
        namespace = f"gone-{uuid4().hex[:6]}"
        plane.kubectl("create", "namespace", namespace)
        until(lambda: plane.kubectl("get", "serviceaccount", "default", "-n", namespace), "the account of pods")
        release = Installed(plane, namespace, tmp_path / namespace, *settings, **options)
        made.append(release)
        return release

    yield run
    for release in made:
        release.end()
        release.uninstall()


def held_checkpoint(release, name="held", namespace=None, **status):
    """One that carries our finalizer, as automatic ones do."""
    release.checkpoint(checkpoint(name), status or {"phase": "Creating", "jobName": "j"}, namespace=namespace)
    where = ("-n", namespace or release.namespace)
    release.kubectl("patch", "dckpt", name, *where, "--type=json", "-p", json.dumps(FINALIZED))


FINALIZED = [{"op": "add", "path": "/metadata/finalizers", "value": [keys.FINALIZER]}]


def wish(name="held", **parts):
    body = opted_in(name=name, **parts)
    del body["metadata"]["namespace"]
    return body


def run_hook(release):
    """What kubelet does for the hook: the container's command, with its account, then the pod's end."""
    name = f"{RELEASE}-farewell"
    where = ("-n", release.namespace)
    pod = until(
        lambda: release.kubectl.json("get", "pods", *where, "-l", f"batch.kubernetes.io/job-name={name}")["items"],
        "the hook's pod",
    )[0]
    job = release.kubectl.json("get", "job", name, *where)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    environment = release.environment("farewell", job)
    argv = [sys.executable, *command[1:]]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    ended = json.dumps({"status": {"phase": "Succeeded"}})
    release.kubectl(
        "patch", "pod", pod["metadata"]["name"], *where, "--subresource=status", "--type=merge", "-p", ended
    )


def uninstall(release):
    """``helm uninstall``, as it is documented."""
    failures = []

    def helm():
        try:
            release.helm("uninstall", RELEASE, "--timeout", f"{PATIENCE:.0f}s")
        except AssertionError as error:
            failures.append(error)

    thread = threading.Thread(target=helm)
    thread.start()
    try:
        run_hook(release)
    finally:
        thread.join()
    assert [] == failures


def check_gone(release, ended):
    """Nothing of the release is left in the cluster, and nothing that it knew waits for it."""
    names = release.kubectl("get", KINDS, "-o", "name", "-l", "app.kubernetes.io/part-of=dynamo-snapshot").split()
    assert [] == [name for name in names if release.namespace in name]
    # Whoever stayed would delay every one of them; a busy machine delays some.
    assert min(seconds_to_make_a_pod(release) for _ in range(5)) < SECONDS
    release.kubectl("delete", "namespace", release.namespace, "--wait=false")
    ended.append(release.namespace)


def seconds_to_make_a_pod(release):
    """Without kubectl, which takes longer to start than the API server to answer."""
    plane = release.plane
    address = f"{plane.server}/api/v1/namespaces/{release.namespace}/pods?dryRun=All"
    headers = {"Authorization": f"Bearer {plane.token}", "Content-Type": "application/json"}
    body = json.dumps({"apiVersion": "v1", "kind": "Pod", **wish()}).encode()
    trust = ssl.create_default_context(cafile=str(plane.folder / "pki/ca.crt"))
    started = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(address, body, headers), context=trust, timeout=30) as answer:
        assert 201 == answer.status
    return time.perf_counter() - started


def finalizers(release):
    found = release.kubectl.json("get", "dckpt", "-n", release.namespace)["items"]
    return [each["metadata"].get("finalizers", []) for each in found]


def test_healthy(install, ended):
    """Webhook and controller at work to the end; they outlive their accounts by some moments, as in a cluster."""
    release = install()
    release.start("webhook")
    release.start("controller")
    held_checkpoint(release)
    until(lambda: release.code(wish()) == "checkpoint-not-ready", "the webhook is asked")
    uninstall(release)

    assert [[]] == finalizers(release)
    check_gone(release, ended)


def test_pods_dead_and_failing_closed(install, ended):
    """With failurePolicy Fail a dead webhook keeps pods from being made; that must end with the release."""
    release = install("webhook.failurePolicy=Fail", "policy.restoreVerb.enabled=false")
    said = until(lambda: release.refused(wish(), "--dry-run=server"), "refused")
    assert "failed calling webhook" in said
    uninstall(release)

    check_gone(release, ended)


def test_captures_in_flight(install, ended):
    """The controller had begun, and is gone: a Job of its own goes on, the checkpoint can be deleted."""
    release = install()
    release.start("controller")
    release.kubectl("create", "-n", release.namespace, "-f", "-", stdin=json.dumps(plain(checkpoint("flying"))))
    until(lambda: release.kubectl.json("get", "jobs", "-n", release.namespace)["items"], "its Job")
    release.kubectl("patch", "dckpt", "flying", "-n", release.namespace, "--type=json", "-p", json.dumps(FINALIZED))
    release.kill("controller")
    uninstall(release)

    assert [[]] == finalizers(release)
    check_gone(release, ended)


def plain(body):
    return body | {"metadata": {"name": body["metadata"]["name"]}}


def test_a_checkpoint_that_is_being_deleted(install, ended):
    release = install()
    held_checkpoint(release)
    release.kubectl("delete", "dckpt", "held", "-n", release.namespace, "--wait=false")
    uninstall(release)

    assert [] == finalizers(release)
    check_gone(release, ended)


@pytest.mark.parametrize(
    ("gates", "policy"),
    [
        pytest.param([], {}, id="starts-cold"),
        pytest.param([keys.SCHEDULING_GATE], {keys.ANN_POLICY: keys.POLICY_REQUIRE}, id="must-not-start-cold"),
    ],
)
def test_held_pods(install, gates, policy, ended):
    """They are let go, with the reason on them; one that may not start cold goes on waiting."""
    release = install("policy.require.enabled=false")
    body = wish(schedulingGates=[{"name": keys.SCHEDULING_GATE}], annotations=policy)
    body["metadata"] |= {"name": "held", "labels": {keys.LABEL_IS_RESTORE_TARGET: "true"}}
    release.create(body)
    uninstall(release)
    found = release.kubectl.json("get", "pod", "held", "-n", release.namespace)

    assert gates == [gate["name"] for gate in found["spec"].get("schedulingGates", [])]
    assert (None if gates else "uninstalled") == found["metadata"]["annotations"].get(keys.ANN_GATE)
    check_gone(release, ended)


def test_an_install_that_never_became_ready(install, plane, ended):
    """Helm calls the release failed; its second half may be missing."""
    release = install()
    with suppress(AssertionError):
        release.helm("upgrade", RELEASE, str(ROOT / "charts/snapshot"), "--wait", "--timeout", "1s")
    plane.kubectl("delete", "deployment", f"{RELEASE}-controller", "-n", release.namespace)
    held_checkpoint(release)
    uninstall(release)

    assert [[]] == finalizers(release)
    check_gone(release, ended)


def test_the_crd_was_deleted_first(install, plane, ended):
    release = install()
    plane.kubectl("delete", CRD, "--timeout=30s")
    try:
        uninstall(release)
        check_gone(release, ended)
    finally:
        install()  # brings the CRD again


def test_the_namespace_was_deleted_first(install, plane, ended):
    """Helm's record is gone with it, so nobody can uninstall: the webhook's configuration goes by itself."""
    release = install(webhook_here=False)
    release.start("controller")
    name = release.configuration

    def owner():
        found = plane.kubectl.json("get", "mutatingwebhookconfiguration", name)["metadata"]
        return found.get("ownerReferences")

    tied = until(owner, lambda: release.log("controller"))
    release.helm("upgrade", RELEASE, str(ROOT / "charts/snapshot"), "--set", "webhook.timeoutSeconds=3")
    assert ["Namespace"] == [each["kind"] for each in tied]
    assert tied == owner()
    release.kill("controller")
    plane.kubectl("delete", "namespace", release.namespace, f"--timeout={PATIENCE:.0f}s")

    def gone():
        try:
            plane.kubectl("get", "mutatingwebhookconfiguration", name)
        except CommandError:
            return True
        return False

    until(gone, "the webhook configuration goes")


def test_a_workers_namespace_is_deleted_while_we_live(install, plane, ended):
    """A release for all namespaces: its controller lets go of checkpoints in a namespace that ends."""
    release = install("rbac.namespaceRestricted=false", "storage.accessMode=podMount")
    release.start("controller")
    namespace = f"workers-{uuid4().hex[:6]}"
    plane.kubectl("create", "namespace", namespace)
    held_checkpoint(release, namespace=namespace)
    plane.kubectl("delete", "namespace", namespace, "--wait=false")
    ended.append(namespace)
    plane.kubectl("wait", "--for=delete", "dckpt/held", "-n", namespace, f"--timeout={PATIENCE:.0f}s")
    release.kill("controller")
    uninstall(release)

    check_gone(release, ended)


def test_its_last_job_was_left_out(install, ended):
    """``--no-hooks``, where the image cannot be pulled any more: a new installation makes up for it."""
    release = install()
    held_checkpoint(release)
    release.uninstall()
    left = finalizers(release)
    release.helm("upgrade", "--install", RELEASE, str(ROOT / "charts/snapshot"))
    uninstall(release)

    assert [[keys.FINALIZER]] == left
    assert [[]] == finalizers(release)
    check_gone(release, ended)


def test_its_rights_and_secrets_were_deleted_first(install, ended):
    """Half removed by hand: the processes hang, Helm and the last Job bring their own rights."""
    release = install()
    release.start("controller")
    held_checkpoint(release)
    instance = f"app.kubernetes.io/instance={RELEASE}"
    kinds = "roles,rolebindings,secrets,serviceaccounts"
    release.kubectl("delete", kinds, "-n", release.namespace, "-l", instance)
    uninstall(release)

    assert [[]] == finalizers(release)
    check_gone(release, ended)
