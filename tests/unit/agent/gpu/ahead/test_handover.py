"""Parts that are on the card, and buffers of the process that they belong to."""

import os
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gpu.ahead.buffers import Buffer, Buffers
from agent.gpu.ahead.device import Memory
from agent.gpu.ahead.handover import Handover, Staged
from agent.gpu.driver import DriverError

SIZE = 2 << 20


@dataclass
class Card:
    """Maps, and notes what is copied."""

    refuses: bool = False
    taken: list[int] = field(default_factory=list)
    copied: list[tuple[int, int, int]] = field(default_factory=list)

    def enter(self):
        pass

    def allocate(self, size):
        return Memory(0, 0, size)

    def take(self, descriptor, size):
        if self.refuses:
            raise DriverError("cuMemImportFromShareableHandle: CUDA error 101")
        self.taken.append(descriptor)
        return Memory(0, 1000 * descriptor, size)

    def free(self, memory):
        self.taken.remove(memory.at // 1000)

    @contextmanager
    def copies(self):
        yield lambda *copy: self.copied.append(copy)


def staged(number: int) -> Staged:
    return Staged(number, SIZE, Buffer(number, Memory(0, number, SIZE)), 0, 0.0)


@pytest.fixture
def card():
    return Card()


@dataclass
class Process:
    """Takes what is said, and is done with it at once."""

    handover: Handover | None = None
    came: list[tuple[int, int]] = field(default_factory=list)

    def take(self, part: Staged, buffer: int) -> None:
        self.came.append((part.number, buffer))
        self.handover.done(buffer)


@pytest.fixture
def process():
    made = Process()
    made.handover = Handover(Buffers(SIZE, 8 * SIZE), SIZE, made.take)
    return made


def opened(process: Process, count: int) -> list[int]:
    made = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    process.handover.open(made)
    return made


def test_parts_go_to_the_process_through_its_buffers_in_turn(card, process):
    for number in range(5):
        process.handover.add(staged(number))
    first, second = opened(process, 2)
    process.handover.complete()
    process.handover.run(card)
    assert [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)] == process.came
    assert [(1000 * (first, second)[n % 2], n, SIZE) for n in range(5)] == card.copied
    assert [] == card.taken, "they are let go of"


def test_a_part_waits_for_a_buffer_that_is_done(card):
    came = deque()
    handover = Handover(Buffers(SIZE, 8 * SIZE), SIZE, lambda part, buffer: came.append((part.number, buffer)))
    handover.open([os.open("/dev/null", os.O_RDONLY)])
    for number in range(2):
        handover.add(staged(number))
    handover.complete()
    running = threading.Thread(target=handover.run, args=(card,))
    running.start()
    running.join(0.05)
    assert [(0, 0)] == list(came)
    handover.done(0)
    running.join(10)
    assert [(0, 0), (1, 0)] == list(came)


@pytest.mark.parametrize("opens", [pytest.param(True, id="opened"), pytest.param(False, id="never-opened")])
def test_an_end_leaves_what_is_not_copied(card, process, opens):
    process.handover.add(staged(0))
    process.handover.end()
    if opens:
        opened(process, 1)
    process.handover.run(card)
    assert ([], []) == (process.came, card.copied)


def test_nothing_to_hand_over_waits_for_no_process(card, process):
    process.handover.complete()
    process.handover.run(card)
    assert "" == process.handover.error


def test_memory_that_cannot_be_mapped_ends_it_with_the_reason(process):
    process.handover.add(staged(0))
    opened(process, 1)
    process.handover.run(Card(refuses=True))
    assert "cuMemImportFromShareableHandle: CUDA error 101" == process.handover.error
    assert [] == process.came


@pytest.mark.parametrize("first", [pytest.param("open", id="before"), pytest.param("close", id="after")])
def test_descriptors_are_closed_whenever_they_come(process, first):
    if first == "close":
        process.handover.close()
    descriptors = opened(process, 2)
    if first == "open":
        process.handover.close()
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@given(parts=st.integers(0, 20), buffers=st.integers(1, 5))
def test_every_part_comes_once_whatever_there_is_of_buffers(parts, buffers):
    card, process = Card(), Process()
    process.handover = Handover(Buffers(SIZE, SIZE), SIZE, process.take)
    opened(process, buffers)
    for number in range(parts):
        process.handover.add(staged(number))
    process.handover.complete()
    process.handover.run(card)
    process.handover.close()
    assert list(range(parts)) == [number for number, _ in process.came]
    assert {buffer for _, buffer in process.came} <= set(range(buffers))
