"""What stays of files for the restores after, and why it does not."""

import os
import queue

from agent.gpu.ahead.keeper import Keeper
from agent.gpu.driver import DriverError


class Card:
    """Compiles nothing."""

    def enter(self):
        pass

    def allocate(self, _size):
        raise AssertionError("nothing is to be summed there")

    def load(self, _code, _name):
        raise DriverError("cuModuleLoadData: CUDA error 221")


def test_a_card_that_takes_no_sums_says_why_once():
    said = queue.Queue()
    keeper = Keeper(None, 0, lambda **fields: said.put(fields))
    file = os.memfd_create("device-memory")
    for _ in range(2):
        keeper.keep(Card(), [file], registers=False, sums=True)
    os.close(file)
    expected = {"registered": 0, "refused": "", "summed": 0, "unsummed": "cuModuleLoadData: CUDA error 221"}
    assert expected == said.get(timeout=10)
    assert said.empty()
