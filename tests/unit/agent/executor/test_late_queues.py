"""Message queues that come while a worker is captured."""

import pytest

from agent.errors import RefusedError
from agent.executor.capture.given_files import refuse_late_queues
from contract.api.states import AgentReason
from linux.ipc.mqueue import QueueStatus


def queues(*names):
    return [QueueStatus(name) for name in names]


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [
        pytest.param(["a"], ["a", "b"], False, id="one-more"),
        pytest.param([], ["b"], False, id="the-first"),
        pytest.param([], ["b"], True, id="of-a-worker-that-goes-on"),
        pytest.param(["b"], ["b"], True, id="since-that-worker-was-looked-at"),
    ],
)
def test_it_is_refused_before_anything_is_taken_out_of_it(before, after, goes_on):
    with pytest.raises(RefusedError, match="/b was made while the worker was captured") as refusal:
        refuse_late_queues(queues(*before), queues(*after), goes_on=goes_on)
    assert AgentReason.MESSAGE_QUEUE == refusal.value.code


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b"]], ids=["none", "one", "two"])
def test_those_of_before_are_taken(names):
    refuse_late_queues(queues(*names), queues(*names), goes_on=False)
