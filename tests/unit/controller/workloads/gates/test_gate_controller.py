# ruff: noqa: ARG002 - a fake takes what the seam gives
"""A gate that the API server does not let us lift: told on the pod, and not with every try."""

from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace

import pytest

from contract.api import keys
from contract.api.states import GateEvent
from contract.config.values import load_values
from controller.workloads.gates.gate_controller import SAY_AGAIN_SECONDS, GateController
from controller.workloads.gates.gate_policy import CheckpointView
from kube.errors import ForbiddenError, InvalidError, KubeError, ServerUnavailableError
from tests.support.builders.opted_in import GATE, NOW, pod, ready
from tests.support.pages import sections

KEY = ("ns", "web-1")
DENIED = ForbiddenError(403, "Forbidden", "policy x denied: no labels")
BY_HAND = (
    "kubectl patch pod web-1 -n ns --type=strategic -p "
    '\'{"spec":{"schedulingGates":[{"$patch":"delete","name":"nvidia.com/wait-for-checkpoint"}]}}\''
)


class Scene:
    """One held pod whose checkpoint is Ready, and a server that answers *errors* one after the other, then yes."""

    def __init__(self, *errors):
        self.errors, self.told, self.pods, self.seconds = list(errors), [], {KEY: pod("held", gates=[GATE])}, 0
        context = SimpleNamespace(
            kube=self,
            recorder=self,
            values=load_values(""),
            now=lambda: NOW + timedelta(seconds=self.seconds),
            claims=None,
        )
        informers = SimpleNamespace(get=self.pods.get, learn=lambda _: None)
        sights = SimpleNamespace(of=lambda _: CheckpointView(ready()))
        self.keeper = GateController(context, informers, sights, SimpleNamespace(lifted=lambda _: None))

    async def patch(self, *arguments, **more):
        if self.errors:
            raise self.errors.pop(0)
        return self.pods[KEY]

    def record(self, about, kind, reason, message):
        self.told.append((kind, reason, message))

    async def say_once(self, about, kind, reason, message):
        self.record(about, kind, reason, message)

    async def tries(self, *moments):
        for self.seconds in moments:
            with suppress(KubeError):
                await self.keeper.handle(KEY)
        return self.told


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(DENIED, id="a policy"),
        pytest.param(InvalidError(422, "Invalid", "policy x denied: no labels"), id="another code"),
        pytest.param(
            ServerUnavailableError("500 InternalError: failed calling webhook x denied: no labels"),
            id="a webhook that is down",
        ),
        pytest.param(ForbiddenError(403, "Forbidden", "x denied: no labels " + "y" * 2000), id="many words"),
    ],
)
async def test_the_pod_says_why_and_what_to_do_by_hand(error):
    ((kind, reason, message),) = await Scene(error).tries(0)

    assert ("Warning", GateEvent.REFUSED) == (kind, reason)
    assert "is Ready, but the API server refuses" in message
    assert "x denied: no labels" in message
    assert message.endswith(BY_HAND)
    assert len(message) < 1024


async def test_a_server_that_is_away_is_no_refusal():
    assert [] == await Scene(ServerUnavailableError("503 ServiceUnavailable: x")).tries(0)


async def test_the_queue_hears_of_it():
    """It tries again, later and later, and counts."""
    with pytest.raises(ForbiddenError):
        await Scene(DENIED).keeper.handle(KEY)


@pytest.mark.parametrize(
    ("expected", "moments"),
    [
        pytest.param(1, (0, 1, 60, SAY_AGAIN_SECONDS - 1), id="tries in between"),
        pytest.param(2, (0, 60, SAY_AGAIN_SECONDS), id="it lasts"),
    ],
)
async def test_it_is_said_now_and_then(expected, moments):
    assert expected == len(await Scene(*[DENIED] * len(moments)).tries(*moments))


async def test_nothing_is_remembered_of_a_pod_that_went():
    scene = Scene(DENIED)
    told = await scene.tries(0, 1)

    assert ["GateNotLifted", "GateLifted"] == [reason for _, reason, _ in told]
    assert {} == scene.keeper._refused


async def test_nothing_is_remembered_of_a_pod_that_is_gone():
    scene = Scene(DENIED)
    await scene.tries(0)
    scene.pods.clear()
    await scene.tries(1)

    assert {} == scene.keeper._refused


@pytest.mark.parametrize("event", [pytest.param(each, id=each.value) for each in GateEvent])
def test_every_event_is_explained(event):
    assert f"| `{event}` |" in sections("docs/reasons.md")["how-a-held-pod-was-let-go"]


def test_the_command_is_that_of_the_page():
    assert BY_HAND.split("-p ")[1] in sections("docs/operating.md")["why-is-this-pod-gated"]
    assert keys.SCHEDULING_GATE in BY_HAND
