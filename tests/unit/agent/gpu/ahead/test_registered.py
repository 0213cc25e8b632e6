"""Which files stay registered with the driver, and when they go."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gpu.ahead.registered import (
    GRAIN,
    Identity,
    Registered,
    RegisteredFiles,
    default_budget,
    is_short,
    plan_room,
)
from agent.gpu.driver import DriverError

MIB = 1 << 20
GIB = 1 << 30


def kept(size: int, used: float, users: int = 0) -> Registered:
    return Registered(Identity(1, int(used), size, 0), -1, 0, users, used)


@pytest.mark.parametrize(
    ("files", "size", "gone"),
    [
        pytest.param([], 10, [], id="room"),
        pytest.param([], 11, None, id="too-large"),
        pytest.param([kept(4, 1), kept(4, 2)], 2, [], id="room-beside-others"),
        pytest.param([kept(4, 2), kept(4, 1)], 3, [1.0], id="the-oldest-goes"),
        pytest.param([kept(4, 1), kept(4, 2)], 10, [1.0, 2.0], id="both-go"),
        pytest.param([kept(4, 1, users=1), kept(4, 2)], 3, [2.0], id="what-is-in-use-stays"),
        pytest.param([kept(4, 1, users=1), kept(4, 2)], 7, None, id="what-is-in-use-is-in-the-way"),
    ],
)
def test_room_for_another_file(files, size, gone):
    found = plan_room(files, size, budget=10)
    assert gone == (None if found is None else [each.used for each in found])


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 1))), st.integers(1, 40), st.integers(0, 40))
def test_the_budget_is_never_exceeded_and_nothing_in_use_goes(listed, size, budget):
    files = [kept(each, number, users) for number, (each, users) in enumerate(listed)]
    gone = plan_room(files, size, budget)
    if gone is not None:
        assert not any(each.users for each in gone)
        assert not gone or sum(each.size for each in files if each not in gone[:-1]) + size > budget
        within = sum(each.size for each in files) <= budget
        assert not within or sum(each.size for each in files if each not in gone) + size <= budget


@given(st.integers(0, 3 * GRAIN), st.integers(0, 3 * GRAIN))
def test_no_piece_goes_on_into_what_another_call_registered(offset, size):
    file = Registered(Identity(1, 1, 6 * GRAIN, 0), -1, at=1 << 40)
    at = file.at + offset
    for begin, length in file.pieces(offset, size):
        assert begin == at
        assert (begin - file.at) // GRAIN == (begin + length - 1 - file.at) // GRAIN
        at += length
    assert at == file.at + offset + size


@dataclass
class Recorded:
    """A driver that notes what is registered with it."""

    most: int = 1 << 60
    pieces: dict[int, int] = field(default_factory=dict)

    def register(self, at, size):
        if sum(self.pieces.values()) + size > self.most:
            raise DriverError("cuMemHostRegister_v2: CUDA error 2")
        self.pieces[at] = size

    def unregister(self, at):
        del self.pieces[at]


@pytest.fixture
def driver():
    return Recorded()


@pytest.fixture
def opened(tmp_path):
    """Open files of a size, by name."""
    descriptors = []

    def made(name: str, size: int = MIB) -> int:
        path = tmp_path / name
        if not path.exists():
            path.touch()
            os.truncate(path, size)
        descriptors.append(os.open(path, os.O_RDONLY))
        return descriptors[-1]

    yield made
    for each in descriptors:
        os.close(each)


@pytest.fixture
def shorts():
    """The last one says whether the node is short of memory."""
    return [False]


@pytest.fixture
def files_of(driver, shorts):
    """Make files with a budget; they are given up at the end."""
    made = []

    def files(budget: int = GIB) -> RegisteredFiles:
        made.append(RegisteredFiles(driver, budget, lambda _: shorts[-1]))
        return made[-1]

    yield files
    shorts.append(True)
    for each in made:
        each.review()


def test_a_file_is_registered_in_pieces_and_found_by_another_descriptor(driver, opened, files_of):
    files = files_of()
    files.keep(opened("one", GRAIN + MIB))
    assert [GRAIN, MIB] == list(driver.pieces.values())
    held = files.hold(opened("one"))
    assert [held.at, held.at + GRAIN] == list(driver.pieces)
    files.let_go(held)
    assert GRAIN + MIB == files.bytes
    files.keep(opened("one"))
    assert 2 == len(driver.pieces), "once is enough"


def test_nothing_is_registered_of_an_empty_file_or_without_room(driver, opened, files_of):
    files = files_of(budget=MIB)
    assert "" == files.keep(opened("empty", 0))
    assert "more than the budget of 1048576 bytes" == files.keep(opened("large", 2 * MIB))
    assert {} == driver.pieces


def test_what_was_used_longest_ago_goes(driver, opened, files_of):
    files = files_of(budget=2 * MIB)
    files.keep(opened("one"))
    files.keep(opened("two"))
    files.let_go(files.hold(opened("one")))
    files.keep(opened("three"))
    found = {name: is_kept(files, opened(name)) for name in ("one", "two", "three")}
    assert {"one": True, "two": False, "three": True} == found


def is_kept(files: RegisteredFiles, descriptor: int) -> bool:
    if (held := files.hold(descriptor)) is None:
        return False
    files.let_go(held)
    return True


@pytest.mark.parametrize("change", ["deleted", "longer", "written"])
def test_a_file_that_changes_is_given_up(driver, opened, files_of, tmp_path, change):
    files = files_of()
    files.keep(opened("one"))
    if change == "deleted":
        (tmp_path / "one").unlink()
    elif change == "longer":
        os.truncate(tmp_path / "one", 2 * MIB)
    else:
        (tmp_path / "one").write_bytes(b"x" * MIB)
    assert change == "deleted" or files.hold(opened("one")) is None
    files.review()
    assert ({}, 0) == (driver.pieces, files.bytes)


def test_all_but_what_is_in_use_goes_when_memory_is_short(driver, opened, files_of, shorts):
    files = files_of()
    files.keep(opened("one"))
    files.keep(opened("two"))
    held = files.hold(opened("two"))
    shorts.append(True)
    files.review()
    assert [held.at] == list(driver.pieces)
    files.let_go(held)
    files.review()
    assert {} == driver.pieces


def test_nothing_more_is_registered_when_memory_is_short(driver, opened, files_of, shorts):
    files = files_of()
    shorts.append(True)
    assert "less than an eighth of the node's memory would be left" == files.keep(opened("one"))
    assert {} == driver.pieces


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_file_that_the_driver_refuses_leaves_nothing(driver, opened, files_of, tmp_path):
    driver.most = GRAIN
    before = open_descriptors()
    files = files_of()
    descriptor = opened("one", 2 * GRAIN)
    with pytest.raises(DriverError):
        files.keep(descriptor)
    assert ({}, 0) == (driver.pieces, files.bytes)
    assert before + 1 == open_descriptors()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    ("available", "registered", "short"),
    [
        pytest.param(9 << 20, 0, False, id="enough"),
        pytest.param(9 << 20, GIB, False, id="an-eighth-left"),
        pytest.param(9 << 20, GIB + MIB, True, id="less-than-an-eighth-left"),
    ],
)
def test_a_node_is_short_of_memory(tmp_path, available, registered, short):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       {64 << 20} kB\nMemAvailable:   {available} kB\nHugePages_Total:       0\n")
    assert short == is_short(registered, str(meminfo))


@pytest.mark.parametrize(
    ("limit", "budget"),
    [pytest.param(4 * GIB, 2 * GIB, id="half-of-the-limit"), pytest.param(None, 8 * GIB, id="an-eighth-of-the-node")],
)
def test_the_budget_without_a_value(tmp_path, limit, budget):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       {64 << 20} kB\n")
    assert budget == default_budget(limit, str(meminfo))


def test_each_piece_waits_for_its_turn(driver, opened):
    turns = []
    files = RegisteredFiles(driver, GIB, lambda _: False, lambda: turns.append(len(driver.pieces)))
    files.keep(opened("one", 3 * GRAIN))
    assert [0, 1, 2] == turns
