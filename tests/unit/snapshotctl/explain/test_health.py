"""What doctor finds of a release, and what it says to do next."""

from dataclasses import replace

import pytest

from contract.api.rights import Right
from contract.config.values import load_values
from snapshotctl.explain.health import Installed, Verdict, checks
from snapshotctl.explain.release import Release
from snapshotctl.view.health import document, lines

LABELS = {"app.kubernetes.io/component": "manager"}


def release(values=""):
    return Release(load_values(values), "snapshot (ns)", "ns")


def owner(kind, component, ready, wanted):
    metadata = {"name": f"the-{component}", "namespace": "ns", "labels": {"app.kubernetes.io/component": component}}
    spec = {"replicas": wanted, "selector": {"matchLabels": {"app.kubernetes.io/component": component}}}
    counts = {"readyReplicas": ready}
    if kind == "DaemonSet":
        counts = {"numberReady": ready, "desiredNumberScheduled": wanted}
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": counts}


def pod(component, *, ready=False, waiting=None, node="a"):
    status = {"conditions": [{"type": "Ready", "status": str(ready)}], "phase": "Running"}
    if waiting:
        status["containerStatuses"] = [{"name": "main", "state": {"waiting": {"reason": waiting}}}]
    metadata = {"name": f"{component}-1", "namespace": "ns", "labels": {"app.kubernetes.io/component": component}}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": status}


def claim(phase="Bound", name="snapshot-pvc"):
    return {"metadata": {"name": name, "namespace": "ns"}, "status": {"phase": phase}}


def configuration(bundle="Y2E="):
    return {"metadata": {"name": "snapshot-ns"}, "webhooks": [{"clientConfig": {"caBundle": bundle}}]}


def checkpoint(phase, *, fails=False, size=1 << 30):
    status = {"phase": phase, "conditions": [{"type": "RestoresFailing", "status": str(fails)}], "size": size}
    return {"metadata": {"name": "c", "namespace": "ns"}, "status": status}


LIMITED = "daemonset: {resources: {limits: {memory: 4Gi}}}"
SIZES = [("Ready", 4), ("Ready", 5), ("Ready", 20), ("Creating", 30)]
WELL = Installed(
    release(LIMITED),
    deployments=[owner("Deployment", "manager", 1, 1), owner("Deployment", "webhook", 2, 2)],
    daemon_sets=[owner("DaemonSet", "snapshot-agent", 3, 3)],
    pods=[],
    claims=[claim()],
    configurations=[configuration()],
    checkpoints=[checkpoint("Ready")],
    lacking=[],
)


def found(name, installed):
    (check,) = [each for each in checks(installed) if each.name == name]
    return check.verdict, check.words, check.advice


def test_all_is_well():
    assert {Verdict.OK} == {each.verdict for each in checks(WELL)}
    assert [""] * 9 == [each.advice for each in checks(WELL)]


@pytest.mark.parametrize(
    ("name", "verdict", "words", "changes"),
    [
        pytest.param("definition", "failing", "does not know DynamoCheckpoint", {"has_definition": False}, id="no-crd"),
        pytest.param(
            "controller",
            "failing",
            "0 of 1 ready; manager-1 on node a: container main waits: ImagePullBackOff; nothing is captured meanwhile",
            {
                "deployments": [owner("Deployment", "manager", 0, 1)],
                "pods": [pod("manager", waiting="ImagePullBackOff"), pod("webhook", waiting="CrashLoopBackOff")],
            },
            id="controller-down",
        ),
        pytest.param(
            "webhook",
            "warning",
            "1 of 2 ready; webhook-1: is not ready",
            {
                "deployments": [owner("Deployment", "webhook", 1, 2)],
                "pods": [pod("webhook", node=None), pod("webhook", ready=True)],
            },
            id="one-replica-is-left",
        ),
        pytest.param("webhook", "failing", "the release has none", {"deployments": []}, id="removed"),
        pytest.param("admission", "failing", "no MutatingWebhookConfiguration", {"configurations": []}, id="unasked"),
        pytest.param(
            "admission", "failing", "no certificate", {"configurations": [configuration("")]}, id="not-trusted"
        ),
        pytest.param(
            "agents",
            "failing",
            "2 of 3 ready; snapshot-agent-1 on node b: is not ready; pods on the other nodes start cold meanwhile",
            {"daemon_sets": [owner("DaemonSet", "snapshot-agent", 2, 3)], "pods": [pod("snapshot-agent", node="b")]},
            id="a-node-without-agent",
        ),
        pytest.param(
            "agents",
            "failing",
            "none is wanted: no node fits",
            {"daemon_sets": [owner("DaemonSet", "snapshot-agent", 0, 0)]},
            id="no-node-fits",
        ),
        pytest.param(
            "rights",
            "failing",
            "the agents' account may not: get, list pods; patch jobs.batch",
            {"lacking": [Right("get", "pods"), Right("list", "pods"), Right("patch", "jobs", "batch")]},
            id="an-agent-without-rights",
        ),
        pytest.param("rights", "unknown", "may not ask", {"lacking": None}, id="no-right-to-ask"),
        pytest.param("storage", "failing", "ns/snapshot-pvc does not exist", {"claims": []}, id="no-claim"),
        pytest.param("storage", "failing", "is Pending", {"claims": [claim("Pending")]}, id="not-bound"),
        pytest.param("storage", "unknown", "may not read", {"claims": None}, id="not-allowed"),
        pytest.param(
            "checkpoints",
            "warning",
            "1 Ready, 1 Failed, 1 whose restores fail",
            {"checkpoints": [checkpoint("Ready", fails=True), checkpoint("Failed")]},
            id="failed",
        ),
        pytest.param(
            "page cache",
            "warning",
            "4.0 GiB of artifacts in page cache, and 2 of 3 Ready checkpoints are larger, up to 20.0 GiB",
            {"checkpoints": [checkpoint(phase, size=size << 30) for phase, size in SIZES]},
            id="larger-than-page-cache",
        ),
    ],
)
def test_what_is_not_well(name, verdict, words, changes):
    said, told, advice = found(name, replace(WELL, **changes))
    assert (verdict, True) == (said.value, bool(advice))
    assert words in told


@pytest.mark.parametrize(
    ("absent", "values"),
    [
        pytest.param(
            {"controller", "webhook", "admission"}, f"{{{LIMITED}, coexist: agentOnly}}", id="another-operator's"
        ),
        pytest.param({"storage"}, f"{{{LIMITED}, storage: {{accessMode: podMount}}}}", id="claims-of-the-workloads"),
        pytest.param({"page cache"}, "", id="no-limit"),
    ],
)
def test_what_a_release_does_not_have_is_not_missed(absent, values):
    names = {each.name for each in checks(WELL)} - {
        each.name for each in checks(replace(WELL, release=release(values)))
    }
    assert absent == names


def test_what_people_and_programs_read():
    sick = replace(WELL, claims=[])
    shown = "\n".join(lines(sick.release, checks(sick)))
    told = document(sick.release, checks(sick))
    assert shown.startswith("release snapshot (ns)\n")
    assert "storage: create it, or set storage.pvc.create=true" in shown
    assert (False, "snapshot (ns)", 9) == (told["healthy"], told["release"], len(told["checks"]))
