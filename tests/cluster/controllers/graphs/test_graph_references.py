"""Graphs that name a checkpoint, and those that say what cannot be."""

import json

import pytest

from cluster.errors import CommandError
from contract.api import keys
from kube.resources import CHECKPOINTS, DEPLOYMENTS
from tests.support.fixtures.graph import annotations, graph, service


async def test_a_reference_by_name_and_by_id(graph_scene):
    await graph_scene.by_hand("qwen")
    ready = await graph_scene.finish("qwen")
    for name, reference in (("by-name", "qwen"), ("by-id", ready["checkpointID"])):
        await graph_scene.apply(graph(name, worker=service(checkpoint={"enabled": True, "checkpointRef": reference})))
        found = await graph_scene.of_service(lambda found: found["ready"], name)
        worker = await graph_scene.deployment(f"{name}-vllmdecodeworker")

        assert ("qwen", ready["checkpointID"]) == (found["checkpointName"], found["checkpointID"])
        assert "qwen" == annotations(worker)[keys.ANN_CHECKPOINT_NAME]
    assert ["qwen"] == [
        each["metadata"]["name"] for each in (await graph_scene.kube.list(CHECKPOINTS, graph_scene.namespace)).items
    ]


async def test_a_reference_to_nothing_is_told_and_found_once_it_is_there(graph_scene):
    await graph_scene.apply(graph(worker=service(checkpoint={"enabled": True, "checkpointRef": "qwen"})))
    missing = await graph_scene.condition("CheckpointsResolved", "False", reason="CheckpointNotFound")
    before = await graph_scene.deployment()

    async def told():
        return "CheckpointNotFound" in await graph_scene.reasons()

    assert await graph_scene.eventually(told, "the Event")
    assert () == (await graph_scene.kube.list(CHECKPOINTS, graph_scene.namespace)).items
    assert "'qwen'" in missing["message"]
    await graph_scene.by_hand("qwen")
    await graph_scene.finish("qwen")
    await graph_scene.condition("CheckpointsResolved", "True")
    assert before["spec"] == (await graph_scene.deployment())["spec"]


async def test_what_cannot_be_is_a_condition(graph_scene):
    gms = service(checkpoint={"enabled": True}, gpuMemoryService={"enabled": True})
    await graph_scene.apply(graph(worker=gms, Planner=service(componentType="planner", checkpoint={"enabled": True})))
    failed = await graph_scene.condition("CheckpointsResolved", "False")
    for name in ("demo-frontend", "demo-planner"):
        await graph_scene.deployment(name)

    assert "GPU memory service" in failed["message"]
    assert "componentType planner" in failed["message"]
    assert "failed" == (await graph_scene.graph())["status"]["state"]
    names = {
        each["metadata"]["name"] for each in (await graph_scene.kube.list(DEPLOYMENTS, graph_scene.namespace)).items
    }
    assert {"demo-frontend", "demo-planner"} == names


async def test_the_servers_judgement_of_a_service_is_shown(graph_scene):
    bad = service()
    bad["extraPodSpec"]["mainContainer"]["volumeMounts"] = [{"name": "nowhere", "mountPath": "/data"}]
    await graph_scene.apply(graph(worker=bad))
    entry = await graph_scene.condition("Ready", "False", reason="failed_to_reconcile_the_resources")

    assert 'volumeMounts[0].name: Not found: "nowhere"' in entry["message"]
    assert await graph_scene.deployment("demo-frontend")


async def test_somebody_elses_deployment_is_left_alone(graph_scene):
    labels = {"app": "mine"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "mine:1"}]}}
    body = {
        "metadata": {"name": "demo-vllmdecodeworker"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    }
    await graph_scene.kube.create(DEPLOYMENTS, body, graph_scene.namespace)
    await graph_scene.apply(graph())
    entry = await graph_scene.condition("Ready", "False", reason="failed_to_reconcile_the_resources")

    assert "belongs to none that we know" in entry["message"]
    assert "mine:1" == (await graph_scene.deployment())["spec"]["template"]["spec"]["containers"][0]["image"]


@pytest.mark.parametrize(
    ("words", "services"),
    [
        pytest.param(
            "cannot be set together with checkpointRef",
            {"W": {"checkpoint": {"enabled": True, "checkpointRef": "x", "job": {"podTemplate": {}}}}},
            id="reference-and-job",
        ),
        pytest.param("letters, digits and hyphens", {"a_b": {}}, id="name"),
        pytest.param("Unsupported value", {"W": {"checkpoint": {"mode": "Sometimes"}}}, id="mode"),
        pytest.param("Unsupported value", {"W": {"checkpoint": {"startupPolicy": "Later"}}}, id="policy"),
        pytest.param("must be of type integer", {"W": {"multinode": {"nodeCount": "two"}}}, id="nodes"),
        pytest.param("must be of type object", {"W": {"gpuMemoryService": True}}, id="gpu-memory-service"),
        pytest.param("must be of type object", {"W": {"volumeMounts": ["models"]}}, id="mounts"),
    ],
)
def test_the_schema_refuses_mistakes(graph_plane, words, services):
    body = {"apiVersion": keys.API_VERSION, "kind": keys.GRAPH_KIND, "metadata": {"name": "x"}}
    with pytest.raises(CommandError) as refused:
        graph_plane.kubectl(
            "create", "--dry-run=server", "-f", "-", stdin=json.dumps(body | {"spec": {"services": services}})
        )

    assert words in str(refused.value)
