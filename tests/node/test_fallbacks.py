"""Whatever goes wrong ends in a cold start: Ready, one worker, a reason, never a dead pod."""

import contextlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cluster.api import Cluster
from contract.api import keys
from contract.remedies.agent import AGENT
from demo.kubectl import CommandError, Kubectl, wait_for
from demo.platform import Platform
from snapshotctl.__main__ import main
from tests.support.fixtures import node

NAME = "tiny"
COLD = "SNAPSHOT_COLD_START: Falling back to cold start:"
LATER = 5.0
"""Seconds beyond a plain start."""
RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint"


@pytest.fixture(scope="module")
def ready(installed: Kubectl) -> str:
    """The id of a Ready checkpoint of the small worker."""
    node.create(installed, node.checkpoint(NAME))
    return str(node.phase(installed, NAME, "Ready", "Failed")["status"]["checkpointID"])


@pytest.fixture
def store(installed: Kubectl, embedded_cluster: Cluster) -> Path:
    """The checkpoint volume, as the host sees it."""
    claim = installed.get("pvc", "snapshot-pvc")
    return embedded_cluster.folder / "volumes" / str(claim["spec"]["volumeName"])


@pytest.fixture
def pod_name(request: pytest.FixtureRequest, installed: Kubectl) -> Iterator[str]:
    """A name for this test's pod, which is removed afterwards."""
    name = f"tiny-{abs(hash(request.node.name)) % 10**8}"
    yield name
    node.remove(installed, f"pod/{name}", wait=False)


@pytest.fixture(scope="class")
def no_agent(ready: str, installed: Kubectl) -> Iterator[None]:
    """No agent runs anywhere, once there is a checkpoint."""
    del ready
    away = '{"spec":{"template":{"spec":{"nodeSelector":{"no":"where"}}}}}'
    back = '{"spec":{"template":{"spec":{"nodeSelector":null}}}}'
    installed("patch", "daemonset/snapshot-agent", "--type=merge", "-p", away)
    agents = f"{keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}"
    wait_for(lambda: not installed.items("pods", "-l", agents) or None, "the agent gone", 60)
    yield
    installed("patch", "daemonset/snapshot-agent", "--type=merge", "-p", back)
    installed("rollout", "status", "daemonset/snapshot-agent", "--timeout=60s")


def artifact_files(store: Path, checkpoint_id: str) -> list[Path]:
    """All files of the artifact's only version, largest last."""
    found = [path for path in (store / checkpoint_id / "versions" / "1").rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_size)


def start(kubectl: Kubectl, name: str, **fields) -> str:
    """Create a restore pod, wait until it serves and is Ready; return its first log line."""
    node.create(kubectl, node.pod(name, NAME, readinessProbe=node.probe(), **fields))
    node.await_answer(kubectl, name)
    node.await_ready(kubectl, name)
    return node.first_line(kubectl, name)


def test_a_worker_is_restored(ready: str, installed: Kubectl, pod_name: str):
    """The ground that the failures below stand on."""
    assert start(installed, pod_name).startswith(RESTORED)


def test_a_flipped_bit_ends_in_a_cold_start(ready: str, installed: Kubectl, store: Path, pod_name: str):
    """One bit in the middle of the largest file: found before CRIU sees it."""
    victim = artifact_files(store, ready)[-1]
    whole = victim.read_bytes()
    spot = random.Random(7).randrange(len(whole))
    victim.write_bytes(whole[:spot] + bytes([whole[spot] ^ 1]) + whole[spot + 1 :])
    try:
        line = start(installed, pod_name)
    finally:
        victim.write_bytes(whole)

    assert line.startswith(COLD)
    assert node.workers(installed, pod_name) == 1


def seconds_to_ready(kubectl: Kubectl, body: dict[str, Any]) -> float:
    """Create a pod; return how long it took until it was Ready."""
    begun = time.monotonic()
    node.create(kubectl, body)
    node.await_ready(kubectl, body["metadata"]["name"])
    return time.monotonic() - begun


def test_a_fallback_is_soon_and_explained(
    ready: str, installed: Kubectl, platform: Platform, store: Path, pod_name: str, figure
):
    """Beside a plain start of the same minute: a pod that nobody shapes."""
    plain = node.pod(f"{pod_name}-plain", NAME, readinessProbe=node.probe())
    del plain["metadata"]["labels"][keys.LABEL_RESTORE]
    usual = seconds_to_ready(installed, plain)
    hidden = store / f"{ready}.hidden"
    (store / ready).rename(hidden)
    try:
        fallback = seconds_to_ready(installed, node.pod(pod_name, NAME, readinessProbe=node.probe()))
    finally:
        hidden.rename(store / ready)
        node.remove(installed, f"pod/{pod_name}-plain", wait=False)
    node.reported(installed, pod_name)
    where = ["--kubeconfig", str(platform.kubeconfig), "-n", installed.namespace, "-o", "json"]
    said = CliRunner().invoke(main, ["why", pod_name, *where])
    (answer,) = json.loads(said.stdout)["answers"]

    figure(f"Ready in {fallback:.1f} s, plain in {usual:.1f} s")
    assert fallback - usual < LATER
    assert ("starts-cold", "artifact-missing") == (answer["outcome"], answer["code"])
    assert AGENT["artifact-missing"].remedy.replace("NAME", f"{NAME} -n {installed.namespace}") in said.stdout


def test_a_changed_manifest_ends_in_a_cold_start(ready: str, installed: Kubectl, store: Path, pod_name: str):
    """The manifest must be the one that the DynamoCheckpoint names, however well it fits its files."""
    manifest = store / ready / "versions" / "1" / "manifest.yaml"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b"\n")
    try:
        line = start(installed, pod_name)
    finally:
        manifest.write_bytes(whole)

    assert line.startswith(COLD)


def test_a_missing_artifact_ends_in_a_cold_start(ready: str, installed: Kubectl, store: Path, pod_name: str):
    hidden = store / f"{ready}.hidden"
    (store / ready).rename(hidden)
    try:
        line = start(installed, pod_name)
    finally:
        hidden.rename(store / ready)

    assert line.startswith(COLD)


def test_a_checkpoint_that_went_while_the_pod_waited_costs_no_wait(installed: Kubectl, pod_name: str):
    """The agent says that there is nothing to restore; without it standby would give another reason, after its wait."""
    name = "tiny-gone"
    node.create(installed, node.checkpoint(name))
    node.phase(installed, name, "Ready")
    held = node.pod(pod_name, name, readinessProbe=node.probe())
    held["spec"]["schedulingGates"] = [{"name": "example.com/hold"}]
    node.create(installed, held)
    installed("delete", "dynamocheckpoint", name, "--wait")
    installed("patch", f"pod/{pod_name}", "--type=merge", "-p", '{"spec":{"schedulingGates":null}}')
    node.await_answer(installed, pod_name)
    line = node.first_line(installed, pod_name)
    report = json.loads(node.reported(installed, pod_name)["metadata"]["annotations"][keys.ANN_RESTORE_REPORT])

    assert line.startswith(COLD)
    assert f"DynamoCheckpoint {name} does not exist any more" in line
    assert ("failed", "checkpoint-not-found") == (report["outcome"], report["reason"])


@pytest.mark.usefixtures("no_agent")
class TestWithoutAnAgent:
    def test_a_pod_starts_cold(self, installed: Kubectl, pod_name: str):
        line = start(installed, pod_name)

        assert line.startswith(COLD)
        assert "no agent claimed" in line

    def test_describing_the_pod_says_so(self, installed: Kubectl, pod_name: str):
        """No agent is there to say it, so the controller does."""
        start(installed, pod_name)
        selector = f"reason=AgentSilent,involvedObject.name={pod_name}"

        def look() -> list[str] | None:
            return [each["message"] for each in installed.items("events", "--field-selector", selector)] or None

        (message,) = wait_for(look, "the Event", node.READY_SECONDS)
        assert "No agent has said anything of the pod" in message
        assert installed.get("pod", pod_name)["spec"]["nodeName"] in message

    def test_a_cold_sdk_worker_does_not_take_itself_for_a_source(self, installed: Kubectl, pod_name: str):
        """None of the variables that would make it wait for a snapshot is left."""
        start(installed, pod_name)

        assert node.await_answer(installed, pod_name)["managed"] == []

    def test_a_worker_with_no_probe_becomes_ready(self, installed: Kubectl, pod_name: str):
        assert without_probe(installed, pod_name).startswith(COLD)


def without_probe(kubectl: Kubectl, name: str) -> str:
    """The startup gate opens in both cases, though the worker itself knows nothing of it."""
    node.create(kubectl, node.pod(name, NAME))
    node.await_answer(kubectl, name)
    node.await_ready(kubectl, name)
    return node.first_line(kubectl, name)


def test_a_restored_worker_with_no_probe_becomes_ready(ready: str, installed: Kubectl, pod_name: str):
    assert without_probe(installed, pod_name).startswith(RESTORED)


def test_a_restarted_container_is_not_fooled_by_its_predecessors_files(ready: str, installed: Kubectl, pod_name: str):
    """The control volume outlives the container; the new one is restored or started anew, and serves."""
    start(installed, pod_name)
    before = node.await_answer(installed, pod_name)
    kill = f"import os,signal;os.kill({before['pid']},signal.SIGKILL)"
    with contextlib.suppress(CommandError):  # the command ends with the container that it ends
        installed("exec", pod_name, "-c", "main", "--", "python3", "-c", kill)

    def restarted() -> int | None:
        statuses = installed.get("pod", pod_name)["status"]["containerStatuses"]
        return statuses[0]["restartCount"] or None

    wait_for(restarted, "a restart", 60)
    node.await_answer(installed, pod_name)
    node.await_ready(installed, pod_name)

    assert node.first_line(installed, pod_name).startswith((RESTORED, COLD))
    assert node.workers(installed, pod_name) == 1


def test_an_agent_killed_while_it_restores_ends_in_one_worker(
    installed: Kubectl, embedded_cluster: Cluster, pod_name: str
):
    """A larger worker, so that the kill lands in the middle of the restore."""
    big = "tiny-big"
    environment = [{"name": "BLOCK_MIB", "value": "512"}]
    node.create(installed, node.checkpoint(big, env=environment))
    node.phase(installed, big, "Ready")
    node.create(installed, node.pod(pod_name, big, env=environment, readinessProbe=node.probe()))
    node.kill_agent_at(embedded_cluster, "criu restore")
    node.await_answer(installed, pod_name)
    node.await_ready(installed, pod_name)

    assert node.workers(installed, pod_name) == 1
    assert node.first_line(installed, pod_name).startswith((RESTORED, COLD))


def test_an_agent_killed_while_it_captures_never_makes_the_checkpoint_ready(
    installed: Kubectl, embedded_cluster: Cluster, store: Path
):
    """The dump is cut short: Failed with a message, and nothing published."""
    name = "tiny-cut"
    node.create(installed, node.checkpoint(name, env=[{"name": "BLOCK_MIB", "value": "512"}]))
    node.kill_agent_at(embedded_cluster, "criu dump")
    found = node.phase(installed, name, "Ready", "Failed")

    assert found["status"]["phase"] == "Failed"
    assert found["status"]["message"]
    assert not (store / found["status"]["checkpointID"] / "versions" / "1").exists()


def test_a_service_of_the_worker_never_lists_the_capture_pod(installed: Kubectl):
    """The capture pod keeps the template's labels and never becomes Ready."""
    name = "tiny-served"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    node.create(installed, service)
    node.create(installed, node.checkpoint(name))
    listed: list[str] = []

    def done() -> str | None:
        for each in installed.items("endpointslices", "-l", f"kubernetes.io/service-name={name}"):
            listed.extend(
                str(end) for end in each.get("endpoints") or [] if end.get("conditions", {}).get("ready") is not False
            )
        return installed.get("dynamocheckpoint", name).get("status", {}).get("phase") in {"Ready", "Failed"} or None

    wait_for(done, f"checkpoint {name}", node.CAPTURE_SECONDS)

    assert listed == []
    assert installed.get("dynamocheckpoint", name)["status"]["phase"] == "Ready"


def test_no_file_of_the_placeholder_runs(installed: Kubectl, pod_name: str):
    """criu, tar, ld.so and iptables in the image are traps; the restored worker finds none of them sprung."""
    name = "tiny-traps"
    trap = "\n".join(
        [
            "import os",
            "for tool in ('criu', 'tar', 'ld.so', 'iptables-restore', 'sh'):",
            "    path = '/usr/local/bin/' + tool",
            "    open(path, 'w').write('#!/usr/bin/python3\\nopen(\"/tmp/sprung\", \"a\").write(__file__)\\n')",
            "    os.chmod(path, 0o755)",
            node.WORKER,
        ]
    )
    user = {"runAsUser": 0}
    node.create(installed, node.checkpoint(name, command=["python3", "-c", trap], securityContext=user))
    node.phase(installed, name, "Ready", "Failed")
    body = node.pod(name=pod_name, checkpoint_name=name, command=["python3", "-c", trap], securityContext=user)
    node.create(installed, body)
    node.await_answer(installed, pod_name)
    sprung = "import os;print(os.path.exists('/tmp/sprung'))"

    assert node.first_line(installed, pod_name).startswith(RESTORED)
    assert installed("exec", pod_name, "-c", "main", "--", "python3", "-c", sprung).strip() == "False"
