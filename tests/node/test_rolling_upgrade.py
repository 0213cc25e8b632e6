"""R23: an upgrade and a rollback while pods are created, at a tenth of the stated size.

The webhook is strict here (failurePolicy Fail), so that a single call that it does not answer fails a pod.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from contract.api import keys
from demo.install import RELEASE, Helm, complaints, image_settings
from demo.kubectl import CommandError, Kubectl, wait_for
from demo.platform import Platform
from kube.client import connect
from kube.errors import KubeError
from kube.resources import PODS
from tests.conftest import Figure
from tests.support.fixtures import node

NAMESPACE = "snapshot-upgrade"
RATE = 20.0
"""Pods a second."""


STRICT = {"webhook.failurePolicy": "Fail"} | node.PATIENT
"""A call that a busy machine delays is no lost call; the figure tells the slowest."""


@dataclass
class Load:
    """What came of the pods."""

    began: float = field(default_factory=time.monotonic)
    created: int = 0
    failed: list[str] = field(default_factory=list)
    unseen: int = 0
    """Admitted without our mark."""
    slowest: float = 0.0


@pytest.fixture(scope="module")
def release(platform: Platform) -> Iterator[tuple[Kubectl, Helm, dict[str, str]]]:
    """A release of its own, strict, with an unfinished checkpoint."""
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, NAMESPACE)
    helm = Helm(platform.helm, platform.kubeconfig, NAMESPACE)
    settings = image_settings(platform.image_tag, platform.image_prefix) | STRICT
    try:
        helm.install(settings)
    except CommandError as error:
        pytest.fail(f"{error}\n{complaints(kubectl)}")
    wait_for(lambda: reached(kubectl), "the API server reaches the webhook", 60)
    yield kubectl, helm, settings
    helm.uninstall()


def reached(kubectl: Kubectl) -> bool | None:
    """Whether pods can be created: Service rules follow ready pods some moments later, and this webhook is strict."""
    try:
        kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(node.pod("first", "none")))
    except CommandError:
        return None
    return True


async def create_pods(platform: Platform, load: Load, over: asyncio.Event) -> None:
    body = node.pod("upgraded-past", "none")
    async with await connect(str(platform.kubeconfig)) as kube, asyncio.TaskGroup() as group:
        while not over.is_set():
            group.create_task(create_one(kube, body, load))
            await asyncio.sleep(1 / RATE)


async def create_one(kube, body, load: Load) -> None:
    started = time.monotonic()
    try:
        made = await kube.create(PODS, body, NAMESPACE, dry_run=True)
    except KubeError as error:
        load.failed.append(f"{time.monotonic() - load.began:.1f} s after the first: {error}")
        return
    load.created += 1
    load.slowest = max(load.slowest, time.monotonic() - started)
    load.unseen += made["metadata"]["annotations"].get(keys.ANN_ADMISSION) != "checkpoint-not-found"


async def test_no_pod_and_no_checkpoint_is_lost(platform: Platform, release, figure: Figure):
    kubectl, helm, settings = release
    node.create(kubectl, node.checkpoint("before", readinessProbe=node.probe()))
    load, over = Load(), asyncio.Event()
    loading = asyncio.create_task(create_pods(platform, load, over))
    try:
        changed = settings | {"controlPlane.podAnnotations.rolled": "once", "daemonset.podAnnotations.rolled": "once"}
        await asyncio.to_thread(helm.install, changed)
        await asyncio.to_thread(helm, "rollback", RELEASE, "1", "--wait", "--timeout", "240s")
    finally:
        over.set()
        await loading
    figure(f"{load.created} pods created during an upgrade and a rollback, slowest {load.slowest:.2f} s")

    assert [] == load.failed
    assert 0 == load.unseen
    assert load.created > 100
    ready = node.phase(kubectl, "before", "Ready", "Failed")
    assert "Ready" == ready["status"]["phase"], ready["status"]
