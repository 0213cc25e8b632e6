"""What the capture Job gives a worker with GPUs: the environment, and where its device memory goes."""

import pytest

from contract.api import keys
from contract.pods.capture_job import InvalidTemplateError
from tests.support.builders.capture_jobs import shape, target_of
from tests.support.builders.objects import checkpoint, container, template

SEVERAL = {
    "NCCL_NVLS_ENABLE": "0",
    "NCCL_IB_DISABLE": "1",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
}
IN_IMAGE = SEVERAL | {"NCCL_P2P_DISABLE": "1", "NCCL_CUMEM_HOST_ENABLE": "0"}
EACH = {"TORCH_NCCL_ENABLE_MONITORING": "0", "NCCL_SOCKET_IFNAME": "lo"}


@pytest.mark.parametrize(
    ("gpus", "own", "values", "expected"),
    [
        pytest.param({}, {}, "", {}, id="none"),
        pytest.param({"nvidia.com/gpu": "1"}, {}, "", EACH, id="one"),
        pytest.param({"nvidia.com/gpu": "2"}, {}, "", EACH | SEVERAL, id="two"),
        pytest.param({"nvidia.com/gpu.shared": 2}, {}, "", EACH | SEVERAL, id="two-time-slices"),
        pytest.param(
            {"nvidia.com/gpu": "2"}, {}, "{capture: {deviceMemory: Image}}", EACH | IN_IMAGE, id="two-in-the-image"
        ),
        pytest.param(
            {"nvidia.com/gpu": "2"},
            {"NCCL_P2P_DISABLE": "0"},
            "",
            EACH | SEVERAL | {"NCCL_P2P_DISABLE": "0"},
            id="its-own-wins",
        ),
        pytest.param(
            {"nvidia.com/gpu": "2"},
            {},
            "{capture: {gpuEnvironment: {always: {}, severalGpus: {NCCL_DEBUG: INFO, NCCL_IB_DISABLE: null}}}}",
            {"NCCL_DEBUG": "INFO"},
            id="other-values",
        ),
    ],
)
def test_environment_of_workers_with_gpus(gpus, own, values, expected):
    env = [{"name": name, "value": value} for name, value in own.items()]
    target = target_of(shape(checkpoint(pod_template=template(container(env=env, resources={"limits": gpus}))), values))
    found = {entry["name"]: entry["value"] for entry in target["env"] if entry["name"].startswith(("NCCL_", "TORCH_"))}
    assert expected == found
    assert len(target["env"]) == len({entry["name"] for entry in target["env"]})


@pytest.mark.parametrize(
    ("gpus", "said", "values", "expected"),
    [
        pytest.param("1", {}, "", [keys.DEVICE_MEMORY_LIBRARY], id="one"),
        pytest.param("2", {}, "", [keys.DEVICE_MEMORY_LIBRARY], id="several"),
        pytest.param("2", {keys.ANN_DEVICE_MEMORY: "image"}, "", [], id="several-and-the-owner-says-no"),
        pytest.param("0", {}, "", [], id="none"),
        pytest.param("1", {keys.ANN_DEVICE_MEMORY: "image"}, "", [], id="the-owner-says-no"),
        pytest.param("1", {}, "{capture: {deviceMemory: Image}}", [], id="the-chart-says-no"),
        pytest.param(
            "1",
            {keys.ANN_DEVICE_MEMORY: "outside"},
            "{capture: {deviceMemory: Image}}",
            [keys.DEVICE_MEMORY_LIBRARY],
            id="the-owner-goes-before",
        ),
    ],
)
def test_device_memory_of_gpu_workers_stays_outside(gpus, said, values, expected):
    pod = template(container(resources={"limits": {"nvidia.com/gpu": gpus}}))
    pod["metadata"] = {**pod.get("metadata", {}), "annotations": said}
    target = target_of(shape(checkpoint(pod_template=pod), values))
    assert expected == [entry["value"] for entry in target["env"] if entry["name"] == keys.ENV_DEVICE_MEMORY]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        pytest.param(keys.ANN_DEVICE_MEMORY, "outside or image", id="where-it-is-left"),
        pytest.param(keys.ANN_WEIGHTS, "referenced or stored", id="what-becomes-of-weights"),
    ],
)
def test_a_word_for_device_memory_that_is_not_known(annotation, words):
    pod = template(container(resources={"limits": {"nvidia.com/gpu": "1"}}))
    pod["metadata"] = {**pod.get("metadata", {}), "annotations": {annotation: "elsewhere"}}
    with pytest.raises(InvalidTemplateError, match=rf"{annotation}.*'elsewhere'; set it to {words}"):
        shape(checkpoint(pod_template=pod))
