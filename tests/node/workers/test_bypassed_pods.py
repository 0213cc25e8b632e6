"""A pod that does not fit its checkpoint starts cold by name; annotated by its owner, it is restored and says so."""

import json

import pytest

from contract.api import keys
from demo.kubectl import Kubectl, wait_for
from tests.node.workers.captures.test_automatic import note
from tests.support.fixtures import node

NAME = "bypassed"


def cpus(limit: str) -> dict:
    return {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": limit}}}


@pytest.fixture(scope="module")
def captured(installed: Kubectl):
    installed("apply", "-f", "-", stdin=json.dumps(node.checkpoint(NAME, **cpus("500m"))))
    node.phase(installed, NAME, "Ready")
    yield installed
    installed("delete", "dynamocheckpoint", NAME)


def restored(kubectl: Kubectl, name: str, limit: str, bypass: str = "") -> tuple[str, str, str]:
    """Start a pod; return the first line of its log, its Events, and what its report says was bypassed."""
    made = node.pod(name, NAME, annotations={keys.ANN_BYPASS: bypass} if bypass else {}, **cpus(limit))
    kubectl("apply", "-f", "-", stdin=json.dumps(made))
    try:
        node.await_answer(kubectl, name)
        found = json.loads(note(node.reported(kubectl, name), keys.ANN_RESTORE_REPORT))
        reason = "RestoreSucceeded" if found["outcome"] == "restored" else "RestoreFailed"
        said = node.described(kubectl, "pod", name, reason)
        return node.first_line(kubectl, name), " ".join(said.split()), found.get("bypassed", [])
    finally:
        kubectl("delete", "pod", name)


def test_the_checkpoint_says_where_it_was_taken_and_where_it_could_be_restored(captured: Kubectl):
    (there,) = captured.items("nodes")
    info = there["status"]["nodeInfo"]

    def compatible() -> dict | None:
        status = captured.get("dynamocheckpoint", NAME)["status"]
        found = [each for each in status["conditions"] if each["type"] == "Compatible"]
        return {**found[0], "source": status["source"]} if found else None

    found = wait_for(compatible, "condition Compatible", 90)
    assert ("True", "1 of 1 nodes could restore it") == (found["status"], found["message"])
    source = found["source"]
    assert (there["metadata"]["name"], info["architecture"]) == (source["node"], source["architecture"])
    assert info["kernelVersion"] == source["kernel"]
    assert source["cpuFlags"].split()


def test_a_lower_limit_starts_cold_and_its_owner_may_bypass_that(captured: Kubectl):
    line, said, _ = restored(captured, "bypass-none", "200m")
    assert cold("captured with a limit of 0.5 CPUs, this container has 0.2") in line
    assert "(cpu-limit)" in said

    line, said, bypassed = restored(captured, "bypass-limit", "200m", bypass="cpu-limit")
    assert line.startswith("SNAPSHOT_RESTORED")
    assert "bypassed cpu-limit: captured with a limit of 0.5 CPUs" in said
    assert ["cpu-limit"] == bypassed


def test_an_id_that_cannot_be_bypassed_is_refused_at_admission(captured: Kubectl):
    """At admission: the pod starts as if it had not opted in."""
    made = node.pod("bypass-rights", NAME, annotations={keys.ANN_BYPASS: "wider-rights"}, **cpus("500m"))
    captured("apply", "-f", "-", stdin=json.dumps(made))
    try:
        node.await_answer(captured, "bypass-rights")
        assert node.first_line(captured, "bypass-rights").startswith("ready, token")
        said = " ".join(captured("describe", "pod", "bypass-rights").split())
        assert f"{keys.ANN_ADMISSION}: bypass-invalid" in said
    finally:
        captured("delete", "pod", "bypass-rights")


def cold(words: str) -> str:
    return f"SNAPSHOT_COLD_START: Falling back to cold start: {words}"
