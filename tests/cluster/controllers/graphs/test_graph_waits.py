"""Workers of graphs that wait: not for ever, whoever leads meanwhile."""

import pytest

from tests.support.fixtures.graph import LEASE, VALUES, WORKER, Processes, graph, graphs_in, service

WAITS = {"enabled": True, "startupPolicy": "WaitForCheckpoint"}


@pytest.fixture
async def scene(graph_plane, tmp_path):
    """Controllers of the namespace alone: the test ends them, and says how long workers wait."""
    async with graphs_in(graph_plane, None) as found:
        found.controllers = Processes(graph_plane.kubeconfig, found.namespace, tmp_path)
        try:
            yield found
        finally:
            found.controllers.end()


async def test_a_capture_that_finds_no_node_is_no_outage(scene, graph_plane):
    """The time counts from when the first controller saw that workers wait; its successor ends the wait."""
    scene.controllers.start(VALUES)
    await scene.apply(graph(worker=service(checkpoint=WAITS)))
    await scene.replicas(0)
    waits = await scene.of_service(lambda found: "waitingSince" in found)
    scene.controllers.end()
    graph_plane.kubectl("delete", "lease", LEASE, "-n", scene.namespace)
    scene.controllers.start(VALUES + "waitTimeout: 1s\n")
    cold = await scene.replicas(1)
    told = await scene.condition("StartedCold", "True", reason="WaitTimedOut")
    status = await scene.of_service()
    phase = (await scene.status(waits["checkpointName"]))["phase"]

    assert (waits["waitingSince"], "Creating") == (status["waitingSince"], phase)
    assert f"service {WORKER} starts cold" in told["message"]

    async def event():
        return "StartedCold" in await scene.reasons()

    assert await scene.eventually(event, "the Event")
    # Ready at last: new workers restore, those that run stay.
    await scene.finish(waits["checkpointName"])
    await scene.condition("StartedCold", "False", reason="CheckpointReady")
    after = await scene.deployment()
    assert (cold["metadata"]["uid"], cold["metadata"]["generation"], 1) == (
        after["metadata"]["uid"],
        after["metadata"]["generation"],
        after["spec"]["replicas"],
    )
