"""What stays of a graph, and what goes: deletions, restarts of the controller, and rest."""

import asyncio
import signal

from contract.api import keys
from kube.errors import NotFoundError
from kube.resources import CHECKPOINTS, DEPLOYMENTS, GRAPHS, LEASES
from tests.support.fixtures.controller import counted
from tests.support.fixtures.graph import HOME, LEASE, VALUES, graph, service
from tests.support.waiting import PATIENCE


async def test_a_deleted_checkpoint_is_made_anew_and_workers_that_run_stay(graph_scene):
    await graph_scene.apply(graph(worker=service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})))
    name = (await graph_scene.of_service())["checkpointName"]
    await graph_scene.finish(name, word="failed")
    await graph_scene.replicas(1)
    before = (await graph_scene.checkpoint(name))["metadata"]["uid"]
    await graph_scene.kube.delete(CHECKPOINTS, name, graph_scene.namespace)
    await graph_scene.cleaned(name)

    async def anew():
        try:
            return (await graph_scene.checkpoint(name))["metadata"]["uid"] != before
        except NotFoundError:
            return False

    assert await graph_scene.eventually(anew, "the new checkpoint")
    await graph_scene.phase("Creating", name)
    assert 1 == (await graph_scene.deployment())["spec"]["replicas"]


async def test_a_service_that_goes_takes_its_deployment_along(graph_scene):
    await graph_scene.apply(graph())
    await graph_scene.deployment("demo-frontend")
    await graph_scene.patch({"spec": {"services": {"Frontend": None}}})
    await graph_scene.gone(DEPLOYMENTS, "demo-frontend")

    assert await graph_scene.deployment()


async def test_with_the_graph_goes_what_is_its_own_and_stays_what_is_retained(graph_scene):
    keep = service(checkpoint={"enabled": True, "deletionPolicy": "Retain"})
    await graph_scene.by_hand("manual")
    await graph_scene.apply(graph(Kept=keep))
    own = (await graph_scene.of_service())["checkpointName"]

    async def both():
        return (await graph_scene.graph())["status"]["checkpoints"].get("Kept", {}).get("checkpointName")

    kept = await graph_scene.eventually(both, "the other checkpoint")
    retained = await graph_scene.checkpoint(kept)
    await graph_scene.finish(own)
    await graph_scene.kube.delete(GRAPHS, "demo", graph_scene.namespace)
    await graph_scene.cleaned(own)
    await graph_scene.gone(CHECKPOINTS, own)
    await graph_scene.gone(DEPLOYMENTS, "demo-vllmdecodeworker")

    async def released():
        metadata = (await graph_scene.checkpoint(kept))["metadata"]
        return keys.LABEL_GRAPH not in metadata["labels"] and not metadata.get("ownerReferences")

    assert await graph_scene.eventually(released, "the release of the retained one")
    assert [] == retained["metadata"].get("ownerReferences", [])
    assert await graph_scene.checkpoint("manual")


async def test_a_graph_that_went_while_nobody_looked(graph_scene, graph_controllers):
    """There is no finalizer on graphs, so none is ever stuck; what is left is found at the next start."""
    keep = service(checkpoint={"enabled": True, "deletionPolicy": "Retain"})
    await graph_scene.apply(graph(worker=keep))
    kept = (await graph_scene.of_service())["checkpointName"]
    for process in graph_controllers.running:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, PATIENCE)
    await graph_scene.kube.delete(GRAPHS, "demo", graph_scene.namespace)
    graph_controllers.start(VALUES, RESTRICTED_NAMESPACE="")

    async def released():
        return keys.LABEL_GRAPH not in (await graph_scene.checkpoint(kept))["metadata"]["labels"]

    assert await graph_scene.eventually(released, "the release")


async def test_thirty_graphs_and_a_controller_that_is_killed_again_and_again(graph_scene, graph_controllers):
    """One Deployment and one checkpoint each, made once, wherever it was when it died."""
    total = 30
    body = graph(worker=service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"}))
    del body["spec"]["services"]["Frontend"]
    async with (
        counted(graph_scene, CHECKPOINTS) as (checkpoints, lost),
        counted(graph_scene, DEPLOYMENTS) as (deployments, removed),
    ):
        making = asyncio.gather(
            *(graph_scene.apply({**body, "metadata": {"name": f"g{number}"}}) for number in range(total))
        )
        for threshold in (3, 12, 21):
            await graph_scene.eventually(
                lambda least=threshold: reached(checkpoints, least), f"{threshold} checkpoints"
            )
            graph_controllers.end()
            await graph_scene.kube.delete(LEASES, LEASE, HOME)
            graph_controllers.start(VALUES, RESTRICTED_NAMESPACE="")
        await making
        for number in range(total):
            await graph_scene.condition("Ready", "False", f"g{number}", reason="waiting_for_checkpoint")

    assert total == len(checkpoints) == len(set(checkpoints))
    assert {f"g{number}-vllmdecodeworker" for number in range(total)} == set(deployments)
    assert total == len(deployments)
    assert [] == lost + removed


async def reached(found, least):
    return len(found) >= least


async def test_a_changed_deletion_policy_reaches_the_checkpoint(graph_scene):
    await graph_scene.apply(graph())
    name = (await graph_scene.of_service())["checkpointName"]
    owners = []
    for policy in ("Retain", "Delete"):
        await graph_scene.change(checkpoint={"deletionPolicy": policy})

        async def synced(policy=policy):
            metadata = (await graph_scene.checkpoint(name))["metadata"]
            return metadata if metadata["annotations"][keys.ANN_DELETION_POLICY] == policy else None

        metadata = await graph_scene.eventually(synced, policy)
        owners.append([owner["kind"] for owner in metadata.get("ownerReferences", ())])

    assert [[], ["DynamoGraphDeployment"]] == owners


async def test_nothing_is_written_at_rest(graph_scene):
    wait = service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})
    await graph_scene.apply(graph(Waiting=wait))
    await graph_scene.finish((await graph_scene.of_service())["checkpointName"])
    await graph_scene.of_service(lambda found: found["ready"])
    await graph_scene.replicas(0, "demo-waiting")

    async def versions():
        found = [
            item
            for resource in (GRAPHS, DEPLOYMENTS, CHECKPOINTS)
            for item in (await graph_scene.kube.list(resource, graph_scene.namespace)).items
        ]
        return {(item["kind"], item["metadata"]["name"]): item["metadata"]["resourceVersion"] for item in found}

    async def renewed():
        return (await graph_scene.kube.get(LEASES, LEASE, HOME))["spec"]["renewTime"]

    async def differs(last):
        return await renewed() != last

    async def calm():
        """The Deployment controller, which is slow after other tests, has said its last word."""
        made = (await graph_scene.kube.list(DEPLOYMENTS, graph_scene.namespace)).items
        if not all((each.get("status") or {}).get("conditions") for each in made):
            return False
        before, last = await versions(), await renewed()
        await graph_scene.eventually(lambda: differs(last), "a renewal")
        return before == await versions()

    await graph_scene.eventually(calm, "calm")
    before = await versions()
    for _ in range(2):
        last = await renewed()
        await graph_scene.eventually(lambda last=last: differs(last), "a renewal")
    assert before == await versions()
