"""In what order processes find out whose memory they share; how long a hostile one may keep the agent."""

import os
from dataclasses import dataclass, field

import pytest

from agent.executor.gpu.shared_memory import SpoiledError, find_owners, share_again
from agent.gpu.cuda import CudaError
from agent.gpu.device_memory import Wanted
from contract.api.states import AgentReason

FAILED = CudaError(AgentReason.GPU_FAILED, "it fails")


@dataclass
class Log:
    """Says what was done, as a hold and as a conversation; fails at one step."""

    fails: str = ""
    said: list[str] = field(default_factory=list)

    def __getattr__(self, name):
        def act(*_):
            self.said.append(name)
            if name == self.fails:
                raise FAILED

        return act

    def run(self, act, pids):
        for pid in pids:
            act(pid)


@pytest.mark.parametrize(
    ("fails", "expected", "error"),
    [
        pytest.param("", "await_kernels bind tag match untag unbind", None, id="found"),
        pytest.param("match", "await_kernels bind tag match untag unbind", CudaError, id="not-found"),
        pytest.param("untag", "await_kernels bind tag match untag", SpoiledError, id="spoiled"),
        pytest.param("await_kernels", "await_kernels", CudaError, id="not-quiet"),
    ],
)
def test_no_process_outlives_the_agent_while_marks_are_in_its_memory(fails, expected, error):
    log = Log(fails)
    if error is None:
        find_owners(log, {7: log}, [7])
    else:
        with pytest.raises(error):
            find_owners(log, {7: log}, [7])
    assert expected.split() == log.said


class Endless:
    """Waits for ever more memory of its own."""

    def wanted(self, first):
        return Wanted(first, owner=1, segment=0)

    def export_memory(self, _):
        return os.dup(0)

    def import_memory(self, number, descriptor):
        pass


def test_a_library_that_is_never_done_ends_its_restore():
    with pytest.raises(CudaError, match=r"had not all device memory of others again within 0 s"):
        share_again({7: Endless()}, {7: 1}, seconds=0.05)
