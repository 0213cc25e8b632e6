"""What stays of a graph, and what goes: deletions, restarts of the controller, and rest."""

import asyncio
import signal

import pytest

from contract import keys
from kube.errors import NotFoundError
from kube.resources import CHECKPOINTS, DEPLOYMENTS, GRAPHS, LEASES
from tests.cluster.controller_scene import counted
from tests.cluster.graph_scene import (
    HOME,
    LEASE,
    VALUES,
    controllers_of,
    graph,
    graphs_in,
    service,
)
from tests.cluster.waiting import PATIENCE


@pytest.fixture(scope="module")
def controllers(graph_plane, tmp_path_factory):
    with controllers_of(graph_plane, tmp_path_factory.mktemp("controller")) as found:
        yield found


@pytest.fixture
async def scene(graph_plane, controllers):
    async with graphs_in(graph_plane, controllers) as found:
        yield found


async def test_a_deleted_checkpoint_is_made_anew_and_workers_that_run_stay(scene):
    await scene.apply(graph(worker=service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})))
    name = (await scene.of_service())["checkpointName"]
    await scene.finish(name, word="failed")
    await scene.replicas(1)
    before = (await scene.checkpoint(name))["metadata"]["uid"]
    await scene.kube.delete(CHECKPOINTS, name, scene.namespace)
    await scene.cleaned(name)

    async def anew():
        try:
            return (await scene.checkpoint(name))["metadata"]["uid"] != before
        except NotFoundError:
            return False

    assert await scene.eventually(anew, "the new checkpoint")
    await scene.phase("Creating", name)
    assert 1 == (await scene.deployment())["spec"]["replicas"]


async def test_a_service_that_goes_takes_its_deployment_along(scene):
    await scene.apply(graph())
    await scene.deployment("demo-frontend")
    await scene.patch({"spec": {"services": {"Frontend": None}}})
    await scene.gone(DEPLOYMENTS, "demo-frontend")

    assert await scene.deployment()


async def test_with_the_graph_goes_what_is_its_own_and_stays_what_is_retained(scene):
    keep = service(checkpoint={"enabled": True, "deletionPolicy": "Retain"})
    await scene.by_hand("manual")
    await scene.apply(graph(Kept=keep))
    own = (await scene.of_service())["checkpointName"]

    async def both():
        return (await scene.graph())["status"]["checkpoints"].get("Kept", {}).get("checkpointName")

    kept = await scene.eventually(both, "the other checkpoint")
    retained = await scene.checkpoint(kept)
    await scene.finish(own)
    await scene.kube.delete(GRAPHS, "demo", scene.namespace)
    await scene.cleaned(own)
    await scene.gone(CHECKPOINTS, own)
    await scene.gone(DEPLOYMENTS, "demo-vllmdecodeworker")

    async def released():
        metadata = (await scene.checkpoint(kept))["metadata"]
        return keys.LABEL_GRAPH not in metadata["labels"] and not metadata.get("ownerReferences")

    assert await scene.eventually(released, "the release of the retained one")
    assert [] == retained["metadata"].get("ownerReferences", [])
    assert await scene.checkpoint("manual")


async def test_a_graph_that_went_while_nobody_looked(scene, controllers):
    """There is no finalizer on graphs, so none is ever stuck; what is left is found at the next start."""
    keep = service(checkpoint={"enabled": True, "deletionPolicy": "Retain"})
    await scene.apply(graph(worker=keep))
    kept = (await scene.of_service())["checkpointName"]
    for process in controllers.running:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, PATIENCE)
    await scene.kube.delete(GRAPHS, "demo", scene.namespace)
    controllers.start(VALUES, RESTRICTED_NAMESPACE="")

    async def released():
        return keys.LABEL_GRAPH not in (await scene.checkpoint(kept))["metadata"]["labels"]

    assert await scene.eventually(released, "the release")


async def test_thirty_graphs_and_a_controller_that_is_killed_again_and_again(scene, controllers):
    """One Deployment and one checkpoint each, made once, wherever it was when it died."""
    total = 30
    body = graph(worker=service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"}))
    del body["spec"]["services"]["Frontend"]
    async with (
        counted(scene, CHECKPOINTS) as (checkpoints, lost),
        counted(scene, DEPLOYMENTS) as (deployments, removed),
    ):
        making = asyncio.gather(*(scene.apply({**body, "metadata": {"name": f"g{number}"}}) for number in range(total)))
        for threshold in (3, 12, 21):
            await scene.eventually(lambda least=threshold: reached(checkpoints, least), f"{threshold} checkpoints")
            controllers.end()
            await scene.kube.delete(LEASES, LEASE, HOME)
            controllers.start(VALUES, RESTRICTED_NAMESPACE="")
        await making
        for number in range(total):
            await scene.condition("Ready", "False", f"g{number}", reason="waiting_for_checkpoint")

    assert total == len(checkpoints) == len(set(checkpoints))
    assert {f"g{number}-vllmdecodeworker" for number in range(total)} == set(deployments)
    assert total == len(deployments)
    assert [] == lost + removed


async def reached(found, least):
    return len(found) >= least


async def test_a_changed_deletion_policy_reaches_the_checkpoint(scene):
    await scene.apply(graph())
    name = (await scene.of_service())["checkpointName"]
    owners = []
    for policy in ("Retain", "Delete"):
        await scene.change(checkpoint={"deletionPolicy": policy})

        async def synced(policy=policy):
            metadata = (await scene.checkpoint(name))["metadata"]
            return metadata if metadata["annotations"][keys.ANN_DELETION_POLICY] == policy else None

        metadata = await scene.eventually(synced, policy)
        owners.append([owner["kind"] for owner in metadata.get("ownerReferences", ())])

    assert [[], ["DynamoGraphDeployment"]] == owners


async def test_nothing_is_written_at_rest(scene):
    wait = service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})
    await scene.apply(graph(Waiting=wait))
    await scene.finish((await scene.of_service())["checkpointName"])
    await scene.of_service(lambda found: found["ready"])
    await scene.replicas(0, "demo-waiting")

    async def versions():
        found = [
            item
            for resource in (GRAPHS, DEPLOYMENTS, CHECKPOINTS)
            for item in (await scene.kube.list(resource, scene.namespace)).items
        ]
        return {(item["kind"], item["metadata"]["name"]): item["metadata"]["resourceVersion"] for item in found}

    async def renewed():
        return (await scene.kube.get(LEASES, LEASE, HOME))["spec"]["renewTime"]

    async def differs(last):
        return await renewed() != last

    async def calm():
        """The Deployment controller, which is slow after other tests, has said its last word."""
        made = (await scene.kube.list(DEPLOYMENTS, scene.namespace)).items
        if not all((each.get("status") or {}).get("conditions") for each in made):
            return False
        before, last = await versions(), await renewed()
        await scene.eventually(lambda: differs(last), "a renewal")
        return before == await versions()

    await scene.eventually(calm, "calm")
    before = await versions()
    for _ in range(2):
        last = await renewed()
        await scene.eventually(lambda last=last: differs(last), "a renewal")
    assert before == await versions()
