"""Workers in pods of the shapes that users have: volumes by sub-path, sidecars, hooks, and every hardening at once."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from cluster.api import Cluster
from contract.api import keys
from contract.api.states import Admission, AgentReason
from demo.kubectl import CommandError, Kubectl, wait_for
from tests.support.builders.pod_shapes import ON_THE_NODE, OTHERS, SHAPES
from tests.support.fixtures import node

RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint"
HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")

Json = dict[str, Any]

OBJECTS = (
    {"kind": "ConfigMap", "metadata": {"name": "shape-settings"}, "data": {"settings.txt": "first value"}},
    {"kind": "Secret", "metadata": {"name": "shape-secret"}, "stringData": {"KEY": "first"}},
)


@pytest.fixture(scope="module")
def captured(installed: Kubectl) -> Iterator[Kubectl]:
    """A checkpoint of each shape, captured at the same time; then the secret changes."""
    for made in OBJECTS:
        node.create(installed, {"apiVersion": "v1"} | made)
    for name, shape in (SHAPES | OTHERS).items():
        node.create(installed, shape.checkpoint(f"shape-{name}"))
    for name in SHAPES | OTHERS:
        node.phase(installed, f"shape-{name}", "Ready", "Failed")
    installed("patch", "secret", "shape-secret", "-p", '{"stringData": {"KEY": "second"}}')
    yield installed
    node.remove(installed, *(f"dynamocheckpoint/shape-{name}" for name in SHAPES | OTHERS), wait=False)


def token_of(kubectl: Kubectl, name: str) -> str:
    """Return the token of the worker that was captured."""
    status = kubectl.get("dynamocheckpoint", name)["status"]
    assert status["phase"] == "Ready", status["message"]
    lines = kubectl("logs", f"job/{status['jobName']}", "-c", "main").splitlines()
    return next(line.split()[1] for line in lines if line.startswith("token "))


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_restored_as_it_was(captured: Kubectl, name: str):
    token = token_of(captured, f"shape-{name}")
    node.create(captured, SHAPES[name].pod(f"shape-{name}", f"shape-{name}"))
    said = node.await_answer(captured, f"shape-{name}")

    assert node.first_line(captured, f"shape-{name}").startswith(RESTORED)
    assert {"token": token} | SHAPES[name].said == said


def test_an_open_file_by_sub_path_may_not_change(captured: Kubectl):
    """Another one of the same length, in which the worker would read on."""
    captured("patch", "configmap", "shape-settings", "-p", '{"data": {"settings.txt": "other value"}}')
    node.create(captured, SHAPES["sub-paths"].pod("shape-changed", "shape-sub-paths"))
    said = node.await_answer(captured, "shape-changed")
    report = node.reported(captured, "shape-changed")["metadata"]["annotations"][keys.ANN_RESTORE_REPORT]

    assert [5, "other value"] == said["settings"]
    assert AgentReason.VOLUME_FILE_CHANGED in report
    assert token_of(captured, "shape-sub-paths") != said["token"]


def status_of(kubectl: Kubectl, pod: str, container: str) -> Json:
    """Return the status of one of a pod's containers."""
    status = kubectl.get("pod", pod)["status"]
    every = [*status["containerStatuses"], *status.get("initContainerStatuses", ())]
    return next(each for each in every if each["name"] == container)


def test_what_ends_beside_the_worker_does_not_matter(captured: Kubectl):
    """Both others were started again meanwhile, and a sidecar ships what the restored worker writes."""
    name = "shape-sidecars"
    token = token_of(captured, name)
    for container in ("failing", "failing-sidecar"):
        wait_for(lambda of=container: status_of(captured, name, of)["restartCount"] or None, f"{container} again", 60)
    said = node.await_answer(captured, name)
    wait_for(
        lambda: f"asked {token}" in captured("logs", name, "-c", "shipper") or None, "the worker's line, shipped", 30
    )

    assert token == said["token"]
    assert 0 == status_of(captured, name, "main")["restartCount"]


def test_a_restored_worker_says_why_it_ends_and_its_hooks_run(captured: Kubectl, embedded_cluster: Cluster):
    name = "shape-hooks"
    token = token_of(captured, name)
    with suppress(CommandError):  # it ends without an answer
        captured("get", "--raw", f"/api/v1/namespaces/{captured.namespace}/pods/{name}:8000/proxy/end")
    wait_for(lambda: status_of(captured, name, "main")["restartCount"] or None, "the worker again", 60)
    ended = status_of(captured, name, "main")["lastState"]["terminated"]
    again = node.await_answer(captured, name)
    line = node.first_line(captured, name)
    captured("delete", "pod", name)
    left = {each: embedded_cluster.node(1).run("cat", f"{ON_THE_NODE}/{each}") for each in ("pre-stop", "terminated")}

    assert (3, "it was asked to end") == (ended["exitCode"], ended.get("message"))
    assert line.startswith(RESTORED)
    assert {"token": token} | SHAPES["hooks"].said == again
    assert {"pre-stop": "ran\n", "terminated": token} == left


def test_a_termination_log_with_words_is_refused_by_name(captured: Kubectl):
    """The new pod has an empty one."""
    status = captured.get("dynamocheckpoint", "shape-log")["status"]

    assert "Failed" == status["phase"]
    assert f"at /dev/termination-log: /dev/termination-log ({AgentReason.VOLUME_WRITTEN})" in status["message"]


def test_an_open_file_with_the_address_of_its_pod_is_a_cold_start_by_name(captured: Kubectl):
    node.create(captured, OTHERS["hosts"].pod("shape-hosts", "shape-hosts"))
    node.await_answer(captured, "shape-hosts")
    report = node.reported(captured, "shape-hosts")["metadata"]["annotations"][keys.ANN_RESTORE_REPORT]

    assert AgentReason.VOLUME_FILE_CHANGED in report
    assert "/etc/hosts, which the captured worker has open" in node.first_line(captured, "shape-hosts")


@pytest.mark.parametrize("name", HOST_FIELDS)
def test_namespaces_that_are_shared_are_refused_by_name(captured: Kubectl, name: str):
    """A pod starts as it is, and a checkpoint fails."""
    pod = node.pod("shape-host", "shape-environment")
    pod["spec"][name] = True
    made = json.loads(captured("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod)))
    checkpoint = node.checkpoint(f"shape-{name.lower()}")
    checkpoint["spec"]["job"]["podTemplateSpec"]["spec"][name] = True
    node.create(captured, checkpoint)
    status = node.phase(captured, f"shape-{name.lower()}", "Ready", "Failed")["status"]

    assert Admission.POD_UNSUPPORTED == made["metadata"]["annotations"][keys.ANN_ADMISSION]
    assert pod["spec"]["containers"][0]["command"] == made["spec"]["containers"][0]["command"]
    assert "Failed" == status["phase"]
    assert f"spec.{name}" in status["message"]
