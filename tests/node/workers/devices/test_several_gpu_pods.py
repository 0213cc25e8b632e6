"""Pods with two GPUs, and parked pods that share one, through a real kubelet; the driver is a stand-in."""

import json
from collections.abc import Iterator

import pytest

from cluster.api import Cluster
from contract.api import control_files, keys
from contract.api.engine import Because, Memory, Way
from contract.api.reports import Report, ReportPhase, read_report
from demo.kubectl import Kubectl, wait_for
from demo.platform import Platform
from tests.node.workers.devices.test_gpu_pods import (
    RESTORED,
    SHARED_GPU,
    gpu_volumes,
    release_on,
    spec_of,
    states,
    template_of,
    with_device_memory,
    worker,
)
from tests.support.fixtures import node

PROBE = {"readinessProbe": node.probe()}
PARK = {keys.ANN_STANDBY: keys.STANDBY_PARKS}
STATUS = keys.ANN_RESTORE_STATUS_PREFIX + "main"
OF_ONE_DEVICE = 5
"""Allocations of the worker; what it answers has one row for each."""
STORED = (16 + 16 + 4 + 8 + 8 + 4) << 20
"""Of the two devices; half as much on the second, and no zeros."""


@pytest.fixture(scope="module")
def gpus(platform: Platform, embedded_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A release that captures device state, on a node whose driver knows two GPUs."""
    with release_on(platform, embedded_cluster, tmp_path_factory.mktemp("cuda"), devices=2) as kubectl:
        yield kubectl


@pytest.fixture
def clean(gpus: Kubectl) -> Iterator[Kubectl]:
    yield gpus
    gpus("delete", "pod,dynamocheckpoint", "--all", "--wait=false")


def captured(kubectl: Kubectl, name: str, *words: str, devices: int = 1, **fields) -> None:
    body = node.checkpoint(name, **worker(mib="0256", devices=devices, **fields), **PROBE)
    node.create(kubectl, with_device_memory(body, template_of, *words, devices=devices))
    status = node.phase(kubectl, name, "Ready", "Failed")["status"]
    assert "Ready" == status["phase"], status["conditions"]


def create(kubectl: Kubectl, name: str, of: str, *words: str, annotations=None, devices: int = 1, **fields) -> None:
    body = node.pod(name, of, annotations=annotations, **worker(devices=devices, **fields), **PROBE)
    node.create(kubectl, with_device_memory(body, spec_of, *words, devices=devices))


def report_of(kubectl: Kubectl, name: str) -> Report:
    report = read_report(node.reported(kubectl, name)["metadata"]["annotations"][keys.ANN_RESTORE_REPORT])
    assert report is not None
    return report


@pytest.mark.parametrize(
    ("words", "parts"),
    [pytest.param(["two"], 1, id="one-process-with-both"), pytest.param(["ranks"], 2, id="a-process-for-each")],
)
def test_a_worker_with_two_gpus_is_captured_and_restored(clean: Kubectl, words: list[str], parts: int):
    """Its addresses differ in each process that is started, so two pods with the same ones continue one worker."""
    name = f"gpu-{words[0]}"
    captured(clean, name, *words, devices=2)
    held = []
    for pod in (name, f"{name}-again"):
        create(clean, pod, name, *words, devices=2)
        held.append(node.await_answer(clean, pod))
        assert node.first_line(clean, pod).startswith(RESTORED)
    assert held[0] == held[1]
    rows = [row for answer in held[0] for row in (answer if isinstance(answer[0], list) else [answer])]
    assert 2 * OF_ONE_DEVICE == len(rows)
    assert ["[b'R']"] * parts == states(clean, name).splitlines()
    engine = report_of(clean, name).engine
    assert engine is not None
    device = [choice for choice in engine.came if choice.memory is Memory.DEVICE and choice.way is not Way.IMAGE]
    assert STORED == sum(choice.bytes for choice in device), "what is outside is of both"


def parked(kubectl: Kubectl, name: str, of: str) -> None:
    create(kubectl, name, of, annotations=PARK, resource=SHARED_GPU)
    wait_for(lambda: _status(kubectl, name) == "parked" or None, f"{name} is parked", node.READY_SECONDS)


def _status(kubectl: Kubectl, name: str) -> str | None:
    return kubectl.get("pod", name)["metadata"].get("annotations", {}).get(STATUS)


def test_a_parked_worker_holds_no_device_memory_until_it_is_woken(clean: Kubectl):
    """It shares a GPU with one that serves meanwhile; both continue the same captured process."""
    captured(clean, "gpu-parked", resource=SHARED_GPU)
    parked(clean, "gpu-parked", "gpu-parked")
    assert "[b'C']" == states(clean, "gpu-parked")
    create(clean, "gpu-serves", "gpu-parked", resource=SHARED_GPU)
    serves = node.await_answer(clean, "gpu-serves")
    assert ("[b'R']", "[b'C']") == (states(clean, "gpu-serves"), states(clean, "gpu-parked"))
    assert not node.is_ready(clean, "gpu-parked")

    clean("annotate", "pod", "gpu-parked", f"{keys.ANN_WAKE}=now")
    assert serves == node.await_answer(clean, "gpu-parked")
    node.await_ready(clean, "gpu-parked")
    assert "[b'R']" == states(clean, "gpu-parked")
    report = report_of(clean, "gpu-parked")
    assert {ReportPhase.WAKE, ReportPhase.GPU_RESTORE, ReportPhase.GPU_FILL} <= report.seconds.keys()
    assert ReportPhase.CRIU not in report.seconds
    memory = next(choice for choice in report.engine.came if choice.memory is Memory.PRIVATE)
    assert (Way.KEPT, Because.PARKED) == (memory.way, memory.because)
    lines = node.log(clean, "gpu-parked").splitlines()
    assert lines[0].startswith(control_files.LOG_PARKED.partition("{")[0])
    assert lines[1].startswith(RESTORED)


def test_a_whole_gpu_is_not_parked(clean: Kubectl):
    """Its pod would keep a GPU that it does not use, so it starts as if it had not asked for that."""
    captured(clean, "gpu-whole")
    create(clean, "gpu-whole", "gpu-whole", annotations=PARK)
    said = json.dumps(clean.get("pod", "gpu-whole")["metadata"].get("annotations", {}))
    assert "parked-exclusive-gpu" in said


ENGINE = """
import os, pathlib, secrets, time
import snapshot_sdk
token = secrets.token_hex(8)
pathlib.Path("/tmp/ready").touch()
while True:
    print("engine", token, os.getpid(), flush=True)
    time.sleep(0.2)
"""
"""Listens on no port: two of them share the network of their pod."""
ENDLESS = ["python3", "-c", "import signal; signal.pause()"]


def crowded(body, pod, *targets: str):
    """Have these containers run the engine with a GPU each, beside others that use one, before and meanwhile."""
    spec = pod(body)
    (container,) = spec["containers"]
    beside = {"image": container["image"], "imagePullPolicy": "Never", "env": worker(mib="0512")["env"]}
    gpus = [worker(mib="0064")["volumeMounts"], [{"name": "gpu1", "mountPath": "/dev/nvidia1"}]]
    engine = {
        "command": ["python3", "-u", "-c", ENGINE],
        "readinessProbe": {"exec": {"command": ["python3", "-c", "open('/tmp/ready')"]}, "periodSeconds": 1},
    }
    spec["containers"] = [
        container | engine | {"name": name, "volumeMounts": gpus[number]} for number, name in enumerate(targets)
    ]
    spec["initContainers"] = [
        beside | {"name": "warms", "command": ["python3", "-c", "pass"]},
        beside | {"name": "beside", "restartPolicy": "Always", "command": ENDLESS},
    ]
    spec["volumes"] = gpu_volumes(2)
    return body


def test_containers_with_a_gpu_each_among_others_that_use_one(clean: Kubectl):
    """Neither an init container, nor a sidecar, nor what a probe executes in the container is captured or in the way.

    One of the two restored workers has another GPU than the captured one.
    """
    body = crowded(node.checkpoint("gpu-crowd", **worker()), template_of, "main")
    body["spec"]["job"] |= {"targetContainerName": "main", "readySignal": "Probe", "settleSeconds": 1}
    node.create(clean, body)
    status = node.phase(clean, "gpu-crowd", "Ready", "Failed")["status"]
    assert "Ready" == status["phase"], status["conditions"]
    targets = ("one", "other")
    wanted = ",".join(f"main={name}" for name in targets)
    body = node.pod("gpu-crowd", "gpu-crowd", annotations={keys.ANN_TARGET_CONTAINERS: wanted}, **worker())
    node.create(clean, crowded(body, spec_of, *targets))
    node.await_ready(clean, "gpu-crowd")
    said = [engine_of(clean, name) for name in targets]
    assert said[0] == said[1], "one process, restored twice"
    for name in targets:
        assert RESTORED in clean(
            "logs", "gpu-crowd", "-c", name
        )  # on a stream of its own, so after what the worker says


def engine_of(kubectl: Kubectl, container: str) -> str:
    def look() -> str | None:
        lines = kubectl("logs", "gpu-crowd", "-c", container).splitlines()
        return next((line for line in lines if line.startswith("engine ")), None)

    return wait_for(look, f"{container} speaks", 30)
