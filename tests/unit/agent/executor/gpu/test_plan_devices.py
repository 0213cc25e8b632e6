"""What a capture or restore does with GPUs is decided from what is seen, and refused with both sides named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import RefusedError
from agent.executor.gpu.plan import (
    GPU_CHECKS,
    GpuPlace,
    GpuUse,
    container_devices,
    describe,
    devices_of_files,
    is_of_driver,
    pair_devices,
    plan_prefetches,
    refuse_inherited_devices,
    refuse_mig,
    refuse_small_limit,
    refuse_unseen_devices,
)
from agent.gpu.ahead.prefetch import PART
from agent.gpu.cuda import Device, DriverVersion
from artifact.parts.gpu import DeviceMemory, Gpu, GpuDevice
from contract.api.states import AgentReason
from contract.config.gpus import DeniedDriver

MIB = 1 << 20
DRIVER = DriverVersion("580.159.04", "13.0")
LIBRARY = "/usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04"


def uuid(number):
    return f"{number:032x}"


def device(number=0, model="NVIDIA H100 80GB HBM3", free=1000 * MIB, **more):
    return Device(uuid(number), model, number, 2000 * MIB, free, **more)


def captured(*numbers, used=500 * MIB, driver=DRIVER.version, files=(LIBRARY,), model="NVIDIA H100 80GB HBM3"):
    devices = [GpuDevice(uuid=uuid(number), model=model, used=used) for number in numbers]
    return Gpu(driver=driver, cuda="13.0", devices=devices, processes=[1001], driver_files=list(files))


def refusals(gpu, devices, driver, denied=()):
    place = GpuPlace(tuple(devices), driver, denied)
    return {reason: words for reason, check in GPU_CHECKS if (words := check(gpu, place)) is not None}


@pytest.mark.parametrize(
    ("then", "now", "pairs"),
    [
        pytest.param((0,), (0,), (), id="the-same"),
        pytest.param((0,), (1,), (), id="another-card"),
        pytest.param((0, 1), (2, 3), ((0, 2), (1, 3)), id="two-others"),
        pytest.param((0, 1), (1, 0), ((0, 1), (1, 0)), id="exchanged"),
    ],
)
def test_pairs_name_all_cards_or_none(then, now, pairs):
    expected = tuple((uuid(old), uuid(new)) for old, new in pairs)
    assert expected == pair_devices(captured(*then), [device(number) for number in now])


@pytest.mark.parametrize(
    ("gpu", "devices", "driver", "reason", "words"),
    [
        pytest.param(captured(0), [], DRIVER, AgentReason.GPU_MISSING, "this pod has no GPU", id="no-device"),
        pytest.param(captured(0), [device()], None, AgentReason.GPU_MISSING, "docs/gpu.md", id="no-driver"),
        pytest.param(captured(0, 1), [device()], DRIVER, AgentReason.GPU_MISMATCH, "2 x NVIDIA H100", id="fewer"),
        pytest.param(captured(0), [device(), device(1)], DRIVER, AgentReason.GPU_MISMATCH, "has 2 x", id="more"),
        pytest.param(captured(0), [device(model="L4")], DRIVER, AgentReason.GPU_MISMATCH, "has 1 x L4", id="model"),
        pytest.param(
            captured(0), [device(free=499 * MIB)], DRIVER, AgentReason.GPU_MEMORY, "needs 500 MiB", id="memory"
        ),
        pytest.param(
            captured(0), [device()], DriverVersion("570.1", "12.8"), AgentReason.GPU_MISMATCH, "570.1", id="older"
        ),
        pytest.param(
            captured(0), [device()], DriverVersion("590.1", "13.1"), AgentReason.GPU_MISMATCH, "590.1", id="mapped"
        ),
    ],
)
def test_what_does_not_fit_is_refused(gpu, devices, driver, reason, words):
    found = refusals(gpu, devices, driver)
    assert reason == next(iter(found))
    assert words in found[reason]


DENIED = (DeniedDriver(versions="580.159.04", reason="it hangs", report="NVIDIA/cuda-checkpoint#53"),)


def test_a_denied_driver_restores_nothing():
    (reason, said), *_ = refusals(captured(0), [device()], DRIVER, DENIED).items()
    assert AgentReason.GPU_DRIVER_DENIED == reason
    assert all(words in said for words in ("580.159.04", "it hangs", "NVIDIA/cuda-checkpoint#53", "gpu.deniedDrivers"))


@pytest.mark.parametrize(
    ("expected", "versions"),
    [
        pytest.param(True, "580.159.04", id="that-version"),
        pytest.param(True, "580.*", id="its-branch"),
        pytest.param(True, "580.159.*", id="part-of-its-branch"),
        pytest.param(False, "580.159", id="a-prefix-is-no-branch"),
        pytest.param(False, "580.15.*", id="whole-numbers-only"),
        pytest.param(False, "58.*", id="another-branch"),
        pytest.param(False, "595.71.05", id="another-version"),
    ],
)
def test_which_drivers_an_entry_covers(expected, versions):
    assert expected == DeniedDriver(versions=versions, reason="x", report="a/b#1").covers(DRIVER.version)


def test_a_newer_driver_serves_a_worker_that_brings_its_own_libraries():
    assert {} == refusals(captured(0, files=()), [device()], DriverVersion("590.1", "13.1"))


def test_devices_of_the_container_are_those_of_its_nodes():
    assert [1, 3] == [d.minor for d in container_devices([device(3), device(0), device(1)], {3, 1})]


def test_device_files_without_a_cuda_process():
    refuse_unseen_devices({"/usr/bin/python3", "/data/nvidia0"})
    with pytest.raises(RefusedError, match=r"/dev/nvidia0 open.*gpu\.driverRoot") as refused:
        refuse_unseen_devices({"/usr/bin/python3", "/dev/nvidia0"})
    assert AgentReason.GPU_MISSING == refused.value.code


def test_a_device_that_is_divided():
    """Its nodes are those of the whole GPU, and the device plugin may call its parts nvidia.com/gpu."""
    refuse_mig([device(0), device(1)])
    with pytest.raises(RefusedError, match=r"GPU 0+1 is in MIG mode.*cuda-checkpoint#42") as refused:
        refuse_mig([device(0), device(1, mig=True)])
    assert AgentReason.GPU_UNSUPPORTED == refused.value.code
    assert [AgentReason.GPU_MISMATCH] == list(refusals(captured(0), [device(mig=True)], DRIVER))


def test_device_files_of_a_forked_process():
    refuse_inherited_devices({7: {"/usr/bin/python3", "/data/nvidia0"}, 8: set()})
    with pytest.raises(RefusedError, match=r"process 8 has /dev/nvidia-uvm open") as refused:
        refuse_inherited_devices({7: {"/usr/bin/python3"}, 8: {"/dev/nvidiactl", "/dev/nvidia-uvm"}})
    assert AgentReason.GPU_UNSUPPORTED == refused.value.code


@given(
    needed=st.integers(0, 1 << 50),
    headroom=st.none() | st.integers(0, 1 << 50),
    limit=st.none() | st.integers(0, 1 << 50),
)
def test_a_limit_is_refused_exactly_if_it_is_too_small_and_the_advice_is_enough(needed, headroom, limit):
    if headroom is None or needed <= headroom:
        refuse_small_limit(needed, headroom, "the worker is", limit)
        return
    with pytest.raises(RefusedError) as refused:
        refuse_small_limit(needed, headroom, "the worker is", limit)
    more, _, value = str(refused.value).rpartition("at least ")[2].partition(" MiB")
    refuse_small_limit(needed, headroom + int(more) * MIB, "the worker is", limit)
    if limit is None:
        assert not value
    else:
        to = int(value.removeprefix(", to ").removesuffix("Mi"))
        assert 0 <= to * MIB - limit - int(more) * MIB < MIB


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dev/nvidia0", True),
        ("/dev/nvidia-caps", True),
        ("/proc/driver/nvidia", True),
        (LIBRARY, True),
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.570.1", False),
        ("/dev/shm", False),
        ("/data", False),
    ],
)
def test_mounts_of_the_driver(path, expected):
    assert expected == is_of_driver(path, DRIVER.version)


def test_the_manifest_names_devices_processes_and_libraries():
    use = GpuUse(DRIVER, (device(), device(1)), {700: 1002, 600: 1001}, {uuid(0): MIB})
    gpu = describe(use, {"/usr/bin/python3", LIBRARY})
    assert (MIB, [1001, 1002], [LIBRARY]) == (gpu.bytes, gpu.processes, gpu.driver_files)
    assert [(uuid(0), MIB), (uuid(1), 0)] == [(d.uuid, d.used) for d in gpu.devices]


@pytest.mark.parametrize(
    ("said", "devices", "numbers"),
    [
        pytest.param([0, 1, 1], (0, 1), [0, 1, 1], id="each-of-its-own"),
        pytest.param([1, 1], (0, 1), [1, 1], id="all-of-one"),
        pytest.param([5, 4], (4, 5), [1, 0], id="numbers-are-the-containers"),
        pytest.param([0, 0], (0,), [], id="the-only-one-is-not-named"),
        pytest.param([0, 7], (0, 1), [], id="a-device-that-the-container-lacks"),
    ],
)
def test_a_file_is_of_a_device_of_the_container_or_of_none(said, devices, numbers):
    assert numbers == devices_of_files([uuid(number) for number in said], [device(number) for number in devices])


def test_a_library_that_names_no_device_says_nothing():
    assert [] == devices_of_files(["", ""], [device(0), device(1)])


GIB = 1 << 30
FILES = {"a": PART, "b": PART, "c": 2 * PART, "d": 0}


def outside(process, files, devices):
    return DeviceMemory(process=process, files=list(files), bytes=GIB, devices=devices)


@pytest.mark.parametrize(
    ("cards", "memories", "free", "planned"),
    [
        pytest.param((0,), [outside(7, "ac", [])], [90], [(7, 0, {0: 1, 1: 2})], id="one-card"),
        pytest.param(
            (0, 1),
            [outside(7, "abc", [0, 0, 1])],
            [90, 90],
            [(7, 0, {0: 1, 1: 1}), (7, 1, {2: 2})],
            id="one-process-with-two-cards",
        ),
        pytest.param(
            (0, 1),
            [outside(7, "ab", [0, 0]), outside(8, "cd", [1, 1])],
            [90, 90],
            [(7, 0, {0: 1, 1: 1}), (8, 1, {0: 2})],
            id="two-processes-with-one-each",
        ),
        pytest.param((0, 1), [outside(7, "abc", [0, 0, 1])], [0, 90], [(7, 1, {2: 2})], id="no-room-on-one-card-alone"),
        pytest.param((0, 1), [outside(7, "abc", [])], [90, 90], [], id="not-known-which"),
        pytest.param((0, 1), [outside(7, "abc", [0, 5, 5])], [90, 90], [(7, 0, {0: 1})], id="one-that-is-not-there"),
    ],
)
def test_files_are_read_onto_the_card_that_they_come_from(cards, memories, free, planned):
    gpu = captured(*cards, used=GIB).model_copy(update={"outside": memories})
    found = plan_prefetches(gpu, FILES, [size * GIB for size in free])
    parts = [(each.memory.process, each.device, [part.file for part in each.parts]) for each in found]
    assert planned == [(process, card, {file: files.count(file) for file in files}) for process, card, files in parts]
