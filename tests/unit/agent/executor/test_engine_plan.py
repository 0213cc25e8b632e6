"""How a worker's memory comes back is decided once, with a reason for each part of it, from what there is."""

import pytest

from agent.criu.shared_memory import Place, Segment
from agent.executor.memory.plan import SMALL, plan_memory
from agent.executor.restore.engine_plan import Offer, Stage, plan_engine, what_came
from artifact.parts.files import FileEntry
from artifact.parts.gpu import DeviceMemory, Gpu, GpuDevice
from contract.api.engine import Because, Choice, Memory, Way
from contract.api.reports import MemoryRestore, memory_word
from tests.support.builders.manifests import DIGEST, captured, manifest

GIB = 1 << 30


@pytest.mark.parametrize(
    ("expected", "pages", "forked", "node"),
    [
        pytest.param(("served", "large", "while-running"), GIB, 0, {}, id="large"),
        pytest.param(("served", "large", "while-running"), SMALL, 0, {}, id="just-large-enough"),
        pytest.param(("copied", "small", "copied-small"), SMALL - 4096, 0, {}, id="small"),
        pytest.param(("copied", "switched-off", "copied-switched-off"), GIB, 0, {"enabled": False}, id="switched-off"),
        pytest.param(("copied", "shared-since-fork", "copied-shared"), GIB, GIB // 2, {}, id="forked"),
        pytest.param(("served", "large", "while-running"), GIB, GIB // 20, {}, id="forked-with-little-in-common"),
        pytest.param(
            ("copied", "lost-before", "copied-after-loss"), GIB, 0, {"lost_before": True}, id="its-server-ended-before"
        ),
        pytest.param(
            ("copied", "criu-fails", "copied-criu-fails"), GIB, 0, {"criu_fails": True}, id="this-criu-would-fail"
        ),
        pytest.param(("filled", "unguarded", "filled-first"), GIB, 0, {"guarded": False}, id="not-held-by-standby"),
        pytest.param(("filled", "parks", "filled-while-parked"), GIB, 0, {"parks": True}, id="parks"),
        pytest.param(("copied", "small", "copied-small"), 4096, 0, {"parks": True}, id="parks-and-is-small"),
    ],
)
def test_how_private_memory_comes_back(expected, pages, forked, node):
    choice = plan_memory(pages, forked, **{"enabled": True, "lost_before": False} | node)

    assert expected == (choice.way, choice.because, memory_word(choice))
    assert (Memory.PRIVATE, pages) == (choice.memory, choice.bytes)


def test_a_server_that_could_not_be_used_has_its_own_word():
    choice = Choice(Memory.PRIVATE, Way.COPIED, Because.NO_SERVER, GIB)

    assert MemoryRestore.NO_SERVER == memory_word(choice)


def worker(pages=GIB, outside=(GIB, GIB), device=3 * GIB, cards=1, of=()):
    """Build the manifest of a worker with device memory in files of these sizes; without any, in the image."""
    files = {f"device-memory-7-{number}.img": size for number, size in enumerate(outside)}
    memories = [DeviceMemory(process=7, files=list(files), bytes=sum(outside), devices=list(of))] if outside else []
    devices = [GpuDevice(uuid=f"{number:032x}", model="H200", used=device // cards) for number in range(cards)]
    gpu = Gpu(driver="580.1", cuda="13.0", devices=devices, processes=[7], outside=memories)
    sizes = {"pages-1.img": pages} | files
    entries = {name: FileEntry(size=size, blake3=DIGEST) for name, size in sizes.items()}
    return manifest(captured(gpu=gpu if device else None), *sizes).model_copy(update={"files": entries})


SERVED = ("memory", "served", "large", GIB)


@pytest.mark.parametrize(
    ("expected", "found", "offered"),
    [
        pytest.param([SERVED], worker(device=0, outside=()), {}, id="no-devices"),
        pytest.param(
            [SERVED, ("device-memory", "image", "captured-so", 3 * GIB)], worker(outside=()), {}, id="in-the-image"
        ),
        pytest.param(
            [
                SERVED,
                ("device-memory", "ahead", "room", 2 * GIB),
                ("device-memory", "image", "captured-so", GIB),
            ],
            worker(),
            {},
            id="read-ahead",
        ),
        pytest.param(
            [
                SERVED,
                ("device-memory", "files", "no-room", 2 * GIB),
                ("device-memory", "image", "captured-so", GIB),
            ],
            worker(),
            {"spare": [4 * GIB]},
            id="no-room-beside-the-worker",
        ),
        pytest.param(
            [
                SERVED,
                ("device-memory", "files", "prefetch-off", 2 * GIB),
                ("device-memory", "image", "captured-so", GIB),
            ],
            worker(),
            {"prefetches": False},
            id="not-read-ahead-here",
        ),
        pytest.param(
            [SERVED, ("device-memory", "files", "unknown-card", 2 * GIB)],
            worker(cards=2, device=2 * GIB),
            {"spare": [90 * GIB, 90 * GIB]},
            id="of-which-card",
        ),
        pytest.param(
            [SERVED, ("device-memory", "ahead", "room", 2 * GIB)],
            worker(cards=2, device=2 * GIB, of=[0, 1]),
            {"spare": [90 * GIB, 90 * GIB]},
            id="two-cards",
        ),
        pytest.param(
            [("memory", "filled", "parks", GIB), ("device-memory", "later", "parks", 3 * GIB)],
            worker(),
            {"stage": Stage.PARK},
            id="parks",
        ),
        pytest.param(
            [
                ("memory", "kept", "parked", GIB),
                ("device-memory", "ahead", "room", 2 * GIB),
                ("device-memory", "image", "captured-so", GIB),
            ],
            worker(),
            {"stage": Stage.WAKE},
            id="is-woken",
        ),
    ],
)
def test_each_part_has_a_way_and_a_reason(expected, found, offered):
    plan = plan_engine(Offer(**{"manifest": found, "prefetches": True, "spare": [90 * GIB]} | offered))

    assert expected == [(each.memory, each.way, each.because, each.bytes) for each in plan.choices]
    ahead = sum(each.bytes for each in plan.choices if each.way is Way.AHEAD)
    assert ahead == sum(part.size for each in plan.prefetches for part in each.parts)


SEGMENT = Segment(3, Place(7, 0), 1, ((0, 0, GIB),))


@pytest.mark.parametrize(
    ("expected", "offered"),
    [
        pytest.param(["large"], {}, id="filled-by-us"),
        pytest.param(["large"], {"stage": Stage.PARK}, id="when-it-parks-too"),
        pytest.param([], {"stage": Stage.WAKE}, id="not-again-when-it-is-woken"),
        pytest.param([], {"lazy_pages": False}, id="switched-off"),
    ],
)
def test_shared_memory_is_filled_by_us_if_there_is_enough(expected, offered):
    plan = plan_engine(Offer(**{"manifest": worker(device=0, outside=()), "segments": (SEGMENT,)} | offered))

    assert expected == [each.because for each in plan.choices if each.memory is Memory.SHARED]
    assert len(expected) == len(plan.shared)


@pytest.mark.parametrize(
    ("expected", "memory", "ahead"),
    [
        pytest.param([SERVED, ("ahead", 2), ("image", 1)], None, 2, id="as-planned"),
        pytest.param([SERVED, ("ahead", 1), ("files", 1), ("image", 1)], None, 1, id="some-was-not-there-in-time"),
        pytest.param([SERVED, ("files", 2), ("image", 1)], None, 0, id="none-was"),
        pytest.param(
            [("memory", "copied", "no-server", GIB), ("ahead", 2), ("image", 1)],
            Choice(Memory.PRIVATE, Way.COPIED, Because.NO_SERVER, GIB),
            2,
            id="no-server",
        ),
    ],
)
def test_what_went_otherwise_is_noted(expected, memory, ahead):
    plan = plan_engine(Offer(manifest=worker(), prefetches=True, spare=[90 * GIB]))
    came = what_came(plan, memory or plan.memory, ahead * GIB)

    first, *device = came
    assert expected[0] == (first.memory, first.way, first.because, first.bytes)
    assert expected[1:] == [(each.way, each.bytes // GIB) for each in device]
    assert [Because.NOT_IN_TIME] * (ahead < 2) == [each.because for each in device if each.way is Way.FILES]


@pytest.mark.parametrize(
    ("expected", "ahead", "lent"),
    [
        pytest.param([("ahead", 2)], 2, 0, id="none"),
        pytest.param([("lent", 2)], 2, 2, id="all"),
        pytest.param([("lent", 1), ("ahead", 1)], 2, 1, id="some"),
        pytest.param([("lent", 1), ("files", 1)], 1, 1, id="as-much-as-came-in-time"),
    ],
)
def test_what_another_worker_lent_is_noted(expected, ahead, lent):
    plan = plan_engine(Offer(manifest=worker(), prefetches=True, spare=[90 * GIB]))
    _, *device, image = what_came(plan, plan.memory, ahead * GIB, lent * GIB)

    assert Way.IMAGE is image.way
    assert expected == [(each.way, each.bytes // GIB) for each in device]
