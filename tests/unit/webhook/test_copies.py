"""What the webhook knows of claims: nothing, where it may not look, and then it serves all the same."""

import asyncio
import logging

import pytest

from contract.api.volume_claims import ClaimState
from contract.config.values import load_values
from kube.errors import ForbiddenError, ServerUnavailableError
from tests.support.fake_kube import ScriptedWatches, obj
from tests.support.virtual_time import run
from webhook.informers import Informers, kept_claim

POD_MOUNT = load_values("storage: {accessMode: podMount, pvc: {name: models}}")
FORBIDDEN = ForbiddenError(403, "Forbidden", "cannot list resource persistentvolumeclaims")
DOWN = ServerUnavailableError("connection refused")


class Kube:
    """Two collections, each with a script of its own."""

    def __init__(self, checkpoints, claims):
        self.scripts = {"dynamocheckpoints": checkpoints, "persistentvolumeclaims": claims}
        self.fields = {}

    async def list(self, resource, namespace=None, **options):
        self.fields[resource.plural] = options.get("fields", "")
        return await self.scripts[resource.plural].list(resource, namespace, **options)

    def watch(self, resource, namespace=None, **options):
        return self.scripts[resource.plural].watch(resource, namespace, **options)


def after(claims, *, checkpoints=None, values=POD_MOUNT, seconds=0.05):
    """The copies after a script of the claims, and the Kube that they asked."""

    async def scenario():
        kube = Kube(checkpoints or ScriptedWatches([([], 1)], []), claims)
        informers = Informers(kube, None, values)
        tasks = [asyncio.create_task(each.run()) for each in informers.informers.values()]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return informers, kube

    return run(scenario())


def test_agent_mount_has_no_copy_of_claims():
    informers, kube = after(None, values=load_values(""))
    assert ["checkpoints"] == list(informers.informers)
    assert informers.whole
    assert ClaimState.UNKNOWN == informers.claims("ns")
    assert ["dynamocheckpoints"] == list(kube.fields)


@pytest.mark.parametrize(
    ("expected", "lists", "watches"),
    [
        pytest.param("missing", [([], 5)], [], id="none"),
        pytest.param("missing", [([obj("models", 1, "other")], 5)], [], id="of-another-namespace"),
        pytest.param("there", [([obj("models", 1)], 5)], [], id="listed"),
        pytest.param("there", [([], 5)], [[("ADDED", obj("models", 6))]], id="appears"),
        pytest.param("missing", [([obj("models", 1)], 5)], [[("DELETED", obj("models", 6))]], id="goes"),
        pytest.param("unknown", [FORBIDDEN] * 9, [], id="forbidden"),
        pytest.param("unknown", [DOWN] * 9, [], id="not-yet"),
        pytest.param("there", [FORBIDDEN, ([obj("models", 1)], 5)], [], id="allowed-later"),
        pytest.param("unknown", [([obj("models", 1)], 5), *[FORBIDDEN] * 9], [[FORBIDDEN]], id="taken-away"),
        pytest.param("there", [([obj("models", 1)], 5), *[DOWN] * 9], [[DOWN]], id="stale-is-better-than-none"),
    ],
)
def test_how_the_claim_of_a_namespace_stands(expected, lists, watches):
    informers, kube = after(ScriptedWatches(lists, watches), seconds=1.0)
    assert expected == informers.claims("ns")
    assert "metadata.name=models" == kube.fields["persistentvolumeclaims"]


@pytest.mark.parametrize(
    ("whole", "checkpoints", "claims"),
    [
        pytest.param(True, [([], 1)], [([], 1)], id="both"),
        pytest.param(False, [([], 1)], [DOWN] * 9, id="claims-to-come"),
        pytest.param(True, [([], 1)], [FORBIDDEN] * 9, id="claims-forbidden"),
        pytest.param(True, [([], 1)], [FORBIDDEN, *[DOWN] * 9], id="claims-forbidden-and-then-an-outage"),
        pytest.param(False, [FORBIDDEN] * 9, [([], 1)], id="checkpoints-forbidden"),
    ],
)
def test_it_is_ready_with_all_that_can_be_known(whole, checkpoints, claims, caplog):
    informers, _ = after(ScriptedWatches(claims, []), checkpoints=ScriptedWatches(checkpoints, []), seconds=1.0)
    assert whole == informers.whole
    caplog.clear()
    with caplog.at_level(logging.WARNING, "webhook.informers"):
        informers.warn()
    assert (["models" in each.getMessage() for each in caplog.records] == [True]) == (FORBIDDEN in claims)


def test_little_is_kept_of_a_claim():
    whole = obj("models", 3, spec={"volumeName": "v"}, status={"phase": "Bound", "capacity": {}})
    whole["metadata"] |= {"annotations": {"a": "b"}, "deletionTimestamp": "2026-01-31T10:00:00Z"}
    kept = {"name", "namespace", "uid", "resourceVersion", "deletionTimestamp"}
    found = kept_claim(whole)
    assert kept == found["metadata"].keys()
    assert ({"phase": "Bound"}, {"metadata", "status"}) == (found["status"], found.keys())
