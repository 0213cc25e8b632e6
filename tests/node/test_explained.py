"""The command line beside a whole cluster: what it says of pods is what really became of them."""

import json
from pathlib import Path
from typing import Any

from click.testing import Result

from contract.api import keys
from demo.kubectl import Kubectl, wait_for
from tests.support.fixtures import node

ROOT = Path(__file__).parents[2]
NAME = "explained"
AUTO = "explained-auto"


def deployment() -> dict[str, Any]:
    """A Deployment of the small worker with the one label."""
    labels = {"app": AUTO, keys.LABEL_RESTORE: keys.RESTORE_AUTO}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [node.container(readinessProbe=node.probe())],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": AUTO},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": AUTO}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def names(kubectl: Kubectl) -> set[str]:
    found = kubectl.items("pods", "-l", f"app={AUTO},!{keys.LABEL_IS_SOURCE}")
    return {pod["metadata"]["name"] for pod in found}


def answers(result: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)["answers"]
    return found


def test_a_workload_from_its_first_cold_pod_to_restored_ones(installed: Kubectl, run: Any):
    node.create(installed, deployment())
    (cold,) = wait_for(lambda: names(installed) or None, "the first pod", node.READY_SECONDS)
    first = run("why", cold)
    assert 3 == first.exit_code
    assert "starts cold: checkpoint-requested" in first.stdout

    def ready() -> Any:
        items = json.loads(run("get", "-o", "json").stdout)["items"]
        found = [each for each in items if each["workload"] == f"Deployment/{AUTO}"]
        return found if [each["phase"] for each in found] == ["Ready"] else None

    (made,) = wait_for(ready, "its checkpoint", node.CAPTURE_SECONDS)
    assert 0 == run("why", f"deployment/{AUTO}").exit_code
    installed("scale", f"deployment/{AUTO}", "--replicas=2")
    (warm,) = wait_for(lambda: names(installed) - {cold} or None, "the second pod", node.READY_SECONDS)
    node.await_ready(installed, warm)

    def restored() -> Any:
        (answer,) = answers(run("why", warm, "-o", "json"))
        return answer if answer["outcome"] == "restored" else None

    answer = wait_for(restored, "the agent's word on the pod", node.READY_SECONDS)
    assert (made["name"], "restore-shaped") == (answer["checkpoint"], answer["code"])
    assert node.first_line(installed, warm).startswith("SNAPSHOT_RESTORED:")
    again = run("why", cold)
    assert "now           restore-shaped" in again.stdout
    tree = run("tree").stdout
    assert tree.index(f"Deployment/{AUTO}") < tree.index(made["name"]) < tree.index(f"{warm}  restored")
    words = (warm, made["versions"][0]["manifestDigest"], "CheckpointReady")

    def described() -> bool | None:
        told = run("describe", made["name"]).stdout
        return all(word in told for word in words) or None

    wait_for(described, f"{words} in the description", node.READY_SECONDS)
    run("get"), run("get", "pods"), run("why", warm)


def test_a_pod_manifest_is_captured_and_restored(installed: Kubectl, run: Any, tmp_path: Path):
    """The lower-level way of the guides: one file for both."""
    path = tmp_path / "worker-pod.yaml"
    spec = {"terminationGracePeriodSeconds": 1, "containers": [node.container()]}
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "manual"}, "spec": spec}))
    result = run("checkpoint", "--manifest", str(path), "--container", "main", "--timeout", "120")
    assert 0 == result.exit_code, result.output
    facts = dict(line.split("=", 1) for line in result.stdout.splitlines())
    fields = ["status", "namespace", "name", "checkpoint_job", "checkpoint_id", "checkpoint_location"]
    assert fields == list(facts)
    made = run("restore", "--manifest", str(path), "--checkpoint-id", facts["checkpoint_id"], "--containers", "main")
    assert (0, True) == (made.exit_code, "admission=restore-shaped" in made.stdout), made.output
    node.await_answer(installed, "manual")
    assert node.first_line(installed, "manual").startswith("SNAPSHOT_RESTORED:")
    again = run("restore", "--pod", "manual", "--checkpoint-id", facts["checkpoint_id"])
    assert (1, True) == (again.exit_code, "not-a-placeholder" in again.stderr)


def test_an_artifact_is_taken_over(installed: Kubectl, run: Any):
    node.create(installed, node.checkpoint(NAME))
    digest = node.phase(installed, NAME, "Ready", "Failed")["status"]["manifestDigest"]
    installed("delete", "dynamocheckpoint", NAME)
    node.create(installed, node.checkpoint(NAME))
    failed = node.phase(installed, NAME, "Failed")["status"]
    assert "snapshotctl adopt" in failed["message"]
    result = run("adopt", NAME, "--version", "1", "--timeout", "120")
    assert 0 == result.exit_code, result.output
    facts = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert ("completed", "1", digest) == (facts["status"], facts["version"], facts["manifest_digest"])
    missing = run("adopt", NAME, "--version", "9", "--timeout", "120")
    assert (1, "status=failed") == (missing.exit_code, missing.stdout.splitlines()[0])
    assert "artifact-missing" in missing.stderr
