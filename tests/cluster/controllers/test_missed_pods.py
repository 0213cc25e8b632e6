"""Workloads that were applied while the webhook was not reached: they get a checkpoint all the same."""

import asyncio
import json

import pytest

from contract.api import keys
from kube.resources import DEPLOYMENTS
from tests.support.fixtures import workload as shop
from tests.support.fixtures.workload import bare, deployment, note

CONFIGURATION = ("mutatingwebhookconfiguration", "opted-in")
MARK = {keys.ANN_ADMISSION: "webhook-unreachable"}


@pytest.fixture
async def scene(workload_plane, tmp_path):
    async with shop.workloads_in(workload_plane, "missed", tmp_path) as found:
        found.plane = workload_plane
        try:
            yield found
        finally:
            seen_by_webhook(found, seen=True)


def seen_by_webhook(scene, *, seen):
    """Have the API server ask our webhook about this namespace's pods, or not."""
    away = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [scene.namespace]}
    selector = {} if seen else {"matchExpressions": [away]}
    change = [{"op": "add", "path": "/webhooks/0/namespaceSelector", "value": selector}]
    scene.plane.kubectl("patch", *CONFIGURATION, "--type=json", "-p", json.dumps(change))


async def asked(scene, *, seen):
    """Wait until the API server has heard of the change: a pod is stamped, or is not."""
    body = json.dumps(bare("probe"))

    async def there():
        options = ("-n", scene.namespace, "--dry-run=server", "-o", "json", "-f", "-")
        made = json.loads(await asyncio.to_thread(scene.plane.kubectl, "create", *options, stdin=body))
        return seen == bool(note(made, keys.ANN_ADMISSION))

    await scene.eventually(there, f"the webhook is asked: {seen}")


@pytest.mark.parametrize("mark", [MARK, {}], ids=["marked", "before-the-release"])
async def test_its_checkpoint_is_made_of_the_template_and_the_next_pod_is_restored(scene, mark):
    """The mark is what the policy writes; before the release was installed, and in old clusters, there is none."""
    seen_by_webhook(scene, seen=False)
    await asked(scene, seen=False)
    await scene.apply(DEPLOYMENTS, deployment(notes=mark))
    scene.controllers.start(shop.VALUES)
    (cold,) = await scene.pods_with("checkpoint-requested")
    seen_by_webhook(scene, seen=True)
    await asked(scene, seen=True)
    name = await scene.ready()
    await scene.kube.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 2}}, scene.namespace)
    (restored,) = await scene.pods_with("restore-shaped")

    assert name == note(cold, keys.ANN_CHECKPOINT) == note(restored, keys.ANN_CHECKPOINT)
    assert note(cold, keys.ANN_TEMPLATE_HASH) == note(restored, keys.ANN_TEMPLATE_HASH)
    assert await scene.told("WebhookUnreachable", cold["metadata"]["name"])
    (found,) = await scene.checkpoints()
    assert "Deployment/web" == note(found, keys.ANN_WORKLOAD)


async def test_what_admission_would_refuse_asks_for_nothing(scene):
    seen_by_webhook(scene, seen=False)
    await asked(scene, seen=False)
    scene.controllers.start(shop.VALUES)
    await scene.apply(DEPLOYMENTS, deployment(notes=MARK, pod={"hostPID": True}))
    (cold,) = await scene.pods_with("webhook-unreachable")
    await scene.told("WebhookUnreachable", cold["metadata"]["name"])
    await scene.settle()

    assert () == await scene.checkpoints()
    assert keys.ANN_TEMPLATE_HASH not in cold["metadata"]["annotations"]
