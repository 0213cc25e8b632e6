"""What is looked up for a graph, with copies filled by hand."""

import pytest

from contract.api import keys
from controller.graphs.act import Actor
from controller.graphs.actions import ApplyDeployment, CreateCheckpoint, DeleteDeployment
from controller.graphs.objects import graph_uid
from controller.graphs.observe import Observer, make_informers
from controller.graphs.observed import Standing, is_ours, standing_of
from kube.api import PatchKind
from kube.errors import AlreadyExistsError, ConflictError, ForbiddenError, NotFoundError, ServerUnavailableError
from kube.informer import Informer
from kube.queue import WorkQueue
from kube.resources import CHECKPOINTS, DEPLOYMENTS
from kube.store import Change

GRAPH = {"metadata": {"name": "demo", "namespace": "ns", "uid": "uid-1"}}


class Server:
    """Answers from a table, or with an error; remembers what it was asked to write."""

    def __init__(self, there=None, error=None):
        self.there, self.error, self.written = there or {}, error, []

    async def get(self, _resource, name, *_):
        if name not in self.there:
            raise NotFoundError(404, "NotFound", f"{name} not found")
        return self.there[name]

    async def create(self, _resource, body, *_):
        return self._write("create", body)

    async def patch(self, _resource, _name, body, *_, **how):
        return self._write(how.get("kind"), body)

    async def delete(self, _resource, name, *_, **__):
        self._write("delete", {"name": name})

    def _write(self, how, body):
        self.written.append((how, body))
        if self.error is not None:
            raise self.error
        return body


def graph(*references, name="demo"):
    services = {f"w{n}": {"checkpoint": {"enabled": True, "checkpointRef": ref}} for n, ref in enumerate(references)}
    return {"metadata": {**GRAPH["metadata"], "name": name}, "spec": {"services": services}}


def checkpoint(name, checkpoint_id="", phase="Pending", created="2026-01-01T00:00:00Z", **metadata):
    metadata = {"name": name, "namespace": "ns", "creationTimestamp": created, **metadata}
    return {"metadata": metadata, "status": {"phase": phase, "checkpointID": checkpoint_id}}


def deployment(name="demo-w0", labels=None, owner=None):
    owners = [{"kind": "X", "name": "x", "uid": owner, "controller": True}] if owner else []
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": "d", "labels": labels or {}, "ownerReferences": owners}
    }


def observer(server=None, checkpoints=(), graphs=(), deployments=()):
    informers = make_informers(server, None, Informer(server, CHECKPOINTS))
    for informer, objects in (
        (informers.checkpoints, checkpoints),
        (informers.graphs, graphs),
        (informers.deployments, deployments),
    ):
        informer.store.replace(objects)
    return Observer(server or Server(), informers), informers


@pytest.mark.parametrize(
    ("expected", "checkpoints"),
    [
        pytest.param("abc", [checkpoint("abc"), checkpoint("other", "abc", "Ready")], id="name-first"),
        pytest.param("b", [checkpoint("a", "abc"), checkpoint("b", "abc", "Ready")], id="ready-before-others"),
        pytest.param(
            "b", [checkpoint("a", "abc", created="2026-01-02T00:00:00Z"), checkpoint("b", "abc")], id="oldest"
        ),
        pytest.param(None, [checkpoint("a", "abcd")], id="none"),
        pytest.param(None, [checkpoint("abc", namespace="elsewhere")], id="other-namespace"),
    ],
)
async def test_a_reference_is_a_name_or_else_an_id(expected, checkpoints):
    looker, _ = observer(checkpoints=checkpoints)
    found = await looker.observe(graph("abc"), {})

    assert expected == found.referred.get("abc")


@pytest.mark.parametrize(
    ("expected", "labels", "owner"),
    [
        pytest.param(True, {}, "uid-1", id="owned"),
        pytest.param(False, {}, "uid-2", id="owned-by-another"),
        pytest.param(
            True, {keys.LABEL_MANAGED_BY: keys.MANAGED_BY_VALUE, keys.LABEL_GRAPH: "demo"}, None, id="left-behind"
        ),
        pytest.param(
            False, {keys.LABEL_MANAGED_BY: keys.MANAGED_BY_VALUE, keys.LABEL_GRAPH: "x"}, None, id="other-graph"
        ),
        pytest.param(False, {}, None, id="nobodys"),
    ],
)
async def test_whose_a_deployment_is(expected, labels, owner):
    there = deployment(labels=labels, owner=owner)
    looker, _ = observer(Server({"demo-w0": there}))
    found = await looker.observe(graph("abc"), {})

    assert expected == is_ours(there, "demo", "uid-1")
    assert expected == (found.taken == {})


async def test_only_the_server_can_say_that_a_graph_is_gone():
    left = checkpoint("c", labels={keys.LABEL_GRAPH: "demo"}, annotations={keys.ANN_AUTO_CHECKPOINT: "true"})
    known, _ = observer(Server(), graphs=[graph()])
    behind, _ = observer(Server({"demo": GRAPH}), checkpoints=[left])
    gone, _ = observer(Server(), checkpoints=[left])
    never, _ = observer(Server({"demo": GRAPH}))

    assert graph() == await known.graph(("ns", "demo"))
    assert GRAPH == await behind.graph(("ns", "demo"))
    assert await gone.graph(("ns", "demo")) is None
    assert await never.graph(("ns", "demo")) is None


async def test_who_is_woken_by_a_checkpoint():
    _, informers = observer(graphs=[graph("qwen", name="by-name"), graph("abc", name="by-id"), graph(name="none")])
    queue = WorkQueue()
    informers.wake(queue)
    for handler in informers.checkpoints._handlers:
        handler(Change(None, checkpoint("qwen", "abc", labels={keys.LABEL_GRAPH: "owner"})))

    assert {("ns", "by-name"), ("ns", "by-id"), ("ns", "owner")} == set(queue._ready)


@pytest.mark.parametrize(
    ("expected", "obj"),
    [
        pytest.param(Standing.WAITING, None, id="absent"),
        pytest.param(Standing.WAITING, checkpoint("a", phase=None), id="new"),
        pytest.param(Standing.WAITING, checkpoint("a", phase="Ready", deletionTimestamp="now"), id="going"),
        pytest.param(Standing.READY, checkpoint("a", phase="Ready"), id="ready"),
        pytest.param(Standing.FAILED, checkpoint("a", phase="Failed"), id="failed"),
        pytest.param(
            Standing.FAILED,
            checkpoint("a", phase="Ready") | {"spec": {"gpuMemoryService": {"enabled": True}}},
            id="gpu-memory-service",
        ),
    ],
)
def test_where_a_checkpoint_stands(expected, obj):
    assert expected == standing_of(obj)


def test_foreign_checkpoints_say_nothing_of_a_graph():
    assert "" == graph_uid({"spec": {}})


BODY = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "demo-w0", "namespace": "ns"}}


async def test_deployments_are_applied_not_replaced():
    server, learnt = Server(), []
    refused = await Actor(server, lambda resource, _: learnt.append(resource)).act([ApplyDeployment(BODY)])

    assert ({}, [(PatchKind.APPLY, BODY)], [DEPLOYMENTS]) == (refused, server.written, learnt)


async def test_a_refusal_keeps_nothing_else_from_being_done():
    server = Server(error=ForbiddenError(403, "Forbidden", "quota exceeded"))
    actions = [ApplyDeployment(BODY), DeleteDeployment(deployment("old"))]
    refused = await Actor(server, lambda *_: None).act(actions)

    assert {"Deployment/demo-w0": "quota exceeded", "Deployment/old": "quota exceeded"} == refused
    assert 2 == len(server.written)


async def test_a_checkpoint_that_is_there_is_as_good():
    body = {**checkpoint("c"), "kind": "DynamoCheckpoint"}
    server = Server({"c": body}, AlreadyExistsError(409, "AlreadyExists", "c exists"))
    learnt = []

    assert {} == await Actor(server, lambda _, obj: learnt.append(obj)).act([CreateCheckpoint(body)])
    assert [body] == learnt


@pytest.mark.parametrize("error", [NotFoundError(404, "", ""), ConflictError(409, "", "")])
async def test_what_is_gone_need_not_be_deleted(error):
    assert {} == await Actor(Server(error=error), lambda *_: None).act([DeleteDeployment(deployment())])


async def test_an_unreachable_server_says_nothing_about_the_plan():
    with pytest.raises(ServerUnavailableError):
        await Actor(Server(error=ServerUnavailableError("503")), lambda *_: None).act([ApplyDeployment(BODY)])
