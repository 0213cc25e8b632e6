"""The order in which a PyTorch worker is made ready, on a torch that only notes what it is asked."""

import sys
import threading
from types import SimpleNamespace

import pytest

import snapshot_sdk
import snapshot_sdk.torch
from contract.api import control_files, keys
from snapshot_sdk import Outcome


class Notes(list):
    """What was done, in order; a function of each name is made when it is asked for."""

    def does(self, word, result=None):
        def do(*arguments):
            self.append(" ".join([word, *map(str, arguments)]))
            return result

        return do


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def world(monkeypatch, notes, tmp_path):
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 3,
        current_device=lambda: 1,
        memory_reserved=lambda device: 0 if device == 2 else 1,
        set_device=notes.does("device"),
        synchronize=notes.does("synchronize"),
        empty_cache=notes.does("empty"),
    )
    distributed = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_rank=lambda: 1,
        get_world_size=lambda: 2,
        destroy_process_group=notes.does("destroy"),
    )
    torch = SimpleNamespace(cuda=cuda, distributed=distributed)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv(keys.ENV_CONTROL_DIR, str(tmp_path))
    monkeypatch.setattr(snapshot_sdk, "quiesce", notes.does("quiesce", Outcome.RESTORED))
    return torch


def test_everything_in_order(world, notes):
    outcome = snapshot_sdk.torch.quiesce(
        before=[notes.does("before")], after=[notes.does("after")], join=notes.does("join")
    )
    assert Outcome.RESTORED == outcome
    ready = ["synchronize 0", "synchronize 1", "synchronize", "empty", "quiesce 1 2"]
    expected = ["before", "destroy", *ready, "join", "after"]
    assert expected == [note for note in notes if note != "device 1"]
    assert 4 == notes.count("device 1")


def test_groups_stay_without_a_way_to_join_again(world, notes):
    snapshot_sdk.torch.quiesce()
    assert "quiesce 1 2" == notes[-1]
    assert "destroy" not in notes


def test_a_worker_without_cuda_or_groups(world, notes):
    world.cuda.is_initialized = lambda: False
    world.distributed.is_initialized = lambda: False
    snapshot_sdk.torch.quiesce(join=notes.does("join"))
    assert ["quiesce 0 1", "join"] == notes


def test_nothing_is_done_where_no_snapshots_are_taken(world, notes, monkeypatch):
    for name in snapshot_sdk.ENV_CONTROL_DIR:
        monkeypatch.delenv(name, raising=False)
    assert Outcome.NOT_MANAGED == snapshot_sdk.torch.quiesce(before=[notes.does("before")])
    assert [] == notes


def test_a_hook_that_hangs_is_named(world, notes):
    released = threading.Event()

    def hangs():
        released.wait(60)

    with pytest.raises(snapshot_sdk.torch.HookTimeoutError, match=r"hangs did not return within 0\.05 s"):
        snapshot_sdk.torch.quiesce(before=[hangs], seconds=0.05)
    released.set()
    assert "quiesce 1 2" not in notes


def test_the_error_of_a_hook_is_the_callers(world):
    with pytest.raises(ZeroDivisionError):
        snapshot_sdk.torch.quiesce(before=[lambda: 1 / 0])


def test_rank_0_waits_for_no_rank_where_the_container_started_cold(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.ENV_CONTROL_DIR, str(tmp_path))
    (tmp_path / control_files.RESTORE_COMPLETE).write_text(control_files.COLD_START)
    assert Outcome.COLD == snapshot_sdk.quiesce(0, 2)


def test_rank_0_says_that_the_worker_is_ready_once_all_others_wait(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.ENV_CONTROL_DIR, str(tmp_path))
    ready = tmp_path / control_files.READY_FOR_SNAPSHOT
    (tmp_path / "quiesced-2").write_text("of a container before")
    outcomes = []
    threads = [
        threading.Thread(target=lambda rank=rank: outcomes.append(snapshot_sdk.quiesce(rank, 3))) for rank in range(3)
    ]
    for thread in threads[:2]:
        thread.start()
    while not (tmp_path / "quiesced-1").exists():
        threads[1].join(0.01)
    threads[0].join(0.3)
    assert not ready.exists()
    threads[2].start()
    while not ready.exists():
        threads[0].join(0.01)
    assert not outcomes
    (tmp_path / control_files.RESTORE_COMPLETE).write_text(control_files.DONE)
    for thread in threads:
        thread.join(5)
    assert [Outcome.RESTORED] * 3 == outcomes
