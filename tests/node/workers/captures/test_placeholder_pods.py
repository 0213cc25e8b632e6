"""Placeholders on a real kubelet: they wait for as long as it takes, and are restored in place when asked to."""

import json
import time

import pytest

from contract.api import control_files, keys
from contract.api.states import AgentReason
from demo.kubectl import Kubectl, wait_for
from tests.support.fixtures import node

NAME = "in-place"
LONG = control_files.CLAIM_WINDOW + 7
"""Seconds: longer than a standby that does not wait gives an agent."""
PROBE = {"readinessProbe": node.probe()}


def pass_time(seconds: float) -> None:
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > seconds or None, "time has passed", seconds + 10)


@pytest.fixture(scope="module")
def artifact(installed: Kubectl) -> str:
    """Id of a checkpoint that is Ready."""
    node.create(installed, node.checkpoint(NAME, **PROBE))
    found = node.phase(installed, NAME, "Ready", "Failed")["status"]
    assert "Ready" == found["phase"]
    return str(found["checkpointID"])


def waiting(installed: Kubectl, run, name: str, *words: str) -> None:
    """Make a placeholder, and see that its standby waits."""
    made = run("placeholder", *(words or (NAME,)), "--name", name)
    assert (0, True) == (made.exit_code, "admission=placeholder" in made.stdout), made.output
    assert control_files.LOG_WAITING == wait_for(lambda: started(installed, name), f"{name} runs", node.READY_SECONDS)


def started(installed: Kubectl, name: str) -> str | None:
    status = installed.get("pod", name)["status"].get("containerStatuses") or [{}]
    return node.first_line(installed, name) if "running" in status[0].get("state", {}) else None


def main_status(installed: Kubectl, name: str) -> dict:
    (status,) = installed.get("pod", name)["status"]["containerStatuses"]
    return status


def still_waits(installed: Kubectl, name: str, restarts: int = 0) -> None:
    status = main_status(installed, name)
    assert (False, False, restarts) == (status["ready"], status["started"], status["restartCount"])
    assert [control_files.LOG_WAITING] == installed("logs", name).splitlines()


def restored(installed: Kubectl, name: str) -> dict:
    found = node.await_answer(installed, name)
    node.await_ready(installed, name)
    return found


def test_the_story(installed: Kubectl, run, artifact: str, figure):
    """It waits, longer than the claim window and beyond its agent; then the worker is there with its state."""
    waiting(installed, run, "story")
    pass_time(LONG)
    installed("rollout", "restart", "daemonset/snapshot-agent")
    installed("rollout", "status", "daemonset/snapshot-agent", f"--timeout={node.READY_SECONDS}s")
    still_waits(installed, "story")
    why = run("why", "story", "-o", "json")
    (answer,) = json.loads(why.stdout)["answers"]
    assert (0, "waits", "placeholder") == (why.exit_code, answer["outcome"], answer["code"])

    node.described(installed, "pod", "story", "Placeholder", "snapshotctl restore --pod POD --checkpoint-id ID")

    began = time.monotonic()
    result = run("restore", "--pod", "story", "--checkpoint-id", artifact, "--containers", "main")
    node.await_answer(installed, "story")
    answered = time.monotonic() - began
    node.await_ready(installed, "story")
    figure(f"answers {answered:.1f} s after restore --pod was called, Ready after {time.monotonic() - began:.1f} s")

    assert 0 == result.exit_code, result.output
    assert {"status=submitted", "restore_pod=story", f"checkpoint_id={artifact}"} <= set(result.stdout.splitlines())
    found = restored(installed, "story")
    lines = installed("logs", "story").splitlines()
    assert [control_files.LOG_WAITING, control_files.LOG_RESTORED.format(id=artifact)] == lines[:2]
    installed("wait", "--for=condition=nvidia.com/snapshot-restored", "pod/story", f"--timeout={node.READY_SECONDS}s")
    other = node.pod("story-sibling", NAME, **PROBE)
    node.create(installed, other)
    assert found["token"] == restored(installed, "story-sibling")["token"]
    why = run("why", "story", "-o", "json")
    (answer,) = json.loads(why.stdout)["answers"]
    assert (0, "restored", NAME) == (why.exit_code, answer["outcome"], answer["checkpoint"])
    again = run("restore", "--pod", "story", "--checkpoint-id", artifact)
    assert (1, True) == (again.exit_code, "already-restored" in again.stderr)


def test_an_agent_that_was_away_restores_what_was_named_meanwhile(installed: Kubectl, run, artifact: str):
    waiting(installed, run, "away")
    away = json.dumps({"spec": {"template": {"spec": {"nodeSelector": {"nowhere": "true"}}}}})
    back = json.dumps({"spec": {"template": {"spec": {"nodeSelector": None}}}})
    installed("patch", "daemonset/snapshot-agent", "--type=merge", "-p", away)
    installed("rollout", "status", "daemonset/snapshot-agent", f"--timeout={node.READY_SECONDS}s")
    try:
        notes = {keys.ANN_CHECKPOINT: NAME, keys.ANN_ARTIFACT_VERSION: "1"}
        patch = {"metadata": {"labels": {keys.LABEL_CHECKPOINT_ID: artifact}, "annotations": notes}}
        installed("patch", "pod", "away", "-p", json.dumps(patch))
        pass_time(LONG)
        still_waits(installed, "away")
    finally:
        installed("patch", "daemonset/snapshot-agent", "--type=merge", "-p", back)
        installed("rollout", "status", "daemonset/snapshot-agent", f"--timeout={node.READY_SECONDS}s")
    restored(installed, "away")
    assert control_files.LOG_RESTORED.format(id=artifact) in installed("logs", "away")


def test_a_restore_that_fails_is_a_cold_start_with_its_reason(installed: Kubectl, run, artifact: str):
    """Named by hand, past the command: the agent finds the version that is not there."""
    waiting(installed, run, "cold")
    notes = {keys.ANN_CHECKPOINT: NAME, keys.ANN_ARTIFACT_VERSION: "7"}
    patch = {"metadata": {"labels": {keys.LABEL_CHECKPOINT_ID: artifact}, "annotations": notes}}
    installed("patch", "pod", "cold", "-p", json.dumps(patch))
    restored(installed, "cold")

    lines = installed("logs", "cold").splitlines()
    assert control_files.LOG_WAITING == lines[0]
    assert lines[1].startswith(control_files.LOG_COLD_START.format(reason="the pod was shaped for"))
    assert AgentReason.CHECKPOINT_CHANGED in json.dumps(node.reported(installed, "cold")["metadata"]["annotations"])
    assert 0 == main_status(installed, "cold")["restartCount"]
    again = run("restore", "--pod", "cold", "--checkpoint-id", artifact)
    assert (1, True) == (again.exit_code, "already-started" in again.stderr)
    why = run("why", "cold")
    assert (3, True) == (why.exit_code, AgentReason.CHECKPOINT_CHANGED in why.stdout), why.output


def test_a_container_that_is_started_again_waits_again(installed: Kubectl, run, artifact: str):
    """Before a checkpoint is named, and after: then it is restored once more."""
    waiting(installed, run, "again")
    installed("exec", "again", "--", "/bin/sh", "-c", "kill -TERM 1")
    wait_for(lambda: main_status(installed, "again")["restartCount"] == 1 or None, "restarted", node.READY_SECONDS)
    wait_for(lambda: started(installed, "again"), "it runs again", node.READY_SECONDS)
    still_waits(installed, "again", restarts=1)
    assert 0 == run("restore", "--pod", "again", "--checkpoint-id", artifact).exit_code
    first = restored(installed, "again")
    assert 1 == main_status(installed, "again")["restartCount"]
    installed("exec", "again", "--", "/bin/sh", "-c", "kill -KILL -1")
    wait_for(lambda: main_status(installed, "again")["restartCount"] == 2 or None, "restarted", node.READY_SECONDS)
    assert first["token"] == restored(installed, "again")["token"]


def test_a_placeholder_of_a_manifest(installed: Kubectl, run, artifact: str, tmp_path):
    """What is printed is what is created, and its pod takes the checkpoint of a like worker."""
    path = tmp_path / "pod.yaml"
    spec = {"terminationGracePeriodSeconds": 1, "containers": [node.container(**PROBE)]}
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}))
    printed = run("placeholder", "--manifest", str(path), "--name", "by-manifest", "-o", "yaml")
    assert 0 == printed.exit_code, printed.output
    installed("create", "-f", "-", stdin=printed.stdout)
    wait_for(lambda: started(installed, "by-manifest"), "it runs", node.READY_SECONDS)
    result = run("restore", "--pod", "by-manifest", "--checkpoint-id", artifact)
    assert 0 == result.exit_code, result.output
    restored(installed, "by-manifest")
    assert control_files.LOG_RESTORED.format(id=artifact) in installed("logs", "by-manifest")


def test_probes_that_have_used_up_the_pids_are_in_no_ones_way(installed: Kubectl, run, artifact: str):
    """Each exec takes a pid: after hours of waiting they have those that the worker must have."""
    waiting(installed, run, "pids")
    many = "i=0; while [ $i -lt 980 ]; do /bin/true; i=$((i+1)); done; sleep 600 >/dev/null 2>&1 & echo $!"
    taken = int(installed("exec", "pids", "--", "/bin/sh", "-c", many))
    assert taken > 900
    installed("exec", "pids", "--", "/bin/sh", "-c", f"kill {taken}")
    assert 0 == run("restore", "--pod", "pids", "--checkpoint-id", artifact).exit_code
    restored(installed, "pids")
    last = int(installed("exec", "pids", "--", "/bin/sh", "-c", "echo $$"))
    assert last < control_files.FIRST_WORKER_PID


def test_a_deleted_placeholder_ends_at_once(installed: Kubectl, run, artifact: str):
    waiting(installed, run, "deleted")
    began = time.monotonic()
    installed("delete", "pod", "deleted", "--grace-period=30")

    assert time.monotonic() - began < 15


def test_other_pods_are_refused_and_stay_as_they_are(installed: Kubectl, run, artifact: str):
    node.create(installed, node.pod("plain", "no-such-checkpoint", **PROBE))
    before = restored(installed, "plain")
    result = run("restore", "--pod", "plain", "--checkpoint-id", artifact)
    assert (1, True) == (result.exit_code, "not-a-placeholder" in result.stderr), result.output
    assert "started by itself at 20" in result.stderr
    assert before["token"] == node.await_answer(installed, "plain")["token"]
    assert keys.LABEL_CHECKPOINT_ID not in installed.get("pod", "plain")["metadata"]["labels"]
