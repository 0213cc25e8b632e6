"""What a checkpoint was taken on, and how many nodes could restore it, on a real API server."""

import json

import pytest

from contract.api import keys
from kube.resources import CHECKPOINTS, PODS
from tests.support.fixtures.controller import TAKEN_ON, checkpoints_in
from tests.support.waiting import eventually


@pytest.fixture
async def scene(checkpoint_plane, kube, tmp_path):
    async with checkpoints_in(checkpoint_plane, kube, "compatible", tmp_path) as found:
        yield found


async def agent(scene, name, **differs):
    """Be the agent of a node: its pod is ready, and says what the node is."""
    metadata = {
        "name": name,
        "labels": {keys.LABEL_AGENT: keys.LABEL_AGENT_VALUE},
        "annotations": {keys.ANN_RESTORE_NODE: json.dumps(TAKEN_ON | differs)},
    }
    spec = {"containers": [{"name": "agent", "image": "i"}]}
    await scene.kube.create(PODS, {"metadata": metadata, "spec": spec}, scene.namespace)
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    await scene.kube.patch(PODS, name, {"status": status}, scene.namespace, subresource="status")


async def compatible(scene, reason):
    async def there():
        found = [each for each in (await scene.status()).get("conditions", ()) if each["type"] == "Compatible"]
        return found[0] if found and found[0]["reason"] == reason else None

    return await eventually(there, lambda: f"Compatible for {reason}; logs:\n{scene.controllers.logs()[-4000:]}")


async def test_a_checkpoint_says_what_it_was_taken_on_and_which_nodes_could_restore_it(scene, checkpoint_plane):
    await agent(scene, "old", cpuFlags="avx")
    scene.controllers.start()
    await scene.make()
    await scene.complete((await scene.phase("Creating"))["jobName"])
    none = await compatible(scene, "CPUMismatch")

    assert {"node": "node-1", **TAKEN_ON} == (await scene.status())["source"]
    assert ("False", True) == (none["status"], "lacks avx2" in none["message"])
    assert "Ready" == (await scene.status())["phase"]
    assert "CPUMismatch" in await scene.reasons()

    await agent(scene, "like-it")
    # In place of a minute's wait: whatever else is looked at, the nodes are, too.
    await scene.kube.patch(CHECKPOINTS, "qwen", {"metadata": {"annotations": {"a": "b"}}}, scene.namespace)
    some = await compatible(scene, "NodesCompatible")
    assert ("True", "1 of 2 nodes could restore it; the others: 1 cpu-mismatch") == (some["status"], some["message"])
    told = checkpoint_plane.kubectl("describe", "dckpt", "qwen", "-n", scene.namespace)
    assert all(words in told for words in ("Cpu Flags:", "6.1.0", "1 of 2 nodes could restore it"))
