"""Device memory that parts pass through: how much there is, and when it is filled again."""

import threading
from dataclasses import dataclass, field

import pytest

from agent.gpu.ahead.buffers import Buffers
from agent.gpu.ahead.device import Memory
from agent.gpu.driver import DriverError

MIB = 1 << 20


@dataclass
class Card:
    """Allocates, and notes what is allocated."""

    is_full: bool = False
    allocated: list[int] = field(default_factory=list)

    def allocate(self, size):
        if self.is_full:
            raise DriverError("cuMemCreate: CUDA error 2")
        self.allocated.append(size)
        return Memory(len(self.allocated), 0, size)

    def free(self, memory):
        self.allocated.remove(memory.size)


@pytest.fixture
def card():
    return Card()


@pytest.fixture
def buffers(card):
    made = Buffers(2 * MIB, 5 * MIB)
    yield made
    made.free(card)


def test_a_buffer_that_is_done_comes_again_with_its_number(card, buffers):
    first, second = (buffers.take(card) for _ in range(2))
    assert [0, 1] == [first.number, second.number]
    buffers.done(second.number)
    assert second is buffers.take(card)
    assert [2 * MIB, 2 * MIB] == card.allocated


def later(take) -> tuple[threading.Thread, list[object]]:
    came = []
    waiting = threading.Thread(target=lambda: came.append(take()))
    waiting.start()
    return waiting, came


def test_without_room_the_next_one_is_waited_for(card, buffers):
    first, _ = (buffers.take(card) for _ in range(2))
    waiting, came = later(lambda: buffers.take(card))
    buffers.done(first.number)
    waiting.join(10)
    assert [first] == came


def test_an_end_is_an_answer_to_those_that_wait(card, buffers):
    for _ in range(2):
        buffers.take(card)
    waiting, came = later(lambda: buffers.take(card))
    buffers.end()
    waiting.join(10)
    assert [None] == came
    assert buffers.take(card) is None


def test_there_is_one_in_any_case(card):
    buffers = Buffers(2 * MIB, MIB)
    assert 0 == buffers.take(card).number
    buffers.done(0)
    assert 0 == buffers.take(card).number
    buffers.free(card)


def test_a_number_that_is_none_of_theirs_is_left_alone(card, buffers):
    buffers.done(7)
    assert 0 == buffers.take(card).number


def test_all_are_freed_even_those_in_use(card, buffers):
    for _ in range(2):
        buffers.take(card)
    buffers.free(card)
    assert [] == card.allocated


def test_a_full_card_is_an_error(card, buffers):
    card.is_full = True
    with pytest.raises(DriverError):
        buffers.take(card)
