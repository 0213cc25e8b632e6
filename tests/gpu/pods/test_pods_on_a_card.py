"""GPU workers in pods on a real card: kubelet, containerd, NVIDIA's container toolkit, our chart, and back.

Run by `make test-gpu-pods`. Nothing is set about GPUs in the chart. The device plugin is ours: it answers kubelet as
NVIDIA's does where the toolkit is used (names in CDI's terms), and as GKE's does (device nodes, the driver's folder).
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from cluster.api import Cluster
from cluster.nodes.node import Node as Machine
from contract.api import control_files, keys
from contract.api.states import StartupPolicy
from demo.kubectl import Kubectl
from tests.gpu.containers import words
from tests.gpu.pods.workers import DRIVER, GPU, PROGRAMS, Api, Timeline, Worker, next_pod
from tests.gpu.vllm_engine import CACHES, COMPLETION, ENGINE, FLAGS, OFFLINE, PLACE
from tests.support.device_plugin import Allocation, DevicePlugin
from tests.support.fixtures import node

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif("SNAPSHOT_TEST_CLUSTER" not in os.environ, reason="needs a cluster: make test-gpu-pods"),
]

RESTORED = control_files.LOG_RESTORED.partition("{")[0]
LISTENS = {"tcpSocket": {"port": 8000}}
"""For workers whose every answer is a step, or takes a second: they answer one request at a time."""
TORCH = Worker((sys.executable, f"{PROGRAMS}/torch_worker.py", "1024", "pinned", "child"), LISTENS)
TRANSFORMERS = Worker((sys.executable, f"{PROGRAMS}/transformers_worker.py"), {"httpGet": {"path": "/", "port": 8000}})
VLLM = Worker(
    (
        *(sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", f"{PLACE}/model", *FLAGS),
        *("--host", "0.0.0.0", "--port", "8000"),
    ),
    {"httpGet": {"path": "/health", "port": 8000}},
    CACHES | OFFLINE | ENGINE | {"PYTHONPATH": f"{PLACE}/site"},
    "/v1/completions",
    COMPLETION,
    "32Gi",
)
STEPS = 6
ROUNDS = 3
STYLES = {
    "toolkit": Allocation(cdi=[f"{GPU}={{device}}"]),
    "folder": Allocation(
        mounts={DRIVER: DRIVER},
        devices=["/dev/nvidia{device}", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"],
    ),
}
LIBRARIES = {"toolkit": "", "folder": f"{DRIVER}/lib64"}


@pytest.fixture
def api(clean: Kubectl) -> Api:
    return Api(clean)


def answers(api: Api, pod: str, worker: Worker, count: int) -> list[Any]:
    return [essence(api.first(pod, worker)) for _ in range(count)]


def essence(answer: Any) -> Any:
    """Return what has to be the same of an answer: all of it, but of a completion its tokens and their scores."""
    if "choices" not in answer:
        return answer
    (choice,) = answer["choices"]
    return choice["token_ids"], choice["logprobs"]["token_logprobs"]


def start_cold(kubectl: Kubectl, api: Api, worker: Worker, libraries: str, count: int) -> tuple[list[Any], float]:
    """Return the answers of a pod that has nothing to do with us, and the seconds from its creation to the first."""
    begun = time.monotonic()
    node.create(kubectl, worker.pod("cold", libraries))
    first = answers(api, "cold", worker, 1)
    seconds = time.monotonic() - begun
    found = [*first, *answers(api, "cold", worker, count - 1)]
    kubectl("delete", "pod", "cold", "--grace-period=1")
    return found, seconds


def checkpoint(kubectl: Kubectl, name: str, worker: Worker, libraries: str) -> dict[str, Any]:
    """Capture a worker; return the checkpoint's status."""
    body = node.checkpoint(name)
    body["spec"]["job"]["podTemplateSpec"]["spec"] = worker.spec(libraries)
    node.create(kubectl, body)
    status = node.phase(kubectl, name, "Ready", "Failed")["status"]
    assert "Ready" == status["phase"], json.dumps(status["conditions"], indent=1)
    return status


def test_the_node_says_what_it_has(clean: Kubectl, machine: Machine):
    """The agent found the driver by itself."""
    wanted = (keys.LABEL_GPU_MODEL, keys.LABEL_GPU_COUNT, keys.LABEL_GPU_DRIVER)

    def look():
        labels = clean.get("node", machine.name)["metadata"]["labels"]
        return [labels[key] for key in wanted] if set(wanted) <= set(labels) else None

    model, count, driver = node.wait_for(look, "labels of the GPUs", 60)
    seen = nvidia_smi(machine, "--query-gpu=name,driver_version")
    assert [[model.replace("-", " "), driver]] * int(count) == [line.split(", ") for line in seen.splitlines()]


@pytest.mark.parametrize("style", STYLES)
def test_a_worker_goes_on_in_another_pod(
    clean: Kubectl, api: Api, plugin: DevicePlugin, style: str, figure: Callable[[str], None]
):
    """Its steps depend on all before them; nothing was asked of it before the capture."""
    plugin.allocation = STYLES[style]
    expected, cold = start_cold(clean, api, TORCH, LIBRARIES[style], STEPS)
    checkpoint(clean, style, TORCH, LIBRARIES[style])
    for name in (f"{style}-1", f"{style}-2"):
        begun, timeline = time.monotonic(), Timeline(api, name)
        node.create(clean, TORCH.pod(name, LIBRARIES[style], **{keys.ANN_CHECKPOINT_NAME: style}))
        first = answers(api, name, TORCH, 1)
        seconds = time.monotonic() - begun
        assert expected == [*first, *answers(api, name, TORCH, STEPS - 1)]
        assert_restored(clean, name, figure, seconds, cold)
        figure(timeline.words())
        clean("delete", "pod", name, "--grace-period=1")


def assert_restored(kubectl: Kubectl, pod: str, figure: Callable[[str], None], seconds: float, cold: float) -> None:
    """The pod says so itself, and so does the agent; note what it took."""
    assert node.first_line(kubectl, pod).startswith(RESTORED)
    report = json.loads(node.reported(kubectl, pod)["metadata"]["annotations"][keys.ANN_RESTORE_REPORT])
    assert "restored" == report["outcome"]
    figure(f"first answer {seconds:.2f} s after the pod's creation, {cold:.1f} s cold; {words(report['seconds'])}")


@pytest.mark.parametrize(
    "worker",
    [
        pytest.param(TRANSFORMERS, id="transformers"),
        pytest.param(VLLM, id="vllm", marks=pytest.mark.skipif(not PLACE.is_dir(), reason="needs vLLM: make vllm-kit")),
    ],
)
def test_a_deployment_starts_from_its_own_checkpoint(
    clean: Kubectl, api: Api, plugin: DevicePlugin, worker: Worker, figure: Callable[[str], None], request
):
    """One label. The machine has one card, so the replica is held until the capture has given it back."""
    app = request.node.callspec.id
    plugin.allocation = STYLES["toolkit"]
    expected, cold = start_cold(clean, api, worker, "", 2)
    assert expected[0] == expected[1]
    clean.apply(deployment(app, worker))
    pod = next_pod(clean, app)
    assert expected[:1] == answers(api, pod, worker, 1)
    assert node.first_line(clean, pod).startswith(RESTORED)
    node.described(clean, "pod", pod, "RestoreSucceeded")

    for _ in range(ROUNDS):
        pod = replaced(clean, pod, app)
        freed, timeline = time.monotonic(), Timeline(api, pod)
        assert expected[:1] == answers(api, pod, worker, 1)
        answered = time.monotonic()
        assert expected[:1] == answers(api, pod, worker, 1)
        again = time.monotonic() - answered
        assert_restored(clean, pod, figure, answered - freed, cold)
        figure(f"{timeline.words()}; the second answer took {again:.2f} s")


def replaced(kubectl: Kubectl, pod: str, app: str) -> str:
    """End a pod, so that its Deployment makes another, and return that once the card is free for it."""
    kubectl("delete", "pod", pod, "--grace-period=1", "--wait=false")
    new = next_pod(kubectl, app, pod)
    kubectl("wait", "--for=delete", f"pod/{pod}")
    return new


def deployment(name: str, worker: Worker) -> dict[str, Any]:
    labels = {"app": name, "on": "card"}
    meta = {
        "labels": labels | {keys.LABEL_RESTORE: keys.RESTORE_AUTO},
        "annotations": {keys.ANN_STARTUP_POLICY: StartupPolicy.WAIT_FOR_CHECKPOINT.value},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": meta, "spec": worker.spec()},
        },
    }


def test_an_agent_that_is_killed_leaves_one_worker(
    clean: Kubectl, api: Api, plugin: DevicePlugin, cluster: Cluster, machine: Machine
):
    """What was half restored is gone from the card, and the worker is there all the same."""
    plugin.allocation = STYLES["toolkit"]
    checkpoint(clean, "cut", TORCH, "")
    node.create(clean, TORCH.pod("cut", **{keys.ANN_CHECKPOINT_NAME: "cut"}))
    node.kill_agent_at(cluster, "criu restore")
    assert len(answers(api, "cut", TORCH, 1)) == 1
    assert node.first_line(clean, "cut").startswith("SNAPSHOT_")
    assert len(nvidia_smi(machine, "--query-compute-apps=pid").split()) <= 1 + 1 + 1  # worker, child, agent's helper


def nvidia_smi(machine: Machine, query: str) -> str:
    libraries = f"LD_LIBRARY_PATH={DRIVER}/lib64"
    return machine.run("env", libraries, f"{DRIVER}/bin/nvidia-smi", query, "--format=csv,noheader")
