"""Helm 3, which most users have, and Helm 4, which all other tests use, make the same of the chart."""

import json
import os
import threading
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from certs.reconcile import Targets, reconcile
from cluster.builder.build import build
from cluster.builder.cache import Cache
from cluster.builder.toolchain import HELM3
from cluster.progress import Silent
from kube.client import connect
from tests.chart.conftest import MUTATING_POLICIES, Helm
from tests.chart.test_chart_accepted import VALUE_SETS, flags
from tests.chart.test_chart_releases import certified, claim_uid, in_namespace, of_the_cluster
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
CRD = "crd/dynamocheckpoints.nvidia.com"
SEED_FLAGS = ("--create-namespace", "--set", "storage.pvc.create=true")
SEED_SHARED_AGENT = (
    "--create-namespace",
    *("--set", "storage.accessMode=podMount"),
    *("--set", "storage.pvc.create=false"),
    *("--set", "rbac.namespaceRestricted=false"),
)
ENDED = "2026-01-01T00:00:00Z"
JOB_ENDED = {
    "startTime": ENDED,
    "completionTime": ENDED,
    "succeeded": 1,
    "conditions": [
        {"type": kind, "status": "True", "lastTransitionTime": ENDED} for kind in ("SuccessCriteriaMet", "Complete")
    ],
}
VERSIONS = [pytest.param("3", id="helm-3"), pytest.param("4", id="helm-4")]


@pytest.fixture(scope="module")
def helm3():
    """Helm 3 that knows no cluster."""
    return Helm(build(Cache.from_env(os.environ), [HELM3], Silent()).path("helm"))


@pytest.fixture(scope="module")
def helms(helm, helm3, control_plane):
    """Both, by their version, for the API server."""
    return {
        version: Helm(each.program, str(control_plane.kubeconfig)) for version, each in {"3": helm3, "4": helm}.items()
    }


@pytest.fixture
async def kube(control_plane):
    async with await connect(str(control_plane.kubeconfig)) as client:
        yield client


@pytest.fixture(scope="module")
def numbers():
    return count()


@pytest.fixture
def place(helms, numbers):
    """A namespace for the release ``snapshot``, which does not outlive the test."""
    namespace = f"versions-{next(numbers)}"
    yield namespace
    helms["4"]("uninstall", "snapshot", "--namespace", namespace, "--no-hooks", "--ignore-not-found")


def documents(helm, *settings, chart="charts/snapshot"):
    """What it renders, in no order: parsing would take longer than all else here."""
    arguments = ("template", "snapshot", str(ROOT / chart), "--namespace", "ns", *settings)
    found = [text.strip() for text in f"\n{helm(*arguments)}".split("\n---\n")]
    return sorted(text for text in found if text)


def value_files():
    return sorted(path.relative_to(ROOT) for path in (ROOT / "examples").glob("*/*values*.yaml"))


CASES = [
    *(pytest.param(tuple(flags(settings)), id=name) for name, settings in VALUE_SETS.items()),
    *(pytest.param(("-f", str(ROOT / path)), id=str(path)) for path in value_files()),
    pytest.param(
        tuple(flags(f"monitoring.{part}.enabled=true" for part in ("serviceMonitor", "prometheusRule", "dashboard"))),
        id="monitoring",
    ),
]


def test_both_are_what_they_are_called(helms):
    """Helm 3 is told the Kubernetes that it speaks, or it would refuse the chart where there is no cluster."""
    said = {version: each("version", "--template", "{{.Version}}") for version, each in helms.items()}

    assert {"3": "v3.", "4": "v4."} == {version: text[:3] for version, text in said.items()}


@pytest.mark.parametrize("settings", CASES)
def test_both_render_the_same_objects(helm, helm3, settings):
    ours, theirs = (documents(each, "--api-versions", MUTATING_POLICIES, *settings) for each in (helm, helm3))

    assert 2 < len(theirs)
    assert ours == theirs


def test_both_render_the_same_without_mutating_policies(helm, helm3):
    """By the path that the guides type."""
    ours, theirs = (documents(each, chart="deploy/helm/charts/snapshot") for each in (helm, helm3))

    assert ours == theirs
    assert not [text for text in theirs if "kind: MutatingAdmissionPolicy" in text]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("settings", [pytest.param((), id="defaults"), CASES[-1]])
def test_lint_finds_nothing(helms, version, settings):
    said = helms[version]("lint", "--strict", str(ROOT / "charts/snapshot"), *settings)

    assert "0 chart(s) failed" in said
    assert not [line for line in said.splitlines() if line.startswith(("[WARNING]", "[ERROR]"))]


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        pytest.param("/runtime/type': value must be one of", ("--set", "runtime.type=docker"), id="schema"),
        pytest.param("additional properties 'storge' not allowed", ("--set", "storge.type=pvc"), id="misspelt"),
        pytest.param("storage.pvc.size: must be more than zero", ("--set", "storage.pvc.size=0Gi"), id="chart"),
        pytest.param(">=1.30.0", ("--kube-version", "1.29.9"), id="old-cluster"),
    ],
)
def test_helm_3_refuses_by_name_too(helm3, chart, message, settings):
    said = helm3.refusal("template", "snapshot", str(chart), *settings)

    assert message in said, said


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("settings", "times", "claims"),
    [
        pytest.param(SEED_FLAGS, 2, {"persistentvolumeclaim/snapshot-pvc"}, id="agent-per-namespace-twice"),
        pytest.param(SEED_SHARED_AGENT, 1, set(), id="shared-agent"),
    ],
)
def test_the_guides_command(control_plane, helms, place, version, settings, times, claims):
    """Seed 001, step 3; the second time it upgrades."""
    chart = str(ROOT / "deploy/helm/charts/snapshot")
    for _ in range(times):
        helms[version]("upgrade", "--install", "snapshot", chart, "--namespace", place, *settings)

    found = in_namespace(control_plane, place)
    assert claims == {name for name in found if name.startswith("persistentvolumeclaim/")}
    assert "daemonset.apps/snapshot-agent" in found
    said = control_plane.kubectl("get", "secrets", "-n", place, "-l", "owner=helm,status=deployed", "-o", "name")
    assert [f"secret/sh.helm.release.v1.snapshot.v{times}"] == said.split()


def test_the_whole_life_with_helm_3(control_plane, helms, place, chart):
    """From a cluster without our CRD to one that has only what shall be kept."""
    helm, where = helms["3"], ("--namespace", place)
    control_plane.kubectl("delete", CRD, "--ignore-not-found", "--timeout=30s")
    helm("install", "snapshot", str(chart), "--create-namespace", *where)
    control_plane.kubectl("wait", "--for=condition=Established", CRD, "--timeout=30s")
    claim = claim_uid(control_plane, place)

    helm("upgrade", "snapshot", str(chart), *where, "--set", "webhook.timeoutSeconds=5,controlPlane.replicas=3")
    helm("upgrade", "snapshot", str(chart), *where, "--reset-then-reuse-values", "--set", "webhook.failurePolicy=Fail")
    assert ("Fail", 5, 3) == state(control_plane, place)
    helm("rollback", "snapshot", "1", *where)
    assert ("Ignore", 2, 2) == state(control_plane, place)

    uninstalled(control_plane, helm, place)
    assert {"persistentvolumeclaim/snapshot-pvc"} == in_namespace(control_plane, place)
    assert set() == of_the_cluster(control_plane, "snapshot", place)
    control_plane.kubectl("get", CRD)

    helm("install", "snapshot", str(chart), *where)
    assert claim == claim_uid(control_plane, place)


def state(control_plane, namespace):
    configuration = control_plane.kubectl.json("get", "mutatingwebhookconfiguration", f"snapshot-{namespace}")
    deployment = control_plane.kubectl.json("get", "deployment", "snapshot-webhook", "-n", namespace)
    (entry,) = configuration["webhooks"]
    return entry["failurePolicy"], entry["timeoutSeconds"], deployment["spec"]["replicas"]


def uninstalled(control_plane, helm, namespace):
    """With its last Job, whose end the test reports where a kubelet and the Job controller would."""
    failures = []

    def uninstall():
        try:
            helm("uninstall", "snapshot", "--namespace", namespace, "--timeout", "60s")
        except Exception as error:  # noqa: BLE001  # the thread's end is looked at below
            failures.append(error)

    thread = threading.Thread(target=uninstall)
    thread.start()
    job = ("job", "snapshot-farewell", "-n", namespace)
    until(lambda: control_plane.kubectl("get", *job), "the last Job")
    control_plane.kubectl(
        "patch", *job, "--subresource=status", "--type=merge", "-p", json.dumps({"status": JOB_ENDED})
    )
    thread.join()
    assert [] == failures


@pytest.mark.parametrize(
    ("installer", "upgrader"),
    [
        pytest.param("3", "3", id="helm-3"),
        pytest.param("3", "4", id="from-3-to-4"),
        pytest.param("4", "3", id="from-4-to-3"),
    ],
)
async def test_upgrades_leave_what_the_controller_owns(helms, place, chart, kube, installer, upgrader):
    """Helm 3 merges where Helm 4 applies; neither may take the certificates away, nor the tie to the namespace."""
    arguments = ("upgrade", "--install", "snapshot", str(chart), "--namespace", place)
    helms[installer](*arguments, "--create-namespace")
    targets = Targets(place, "snapshot")
    await reconcile(kube, targets, now)
    before = await certified(kube, targets)

    helms[upgrader](*arguments, "--set", "webhook.timeoutSeconds=5,webhook.failurePolicy=Fail")
    assert () == await reconcile(kube, targets, now)
    helms[upgrader]("rollback", "snapshot", "1", "--namespace", place)

    assert () == await reconcile(kube, targets, now)
    assert before == await certified(kube, targets)


def now():
    return datetime.now(tz=UTC)
