"""A capture pod is nobody's replica: the cluster's own controllers count the workload as if there were no capture."""

from datetime import UTC, datetime

import pytest

from contract.api import keys
from contract.api.times import format_time
from kube.resources import DEPLOYMENTS, PODS, Resource
from tests.support.fixtures import workload as shop
from tests.support.fixtures.workload import deployment

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")


@pytest.fixture
async def scene(workload_plane, tmp_path):
    async with shop.workloads_in(workload_plane, "uncounted", tmp_path) as found:
        found.controllers.start(shop.VALUES)
        yield found


async def captures(scene):
    return (await scene.kube.list(PODS, scene.namespace, labels=f"{keys.LABEL_IS_SOURCE}=true")).items


async def serve(scene):
    """Be the kubelet of the replica."""
    (pod,) = await scene.pods_with("checkpoint-requested")
    now = format_time(datetime.now(UTC))
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
    status = {"phase": "Running", "startTime": now, "conditions": conditions}
    await scene.kube.patch(PODS, pod["metadata"]["name"], {"status": status}, scene.namespace, subresource="status")


async def test_a_disruption_budget_of_the_workload_goes_on_while_it_is_captured(scene):
    """The budget's controller refuses to count pods of a Job, and then allows no disruption at all."""
    budget = {"metadata": {"name": "web"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}
    await scene.apply(BUDGETS, budget)
    await scene.apply(DEPLOYMENTS, deployment(labels={"tier": "gold"}))
    await serve(scene)
    (capture,) = await scene.eventually(lambda: captures(scene), "the capture pod")
    # A change that the budget's controller takes up after it has heard of the capture pod.
    changed = await scene.kube.patch(BUDGETS, "web", {"spec": {"maxUnavailable": 2}}, scene.namespace)

    async def synced():
        status = (await scene.kube.get(BUDGETS, "web", scene.namespace)).get("status") or {}
        seen = status.get("observedGeneration") == changed["metadata"]["generation"]
        return status if seen and status.get("currentHealthy") == 1 else None

    status = await scene.eventually(synced, "the budget's status")
    assert (1, 1) == (status["expectedPods"], status["disruptionsAllowed"])
    (condition,) = status["conditions"]
    assert ("True", "SufficientPods") == (condition["status"], condition["reason"])
    assert not {"app", "tier", "pod-template-hash", keys.LABEL_RESTORE} & capture["metadata"]["labels"].keys()
