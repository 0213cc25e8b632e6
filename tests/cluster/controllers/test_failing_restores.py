"""A checkpoint whose restores fail one like the other: its pods start cold at once, until it is captured again."""

import json
from datetime import UTC, datetime

import pytest

from contract.api import keys
from contract.api.conditions import condition
from contract.api.states import ConditionType
from contract.api.times import format_micro_time
from kube.resources import CHECKPOINTS, DEPLOYMENTS, PODS
from tests.support.fixtures import workload as shop
from tests.support.fixtures.workload import deployment, note


@pytest.fixture
async def scene(workload_plane, tmp_path):
    async with shop.workloads_in(workload_plane, "failing", tmp_path) as found:
        yield found


async def not_restored(scene, pods):
    """Be the agent that cannot restore these pods."""
    for pod in pods:
        report = {"container": "main", "outcome": "failed", "reason": "restore-failed"}
        report["at"] = format_micro_time(datetime.now(UTC))
        notes = {keys.ANN_RESTORE_REPORT: json.dumps(report, separators=(",", ":"))}
        await scene.kube.patch(PODS, pod["metadata"]["name"], {"metadata": {"annotations": notes}}, scene.namespace)


async def failing(scene, name, status):
    """Wait until the condition has this status."""

    async def there():
        found = condition(await scene.kube.get(CHECKPOINTS, name, scene.namespace), ConditionType.RESTORES_FAILING)
        return found if (found or {}).get("status") == status else None

    return await scene.eventually(there, f"RestoresFailing {status}")


async def scale(scene, replicas):
    await scene.kube.patch(DEPLOYMENTS, "web", {"spec": {"replicas": replicas}}, scene.namespace)


async def started(scene, values):
    """A Deployment with one cold pod and two that are restored from its checkpoint."""
    scene.controllers.start(values)
    await scene.apply(DEPLOYMENTS, deployment())
    name = await scene.ready()
    await scale(scene, 4)
    return name, await scene.pods_with("restore-shaped", 3)


async def test_three_failures_alike_let_later_pods_start_cold_until_the_next_capture(scene):
    name, pods = await started(scene, shop.VALUES)
    await not_restored(scene, pods)
    found = await failing(scene, name, "True")
    (told,) = await scene.told("RestoresFailing", name)
    await scale(scene, 5)
    (cold,) = await scene.pods_with("restores-failing")

    assert "3 restores in a row failed as restore-failed" in found["message"]
    assert "Warning" == told["type"]
    assert keys.LABEL_CHECKPOINT_ID not in cold["metadata"]["labels"]
    assert await scene.told("RestoresFailing", cold["metadata"]["name"])
    body = {"metadata": {"annotations": {keys.ANN_ARTIFACT_VERSION: "2"}}}
    await scene.kube.patch(CHECKPOINTS, name, body, scene.namespace)
    await scene.finish(name)
    await scale(scene, 6)
    shaped = await scene.pods_with("restore-shaped", 4)

    assert "2" in {note(pod, keys.ANN_ARTIFACT_VERSION) for pod in shaped}
    assert condition(await scene.kube.get(CHECKPOINTS, name, scene.namespace), ConditionType.RESTORES_FAILING) is None


async def test_restores_are_tried_again_after_the_pause_also_by_another_controller(scene):
    values = shop.VALUES + "failingRestores: {inARow: 2, pause: 8s}\n"
    name, pods = await started(scene, values)
    await not_restored(scene, pods[:2])
    await failing(scene, name, "True")
    await scene.kill_controllers()
    scene.controllers.start(values)
    await failing(scene, name, "False")
    await scale(scene, 5)

    assert await scene.pods_with("restore-shaped", 4)
    assert await scene.told("RestoresResumed", name)
