"""Releases on a real API server: two side by side, upgraded, certified, removed."""

import base64
import json
import ssl
from datetime import UTC, datetime, timedelta

import pytest

from certs.policy import certificates
from certs.reconcile import WEBHOOK_ENTRY, Targets, reconcile
from certs.store import read_bundle
from contract.api import keys
from controller.uninstall import release_all
from kube.client import connect
from kube.errors import NotFoundError
from kube.resources import MUTATING_WEBHOOK_CONFIGURATIONS, SECRETS

CLUSTER_KINDS = (
    "mutatingwebhookconfigurations,clusterroles,clusterrolebindings,validatingadmissionpolicies,"
    "validatingadmissionpolicybindings,mutatingadmissionpolicies,mutatingadmissionpolicybindings"
)


class Clock:
    def __init__(self):
        self.now = datetime.now(tz=UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def kube(control_plane):
    async with await connect(str(control_plane.kubeconfig)) as client:
        yield client


@pytest.fixture
def uninstall(cluster_helm):
    """Without hooks: this API server has nobody who would run their Job."""

    def run(release, namespace):
        cluster_helm("uninstall", release, "--namespace", namespace, "--no-hooks", "--ignore-not-found")

    return run


@pytest.fixture
def install(cluster_helm, uninstall, chart, new_namespace):
    """Installs releases, and removes what a test leaves."""
    left = []

    def run(release="snapshot", *flags, namespace=None):
        where = namespace or new_namespace()
        cluster_helm("upgrade", "--install", release, str(chart), "--namespace", where, *flags)
        left.append((release, where))
        return where

    yield run
    for release, where in left:
        uninstall(release, where)


def of_the_cluster(control_plane, instance, namespace):
    """Names of cluster-scoped objects of one release."""
    found = control_plane.kubectl(
        "get", CLUSTER_KINDS, "-l", f"app.kubernetes.io/instance={instance}", "-o", "name"
    ).split()
    return {name for name in found if f"-{namespace}" in name}


def in_namespace(control_plane, namespace):
    kinds = "deploy,ds,svc,secret,cm,sa,role,rolebinding,pdb,pvc"
    found = control_plane.kubectl(
        "get", kinds, "-n", namespace, "-l", "app.kubernetes.io/managed-by=Helm", "-o", "name"
    )
    return set(found.split())


def test_two_releases_in_two_namespaces_live_and_die_apart(control_plane, uninstall, install):
    """The seeds install the chart beside each team's workers, mostly under one name."""
    one, two = install(), install()
    before = of_the_cluster(control_plane, "snapshot", two), in_namespace(control_plane, two)

    uninstall("snapshot", one)

    assert set() == of_the_cluster(control_plane, "snapshot", one)
    assert before == (of_the_cluster(control_plane, "snapshot", two), in_namespace(control_plane, two))
    assert 19 == len(before[0]), before[0]


def test_uninstall_leaves_only_the_checkpoints(control_plane, uninstall, install):
    namespace = install("snap", "--set", "rbac.namespaceRestricted=false,policy.restoreVerb.enabled=true")
    uninstall("snap", namespace)

    assert set() == of_the_cluster(control_plane, "snap", namespace)
    assert {"persistentvolumeclaim/snapshot-pvc"} == in_namespace(control_plane, namespace)


def test_a_new_install_takes_up_the_kept_checkpoints(control_plane, uninstall, install):
    namespace = install()
    uid = claim_uid(control_plane, namespace)
    uninstall("snapshot", namespace)
    install(namespace=namespace)

    assert uid == claim_uid(control_plane, namespace)


def test_the_first_guides_release_keeps_the_claim_that_it_has(control_plane, install):
    """Earlier versions called it so in every release."""
    namespace = install("chrek", "--set", "storage.pvc.name=snapshot-pvc")
    uid = claim_uid(control_plane, namespace)
    install("chrek", "--set", "storage.pvc.name=", namespace=namespace)

    claims = control_plane.kubectl("get", "pvc", "-n", namespace, "-o", "name").split()
    config = control_plane.kubectl("get", "configmap", "chrek-config", "-n", namespace, "-o", "yaml")
    assert ["persistentvolumeclaim/snapshot-pvc"] == claims
    assert uid == claim_uid(control_plane, namespace)
    assert "chrek-pvc" not in config


def claim_uid(control_plane, namespace):
    return control_plane.kubectl.json("get", "pvc", "snapshot-pvc", "-n", namespace)["metadata"]["uid"]


async def test_upgrades_leave_certificate_and_bundle_alone(cluster_helm, install, kube, clock):
    """Helm and the controller own different fields, so neither sees a conflict, whatever the order."""
    namespace = install()
    targets = Targets(namespace, "snapshot")
    await reconcile(kube, targets, clock)
    bundle, serving = await certified(kube, targets)

    for flags in ((), ("--set", "webhook.timeoutSeconds=5"), ("--set", "controlPlane.replicas=3")):
        install("snapshot", *flags, namespace=namespace)
        assert () == await reconcile(kube, targets, clock)
    cluster_helm("rollback", "snapshot", "1", "--namespace", namespace)

    assert (bundle, serving) == await certified(kube, targets)


async def certified(kube, targets):
    configuration = await kube.get(MUTATING_WEBHOOK_CONFIGURATIONS, targets.configuration)
    serving = await kube.get(SECRETS, targets.serving_secret, targets.namespace)
    return read_bundle(configuration, WEBHOOK_ENTRY), serving["data"]


async def test_the_injected_bundle_is_one_that_tls_accepts(install, kube, clock):
    targets = Targets(install(), "snapshot")
    await reconcile(kube, targets, clock)
    bundle, serving = await certified(kube, targets)

    ssl.create_default_context(cadata=bundle)
    assert bundle == base64.b64decode(serving["ca.crt"]).decode()


async def test_authorities_rotate_with_overlap_on_the_real_server(install, kube, clock):
    targets = Targets(install(), "snapshot")
    await reconcile(kube, targets, clock)
    (first,) = certificates((await certified(kube, targets))[0])
    clock.now += timedelta(days=600)
    await reconcile(kube, targets, clock)
    clock.now += timedelta(minutes=3)
    await reconcile(kube, targets, clock)
    bundle, _ = await certified(kube, targets)

    assert first in certificates(bundle)
    assert 2 == len(certificates(bundle))
    clock.now += timedelta(days=91)
    await reconcile(kube, targets, clock)
    assert first not in certificates((await certified(kube, targets))[0])


async def test_a_controller_that_outlives_its_release_makes_nothing_anew(uninstall, install, kube, clock):
    namespace = install()
    targets = Targets(namespace, "snapshot")
    await reconcile(kube, targets, clock)
    uninstall("snapshot", namespace)

    with pytest.raises(NotFoundError):
        await reconcile(kube, targets, clock)
    for secret in (targets.serving_secret, targets.authority_secret):
        with pytest.raises(NotFoundError):
            await kube.get(SECRETS, secret, namespace)


async def test_after_an_uninstall_no_checkpoint_is_held(control_plane, install, uninstall, kube):
    """What the chart's last Job does: our finalizer would hold them for ever."""
    namespace = install()
    body = {
        "apiVersion": keys.API_VERSION,
        "kind": keys.CHECKPOINT_KIND,
        "metadata": {"name": "held", "finalizers": [keys.FINALIZER]},
        "spec": {
            "identity": {"model": "m", "backendFramework": "vllm"},
            "job": {"podTemplateSpec": {"spec": {"containers": [{"name": "main", "image": "x"}]}}},
        },
    }
    control_plane.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(body))
    uninstall("snapshot", namespace)

    assert 1 == await release_all(kube, namespace)
    control_plane.kubectl("delete", "dynamocheckpoint", "held", "-n", namespace, "--timeout=10s")


async def test_a_reinstalled_release_is_certified_again(uninstall, install, kube, clock):
    namespace = install()
    targets = Targets(namespace, "snapshot")
    await reconcile(kube, targets, clock)
    before = await certified(kube, targets)
    uninstall("snapshot", namespace)
    install(namespace=namespace)
    await reconcile(kube, targets, clock)

    assert before != await certified(kube, targets)


def test_a_dynamo_platform_in_the_cluster_stops_the_install(control_plane, cluster_helm, chart, install):
    """Two controllers on one DynamoCheckpoint would undo each other's work."""
    namespace = install()
    crd = "crd/dynamocheckpoints.nvidia.com"
    control_plane.kubectl("annotate", crd, "controller-gen.kubebuilder.io/version=v0.16.4")
    try:
        said = cluster_helm.refusal("install", "second", str(chart), "--namespace", namespace)
        cluster_helm("template", "second", str(chart), "--dry-run=server", "--set", "coexist=agentOnly")
    finally:
        control_plane.kubectl("annotate", crd, "controller-gen.kubebuilder.io/version-")

    assert "coexist: the CRD dynamocheckpoints.nvidia.com" in said
    assert "set coexist=agentOnly" in said
