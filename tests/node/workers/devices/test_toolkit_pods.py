"""GPU pods that get their devices and the driver's files as nodes with NVIDIA's container toolkit bring them.

Kubelet, containerd, criu and the toolkit are real: its ``nvidia-ctk`` writes the node's CDI specifications, its hooks
and its runtime change the containers. The driver is a stand-in, in the folder where the GPU Operator's has its own, and
so is the device plugin. The toolkit's legacy mode asks a real driver for what it mounts, so what it leaves in a
container is made by other means: device nodes that are bind mounts, and the same files.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from cluster.api import Cluster
from cluster.nodes.node import Node as Machine
from contract.api import control_files, keys
from demo import story
from demo.install import Helm, image_settings
from demo.kubectl import Kubectl, wait_for
from demo.platform import Platform
from tests.support import container_toolkit, stand_in_cuda
from tests.support.device_plugin import Allocation, DevicePlugin, offered
from tests.support.fixtures import node

NAMESPACE = "toolkit-tests"
GPU = "toolkit.example/gpu"
"""Not NVIDIA's: kubelet would keep that for the plugin when it is gone, and other tests advertise it by hand."""
DRIVER = "/run/nvidia/driver"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
INSIDE = "/opt/stand-in-toolkit"
"""What a worker finds in place of the driver's library, and the worker itself."""
SPECIFICATIONS = "/var/run/cdi"
DEVICE_WORKER = Path(node.__file__).with_name("device_worker.py")
CONTROL_NODES = {"nvidiactl": (195, 255), "nvidia-modeset": (195, 254), "nvidia-uvm": (510, 0)}
SOCKET = f"import socket; socket.socket(socket.AF_UNIX).bind('{DRIVER}/run/nvidia-persistenced/socket')"
FIRMWARE = f"{DRIVER}/lib/firmware/nvidia"
NEXT = "580.0.2"
BROUGHT = {
    "/usr/bin/nvidia-smi",
    f"{LIBRARIES}/libnvidia-ml.so.{stand_in_cuda.VERSION}",
    f"/lib/firmware/nvidia/{stand_in_cuda.VERSION}/gsp_ga10x.bin",
    "/run/nvidia-persistenced/socket",
}
"""What the toolkit mounts besides."""
RESTORED = control_files.LOG_RESTORED.partition("{")[0]
STYLES = {
    "cdi": Allocation(cdi=["nvidia.com/gpu={device}"]),
    "annotations": Allocation(annotations={"cdi.k8s.io/plugin": "nvidia.com/gpu={device}"}),
    "bind-mounts": Allocation(
        cdi=["files.nvidia.com/gpu=all"],
        mounts={
            "/dev/nvidia{device}": f"{DRIVER}/dev/nvidia{{device}}",
            **{f"/dev/{name}": f"{DRIVER}/dev/{name}" for name in CONTROL_NODES},
        },
    ),
}


@pytest.fixture(scope="module")
def machine(embedded_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A node with the toolkit and a driver, as the GPU Operator leaves it."""
    machine = embedded_cluster.node(1)
    container_toolkit.install(machine, container_toolkit.build(tmp_path_factory.mktemp("toolkit")))
    machine.run("mkdir", "-p", INSIDE, f"{DRIVER}/dev", f"{DRIVER}{LIBRARIES}", f"{DRIVER}/usr/bin", SPECIFICATIONS)
    nodes = CONTROL_NODES | {f"nvidia{minor}": (195, minor) for minor in range(2)}
    for name, (major, minor) in nodes.items():
        machine.run("mknod", "-m", "666", f"{DRIVER}/dev/{name}", "c", str(major), str(minor))
    put(machine, f"{INSIDE}/{DEVICE_WORKER.name}", DEVICE_WORKER.read_bytes())
    put(machine, f"{DRIVER}/usr/bin/nvidia-smi", b"#!/bin/sh\n", mode="755")
    machine.run("mkdir", "-p", f"{DRIVER}/run/nvidia-persistenced")
    machine.run("python3", "-c", SOCKET)
    install_driver(machine, tmp_path_factory.mktemp("driver"))
    yield machine
    machine.run("rm", "-rf", DRIVER, INSIDE, SPECIFICATIONS)


def put(machine: Machine, path: str, content: bytes, mode: str = "644") -> None:
    machine.run("sh", "-c", f"cat >{path}.new && chmod {mode} {path}.new && mv {path}.new {path}", stdin=content)


def install_driver(machine: Machine, folder: Path, version: str = stand_in_cuda.VERSION) -> None:
    """Put this version of the driver in place of another, and have the toolkit write what pods get of it."""
    machine.run("sh", "-c", f"rm -rf {DRIVER}{LIBRARIES}/lib* {INSIDE}/lib* {SPECIFICATIONS}/* {FIRMWARE}")
    machine.run("mkdir", "-p", f"{FIRMWARE}/{version}")
    put(machine, f"{FIRMWARE}/{version}/gsp_ga10x.bin", b"firmware")
    library = stand_in_cuda.build(folder, 2, version, "NODES").read_bytes()
    inside = folder / "inside.so"
    stand_in_cuda.build_device(inside)
    put(machine, f"{INSIDE}/libcuda.so.{version}", inside.read_bytes())
    for name in ("libcuda", "libnvidia-ml"):
        put(machine, f"{DRIVER}{LIBRARIES}/{name}.so.{version}", library)
        machine.run("ln", "-s", f"{name}.so.{version}", f"{DRIVER}{LIBRARIES}/{name}.so.1")
    whole = container_toolkit.generate(machine, DRIVER, "management.nvidia.com")
    put(machine, f"{SPECIFICATIONS}/management.yaml", whole.encode())
    for vendor, devices in (("nvidia.com", workload_devices), ("files.nvidia.com", files_alone)):
        specification = yaml.safe_load(whole) | {"kind": f"{vendor}/gpu"}
        specification["devices"] = devices(specification["devices"][0]["containerEdits"]["deviceNodes"])
        for mount in specification["containerEdits"]["mounts"]:
            # A worker has its own stand-in: that of the agent has no device memory.
            mount["hostPath"] = re.sub(f".*/(libcuda.so.{version})", rf"{INSIDE}/\1", mount["hostPath"])
        put(machine, f"{SPECIFICATIONS}/{vendor}.yaml", yaml.safe_dump(specification).encode())


def workload_devices(nodes):
    """Return the devices that a plugin names: one GPU each, with the nodes that all need."""
    common = [each for each in nodes if each["path"].removeprefix("/dev/") in CONTROL_NODES]
    own = {each["path"][-1]: each for each in nodes if re.fullmatch("/dev/nvidia[0-9]", each["path"])}
    return [{"name": name, "containerEdits": {"deviceNodes": [*common, each]}} for name, each in own.items()]


def files_alone(_):
    return [{"name": "all", "containerEdits": {"env": ["FILES=alone"]}}]


@pytest.fixture(scope="module")
def plugin(machine: Machine) -> Iterator[DevicePlugin]:
    with offered(machine, DevicePlugin(GPU, ["0", "1"])) as serving:
        yield serving


@pytest.fixture(scope="module")
def gpus(platform: Platform, plugin: DevicePlugin) -> Iterator[Kubectl]:
    """A release whose agents are given nothing: no runtime class, and no folder of a driver is named."""
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, NAMESPACE)
    helm = install(platform)
    story.await_webhook(kubectl)
    try:
        yield kubectl
    finally:
        helm.uninstall()


def install(platform: Platform, **values: str) -> Helm:
    helm = Helm(platform.helm, platform.kubeconfig, NAMESPACE)
    helm.install(image_settings(platform.image_tag, platform.image_prefix) | node.PATIENT | values)
    return helm


@pytest.fixture
def clean(gpus: Kubectl, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    yield gpus
    gpus("delete", "pod,dynamocheckpoint", "--all", "--grace-period=1")


def worker():
    """Fields of a container that loads the driver by name, as CUDA's runtime does."""
    marks = stand_in_cuda.marked(mib="0256") | {"STAND_IN_LIBRARY": "libcuda.so.1"}
    return {
        "command": ["python3", f"/tools/{DEVICE_WORKER.name}", "32", "64"],
        "env": [{"name": name, "value": value} for name, value in marks.items()],
        "resources": {"limits": {GPU: "1", "memory": "1Gi"}, "requests": {"cpu": "10m"}},
        "volumeMounts": [
            {"name": "inside", "mountPath": f"/tools/{DEVICE_WORKER.name}", "subPath": DEVICE_WORKER.name}
        ],
        "readinessProbe": node.probe(),
    }


LATE = """
import ctypes, http.server, json, os, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            said = ctypes.CDLL("libcuda.so.1").cuInit(0) if self.path == "/load" else None
        except OSError as error:
            said = str(error)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode() + b" ")

threading.Thread(target=http.server.HTTPServer(("", 8000), Handler).serve_forever, daemon=True).start()
snapshot_sdk.quiesce()
threading.Event().wait()
"""
"""A worker that has not used its GPU yet."""
VOLUMES = [{"name": "inside", "hostPath": {"path": INSIDE}}]


def captured(kubectl: Kubectl, name: str, **fields) -> None:
    body = node.checkpoint(name, **worker() | fields)
    body["spec"]["job"]["podTemplateSpec"]["spec"]["volumes"] = VOLUMES
    node.create(kubectl, body)
    status = node.phase(kubectl, name, "Ready", "Failed")["status"]
    assert "Ready" == status["phase"], json.dumps(status["conditions"])


def started(kubectl: Kubectl, name: str, of: str, **fields):
    """Start a pod; return what its worker's device memory holds."""
    body = node.pod(name, of, **worker() | fields)
    body["spec"]["volumes"] = VOLUMES
    node.create(kubectl, body)
    return node.await_answer(kubectl, name)


def inside(kubectl: Kubectl, name: str, command: str) -> str:
    return kubectl("exec", name, "-c", "main", "--", "sh", "-c", command).strip()


def test_an_agent_finds_the_operators_driver_and_its_device_nodes(gpus: Kubectl, machine: Machine):
    """No node of /dev was there when its container was made: those of the driver's container are elsewhere."""
    assert "" == machine.run("sh", "-c", "ls /dev | grep nvidia || true")
    wanted = {keys.LABEL_GPU_MODEL: "Stand-in-GPU", keys.LABEL_GPU_COUNT: "2", keys.LABEL_GPU_DRIVER: "580.0.1"}
    wait_for(lambda: wanted.items() <= labels(gpus, machine).items() or None, "labels of the GPUs", 60)


def labels(kubectl: Kubectl, machine: Machine) -> dict[str, str]:
    return kubectl.get("node", machine.name)["metadata"]["labels"]


@pytest.mark.parametrize(
    ("then", "now"),
    [
        pytest.param("cdi", "cdi", id="cdi"),
        pytest.param("annotations", "annotations", id="annotations"),
        pytest.param("bind-mounts", "bind-mounts", id="bind-mounts"),
        pytest.param("bind-mounts", "cdi", id="from-bind-mounts-to-cdi"),
        pytest.param("cdi", "bind-mounts", id="from-cdi-to-bind-mounts"),
    ],
)
def test_a_worker_is_captured_and_restored(clean: Kubectl, plugin: DevicePlugin, then: str, now: str):
    """Two pods at once, so one of them has another GPU than the worker had; both continue one process."""
    name = f"from-{then}-to-{now}"
    plugin.allocation = STYLES[then]
    captured(clean, name)
    plugin.allocation = STYLES[now]
    held = [started(clean, pod, name) for pod in (f"{name}-1", f"{name}-2")]
    devices = set()
    for pod in (f"{name}-1", f"{name}-2"):
        assert node.first_line(clean, pod).startswith(RESTORED)
        assert f"{LIBRARIES}/libcuda.so.{stand_in_cuda.VERSION}" in mapped(clean, pod)
        assert BROUGHT == {path for path in BROUGHT if path in inside(clean, pod, "cat /proc/1/mountinfo")}
        devices.add(inside(clean, pod, "echo /dev/nvidia[0-9]"))
    assert held[0] == held[1]
    assert 5 == len(held[0])
    assert {"/dev/nvidia0", "/dev/nvidia1"} == devices


def mapped(kubectl: Kubectl, name: str) -> set[str]:
    """Return which files called libcuda the processes of a pod have mapped."""
    found = inside(kubectl, name, "cat /proc/[0-9]*/maps")
    return {line.split()[-1] for line in found.splitlines() if "libcuda" in line}


@pytest.fixture
def updated(gpus: Kubectl, machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], None]]:
    """Update the node's driver as the GPU Operator does: what has it open leaves the node first."""

    def update(version: str = NEXT) -> None:
        label = "nvidia.com/gpu.deploy.client"
        gpus("label", "node", machine.name, f"{label}=paused-for-driver-upgrade", "--overwrite")
        wait_for(lambda: not helpers(machine) or None, "the end of the agent and its processes", 60)
        install_driver(machine, tmp_path_factory.mktemp("driver"), version)
        gpus("label", "node", machine.name, f"{label}=true", "--overwrite")
        wait_for(lambda: labels(gpus, machine).get(keys.LABEL_GPU_DRIVER) == version or None, "the new driver", 60)

    yield update
    update(stand_in_cuda.VERSION)
    gpus("label", "node", machine.name, "nvidia.com/gpu.deploy.client-")


def helpers(machine: Machine) -> str:
    """Return the node's processes of an agent."""
    return machine.run("sh", "-c", "pgrep -f '^python3 -m [a]gent$|[a]gent[.]gpu' || true")


@pytest.mark.parametrize("style", ["cdi", "bind-mounts"])
def test_a_driver_of_another_version_is_a_cold_start(
    clean: Kubectl, plugin: DevicePlugin, style: str, updated: Callable[[], None]
):
    plugin.allocation = STYLES[style]
    name = f"updated-{style}"
    captured(clean, name)
    updated()
    started(clean, name, name)
    report = json.loads(node.reported(clean, name)["metadata"]["annotations"][keys.ANN_RESTORE_REPORT])
    assert ("failed", "gpu-mismatch") == (report["outcome"], report["reason"])
    node.described(clean, "pod", name, f"captured with driver {stand_in_cuda.VERSION}, this node has {NEXT}")
    assert not node.first_line(clean, name).startswith(RESTORED)
    assert {f"{LIBRARIES}/libcuda.so.{NEXT}"} == mapped(clean, name)


def test_a_worker_that_had_not_used_the_driver_finds_the_nodes_own(
    clean: Kubectl, plugin: DevicePlugin, updated: Callable[[], None]
):
    """What the toolkit's hooks write into a container is of that container's node: it is not captured."""
    plugin.allocation = STYLES["cdi"]
    late = {"command": ["python3", "-c", LATE], "env": []}
    captured(clean, "late", **late)
    updated()
    body = node.pod("late", "late", **worker() | late)
    body["spec"]["volumes"] = VOLUMES
    node.create(clean, body)
    node.await_ready(clean, "late")
    assert node.first_line(clean, "late").startswith(RESTORED)
    said = clean("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/late:8000/proxy/load")
    assert 0 == json.loads(said)
    assert {f"{LIBRARIES}/libcuda.so.{NEXT}"} == mapped(clean, "late")


@pytest.fixture
def runtime_class(gpus: Kubectl, machine: Machine, platform: Platform) -> Iterator[None]:
    """Agents get the driver by the toolkit's runtime, in its mode CDI, and by nothing else."""
    container_toolkit.add_runtime(machine)
    name = container_toolkit.RUNTIME
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name}
    node.create(gpus, kind)
    gpus("label", "node", machine.name, "nvidia.com/gpu.present=true")
    install(platform, **{"gpu.enabled": "true", "gpu.driverRoot": "/nowhere"})
    story.await_webhook(gpus)
    yield
    gpus("label", "node", machine.name, "nvidia.com/gpu.present-")
    gpus("delete", "runtimeclass", name)


def test_an_agent_gets_the_driver_by_the_toolkits_runtime(clean: Kubectl, plugin: DevicePlugin, runtime_class: None):
    plugin.allocation = STYLES["cdi"]
    agent = clean("get", "pods", "-l", f"{keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}", "-o", "name").split()[0]
    mounted = clean("exec", agent, "-c", "agent", "--", "cat", "/proc/self/mountinfo")
    assert f"{LIBRARIES}/libcuda.so.{stand_in_cuda.VERSION}" in mounted
    captured(clean, "class")
    held = [started(clean, name, "class") for name in ("class-1", "class-2")]
    assert held[0] == held[1]
    assert node.first_line(clean, "class-2").startswith(RESTORED)
