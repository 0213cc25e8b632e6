"""Parked workers on a real kubelet: restored and stopped, beyond their agent, and woken when asked to."""

import json
import time

import pytest

from contract.api import control_files, keys
from contract.api.states import AgentReason
from demo.kubectl import Kubectl, wait_for
from tests.support.fixtures import node

NAME = "parked"
PROBE = {"readinessProbe": node.probe()}
PARK = {keys.ANN_STANDBY: keys.STANDBY_PARKS}
STATUS = keys.ANN_RESTORE_STATUS_PREFIX + "main"


@pytest.fixture(scope="module")
def artifact(installed: Kubectl) -> str:
    """Id of a checkpoint that is Ready."""
    node.create(installed, node.checkpoint(NAME, **PROBE))
    found = node.phase(installed, NAME, "Ready", "Failed")["status"]
    assert "Ready" == found["phase"]
    return str(found["checkpointID"])


def notes(installed: Kubectl, name: str) -> dict[str, str]:
    return installed.get("pod", name)["metadata"].get("annotations", {})


def parked(installed: Kubectl, name: str) -> None:
    node.create(installed, node.pod(name, NAME, annotations=PARK, **PROBE))
    wait_for(lambda: notes(installed, name).get(STATUS) == "parked" or None, f"{name} is parked", node.READY_SECONDS)


def status_of(installed: Kubectl, name: str) -> dict:
    (status,) = installed.get("pod", name)["status"]["containerStatuses"]
    return status


def stays_parked(installed: Kubectl, name: str, artifact: str, restarts: int = 0) -> None:
    status = status_of(installed, name)
    assert (False, False, restarts) == (status["ready"], status["started"], status["restartCount"])
    assert [control_files.LOG_PARKED.format(id=artifact)] == node.log(installed, name).splitlines()


def test_the_story(installed: Kubectl, run, artifact: str, figure):
    """It is restored and stopped, stays so while its agent is replaced, and goes on where it was captured."""
    parked(installed, "parked-story")
    installed("rollout", "restart", "daemonset/snapshot-agent")
    installed("rollout", "status", "daemonset/snapshot-agent", f"--timeout={node.READY_SECONDS}s")
    stays_parked(installed, "parked-story", artifact)
    why = run("why", "parked-story", "-o", "json")
    (answer,) = json.loads(why.stdout)["answers"]
    assert (0, "parked", "parked") == (why.exit_code, answer["outcome"], answer["code"])
    pod = installed.get("pod", "parked-story")
    (condition,) = (each for each in pod["status"]["conditions"] if each["type"] == keys.CONDITION_RESTORED)
    assert ("Unknown", "Parked") == (condition["status"], condition["reason"])
    assert keys.OUTCOME_PARKED == pod["metadata"]["labels"][keys.LABEL_OUTCOME]
    node.described(installed, "pod", "parked-story", "RestoreParked", "snapshotctl wake")

    began = time.monotonic()
    result = run("wake", "parked-story")
    found = node.await_answer(installed, "parked-story")
    answered = time.monotonic() - began
    node.await_ready(installed, "parked-story")
    figure(f"answers {answered:.1f} s after wake was called, Ready after {time.monotonic() - began:.1f} s")

    assert 0 == result.exit_code, result.output
    assert {"status=submitted", "name=parked-story", "containers=main"} <= set(result.stdout.splitlines())
    lines = installed("logs", "parked-story").splitlines()
    assert [control_files.LOG_PARKED.format(id=artifact), control_files.LOG_RESTORED.format(id=artifact)] == lines[:2]
    installed(
        "wait", "--for=condition=nvidia.com/snapshot-restored", "pod/parked-story", f"--timeout={node.READY_SECONDS}s"
    )
    node.create(installed, node.pod("parked-sibling", NAME, **PROBE))
    assert found["token"] == node.await_answer(installed, "parked-sibling")["token"]
    again = run("wake", "parked-story")
    assert (1, True) == (again.exit_code, "already-woken" in again.stderr)
    other = run("wake", "parked-sibling")
    assert (1, True) == (other.exit_code, "not-parked" in other.stderr)


def test_a_parked_worker_that_is_ended_is_restored_and_parked_again(installed: Kubectl, run, artifact: str):
    parked(installed, "parked-again")
    installed("exec", "parked-again", "--", "/bin/sh", "-c", "kill -KILL -1")
    wait_for(lambda: status_of(installed, "parked-again")["restartCount"] == 1 or None, "restarted", node.READY_SECONDS)
    wait_for(lambda: is_parked_now(installed, "parked-again"), "parked again", node.READY_SECONDS)
    stays_parked(installed, "parked-again", artifact, restarts=1)
    assert 0 == run("wake", "parked-again").exit_code
    node.await_ready(installed, "parked-again")
    assert 1 == status_of(installed, "parked-again")["restartCount"]


def is_parked_now(installed: Kubectl, name: str) -> bool | None:
    found = installed.get("pod", name)
    (status,) = found["status"]["containerStatuses"]
    note = found["metadata"]["annotations"].get(keys.ANN_RESTORE_CONTAINER_ID_PREFIX + "main", "")
    return (bool(note) and str(status.get("containerID", "")).endswith(note)) or None


def test_a_wake_that_fails_is_a_cold_start_with_its_reason(installed: Kubectl, run, artifact: str):
    """The checkpoint is changed by hand, so that the pod names one that is not there."""
    parked(installed, "parked-cold")
    installed("annotate", "pod", "parked-cold", "--overwrite", f"{keys.ANN_CHECKPOINT}=none")
    assert 0 == run("wake", "parked-cold").exit_code
    node.await_ready(installed, "parked-cold")
    lines = installed("logs", "parked-cold").splitlines()
    assert lines[1].startswith(control_files.LOG_COLD_START.format(reason="DynamoCheckpoint none"))
    assert AgentReason.CHECKPOINT_NOT_FOUND in notes(installed, "parked-cold")[keys.ANN_RESTORE_REPORT]
    assert 0 == status_of(installed, "parked-cold")["restartCount"]
    why = run("why", "parked-cold")
    assert 3 == why.exit_code, why.output


def test_a_deleted_pod_ends_at_once(installed: Kubectl, run, artifact: str):
    parked(installed, "parked-deleted")
    began = time.monotonic()
    installed("delete", "pod", "parked-deleted", "--grace-period=30")

    assert time.monotonic() - began < 15


def test_a_deployment_keeps_one_parked_that_takes_over(installed: Kubectl, artifact: str, figure):
    """Its checkpoint says so; pods of the same template differ in what the controller makes of them."""
    installed("patch", "dynamocheckpoint", NAME, "--type=merge", "-p", json.dumps({"spec": {"parked": 1}}))
    one = node.pod("x", NAME, **PROBE)
    labels = one["metadata"]["labels"] | {"app": "pair"}
    template = {"metadata": {"labels": labels, "annotations": one["metadata"]["annotations"]}, "spec": one["spec"]}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "pair"}}, "template": template}
    try:
        node.create(
            installed, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "pair"}, "spec": spec}
        )
        (serves,), (waits,) = wait_for(lambda: pair(installed), "one serves, one is parked", node.READY_SECONDS)
        began = time.monotonic()
        installed("delete", "pod", serves, "--wait=false", "--grace-period=1")
        node.await_answer(installed, waits)
        figure(f"the parked worker answers {time.monotonic() - began:.1f} s after the one that served was deleted")
        again = wait_for(lambda: pair(installed), "one serves, another is parked", node.READY_SECONDS)
        assert [waits] == again[0]
        assert serves not in again[1]
        assert installed.items("events", "--field-selector", "reason=ParkedWorkerWoken")
    finally:
        node.remove(installed, "deployment/pair")
        installed("patch", "dynamocheckpoint", NAME, "--type=merge", "-p", json.dumps({"spec": {"parked": None}}))


def pair(installed: Kubectl) -> tuple[list[str], list[str]] | None:
    """Return the names of pods that are ready, and of those that are parked, once there is one of each."""
    found = [
        each for each in installed.items("pods", "-l", "app=pair") if not each["metadata"].get("deletionTimestamp")
    ]
    names = [each["metadata"]["name"] for each in found]
    ready = [name for name in names if node.is_ready(installed, name)]
    stopped = [each["metadata"]["name"] for each in found if each["metadata"]["annotations"].get(STATUS) == "parked"]
    return (ready, stopped) if (1, 1, 2) == (len(ready), len(stopped), len(names)) else None
