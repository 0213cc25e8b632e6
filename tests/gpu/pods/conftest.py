"""A real cluster on the machine with the card: kubelet, containerd, NVIDIA's container toolkit, our chart."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import snapshot_sdk
from cluster import api
from cluster.api import Cluster
from cluster.builder.cache import Cache
from cluster.nodes.node import Node as Machine
from demo import story
from demo.install import Helm, complaints, image_settings
from demo.kubectl import CommandError, Kubectl
from demo.platform import Platform, equip
from tests.gpu.containers import WORKERS
from tests.gpu.pods import workers
from tests.gpu.pods.image import write_image
from tests.support import container_toolkit
from tests.support.device_plugin import Allocation, DevicePlugin, offered

KIT = "SNAPSHOT_TEST_CLUSTER"
"""Names the folder that the kit was unpacked to."""
NAME = "gpu"
NAMESPACE = "gpu-workers"
SPECIFICATIONS = "/var/run/cdi"
MOUNTED = [path for path in (workers.DRIVER, *workers.FOLDERS) if Path(path).is_dir()]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A node that has the machine's devices, its driver and its Python; one that runs already is left running."""
    running = api.find(NAME)
    mounts = tuple(api.Mount(path, path) for path in MOUNTED)
    cluster = running or api.up(NAME, options=api.Options(mounts=mounts), progress=api.for_terminal())
    yield cluster
    if running is None:
        cluster.down()


@pytest.fixture(scope="session")
def platform(cluster: Cluster) -> Platform:
    """The cluster with the images of the kit, and one of this machine's own programs for workers."""
    home = Cache.from_env(os.environ)
    image = home.root / "archives/worker.tar"
    if not image.exists():
        write_image(image)
    return equip(cluster, home, api.for_terminal())


@pytest.fixture(scope="session")
def machine(cluster: Cluster) -> Machine:
    """The node with the toolkit, whose specification it wrote from the driver, and the workers' programs."""
    machine = cluster.node(1)
    container_toolkit.install(machine, Path(os.environ[KIT]) / "toolkit")
    sdk = Path(snapshot_sdk.__file__).parent
    machine.run("mkdir", "-p", SPECIFICATIONS, f"{workers.PROGRAMS}/{sdk.name}")
    whole = container_toolkit.generate(machine, workers.DRIVER, "nvidia.com", "nvml", "/")
    machine.run("sh", "-c", f"cat >{SPECIFICATIONS}/nvidia.yaml", stdin=whole.encode())
    for folder, programs in ((workers.PROGRAMS, WORKERS), (f"{workers.PROGRAMS}/{sdk.name}", sdk)):
        for program in programs.glob("*.py"):
            machine.run("sh", "-c", f"cat >{folder}/{program.name}", stdin=program.read_bytes())
    return machine


@pytest.fixture(scope="session")
def plugin(machine: Machine) -> Iterator[DevicePlugin]:
    """Kubelet has one GPU to give."""
    with offered(machine, DevicePlugin(workers.GPU, ["0"], Allocation())) as serving:
        yield serving


@pytest.fixture(scope="session")
def gpus(platform: Platform, plugin: DevicePlugin) -> Kubectl:
    """The chart with nothing set about GPUs; kubectl in its namespace."""
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, NAMESPACE)
    settings = image_settings(platform.image_tag, platform.image_prefix) | {
        "storage.pvc.size": "200Gi",
        "automatic.attempts": "1",
        "placeholder.mode": "inject",
        "placeholder.inject.image.repository": f"{platform.image_prefix}/tools",
        "placeholder.inject.image.tag": platform.image_tag,
    }
    try:
        Helm(platform.helm, platform.kubeconfig, NAMESPACE).install(settings)
    except CommandError as error:
        pytest.fail(f"{error}\n{complaints(kubectl)}")
    story.await_webhook(kubectl)
    return kubectl


@pytest.fixture
def clean(gpus: Kubectl, plugin: DevicePlugin) -> Iterator[Kubectl]:
    """Each test has the GPU to itself."""
    yield gpus
    gpus("delete", "deployment,pod", "-l", workers.ALL, "--grace-period=1")
    gpus("delete", "dynamocheckpoint", "--all")
