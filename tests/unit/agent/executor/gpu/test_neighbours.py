"""Which worker is asked for its memory."""

import os

import pytest

from agent.executor.gpu import neighbours
from agent.executor.gpu.neighbours import Neighbours
from agent.gpu.preload import Library

ALIVE = os.getpid()
ENDED = 1 << 22


def library(pid: int) -> Library:
    return Library(pid, 7, pid, frozenset())


@pytest.fixture
def asked(monkeypatch):
    """The workers that were asked, by the pid of their library."""
    found: list[int] = []
    monkeypatch.setattr(neighbours, "find_library", lambda pid, _: found.append(pid))
    return found


def test_workers_of_the_artifact_take_turns(asked):
    known = Neighbours()
    for digest, pid in (("a", 1), ("b", 2), ("a", 3)):
        known.note(digest, ALIVE, {7: library(pid)})
    for _ in range(3):
        assert known.lender("a", 7)() is None
    assert [1, 3, 1] == asked


@pytest.mark.parametrize(
    ("known", "digest", "process"),
    [
        pytest.param(Neighbours(), "b", 7, id="another-artifact"),
        pytest.param(Neighbours(), "a", 8, id="another-process"),
        pytest.param(Neighbours(are_asked=False), "a", 7, id="switched-off"),
    ],
)
def test_no_other_is_asked(known, digest, process):
    known.note("a", ALIVE, {7: library(1)})
    assert known.lender(digest, process) is None


def test_a_worker_without_device_memory_outside_is_none():
    known = Neighbours()
    known.note("a", ALIVE, {})
    assert known.lender("a", 7) is None


def test_those_that_have_ended_are_forgotten():
    known = Neighbours()
    known.note("a", ENDED, {7: library(1)})
    known.note("b", ALIVE, {7: library(2)})
    assert known.lender("a", 7) is None


def test_one_that_is_forgotten_is_not_asked_by_who_was_about_to(asked):
    known = Neighbours()
    known.note("a", ALIVE, {7: library(1)})
    ask = known.lender("a", 7)
    known.forget(ALIVE)
    assert ask() is None
    assert known.lender("a", 7) is None
