"""Another worker's memory is mapped when it is first needed, and let go of once."""

import os
from dataclasses import dataclass, field

import pytest

from agent.gpu.ahead.device import Memory
from agent.gpu.ahead.lent import Lent, LentSegment, Run
from agent.gpu.ahead.neighbour import Neighbour
from agent.gpu.driver import DriverError
from agent.gpu.ranges import UNIT


@dataclass
class Card:
    """Maps segment n at (n + 1) << 40."""

    taken: list[int] = field(default_factory=list)
    freed: list[int] = field(default_factory=list)
    fails: bool = False
    is_far: bool = False

    def take(self, descriptor: int, size: int) -> Memory:  # noqa: ARG002
        if self.fails:
            raise DriverError("cuMemSetAccess: CUDA error 101")
        self.taken.append(size)
        return Memory(len(self.taken), len(self.taken) << 40, size)

    def is_linked(self, _memory: Memory) -> bool:
        return not self.is_far

    def free(self, memory: Memory) -> None:
        self.freed.append(memory.handle)


@pytest.fixture
def card():
    return Card()


@pytest.fixture
def neighbour(card):
    places = os.memfd_create("places")
    os.write(places, b"".join(number.to_bytes(4, "little") for number in (1, 17, 2, 0)) + b"odd")
    segments = [LentSegment(0, 2 * UNIT, os.dup(places)), LentSegment(2, UNIT, os.dup(places))]
    return Neighbour(card, Lent(segments, places))


def test_what_is_needed_is_mapped_once(card, neighbour):
    (run,) = neighbour.runs(0, 0, 9)
    assert Run(0, 2, 0, 0) == run
    assert [1 << 40, 1 << 40] == [neighbour.address(run) for _ in range(2)]
    (other,) = neighbour.runs(1, 0, 9)
    assert 2 << 40 == neighbour.address(other)
    assert [2 * UNIT, UNIT] == card.taken
    assert [] == list(neighbour.runs(7, 0, 9))
    neighbour.close()
    assert [1, 2] == card.freed


def test_a_card_that_does_not_reach_it_is_not_asked_again(card, neighbour):
    card.fails = True
    (run,) = neighbour.runs(0, 0, 9)
    assert neighbour.address(run) is None
    card.fails = False
    assert neighbour.address(run) is None
    assert "cuMemSetAccess: CUDA error 101" == neighbour.refused
    neighbour.close()


def test_by_the_bus_it_would_be_no_faster(card, neighbour):
    card.is_far = True
    (run,) = neighbour.runs(0, 0, 9)
    assert [None, None] == [neighbour.address(run) for _ in range(2)]
    assert "but the bus" in neighbour.refused
    neighbour.close()
    assert [1] == card.freed
