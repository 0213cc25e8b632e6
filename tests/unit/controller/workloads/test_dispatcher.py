# ruff: noqa: ARG002 - a fake takes what the seam gives
"""What is done for opted-in pods, beside a scripted server: refusals, races, and who is asked what."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from contract.api import keys
from contract.config.values import load_values
from controller.runtime.manager import ManagerContext
from controller.workloads.dispatcher import Dispatcher
from controller.workloads.informers import PodInformers
from controller.workloads.metrics import Metrics
from controller.workloads.pods import kept
from controller.workloads.reports import Reports
from kube.api import PatchKind
from kube.errors import AlreadyExistsError, ConflictError, ForbiddenError, NotFoundError
from kube.informer import Informer
from kube.recorder import Recorder
from kube.resources import CHECKPOINTS
from tests.support.builders.opted_in import DEPLOYED, GATE, NAME, NOW, ago, deleting, of_phase, pod, ready, whole


class Server:
    """Remembers what was asked; answers *error* for as long as it is set."""

    def __init__(self):
        self.created, self.patched, self.stored = [], [], {}
        self.error = None

    async def get(self, resource, name, namespace=None):
        if (resource.kind, name) not in self.stored:
            raise NotFoundError(404, "NotFound", name)
        return self.stored[resource.kind, name]

    async def create(self, resource, body, namespace=None, *, dry_run=False):
        if self.error and resource == CHECKPOINTS:
            raise self.error
        self.created.append((resource.kind, body))
        return body | {"metadata": body["metadata"] | {"resourceVersion": "100", "uid": "made"}}

    async def patch(self, resource, name, body, namespace=None, **more):
        if self.error:
            raise self.error
        self.patched.append((resource.kind, name, body, more))
        return self.stored.get((resource.kind, name)) or {"metadata": {"name": name, "namespace": namespace}}

    def named(self, kind):
        return [body for made, body in self.created if made == kind]

    def events(self):
        return [(body["involvedObject"]["kind"], body["reason"]) for body in self.named("Event")]


class Scene:
    """A desk with what it knows put before it."""

    def __init__(self, *found, checkpoint=None, values="", watched=None):
        self.server = Server()
        self.checkpoints = Informer(self.server, CHECKPOINTS)
        self.informers = PodInformers(self.server, None)
        context = ManagerContext(
            kube=self.server,
            settings=SimpleNamespace(watched_namespace=watched),
            values=load_values(values),
            recorder=Recorder(self.server, "tester"),
            registry=CollectorRegistry(),
            checkpoints=self.checkpoints,
            now=lambda: NOW,
        )
        self.desk = Dispatcher(context, self.informers, Reports(), Metrics(context.registry))
        for each in found:
            self.put(each)
        if checkpoint is not None:
            self.checkpoints.store.put(checkpoint)
        for informer in (self.checkpoints, *self.informers.all):
            informer.synced.set()
        self.context = context

    def put(self, found):
        self.informers.labelled.store.put(kept(found))
        self.server.stored["Pod", found["metadata"]["name"]] = found

    def run(self, then=None):
        """Lead until nothing is left to do at once."""

        async def scenario():
            task = asyncio.create_task(self.desk.run())
            events = asyncio.create_task(self.context.recorder.run())
            await settle()
            if then:
                then(self)
                await settle()
            for each in (task, events):
                each.cancel()
                with suppress(asyncio.CancelledError):
                    await each

        asyncio.run(scenario())
        return self.server


async def settle():
    for _ in range(200):
        await asyncio.sleep(0)


def test_many_ask_and_one_is_made():
    server = Scene(*(whole(name=f"web-{n}", age=n) for n in range(50))).run()

    (made,) = server.named("DynamoCheckpoint")
    assert NAME == made["metadata"]["name"]
    assert 50 == server.events().count(("Pod", "CheckpointRequested"))


def test_the_oldest_tells_and_where_it_is_gone_the_next():
    scene = Scene(whole(name="young", age=1), whole(name="old", age=9))
    del scene.server.stored["Pod", "old"]
    (made,) = scene.run().named("DynamoCheckpoint")

    assert "Pod/young" == made["metadata"]["annotations"][keys.ANN_WORKLOAD]


def test_that_somebody_was_faster_is_as_good():
    scene = Scene(whole())
    scene.server.error = AlreadyExistsError(409, "AlreadyExists", "there")

    assert [("Pod", "CheckpointRequested")] == scene.run().events()


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        pytest.param("", ForbiddenError(403, "Forbidden", "exceeded quota"), "exceeded quota", id="refused"),
        pytest.param("checkpoint: {enabled: false}", None, "checkpoint.enabled=true", id="switched off"),
        pytest.param("webhook: {excludedNamespaces: [ns]}", None, "excludedNamespaces", id="excluded"),
    ],
)
def test_what_may_not_be_made_is_told_and_lets_go(values, error, words):
    scene = Scene(whole("held", gates=[GATE], age=61), values=values)
    scene.server.error = error

    def heal(now):
        now.server.error = None
        now.desk.gates.add(("ns", "web-1"))

    server = scene.run(heal)
    assert [] == server.named("DynamoCheckpoint")
    (told,) = [body for body in server.named("Event") if body["reason"] == "CheckpointNotMade"]
    assert words in told["message"]
    (_, _, patch, more) = next(each for each in server.patched if each[0] == "Pod")
    assert "checkpoint-failed" == patch["metadata"]["annotations"][keys.ANN_GATE]
    assert PatchKind.STRATEGIC == more["kind"]


def test_a_pod_that_changed_meanwhile_is_looked_at_again():
    scene = Scene(whole("held", gates=[GATE]), checkpoint=ready())
    scene.server.error = ConflictError(409, "Conflict", "changed")

    def heal(now):
        now.server.error = None
        now.desk.gates.add(("ns", "web-1"))

    assert ["web-1"] == [name for kind, name, *_ in scene.run(heal).patched if kind == "Pod"]


def test_a_deletion_withdraws_the_requests_of_its_time_only():
    old, new = whole(name="old", age=60), whole(name="new", age=0)
    scene = Scene(old, new, checkpoint=deleting(ready()))
    server = scene.run()

    assert [("Pod", "old")] == [(kind, name) for kind, name, *_ in server.patched]
    body = server.patched[0][2]
    assert keys.REQUEST_WITHDRAWN == body["metadata"]["annotations"][keys.ANN_REQUEST]


def test_a_checkpoint_that_vanishes_lets_its_pods_go():
    """Its finalizer taken away by hand, say: no deletion was ever announced."""
    scene = Scene(whole("held", gates=[GATE]), checkpoint=of_phase("Creating"))

    def vanish(now):
        change = now.checkpoints.store.remove(of_phase("Creating"))
        now.checkpoints._notify(change)

    server = scene.run(vanish)
    (patch,) = [body for kind, _, body, _ in server.patched if kind == "Pod"]
    assert [] == server.named("DynamoCheckpoint")
    assert "checkpoint-deleted" == patch["metadata"]["annotations"][keys.ANN_GATE]


def test_only_a_ready_checkpoint_has_a_time_of_use():
    def look(now):
        now.desk.checkpoints.add(("ns", NAME))

    assert [] == Scene(whole("checkpoint-not-ready"), checkpoint=of_phase("Creating")).run(look).patched
    ((_, _, body, more),) = Scene(whole("restore-shaped"), checkpoint=ready()).run(look).patched
    assert {"status": {"lastUsedAt": "2026-01-31T10:00:00Z"}} == body
    assert "status" == more["subresource"]


def test_nothing_is_done_where_nothing_is_due():
    used = ready(status={"lastUsedAt": ago(60)})
    server = Scene(whole("restore-shaped", age=3600), checkpoint=used).run(
        lambda now: now.desk.checkpoints.add(("ns", NAME))
    )

    assert ([], []) == (server.created, server.patched)


def test_a_problem_is_told_to_the_owner_as_well():
    server = Scene(*(whole("image-mismatch", name=f"web-{n}", owner=DEPLOYED) for n in range(3))).run()

    assert 3 == server.events().count(("Pod", "ImageMismatch"))
    assert ("ReplicaSet", "ImageMismatch") in server.events()


def test_who_does_not_lead_does_nothing():
    scene = Scene()
    scene.informers.labelled._notify(scene.informers.labelled.store.put(pod()))

    assert (0, 0, 0) == (scene.desk.checkpoints.depth, scene.desk.gates.depth, scene.desk.tales.depth)
