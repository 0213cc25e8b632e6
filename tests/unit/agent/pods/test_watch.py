"""Each pod is handed to the controller of the work that it asks for."""

import pytest

from agent.pods.watch import Watch
from contract.api import keys
from kube.store import Change
from tests.support.builders import agent


class Hand:
    """Remembers what it was given."""

    def __init__(self):
        self.seen, self.forgotten = [], []
        self.see, self.forget = self.seen.append, self.forgotten.append


class Pods:
    def add_handler(self, handler):
        self.handler = handler


@pytest.fixture
def hands():
    return Hand(), Hand()


@pytest.fixture
def pods(hands):
    found = Pods()
    Watch(found, *hands, Hand(), Hand(), Hand())
    return found


@pytest.mark.parametrize(
    ("restores", "captures", "pod"),
    [
        pytest.param(1, 0, agent.target(), id="restore pod"),
        pytest.param(0, 1, agent.source(), id="capture pod"),
        pytest.param(0, 0, agent.target(labels={keys.LABEL_CHECKPOINT_ID: None}), id="any other pod"),
    ],
)
def test_role_decides(restores, captures, pod, pods, hands):
    pods.handler(Change(None, pod))

    assert (restores, captures) == tuple(len(hand.seen) for hand in hands)


@pytest.mark.parametrize("replaced", [pytest.param(False, id="gone"), pytest.param(True, id="another of its name")])
def test_a_pod_that_is_gone_is_forgotten(replaced, pods, hands):
    old, new = agent.target(), agent.target()
    new["metadata"]["uid"] = "another"
    pods.handler(Change(old, new if replaced else None))

    assert [[old], [old]] == [hand.forgotten for hand in hands]
    assert int(replaced) == len(hands[0].seen)
