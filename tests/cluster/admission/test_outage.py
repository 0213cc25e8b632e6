"""R22, all of ours down at once: webhook, controller and agents are gone, and pods are made as ever."""

import asyncio
import json
import statistics
import time
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from contract.api import keys
from kube.resources import NODES, PODS
from tests.support.builders.objects import ID, checkpoint, graph_pod, opted_in, pod
from tests.support.fixtures.installed import Installed, new_namespace
from tests.support.waiting import until

MADE = 60
"""Pods in each measurement."""
TIMEOUT = 2.0
"""Seconds, webhook.timeoutSeconds of the chart."""
NOISE = 0.02
"""Seconds by which two medians may differ, though both kinds of pods were made by turns."""
API_SERVERS_OWN = 10.0
"""Seconds that the API server waits for a webhook whose configuration says nothing."""


@pytest.fixture(scope="module")
def release(control_plane, tmp_path_factory):
    """Installed, seen at work once, then dead."""
    namespace = new_namespace(control_plane, f"outage-{uuid4().hex[:6]}")
    found = Installed(control_plane, namespace, tmp_path_factory.mktemp("release"))
    try:
        found.checkpoint(checkpoint("ready"), {"phase": "Ready", "checkpointID": ID})
        found.start("webhook")
        wish = opted_in(name="ready")
        del wish["metadata"]["namespace"]
        until(lambda: found.code(wish) == "restore-shaped", "the webhook is asked")
        found.kill("webhook")
        yield found
    finally:
        found.end()
        found.uninstall()


@asynccontextmanager
async def silence(port):
    """Accepts what comes to the webhook's port and never answers; counts it."""
    calls = []

    async def accept(reader, writer):
        calls.append(1)
        try:
            await reader.read()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accept, "localhost", port)
    try:
        yield calls
    finally:
        server.close()


async def seconds(kube, namespace, body):
    started = time.perf_counter()
    body["metadata"]["namespace"] = namespace
    made = await kube.create(PODS, body, namespace, dry_run=True)
    return time.perf_counter() - started, made["metadata"].get("annotations", {}).get(keys.ANN_ADMISSION)


async def medians(kube, *namespaces):
    """Of each namespace; one after the other, pod by pod, so that a busy machine delays all of them alike."""
    rounds = [[(await seconds(kube, each, pod()))[0] for each in namespaces] for _ in range(MADE)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


async def test_pods_that_did_not_opt_in_are_neither_sent_nor_delayed(control_plane, release, kube, figure):
    """The worst outage: packets go in and no answer comes."""
    elsewhere = new_namespace(control_plane, f"untouched-{uuid4().hex[:6]}")
    async with silence(release.port) as calls:
        without, during = await medians(kube, elsewhere, release.namespace)
    figure(f"median create {1000 * during:.1f} ms in the outage, {1000 * without:.1f} ms where nothing is installed")

    assert [] == calls
    assert during <= without + NOISE


WISHES = [
    pytest.param(lambda: opted_in(name="ready"), id="by-name"),
    pytest.param(lambda: pod(labels={keys.LABEL_RESTORE: keys.RESTORE_AUTO}), id="automatic"),
    pytest.param(lambda: graph_pod(name="ready"), id="graph"),
]


@pytest.mark.parametrize("wish", WISHES)
async def test_pods_that_opted_in_start_cold_after_a_refused_connection(release, kube, wish):
    took, code = await seconds(kube, release.namespace, wish())

    assert "webhook-unreachable" == code
    assert took < TIMEOUT


@pytest.mark.parametrize("wish", WISHES)
async def test_pods_that_opted_in_wait_no_longer_than_the_timeout(release, kube, wish, figure):
    async with silence(release.port) as calls:
        took, code = await seconds(kube, release.namespace, wish())
    figure(f"{took:.2f} s")

    assert "webhook-unreachable" == code
    assert 1 <= len(calls)
    assert TIMEOUT <= took < API_SERVERS_OWN


async def test_nodes_come_and_go(kube):
    name = f"node-{uuid4().hex[:6]}"
    await kube.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    await kube.patch(NODES, name, {"spec": {"unschedulable": True}})
    await kube.delete(NODES, name)


async def test_pods_can_be_changed_evicted_and_deleted(release, kube):
    body = opted_in(name="ready", annotations={keys.ANN_CHECKPOINT: "ready"})
    body["metadata"] |= {"name": "old", "namespace": release.namespace, "labels": {keys.LABEL_CHECKPOINT_ID: ID}}
    del body["metadata"]["generateName"]
    await kube.create(PODS, body, release.namespace)
    await kube.patch(PODS, "old", {"metadata": {"labels": {"a": "b"}}}, release.namespace)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "old"}}
    path = f"/api/v1/namespaces/{release.namespace}/pods/old/eviction"
    release.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
