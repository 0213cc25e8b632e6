# ruff: noqa: ARG002 - a fake takes what the seam gives
"""From a pod up to what people deployed."""

import asyncio

import pytest

from controller.workloads.owners import Owners
from kube.errors import ForbiddenError, NotFoundError
from tests.support.builders.opted_in import DEPLOYED, pod, whole


def reference(kind, name, api_version="apps/v1"):
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": f"uid-{name}", "controller": True}


def obj(kind, name, owner=None):
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}"} | ({"ownerReferences": [owner]} if owner else {})
    return {"kind": kind, "metadata": metadata, "spec": {"template": {"spec": {"containers": []}}}}


class Objects:
    """Answers reads of what is there."""

    def __init__(self, *there, forbidden=()):
        self.there = {(each["kind"], each["metadata"]["name"]): each for each in there}
        self.forbidden = forbidden

    async def get(self, resource, name, namespace=None):
        if resource.kind in self.forbidden:
            raise ForbiddenError(403, "Forbidden", f"{resource.plural} {name}")
        if (resource.kind, name) not in self.there:
            raise NotFoundError(404, "NotFound", name)
        return self.there[resource.kind, name]


def find(asking, *there, fits=bool, **more):
    found = asyncio.run(Owners(Objects(*there, **more)).workload_of(asking, fits))
    return found and (found.top, found.source["kind"])


RS, DEPLOYMENT = reference("ReplicaSet", "web-7d9c"), reference("Deployment", "web")
ROLLOUT = reference("Rollout", "web", "argoproj.io/v1alpha1")
SET, LWS = reference("StatefulSet", "llm"), reference("LeaderWorkerSet", "llm", "leaderworkerset.x-k8s.io/v1")
GROUP, LEADER = reference("StatefulSet", "llm-0"), reference("Pod", "llm-0", "v1")
JOB, CRON = reference("Job", "batch-1", "batch/v1"), reference("CronJob", "batch", "batch/v1")


@pytest.mark.parametrize(
    ("expected", "owner", "there"),
    [
        pytest.param(
            ("Deployment/web", "ReplicaSet"),
            RS,
            [obj("ReplicaSet", "web-7d9c", DEPLOYMENT), obj("Deployment", "web")],
            id="Deployment",
        ),
        pytest.param(
            ("Rollout/web", "ReplicaSet"), RS, [obj("ReplicaSet", "web-7d9c", ROLLOUT)], id="a kind that is not ours"
        ),
        pytest.param(("ReplicaSet/web-7d9c", "ReplicaSet"), RS, [obj("ReplicaSet", "web-7d9c")], id="ReplicaSet"),
        pytest.param(("ReplicaSet/web-7d9c", "Pod"), RS, [], id="a ReplicaSet that is gone"),
        pytest.param(("StatefulSet/llm", "Pod"), SET, [obj("StatefulSet", "llm")], id="StatefulSet"),
        pytest.param(("LeaderWorkerSet/llm", "Pod"), SET, [obj("StatefulSet", "llm", LWS)], id="leaders of groups"),
        pytest.param(
            ("LeaderWorkerSet/llm", "Pod"),
            GROUP,
            [obj("StatefulSet", "llm-0", LEADER), obj("Pod", "llm-0", SET), obj("StatefulSet", "llm", LWS)],
            id="workers of groups",
        ),
        pytest.param(("CronJob/batch", "Pod"), JOB, [obj("Job", "batch-1", CRON)], id="CronJob"),
        pytest.param(
            ("ReplicationController/old", "Pod"), reference("ReplicationController", "old", "v1"), [], id="unknown kind"
        ),
        pytest.param(("Pod/web-1", "Pod"), None, [], id="bare pod"),
    ],
)
def test_where_a_pod_comes_from(expected, owner, there):
    assert expected == find(pod(owner=owner), whole(owner=owner), *there)


def test_generated_names_are_one_workload():
    asking, stored = pod(name="run-x7k2p"), whole(name="run-x7k2p")
    asking["metadata"]["generateName"] = "run-"

    assert ("Pod/run", "Pod") == find(asking, stored)


def test_what_may_not_be_read_is_the_top():
    there = [obj("ReplicaSet", "web-7d9c", DEPLOYMENT), whole(owner=RS)]
    assert ("Deployment/web", "ReplicaSet") == find(pod(owner=RS), *there, forbidden=("Deployment",))


def test_another_object_of_the_owners_name_is_not_the_owner():
    stranger = obj("ReplicaSet", "web-7d9c", DEPLOYMENT)
    assert ("ReplicaSet/web-7d9c", "Pod") == find(pod(owner=DEPLOYED), whole(owner=DEPLOYED), stranger)


def test_a_pod_that_is_gone_tells_nothing():
    assert find(pod()) is None


def test_owners_in_a_circle_end():
    there = [obj("StatefulSet", "llm", GROUP), obj("StatefulSet", "llm-0", SET), whole(owner=SET)]
    assert find(pod(owner=SET), *there)[0].startswith("StatefulSet/")


@pytest.mark.parametrize(
    ("expected", "fitting"),
    [
        pytest.param("ReplicaSet", ("ReplicaSet", "Pod"), id="both"),
        pytest.param("ReplicaSet", ("ReplicaSet",), id="the template"),
        pytest.param("Pod", ("Pod",), id="the pod as somebody's webhook left it"),
        pytest.param("ReplicaSet", (), id="neither"),
    ],
)
def test_the_template_is_the_one_that_was_stamped(expected, fitting):
    replica_set, stored = obj("ReplicaSet", "web-7d9c"), whole(owner=RS)

    def fits(template):
        return ("Pod" if "kind" in template else "ReplicaSet") in fitting

    assert expected == find(pod(owner=RS), replica_set, stored, fits=fits)[1]
