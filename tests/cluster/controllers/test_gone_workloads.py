"""A workload that goes while its capture waits for a node, on a real API server with the stock controllers.

No scheduler runs here, so no capture finds a node; the Job controller makes and removes the pods that wait for one.
"""

import pytest

from contract.api import keys
from kube.client import connect
from kube.errors import NotFoundError
from kube.resources import DEPLOYMENTS, NAMESPACES, PODS
from tests.support.fixtures.workload import VALUES, deployment, workloads_in
from tests.support.waiting import eventually


@pytest.fixture
async def scene(workload_plane, tmp_path):
    async with workloads_in(workload_plane, "gone", tmp_path) as found:
        yield found


async def test_no_capture_waits_for_a_node_that_nobody_wants(scene):
    """Ended once its workload is gone; a new pod of the same template has it begun anew, once."""
    scene.controllers.start(VALUES.replace("attempts: 1", "attempts: 1, unwantedGrace: 1s"))
    await scene.apply(DEPLOYMENTS, deployment())
    (made,) = await scene.made()
    name = made["metadata"]["name"]
    first = (await scene.phase("Creating", name))["jobName"]
    await scene.kube.delete(DEPLOYMENTS, "web", scene.namespace)
    given_up = await scene.phase("Failed", name)

    async def nothing_waits():
        return not (await scene.kube.list(PODS, scene.namespace)).items and not await scene.jobs()

    await scene.eventually(nothing_waits, "the end of the capture's pod and Job")
    (ready,) = [each for each in given_up["conditions"] if each["type"] == "Ready"]
    (told,) = await scene.told("WorkloadGone")
    await scene.apply(DEPLOYMENTS, deployment())
    await scene.pods_with("checkpoint-not-ready")
    again = await scene.phase("Creating", name)
    checkpoint = await scene.checkpoint(name)

    assert ("WorkloadGone", "Normal") == (ready["reason"], told["type"])
    assert "Deployment/web no longer exists" in given_up["message"]
    assert (first.removesuffix("1") + "2", 1) == (again["jobName"], again["attempts"])
    # Somebody wants it, so it waits for as long as it takes.
    assert keys.ANN_UNWANTED not in checkpoint["metadata"]["annotations"]
    assert made["metadata"]["uid"] == checkpoint["metadata"]["uid"]


async def test_the_namespace_of_a_test_goes_with_it(workload_plane, tmp_path):
    """One that stays in its end costs the API server a hundred calls every few seconds, as long as the tier runs."""
    async with workloads_in(workload_plane, "left", tmp_path) as scene:
        scene.controllers.start(VALUES)
        await scene.apply(DEPLOYMENTS, deployment())
        (made,) = await scene.made()
        await scene.phase("Creating", made["metadata"]["name"])

    async with await connect(str(workload_plane.kubeconfig)) as kube:

        async def gone():
            try:
                await kube.get(NAMESPACES, scene.namespace)
            except NotFoundError:
                return True
            return False

        assert await eventually(gone, scene.namespace)
