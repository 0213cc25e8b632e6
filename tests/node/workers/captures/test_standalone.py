"""The guides' standalone checkpoints: the manifests of examples/standalone, waited for and looked at as documented."""

from pathlib import Path

import pytest

from demo.kubectl import Kubectl, wait_for
from tests.support.fixtures import node

EXAMPLES = Path(__file__).parents[4] / "examples" / "standalone"
QWEN = "qwen3-06b-bf16"
QWEN_ID = "4da999bc6c673b97"
LLAMA = "e5962d34ba272638"
TIMEOUT = f"--timeout={node.CAPTURE_SECONDS}s"


@pytest.fixture(scope="module")
def ready(dynamo_system: Kubectl) -> Kubectl:
    """Both checkpoints, captured at the same time."""
    for name in ("qwen3-checkpoint.yaml", "complete-checkpoint.yaml"):
        dynamo_system("apply", "-f", str(EXAMPLES / name))
    for name in (QWEN, LLAMA):
        node.phase(dynamo_system, name, "Ready", "Failed")
    return dynamo_system


def restored(kubectl: Kubectl, component: str, count: int) -> list[str]:
    """Names of a service's pods, once that many of them serve, all restored."""

    def serving() -> list[str] | None:
        names = [pod["metadata"]["name"] for pod in kubectl.pods(f"nvidia.com/selector={component}")]
        return names if len(names) == count and all(node.answer(kubectl, name) for name in names) else None

    names = wait_for(serving, f"{count} serving pods of {component}", node.READY_SECONDS)
    for name in names:
        assert node.first_line(kubectl, name).startswith("SNAPSHOT_RESTORED: container restored from checkpoint")
    return names


def test_the_guides_checkpoint(ready: Kubectl):
    """Seed 001, steps 4 and 5."""
    listed = ready(
        *("get", "dckpt", QWEN, "-o"),
        "custom-columns=NAME:.metadata.name,CHECKPOINT_ID:.status.checkpointID,PHASE:.status.phase",
    )
    ready("wait", "--for=jsonpath={.status.phase}=Ready", f"dynamocheckpoint/{QWEN}", TIMEOUT)
    ready("wait", "--for=condition=Ready", f"dynamocheckpoint/{QWEN}", TIMEOUT)
    status = ready.get("dckpt", QWEN)["status"]

    assert [["NAME", "CHECKPOINT_ID", "PHASE"], [QWEN, QWEN_ID, "Ready"]] == [
        line.split() for line in listed.splitlines()
    ]
    assert (QWEN_ID, QWEN_ID, f"checkpoint-job-{QWEN_ID}-1") == (
        status["checkpointID"],
        status["identityHash"],
        status["jobName"],
    )
    assert status["createdAt"]


def test_the_complete_example(ready: Kubectl):
    """Seed 000: the checkpoint, listed and described; then a graph that refers to it, both of its workers restored."""
    columns, row = ready("get", "dckpt", LLAMA).splitlines()
    described = ready("describe", "dckpt", LLAMA)
    ready("apply", "-f", str(EXAMPLES / "complete-graph.yaml"))
    restored(ready, "my-llm-vllmworker", 2)
    found = ready.get("dgd", "my-llm")["status"]["checkpoints"]["VllmWorker"]

    assert ["NAME", "MODEL", "BACKEND", "PHASE", "CHECKPOINTID", "AGE"] == columns.split()
    assert [LLAMA, "meta-llama/Meta-Llama-3-8B-Instruct", "vllm", "Ready"] == row.split()[:4]
    for word in ("Phase:", "Identity Hash:", "Location:", "Storage Type:", "Created At:"):
        assert word in described
    assert (LLAMA, True) == (found["checkpointName"], found["ready"])


def test_the_referring_graph_of_the_guide(ready: Kubectl):
    """Seed 001, step 6: the worker is restored instead of making a checkpoint; the Frontend is left alone."""
    before = {each["metadata"]["name"] for each in ready.items("dckpt")}
    ready("apply", "-f", str(EXAMPLES / "vllm-checkpointref-demo.yaml"))
    (worker,) = restored(ready, "vllm-checkpointref-demo-vllmdecodeworker", 1)
    (frontend,) = ready.pods("nvidia.com/selector=vllm-checkpointref-demo-frontend")

    assert QWEN_ID in node.first_line(ready, worker)
    assert not [key for key in frontend["metadata"].get("annotations", {}) if key.startswith("nvidia.com/")]
    assert before >= {each["metadata"]["name"] for each in ready.items("dckpt")}
