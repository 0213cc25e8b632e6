"""What waits for a restore, selects by it or counts it, on a real kubelet: condition, label, attempts, failures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.api import Cluster
from contract.api import keys
from contract.api.conditions import condition
from contract.api.reports import Report, read_report
from demo.kubectl import Kubectl, wait_for
from tests.node.test_fallbacks import COLD, RESTORED, artifact_files
from tests.support.fixtures import node

NAME = "policy"
CONDITION = keys.CONDITION_RESTORED


@pytest.fixture(scope="module")
def ready(installed: Kubectl) -> str:
    """The id of a Ready checkpoint."""
    node.create(installed, node.checkpoint(NAME))
    return str(node.phase(installed, NAME, "Ready", "Failed")["status"]["checkpointID"])


@pytest.fixture
def artifact(ready: str, installed: Kubectl, embedded_cluster: Cluster) -> Path:
    """The folder of the checkpoint in storage."""
    claim = installed.get("pvc", "snapshot-pvc")
    return embedded_cluster.folder / "volumes" / str(claim["spec"]["volumeName"]) / ready


@pytest.fixture
def names(request: pytest.FixtureRequest, installed: Kubectl) -> Iterator[list[str]]:
    """Names for this test's pods, which are removed afterwards."""
    stem = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    made = [f"{stem}-{number}" for number in range(5)]
    yield made
    node.remove(installed, *(f"pod/{name}" for name in made), wait=False)


def start(kubectl: Kubectl, name: str, word: str, **annotations: str) -> dict[str, Any]:
    """Create a pod, wait with kubectl until its condition has a status, and until it is Ready; return it."""
    body = node.pod(name, NAME, annotations=annotations, readinessProbe=node.probe())
    node.create(kubectl, body)
    kubectl("wait", f"--for=condition={CONDITION}={word}", f"pod/{name}", f"--timeout={node.READY_SECONDS}s")
    node.await_ready(kubectl, name)
    found: dict[str, Any] = kubectl.get("pod", name)
    return found


def said(pod: dict[str, Any]) -> tuple[str, str]:
    """Reason of the condition, and the label."""
    return (condition(pod, CONDITION) or {})["reason"], pod["metadata"]["labels"][keys.LABEL_OUTCOME]


def report(pod: dict[str, Any]) -> Report:
    found = read_report(pod["metadata"]["annotations"][keys.ANN_RESTORE_REPORT])
    assert found is not None
    return found


def test_a_restored_pod_can_be_waited_for_and_selected(ready: str, installed: Kubectl, names: list[str]):
    pod = start(installed, names[0], "True")
    selected = installed.items("pods", "-l", f"app={NAME},{keys.LABEL_OUTCOME}={keys.OUTCOME_RESTORED}")

    assert ("Restored", keys.OUTCOME_RESTORED) == said(pod)
    assert names[:1] == [each["metadata"]["name"] for each in selected]
    assert node.first_line(installed, names[0]).startswith(RESTORED)


def test_as_many_attempts_as_the_pod_asks_for(installed: Kubectl, artifact: Path, names: list[str]):
    """An artifact that storage does not show may be there a moment later; here it is not."""
    hidden = artifact.with_suffix(".hidden")
    artifact.rename(hidden)
    try:
        pod = start(installed, names[0], "False", **{keys.ANN_ATTEMPTS: "3"})
    finally:
        hidden.rename(artifact)

    assert ("artifact-missing", keys.OUTCOME_COLD) == said(pod)
    assert ("artifact-missing", ("artifact-missing",) * 2) == (report(pod).reason, report(pod).tried)
    assert "attempt 1 failed and was undone" in node.described(installed, "pod", names[0], "RestoreAttemptFailed")


def test_after_three_failures_alike_pods_start_cold_at_once(installed: Kubectl, artifact: Path, names: list[str]):
    """A flipped bit: found each time, tried once each time; a new capture ends it."""
    victim = artifact_files(artifact.parent, artifact.name)[-1]
    whole = victim.read_bytes()
    victim.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    for name in names[:3]:
        pod = start(installed, name, "False", **{keys.ANN_ATTEMPTS: "3"})
        assert ("artifact-corrupt", keys.OUTCOME_COLD) == said(pod)
        assert () == report(pod).tried
    kind = "dynamocheckpoint"
    installed("wait", "--for=condition=RestoresFailing", f"{kind}/{NAME}", f"--timeout={node.READY_SECONDS}s")
    assert "3 restores in a row failed as artifact-corrupt" in node.described(installed, kind, NAME, "Warning")

    assert "restores-failing" == wait_for(lambda: _refused(installed, names[3]), "a pod that is not rewritten", 30)
    node.await_ready(installed, names[3])
    assert not node.first_line(installed, names[3]).startswith((COLD, RESTORED))
    installed("annotate", kind, NAME, f"{keys.ANN_ARTIFACT_VERSION}=2", "--overwrite")
    wait_for(lambda: installed.get(kind, NAME)["status"]["phase"] != "Ready" or None, "the new capture", 30)
    node.phase(installed, NAME, "Ready", "Failed")
    assert ("Restored", keys.OUTCOME_RESTORED) == said(start(installed, names[4], "True"))


def _refused(kubectl: Kubectl, name: str) -> str | None:
    """Create a pod and return its admission; None and no pod while the webhook's copy of the checkpoint is older."""
    node.create(kubectl, node.pod(name, NAME, readinessProbe=node.probe()))
    found: str = kubectl.get("pod", name)["metadata"]["annotations"][keys.ANN_ADMISSION]
    if found != "restore-shaped":
        return found
    node.remove(kubectl, f"pod/{name}")
    return None
