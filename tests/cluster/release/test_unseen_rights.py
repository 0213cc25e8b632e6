"""Rights that no audit log shows: what fails without each, on an API server that asks for them as OpenShift's does."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from cluster.api import ControlPlane
from tests.support.builders.objects import checkpoint
from tests.support.fixtures.installed import RELEASE, ROOT, Installed, new_namespace
from tests.support.waiting import until

GRAPH = Path(ROOT) / "examples" / "graphs" / "my-llm.yaml"


@pytest.fixture(scope="module")
def plane():
    """Whoever makes an object with an owner that waits for it must be allowed to change that owner's finalizers."""
    flags = ["--enable-admission-plugins=OwnerReferencesPermissionEnforcement"]
    with ControlPlane.start(apiserver_flags=flags) as started:
        yield started


@pytest.fixture
def release(plane, tmp_path):
    found = Installed(
        plane,
        new_namespace(plane, f"unseen-{uuid4().hex[:6]}"),
        tmp_path,
        *("graphDeployments.enabled=true", "webhook.certManager.enabled=false"),
        webhook_here=False,
    )
    yield found
    found.end()
    found.uninstall()


def without(release, role, resource, verb):
    """Take one verb out of a role of the release."""
    where = ("-n", release.namespace)
    rules = release.kubectl.json("get", "role", f"{RELEASE}-{role}", *where)["rules"]
    for rule in rules:
        if resource in rule["resources"]:
            rule["verbs"].remove(verb)
    rules = [rule for rule in rules if rule["verbs"]]
    change = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
    release.kubectl("patch", "role", f"{RELEASE}-{role}", *where, "--type=json", "-p", change)


def ask(release):
    """A checkpoint and a graph, for both of which the controller makes something."""
    where = ("-n", release.namespace)
    body = checkpoint("qwen")
    release.kubectl("create", *where, "-f", "-", stdin=json.dumps(body | {"metadata": {"name": "qwen"}}))
    release.kubectl("create", *where, "-f", str(GRAPH))


def made(release, kind):
    names = release.kubectl("get", kind, "-n", release.namespace, "-o", "name").split()
    return [name for name in names if f"/{RELEASE}-" not in name]


def test_with_all_of_them_everything_is_made(release):
    release.start("controller")
    ask(release)

    until(lambda: made(release, "jobs"), lambda: f"a Job: {release.log('controller')[-2000:]}")
    until(lambda: made(release, "deployments"), lambda: f"a Deployment: {release.log('controller')[-2000:]}")


@pytest.mark.parametrize(
    ("kind", "role", "resource", "verb", "words"),
    [
        pytest.param(
            "jobs", "controller", "dynamocheckpoints/finalizers", "update", "blockOwnerDeletion", id="owner-of-a-job"
        ),
        pytest.param(
            "deployments",
            "graphs",
            "dynamographdeployments/finalizers",
            "update",
            "blockOwnerDeletion",
            id="owner-of-a-deployment",
        ),
        pytest.param("deployments", "graphs", "deployments", "create", "cannot create", id="apply-that-makes"),
    ],
)
def test_without_it_nothing_is_made(release, kind, role, resource, verb, words):
    without(release, role, resource, verb)
    release.start("controller")
    ask(release)

    def told():
        where = ("-n", release.namespace, "-o", "json")
        objects = release.kubectl("get", "dckpt,dgd,events", *where) + release.log("controller")
        return words in objects

    until(told, lambda: f"{words}: {release.log('controller')[-2000:]}")
    assert [] == made(release, kind)
