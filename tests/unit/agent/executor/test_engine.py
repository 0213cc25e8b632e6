"""The engine takes containers at once and works on some at a time; a claim is never left behind."""

import asyncio
import fcntl
import os
import threading
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest

from agent.container.find import RunningContainer
from agent.errors import ContainerError
from agent.executor import acquire, image
from agent.executor import engine as engine_module
from agent.executor.api import ContainerRef, ImageConfigRequest, RejectRequest, RestoreRequest
from agent.executor.engine import NodeEngine
from agent.executor.environment import NodeEnvironment
from agent.executor.phases import Phase
from contract.api import control_files, keys
from contract.api.reports import ImageConfig, ReportPhase
from contract.api.states import AgentReason

NONCE = "0123456789abcdef" * 2
WAIT = 10


class Standbys:
    """Containers whose standby is this very process: it has their claim files open."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.open: list[int] = []

    def place(self, number: int) -> ContainerRef:
        return ContainerRef("ns", f"pod-{number}", f"00000000-0000-4000-8000-{number:012}", "main")

    def control(self, number: int) -> Path:
        return self.folder / self.place(number).pod_uid / f"volumes/kubernetes.io~empty-dir/{keys.CONTROL_VOLUME}/main"

    def start(self, number: int) -> ContainerRef:
        directory = self.control(number)
        directory.mkdir(parents=True)
        (directory / control_files.CLAIM).write_text(f"{NONCE}\n")
        self.open.append(os.open(directory / control_files.CLAIM, os.O_RDWR))
        return self.place(number)

    def is_claimed(self, number: int) -> bool:
        with (self.control(number) / control_files.CLAIM).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def verdict(self, number: int) -> str:
        return (self.control(number) / control_files.VERDICT).read_text()


@pytest.fixture
def standbys(tmp_path, monkeypatch):
    made = Standbys(tmp_path / "pods")
    made.folder.mkdir()
    monkeypatch.setattr(acquire, "find_container", lambda *_: RunningContainer(os.getpid(), "c" * 64, acquire.STANDBY))
    yield made
    for fd in made.open:
        os.close(fd)


@pytest.fixture
def engine(standbys, tmp_path):
    """One restore at a time."""
    environment = NodeEnvironment(criu=None, work=tmp_path, kubelet_pods=standbys.folder, host_root=tmp_path)
    return NodeEngine(environment, at_once=1)


@pytest.fixture
def busy(monkeypatch):
    """Restores last until they are let go; answers what lets them go."""
    free = threading.Event()

    def slow(restore):
        assert free.wait(WAIT)
        restore.artifact = SimpleNamespace(size=4096, manifest=SimpleNamespace(connections=None))
        restore.lock.restored(1001)

    monkeypatch.setattr(engine_module, "RESTORE", (Phase(ReportPhase.ENTER, slow),))
    yield free
    free.set()


def request(place: ContainerRef) -> RestoreRequest:
    return RestoreRequest(place, "abc", "1", PurePosixPath("/checkpoints"), False, "blake3:00")


async def until(condition) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110 - a lock in the hand of another thread sends no signal
            await asyncio.sleep(0.005)


async def test_every_container_is_claimed_though_one_is_worked_on_at_a_time(standbys, engine, busy):
    """Else those at the end of a queue would start cold after standby's five seconds."""
    places = [standbys.start(number) for number in range(24)]
    work = [asyncio.create_task(engine.restore(request(place))) for place in places]
    await until(lambda: all(standbys.is_claimed(number) for number in range(24)))
    busy.set()
    outcomes = await asyncio.gather(*work)

    assert [True] * 24 == [outcome.ok for outcome in outcomes]
    assert all("queue" in outcome.seconds for outcome in outcomes)
    assert not any(standbys.is_claimed(number) for number in range(24))
    assert {f"restored {NONCE} 1001\n"} == {standbys.verdict(number) for number in range(24)}


async def test_work_that_is_called_off_in_the_queue_lets_its_container_go(standbys, engine, busy):
    first, second = standbys.start(1), standbys.start(2)
    running = asyncio.create_task(engine.restore(request(first)))
    await until(lambda: standbys.is_claimed(1))
    waiting = asyncio.create_task(engine.restore(request(second)))
    await until(lambda: standbys.is_claimed(2))
    waiting.cancel()
    await until(lambda: not standbys.is_claimed(2))
    busy.set()

    assert (await running).ok
    assert not (standbys.control(2) / control_files.VERDICT).exists()


async def test_a_refusal_does_not_wait_for_restores(standbys, engine, busy):
    """It costs nothing, so it has no turn to wait for."""
    first, second = standbys.start(1), standbys.start(2)
    running = asyncio.create_task(engine.restore(request(first)))
    await until(lambda: standbys.is_claimed(1))
    outcome = await asyncio.wait_for(
        engine.reject(RejectRequest(second, AgentReason.CHECKPOINT_NOT_READY, "it failed")), WAIT / 2
    )
    busy.set()

    assert (await running).ok
    assert (False, "checkpoint-not-ready", "c" * 64) == (outcome.ok, outcome.reason, outcome.container_id)
    assert f"failed {NONCE} clean it failed\n" == standbys.verdict(2)


def failing_at_first(*errors):
    """A restore whose first attempts end in these errors."""
    left = list(errors)

    def run(restore):
        if left:
            raise left.pop(0)
        restore.artifact = SimpleNamespace(size=4096, manifest=SimpleNamespace(connections=None))
        restore.lock.restored(1001)

    return run


FAILED = ContainerError(AgentReason.TREE_MISSING, "not there")
LASTING = ContainerError(AgentReason.MOUNTS_MISSING, "no /data")


@pytest.mark.parametrize(
    ("expected", "attempts", "errors", "clean"),
    [
        pytest.param((True, "", ["tree-missing"]), 2, (FAILED,), True, id="the second succeeds"),
        pytest.param((True, "", ["tree-missing"] * 2), 5, (FAILED, FAILED), True, id="as many as it takes"),
        pytest.param((False, "tree-missing", ["tree-missing"]), 2, (FAILED, FAILED), True, id="the last fails"),
        pytest.param((False, "tree-missing", []), 1, (FAILED,), True, id="only one"),
        pytest.param((False, "mounts-missing", []), 5, (LASTING,), True, id="another would not help"),
        pytest.param((False, "mounts-missing", ["tree-missing"]), 5, (FAILED, LASTING), True, id="nor would a third"),
        pytest.param((False, "tree-missing", []), 5, (FAILED,), False, id="something is left of it"),
    ],
)
async def test_attempts(standbys, engine, monkeypatch, expected, attempts, errors, clean):
    phase = Phase(ReportPhase.ENTER, failing_at_first(*errors), undo=lambda _: clean)
    monkeypatch.setattr(engine_module, "RESTORE", (phase,))
    monkeypatch.setattr(engine_module, "RETRY_PAUSE", 0.0)
    outcome = await engine.restore(replace(request(standbys.start(1)), attempts=attempts))

    assert expected == (outcome.ok, outcome.reason, [reason for reason, _ in outcome.tried])
    word = "restored" if outcome.ok else f"failed {NONCE} {'clean' if clean else 'dirty'}"
    assert standbys.verdict(1).startswith(word), "standby hears of the last attempt alone"


async def test_a_container_that_starts_later_is_met(standbys, engine, busy):
    busy.set()
    work = asyncio.create_task(engine.restore(request(standbys.place(1))))
    await asyncio.sleep(0.05)
    standbys.start(1)

    assert (await work).ok


async def test_a_container_that_has_started_by_itself_is_too_late(standbys, engine):
    place = standbys.start(1)
    (standbys.control(1) / control_files.RESTORE_COMPLETE).write_text(control_files.COLD_START)

    outcome = await engine.restore(request(place))

    assert ("already-started", False) == (outcome.reason, outcome.retry)


async def test_standby_is_told_what_the_image_runs(standbys, engine, monkeypatch):
    place = standbys.start(1)
    config = ImageConfig(("python3", "-m"), ("ü", ""))
    monkeypatch.setattr(image.image_config, "read_config", lambda *_: config)

    outcome = await engine.provide_image_config(ImageConfigRequest(place, "sha256:ab"))

    assert outcome.ok
    assert b"python3\0-m\0" == (standbys.control(1) / control_files.IMAGE_ENTRYPOINT).read_bytes()
    assert "ü\0\0".encode() == (standbys.control(1) / control_files.IMAGE_CMD).read_bytes()


async def test_an_image_that_cannot_be_read_is_told_to_the_caller(standbys, engine):
    outcome = await engine.provide_image_config(ImageConfigRequest(standbys.start(1), "worker:1"))

    assert ("image-unreadable", False) == (outcome.reason, outcome.retry)
    assert not (standbys.control(1) / control_files.IMAGE_ENTRYPOINT).exists()


async def test_nobody_is_told_before_standby_is_there(standbys, engine):
    assert (await engine.provide_image_config(ImageConfigRequest(standbys.place(1), "sha256:ab"))).retry
