"""GPU pods through a real kubelet, agent and criu, and back; the driver is a stand-in with the driver's rules.

No device plugin runs here: the node's GPUs are an extended resource that the test advertises, and the device node is a
hostPath volume. The agent finds the stand-in in a folder of the node, as it would the driver on GKE.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.api import Cluster
from cluster.nodes.node import Node as Machine
from contract.api import control_files, keys
from demo import story
from demo.install import Helm, image_settings
from demo.kubectl import Kubectl
from demo.platform import Platform
from tests.support import stand_in_cuda
from tests.support.fixtures import node
from tests.support.waiting import until

NAMESPACE = "gpu-tests"
GPU = "nvidia.com/gpu"
SHARED_GPU = f"{GPU}.shared"
"""Time slices, as NVIDIA's device plugin names them."""
ROOT = "/opt/stand-in-driver"
INSIDE = "/opt/stand-in-driver/inside"
"""Holds what a worker finds in place of the driver's library."""
DEVICE_WORKER = Path(node.__file__).with_name("device_worker.py")
DENIED = {
    "gpu.deniedDrivers[0].versions": "580.*",
    "gpu.deniedDrivers[0].reason": "the node hangs",
    "gpu.deniedDrivers[0].report": "NVIDIA/cuda-checkpoint#53",
}
RESTORED = control_files.LOG_RESTORED.partition("{")[0]


@pytest.fixture(scope="module")
def gpus(platform: Platform, embedded_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A release that captures device state, on a node that has a driver and GPUs."""
    with release_on(platform, embedded_cluster, tmp_path_factory.mktemp("cuda")) as kubectl:
        yield kubectl


@contextmanager
def release_on(platform: Platform, cluster: Cluster, folder: Path, devices: int = 1) -> Iterator[Kubectl]:
    """Install the release on a node whose driver knows so many GPUs; the stand-ins are compiled in *folder*."""
    machine = cluster.node(1)
    bring_driver(machine, folder, devices)
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, NAMESPACE)
    capacity = {"status": {"capacity": {GPU: "8", SHARED_GPU: "8"}}}
    kubectl("patch", "node", machine.name, "--subresource=status", "--type=merge", "-p", json.dumps(capacity))
    install(platform)
    story.await_webhook(kubectl)
    try:
        yield kubectl
    finally:
        helm_of(platform).uninstall()


def bring_driver(machine: Machine, folder: Path, devices: int) -> None:
    """Put the stand-ins and the nodes of its devices on a node."""
    library = stand_in_cuda.build(folder, devices).read_bytes()
    inside = folder / "inside.so"
    stand_in_cuda.build_device(inside, devices)
    machine.run("mkdir", "-p", ROOT, INSIDE)
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        machine.run("sh", "-c", f"cat >{ROOT}/{name}", stdin=library)
    machine.run("sh", "-c", f"cat >{INSIDE}/libcuda.so.1", stdin=inside.read_bytes())
    machine.run("sh", "-c", f"cat >{INSIDE}/{DEVICE_WORKER.name}", stdin=DEVICE_WORKER.read_bytes())
    for minor in range(devices):
        path = f"{ROOT}/nvidia{minor}"
        machine.run("sh", "-c", f"test -e {path} || mknod -m 666 {path} c 195 {minor}")


def helm_of(platform: Platform) -> Helm:
    return Helm(platform.helm, platform.kubeconfig, NAMESPACE)


def install(platform: Platform, **values: str) -> None:
    """Install the release, or upgrade it to these values."""
    settings = image_settings(platform.image_tag, platform.image_prefix) | node.PATIENT | {"gpu.driverRoot": ROOT}
    helm_of(platform).install(settings | values)


def worker(memory: str = "1Gi", resource: str = GPU, devices: int = 1, **arranged: str):
    """Fields of a container that uses GPUs; other keywords are what its driver does."""
    marks = stand_in_cuda.marked(**{"mib": "0064"} | arranged)
    return {
        "env": [{"name": name, "value": value} for name, value in marks.items()],
        "resources": {"limits": {resource: str(devices), "memory": memory}, "requests": {"cpu": "10m"}},
        "volumeMounts": [{"name": f"gpu{n}", "mountPath": f"/dev/nvidia{n}"} for n in range(devices)],
    }


def gpu_volumes(devices: int = 1):
    """Return the volumes that such a container mounts."""
    return [
        {"name": f"gpu{n}", "hostPath": {"path": f"{ROOT}/nvidia{n}", "type": "CharDevice"}} for n in range(devices)
    ]


def checkpoint(kubectl: Kubectl, name: str, **fields):
    """Create the checkpoint of a GPU worker; return it when it has ended."""
    body = node.checkpoint(name, **worker(**fields))
    body["spec"]["job"]["podTemplateSpec"]["spec"]["volumes"] = gpu_volumes()
    node.create(kubectl, body)
    return node.phase(kubectl, name, "Ready", "Failed")


def pod(kubectl: Kubectl, name: str, of: str, **fields) -> None:
    body = node.pod(name, of, **worker(**fields))
    body["spec"]["volumes"] = gpu_volumes()
    node.create(kubectl, body)


@pytest.fixture
def clean(gpus: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"gpu-{request.node.originalname.rpartition('_')[2]}"
    yield name
    gpus("delete", "pod,dynamocheckpoint", "--all", "--wait=false")


def states(kubectl: Kubectl, name: str) -> str:
    """What the driver says of the processes of a pod's worker."""
    code = (
        "import os,re\n"
        "def program(pid): return open(f'/proc/{pid}/cmdline', 'rb').read().split(bytes(1))[0]\n"
        "for p in sorted(os.listdir('/proc')):\n"
        "    if p.isdigit() and int(p) != os.getpid() and b'python3' in program(p):\n"
        f"        print(re.findall(b'{stand_in_cuda.MARK}=(.)', open(f'/proc/{{p}}/environ', 'rb').read()))"
    )
    return kubectl("exec", name, "-c", "main", "--", "python3", "-c", code).strip()


def test_a_gpu_pod_is_captured_and_restored(gpus: Kubectl, clean: str):
    ready = checkpoint(gpus, clean)
    assert "Ready" == ready["status"]["phase"], ready["status"]
    pod(gpus, clean, clean)
    token = node.await_answer(gpus, clean)["token"]
    pod(gpus, f"{clean}-2", clean)
    assert token == node.await_answer(gpus, f"{clean}-2")["token"]

    assert node.first_line(gpus, clean).startswith(RESTORED)
    assert "[b'R']" == states(gpus, clean)
    report = json.loads(node.reported(gpus, clean)["metadata"]["annotations"][keys.ANN_RESTORE_REPORT])
    assert "gpu-restore" in report["seconds"]


def with_device_memory(body, pod, *words: str, devices: int = 1):
    """Have a body's worker use the stand-in for the driver's library: 32 MiB of data, 64 of zeros."""
    spec = pod(body)
    (container,) = spec["containers"]
    container["command"] = ["python3", f"/tools/{DEVICE_WORKER.name}", "32", "64", *words]
    container["volumeMounts"] = [*container["volumeMounts"], {"name": "inside", "mountPath": "/tools"}]
    spec["volumes"] = [*gpu_volumes(devices), {"name": "inside", "hostPath": {"path": INSIDE}}]
    return body


def template_of(body):
    """Return the pod's spec in a checkpoint."""
    return body["spec"]["job"]["podTemplateSpec"]["spec"]


def spec_of(body):
    """Return a pod's spec."""
    return body["spec"]


def test_device_memory_of_a_pod_stays_outside_the_image(gpus: Kubectl, clean: str):
    """Its addresses differ in each process that is started, so two pods with the same ones continue one process."""
    body = node.checkpoint(clean, **worker(mib="0256"))
    node.create(gpus, with_device_memory(body, template_of))
    status = node.phase(gpus, clean, "Ready", "Failed")["status"]
    assert "Ready" == status["phase"], status["conditions"]
    (job,) = gpus.items("jobs", "-l", f"{keys.LABEL_CHECKPOINT_ID}={status['checkpointID']}")
    report = json.loads(job["metadata"]["annotations"][keys.ANN_CAPTURE_REPORT])
    assert "gpu-save" in report["seconds"]
    held = []
    for name in (clean, f"{clean}-2"):
        node.create(gpus, with_device_memory(node.pod(name, clean, **worker()), spec_of))
        held.append(node.await_answer(gpus, name))
        assert node.first_line(gpus, name).startswith(RESTORED)
    assert held[0] == held[1]
    assert 5 == len(held[0])


def test_device_state_that_cannot_come_back_is_never_ready(gpus: Kubectl, clean: str):
    failed = checkpoint(gpus, clean, oom="")
    assert "Failed" == failed["status"]["phase"]
    assert "the artifact cannot be restored, not even where it was captured: gpu-restore" in json.dumps(
        failed["status"]
    )


def test_a_memory_limit_that_is_too_small(gpus: Kubectl, clean: str):
    failed = checkpoint(gpus, clean, memory="256Mi", mib="1024")
    assert "Failed" == failed["status"]["phase"]
    assert "raise resources.limits.memory by at least" in json.dumps(failed["status"])


def test_the_story_is_in_describe(gpus: Kubectl, clean: str):
    assert "Ready" == checkpoint(gpus, clean)["status"]["phase"]
    pod(gpus, clean, clean)
    node.await_answer(gpus, clean)
    node.described(gpus, "pod", clean, "RestoreSucceeded")


def test_the_node_is_labelled_with_what_the_agent_found(gpus: Kubectl, embedded_cluster: Cluster):
    name = embedded_cluster.node(1).name
    wanted = {keys.LABEL_GPU_MODEL: "Stand-in-GPU", keys.LABEL_GPU_COUNT: "1", keys.LABEL_GPU_DRIVER: "580.0.1"}
    until(lambda: wanted.items() <= gpus.get("node", name)["metadata"]["labels"].items(), "labels of the GPUs")


def test_the_agent_says_which_driver_it_found(gpus: Kubectl):
    agent = gpus("get", "pods", "-l", f"{keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}", "-o", "name").split()[0]
    assert "580.0.1" in gpus("logs", agent, "-c", "agent")


@pytest.fixture
def denied(gpus: Kubectl, platform: Platform) -> Iterator[Callable[[], None]]:
    """Has the release deny the node's driver from now on."""
    yield lambda: install(platform, **DENIED)
    install(platform)
    story.await_webhook(gpus)


def test_a_driver_that_is_denied(gpus: Kubectl, clean: str, denied: Callable[[], None]):
    """What was captured before starts cold, and nothing more is captured."""
    assert "Ready" == checkpoint(gpus, clean)["status"]["phase"]
    denied()
    story.await_webhook(gpus)
    pod(gpus, clean, clean)
    node.await_answer(gpus, clean)
    assert not node.first_line(gpus, clean).startswith(RESTORED)
    report = json.loads(node.reported(gpus, clean)["metadata"]["annotations"][keys.ANN_RESTORE_REPORT])
    assert ("failed", "gpu-driver-denied") == (report["outcome"], report["reason"])

    failed = checkpoint(gpus, f"{clean}-later")
    assert "Failed" == failed["status"]["phase"]
    assert "driver 580.0.1: the node hangs (NVIDIA/cuda-checkpoint#53)" in failed["status"]["message"]


def test_an_agent_that_is_killed_leaves_one_worker_and_no_checkpoint(
    gpus: Kubectl, clean: str, embedded_cluster: Cluster
):
    """The driver takes two seconds each way, so that it is at work when criu is, or a moment after."""
    slow = {"slow": "2000", "mib": "0064"}
    assert "Ready" == checkpoint(gpus, clean, **slow)["status"]["phase"]
    pod(gpus, clean, clean, **slow)
    node.kill_agent_at(embedded_cluster, "criu restore")
    node.await_answer(gpus, clean)
    assert "[b'R']" == states(gpus, clean)
    assert node.first_line(gpus, clean).startswith("SNAPSHOT_")

    body = node.checkpoint(f"{clean}-cut", **worker(**slow))
    body["spec"]["job"]["podTemplateSpec"]["spec"]["volumes"] = gpu_volumes()
    node.create(gpus, body)
    node.kill_agent_at(embedded_cluster, "criu dump")
    failed = node.phase(gpus, f"{clean}-cut", "Ready", "Failed")
    assert ("Failed", True) == (failed["status"]["phase"], bool(failed["status"]["message"])), failed["status"]
