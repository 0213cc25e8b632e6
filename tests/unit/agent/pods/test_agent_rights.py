# ruff: noqa: ARG002 - a stand-in takes what the seam gives
"""An agent whose account lost rights says so once, by verb and resource, and once more when it has them again."""

import logging

import pytest

from agent.pods.rights import Rights
from contract.api.rights import AGENT, Right
from kube.errors import NotFoundError, ServerUnavailableError
from tests.support.builders.agent import Said
from tests.support.virtual_time import run

OWN = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent-x", "namespace": "snapshot", "uid": "u"}}
LIST_PODS = Right("list", "pods")
PATCH_JOBS = Right("patch", "jobs", "batch")


class Reviewing:
    """An API server that grants all but some rights."""

    def __init__(self):
        self.denied, self.down, self.asked = (), False, []

    async def create(self, resource, body, namespace=None, *, dry_run=False):
        if self.down:
            raise ServerUnavailableError("connection refused")
        asked = body["spec"]["resourceAttributes"]
        self.asked.append(asked)
        denied = {(right.verb, right.group, right.resource, right.subresource) for right in self.denied}
        allowed = (asked["verb"], asked["group"], asked["resource"], asked["subresource"]) not in denied
        return body | {"status": {"allowed": allowed}}

    async def get(self, resource, name, namespace=None):
        if Right("get", "pods") in self.denied:
            raise NotFoundError(404, "NotFound", "gone")
        return OWN


def looks(*steps, namespace="snapshot"):
    """Look once for each state of the API server; return what was said."""
    kube, said = Reviewing(), Said()
    rights = Rights(kube, said, ("snapshot", "agent-x"), namespace)

    async def scenario():
        for denied in steps:
            kube.down, kube.denied = denied is None, denied or ()
            await rights.look()

    run(scenario())
    return kube, said


def test_an_agent_with_all_rights_says_nothing(caplog):
    caplog.set_level(logging.INFO)
    kube, said = looks((), ())
    assert ([], "") == (said.events, caplog.text)
    assert 2 * len(AGENT) == len(kube.asked)


def test_missing_rights_are_said_once_and_their_return_too(caplog):
    caplog.set_level(logging.INFO)
    _, said = looks((LIST_PODS, PATCH_JOBS), (LIST_PODS, PATCH_JOBS), ())
    assert 1 == caplog.text.count("list pods; patch jobs.batch")
    assert [("Pod", "Warning", "RightsMissing"), ("Pod", "Normal", "RightsComplete")] == [e[:3] for e in said.events]
    assert "helm upgrade" in said.events[0][3]


def test_an_agent_that_may_not_read_its_pod_says_it_in_its_log(caplog):
    _, said = looks((Right("get", "pods"),))
    assert [] == said.events
    assert "get pods" in caplog.text


def test_an_outage_takes_no_rights(caplog):
    _, said = looks((), None, ())
    assert ([], "") == (said.events, caplog.text)


@pytest.mark.parametrize(("namespace", "expected"), [("team", {"team", None}), (None, {None})])
def test_rights_are_asked_about_where_they_are_needed(namespace, expected):
    kube, _ = looks((), namespace=namespace)
    assert expected == {asked.get("namespace") for asked in kube.asked}
