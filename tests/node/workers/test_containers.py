"""Several containers in a pod, on a real kubelet with real CRIU: the very files of examples/containers."""

from pathlib import Path
from typing import Any

import pytest

from contract.api import keys
from demo.kubectl import Kubectl, wait_for
from tests.support.fixtures import node

EXAMPLES = Path(__file__).parents[3] / "examples" / "containers"
RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def capture(installed: Kubectl) -> Json:
    """The capture pod, once the checkpoint is Ready."""
    installed("apply", "-f", str(EXAMPLES / "checkpoint.yaml"))
    status = node.phase(installed, "engine", "Ready", "Failed")["status"]
    assert "Ready" == status["phase"], status
    (pod,) = installed.items("pods", "-l", f"{keys.LABEL_JOB_NAME}={status['jobName']}")
    return pod


def test_the_job_completes_although_sidecars_never_end(capture: Json):
    spec, notes = capture["spec"], capture["metadata"]["annotations"]
    assert ["engine"] == [each["name"] for each in spec["containers"]]
    assert ["fetch", "logs", "metrics"] == [each["name"] for each in spec["initContainers"]]
    assert "Succeeded" == capture["status"]["phase"]
    assert ("false", "disabled") == (notes["sidecar.istio.io/inject"], notes["linkerd.io/inject"])


def tokens(kubectl: Kubectl, container: str) -> list[str]:
    """What the engine said of itself, line by line."""
    lines = kubectl("logs", "two-engines", "-c", container).splitlines()
    return [line.split()[1] for line in lines if line.startswith("engine ")]


def own_rank(kubectl: Kubectl, container: str) -> list[str]:
    """What the engine found in its environment once it was restored."""
    lines = kubectl("logs", "two-engines", "-c", container).splitlines()
    return [line.split()[1] for line in lines if line.startswith("rank ")]


def test_two_targets_are_both_restored_and_the_rest_runs_beside_them(installed: Kubectl, capture: Json):
    installed("apply", "-f", str(EXAMPLES / "two-engines.yaml"))
    node.await_ready(installed, "two-engines")
    engines = ("engine-0", "engine-1")
    said = [wait_for(lambda name=name: tokens(installed, name) or None, f"{name} speaks", 30) for name in engines]
    for name in engines:
        pod = node.reported(installed, "two-engines", keys.ANN_RESTORE_STATUS_PREFIX + name)

    for rank, name in enumerate(engines):
        wait_for(lambda name=name, rank=rank: own_rank(installed, name) == [str(rank)], f"the rank of {name}", 30)
    assert 1 == len({token for found in said for token in found}), "one process, restored twice"
    for name in engines:
        assert installed("logs", "two-engines", "-c", name).startswith(RESTORED)
        assert "completed" == pod["metadata"]["annotations"][keys.ANN_RESTORE_STATUS_PREFIX + name]
    beside = {each["name"]: each["state"] for each in pod["status"]["initContainerStatuses"]}
    assert "Completed" == beside["fetch"]["terminated"]["reason"]
    assert "running" in beside["logs"]
    assert ["sleep", "infinity"] == next(
        each["command"] for each in pod["spec"]["containers"] if each["name"] == "metrics"
    )


def test_a_pod_that_shares_its_processes_starts_cold_and_says_why(installed: Kubectl, capture: Json):
    installed("apply", "-f", str(EXAMPLES / "refused.yaml"))
    node.await_ready(installed, "refused")
    pod = installed.get("pod", "refused")

    assert "pod-unsupported" == pod["metadata"]["annotations"][keys.ANN_ADMISSION]
    assert ["sleep", "infinity"] == pod["spec"]["containers"][0]["command"]
