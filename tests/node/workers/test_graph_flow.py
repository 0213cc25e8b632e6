"""Graph deployments end to end: the guides' automatic flow, waiting workers, references, and a capture that fails."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.api import keys
from demo.kubectl import Kubectl, wait_for
from tests.support.fixtures import node

EXAMPLES = Path(__file__).parents[3] / "examples"
WORKER = "VllmDecodeWorker"
RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint"


def failing() -> dict[str, Any]:
    """The waiting graph, its capture broken: the workers' own template is whole."""
    body: dict[str, Any] = yaml.safe_load((EXAMPLES / "graphs" / "wait-for-checkpoint.yaml").read_text())
    body["metadata"]["name"] = "broken"
    broken = {"name": "main", "command": ["python3", "-c", "raise SystemExit(3)"]}
    body["spec"]["services"][WORKER]["checkpoint"]["job"] = {"podTemplate": {"spec": {"containers": [broken]}}}
    return body


def one_string() -> dict[str, Any]:
    """The first guide's graph; another manifest of that guide has its name."""
    body: dict[str, Any] = yaml.safe_load((EXAMPLES / "graphs" / "my-llm.yaml").read_text())
    body["metadata"]["name"] = "my-llm-auto"
    return body


@pytest.fixture(scope="module")
def graphs(dynamo_system: Kubectl) -> Kubectl:
    """All graphs at once: their captures share the time."""
    for name in ("vllm-auto-demo.yaml", "wait-for-checkpoint.yaml"):
        dynamo_system("apply", "-f", str(EXAMPLES / "graphs" / name))
    dynamo_system.apply(failing(), one_string())
    return dynamo_system


def pods(kubectl: Kubectl, graph: str, service: str = WORKER) -> list[dict[str, Any]]:
    """The worker's pods, oldest first."""
    return kubectl.pods(f"nvidia.com/selector={graph}-{service.lower()}")


def serving(kubectl: Kubectl, graph: str, count: int, service: str = WORKER) -> list[dict[str, Any]]:
    """The worker's pods once that many of them answer."""

    def look() -> list[dict[str, Any]] | None:
        found = pods(kubectl, graph, service)
        there = len(found) == count and all(node.answer(kubectl, pod["metadata"]["name"]) for pod in found)
        return found if there else None

    return wait_for(look, f"{count} serving workers of {graph}", node.READY_SECONDS)


def first_line(kubectl: Kubectl, pod: dict[str, Any]) -> str:
    return node.first_line(kubectl, pod["metadata"]["name"])


def inspected(kubectl: Kubectl, graph: str, service: str = WORKER) -> list[str]:
    """The guide's inspection command."""
    path = f".status.checkpoints.{service}"
    fields = ("checkpointName", "checkpointID", "ready")
    template = "".join(f'{{{path}.{field}}}{{"\\n"}}' for field in fields)
    return kubectl("get", "dgd", graph, "-o", f"jsonpath={template}").splitlines()


def until_ready(kubectl: Kubectl, graph: str, service: str = WORKER) -> list[str]:
    """Wait until new workers would be restored."""

    def look() -> list[str] | None:
        said = inspected(kubectl, graph, service)
        return said if said[2] == "true" else None

    return wait_for(look, f"the checkpoint of {graph}", node.CAPTURE_SECONDS)


def condition(kubectl: Kubectl, graph: str, kind: str, status: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        entries: list[dict[str, Any]] = kubectl.get("dgd", graph).get("status", {}).get("conditions", [])
        return next((e for e in entries if (e["type"], e["status"]) == (kind, status)), None)

    return wait_for(look, f"condition {kind} {status} of {graph}", node.CAPTURE_SECONDS)


def test_wait_for_checkpoint(graphs: Kubectl):
    """No worker before Ready; then the first one is restored."""
    waiting = condition(graphs, "vllm-wait-demo", "Ready", "False")
    early = pods(graphs, "vllm-wait-demo")
    until_ready(graphs, "vllm-wait-demo")
    (worker,) = serving(graphs, "vllm-wait-demo", 1)

    assert "waiting_for_checkpoint" == waiting["reason"]
    assert [] == early
    assert first_line(graphs, worker).startswith(RESTORED)


def test_the_auto_flow(graphs: Kubectl):
    """The guide's, command by command: cold at first, and after Ready only the new pod is restored."""
    (cold,) = serving(graphs, "vllm-auto-demo", 1)
    name, checkpoint_id, _ = until_ready(graphs, "vllm-auto-demo")
    listed = graphs("get", "dckpt")
    graphs(
        *("patch", "dgd", "vllm-auto-demo", "--type=merge"),
        *("-p", '{"spec":{"services":{"VllmDecodeWorker":{"replicas":2}}}}'),
    )
    found = serving(graphs, "vllm-auto-demo", 2)
    (new,) = [pod for pod in found if pod["metadata"]["uid"] != cold["metadata"]["uid"]]
    (old,) = [pod for pod in found if pod["metadata"]["uid"] == cold["metadata"]["uid"]]

    assert name in listed
    assert f"checkpoint-{checkpoint_id}" == name
    assert first_line(graphs, cold).startswith("ready, token")
    assert first_line(graphs, new) == f"{RESTORED} {checkpoint_id}"
    assert 0 == old["status"]["containerStatuses"][0]["restartCount"]
    assert "restore-shaped" == new["metadata"]["annotations"][keys.ANN_ADMISSION]
    graphs("wait", "--for=condition=Ready", "dgd/vllm-auto-demo", "--timeout=60s")


def test_a_failed_checkpoint_starts_cold(graphs: Kubectl):
    cold = condition(graphs, "broken", "StartedCold", "True")
    (worker,) = serving(graphs, "broken", 1)

    assert "failed" in cold["message"]
    assert first_line(graphs, worker).startswith("ready, token")
    assert "checkpoint-failed" == worker["metadata"]["annotations"][keys.ANN_ADMISSION]


def test_one_string_args_are_captured_with_their_shell(graphs: Kubectl):
    """Seed 000's graph: ``/bin/sh -c`` around the worker, no componentType; a pod made after Ready is restored."""
    _, checkpoint_id, _ = until_ready(graphs, "my-llm-auto", "VllmWorker")
    (cold,) = serving(graphs, "my-llm-auto", 1, "VllmWorker")
    graphs("delete", "pod", cold["metadata"]["name"], "--grace-period=1")
    (new,) = serving(graphs, "my-llm-auto", 1, "VllmWorker")

    assert f"{RESTORED} {checkpoint_id}" == first_line(graphs, new)


def test_checkpoint_ref(graphs: Kubectl):
    """A graph that refers to the automatic checkpoint of another one, by its id; it makes none itself."""
    _, checkpoint_id, _ = until_ready(graphs, "vllm-auto-demo")
    before = {each["metadata"]["name"] for each in graphs.items("dckpt")}
    body = yaml.safe_load((EXAMPLES / "standalone" / "vllm-checkpointref-demo.yaml").read_text())
    body["metadata"]["name"] = "referring"
    del body["spec"]["services"]["Frontend"]
    body["spec"]["services"][WORKER]["checkpoint"]["checkpointRef"] = checkpoint_id
    graphs.apply(body)
    (worker,) = serving(graphs, "referring", 1)

    assert f"{RESTORED} {checkpoint_id}" == first_line(graphs, worker)
    assert before == {each["metadata"]["name"] for each in graphs.items("dckpt")}
    assert checkpoint_id == until_ready(graphs, "referring")[1]


def test_with_the_graph_go_its_checkpoints(graphs: Kubectl):
    name, _, _ = until_ready(graphs, "vllm-wait-demo")
    graphs("delete", "dgd", "vllm-wait-demo", "--wait=true")

    def gone() -> bool | None:
        return name not in {each["metadata"]["name"] for each in graphs.items("dckpt")} or None

    wait_for(gone, f"the end of {name}", node.CAPTURE_SECONDS)
    assert [] == wait_for(lambda: None if (left := pods(graphs, "vllm-wait-demo")) else left, "no pods", 30)
