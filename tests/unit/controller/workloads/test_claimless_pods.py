# ruff: noqa: ARG002 - a fake takes what the seam gives
"""Held pods whose volume claim is missing when they are let go: where we may make it we do, else the pod is told."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from contract.api import keys
from contract.config.values import load_values
from controller.runtime.manager import ManagerContext
from controller.workloads import pods
from controller.workloads.checkpoint_view import CheckpointViews
from controller.workloads.gates.gate_controller import GateController
from controller.workloads.informers import PodInformers
from controller.workloads.metrics import Metrics
from kube.errors import AlreadyExistsError, ForbiddenError, ServerUnavailableError
from kube.informer import Informer, trimmed
from kube.recorder import Recorder
from kube.resources import CHECKPOINTS
from kube.volume_claims import VolumeClaimInformer, claims_informer
from tests.support.builders.opted_in import GATE, NAME, NOW, of_phase, ready, whole

MADE = "storage: {accessMode: podMount}"
OWN = "storage: {accessMode: podMount, pvc: {create: false}}"
QUOTA = ForbiddenError(403, "Forbidden", "exceeded quota: storage")


class Server:
    """Remembers what was written; answers *error* to a new claim."""

    def __init__(self, error=None):
        self.claims, self.events, self.patches, self.error = [], [], [], error

    async def create(self, resource, body, namespace=None, *, dry_run=False):
        if resource.plural == "events":
            self.events.append(body)
        else:
            self.claims.append(body["metadata"])
            if self.error:
                raise self.error
        return body

    async def patch(self, resource, name, body, namespace=None, **more):
        self.patches.append(body)
        return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": "8"}}


def held(claim="snapshot-pvc"):
    volume = {"name": keys.STORAGE_VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    return whole("held", gates=[GATE], volumes=[volume] if claim else [])


def claim(**metadata):
    return {"metadata": {"name": "snapshot-pvc", "namespace": "ns", "resourceVersion": "1", **metadata}}


def let_go(pod, checkpoint, *claims, values=OWN, server=None, listed=True):
    """The server after one look at the pod."""
    server = server or Server()
    checkpoints, informers = Informer(server, CHECKPOINTS), PodInformers(server, None)
    informer = claims_informer(server, None, "snapshot-pvc", trimmed)
    for store, objects in ((checkpoints.store, [checkpoint]), (informer.store, claims)):
        for each in objects:
            store.put(each)
    informers.labelled.store.put(pods.kept(pod))

    async def scenario():
        if listed:
            informer.synced.set()
        context = ManagerContext(
            kube=server,
            settings=SimpleNamespace(watched_namespace=None),
            values=load_values(values),
            recorder=Recorder(server, "tester"),
            registry=CollectorRegistry(),
            checkpoints=checkpoints,
            now=lambda: NOW,
            claims=VolumeClaimInformer(informer, "snapshot-pvc"),
        )
        keeper = GateController(context, informers, CheckpointViews(checkpoints), Metrics(context.registry))
        events = asyncio.create_task(context.recorder.run())
        try:
            await keeper.handle(("ns", "web-1"))
            for _ in range(50):
                await asyncio.sleep(0)
        finally:
            events.cancel()
            with suppress(asyncio.CancelledError):
                await events

    asyncio.run(scenario())
    return server


def end(server):
    (patch,) = server.patches
    return patch["metadata"]["annotations"][keys.ANN_GATE]


FAILED = of_phase("Failed", status={"message": "criu said no"})
GOING = claim(deletionTimestamp="2026-01-31T09:00:00Z")
LOST = claim() | {"status": {"phase": "Lost"}}


@pytest.mark.parametrize(
    ("expected", "checkpoint", "claims", "values"),
    [
        pytest.param("checkpoint-failed", FAILED, [claim()], OWN, id="there"),
        pytest.param("volume-claim-unavailable", FAILED, [], OWN, id="missing"),
        pytest.param("volume-claim-unavailable", FAILED, [GOING], MADE, id="being-deleted"),
        pytest.param("volume-claim-unavailable", FAILED, [LOST], MADE, id="lost"),
        pytest.param("volume-claim-unavailable", ready(), [], OWN, id="ready-and-missing"),
        pytest.param("checkpoint-ready", ready(), [claim()], OWN, id="ready-and-there"),
    ],
)
def test_why_a_pod_was_let_go_says_what_keeps_it_from_starting(expected, checkpoint, claims, values):
    server = let_go(held(), checkpoint, *claims, values=values)
    assert expected == end(server)
    assert [] == server.claims
    (event,) = server.events
    assert event["message"].endswith(f"({expected})")


def test_the_event_says_both_reasons_and_what_to_do():
    (event,) = let_go(held(), FAILED).events
    assert ("Warning", "GateLifted") == (event["type"], event["reason"])
    for words in ("criu said no", "PersistentVolumeClaim ns/snapshot-pvc does not exist; make it", "starts cold"):
        assert words in event["message"]


def test_the_gate_goes_all_the_same_and_a_ready_checkpoint_fits():
    """Once the claim is made, the scheduler takes the pod, and it restores."""
    (patch,) = let_go(held(), ready()).patches
    assert [{"$patch": "delete", "name": keys.SCHEDULING_GATE}] == patch["spec"]["schedulingGates"]
    assert "restore-shaped" == patch["metadata"]["annotations"][keys.ANN_ADMISSION]


@pytest.mark.parametrize(
    "server", [pytest.param(Server(), id="made"), pytest.param(Server(AlreadyExistsError(409, "x", "y")), id="there")]
)
def test_a_claim_that_we_may_make_is_made_so_that_the_pod_can_start(server):
    """No capture came so far: a template was refused, a checkpoint deleted, before there was any claim."""
    let_go(held(), FAILED, values=MADE, server=server)
    assert [("ns", "snapshot-pvc")] == [(each["namespace"], each["name"]) for each in server.claims]
    assert "checkpoint-failed" == end(server)


def test_one_that_may_not_be_made_is_told_with_the_servers_words():
    server = let_go(held(), FAILED, values=MADE, server=Server(QUOTA))
    assert "volume-claim-unavailable" == end(server)
    assert "exceeded quota: storage" in server.events[0]["message"]


def test_a_server_in_trouble_is_asked_again():
    server = Server(ServerUnavailableError("down"))
    with pytest.raises(ServerUnavailableError):
        let_go(held(), FAILED, values=MADE, server=server)
    assert [] == server.patches


@pytest.mark.parametrize(
    ("pod", "listed"),
    [
        pytest.param(held(""), True, id="shaped-for-agent-mount"),
        pytest.param(held("another"), True, id="shaped-for-another-claim"),
        pytest.param(held(), False, id="nobody-could-look"),
    ],
)
def test_what_is_not_known_is_not_said(pod, listed):
    server = let_go(pod, FAILED, values=MADE, listed=listed)
    assert ("checkpoint-failed", []) == (end(server), server.claims)


def test_a_pod_that_waits_on_makes_nothing():
    server = let_go(held(), of_phase("Creating", NAME), values=MADE)
    assert ([], []) == (server.claims, server.patches)
