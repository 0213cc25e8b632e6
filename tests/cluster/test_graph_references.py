"""Graphs that name a checkpoint, and those that say what cannot be."""

import json

import pytest

from cluster.errors import CommandError
from contract import keys
from kube.resources import CHECKPOINTS, DEPLOYMENTS
from tests.cluster.graph_scene import annotations, controllers_of, graph, graphs_in, service


@pytest.fixture(scope="module")
def controllers(graph_plane, tmp_path_factory):
    with controllers_of(graph_plane, tmp_path_factory.mktemp("controller")) as found:
        yield found


@pytest.fixture
async def scene(graph_plane, controllers):
    async with graphs_in(graph_plane, controllers) as found:
        yield found


async def test_a_reference_by_name_and_by_id(scene):
    await scene.by_hand("qwen")
    ready = await scene.finish("qwen")
    for name, reference in (("by-name", "qwen"), ("by-id", ready["checkpointID"])):
        await scene.apply(graph(name, worker=service(checkpoint={"enabled": True, "checkpointRef": reference})))
        found = await scene.of_service(lambda found: found["ready"], name)
        worker = await scene.deployment(f"{name}-vllmdecodeworker")

        assert ("qwen", ready["checkpointID"]) == (found["checkpointName"], found["checkpointID"])
        assert "qwen" == annotations(worker)[keys.ANN_CHECKPOINT_NAME]
    assert ["qwen"] == [
        each["metadata"]["name"] for each in (await scene.kube.list(CHECKPOINTS, scene.namespace)).items
    ]


async def test_a_reference_to_nothing_is_told_and_found_once_it_is_there(scene):
    await scene.apply(graph(worker=service(checkpoint={"enabled": True, "checkpointRef": "qwen"})))
    missing = await scene.condition("CheckpointsResolved", "False", reason="CheckpointNotFound")
    before = await scene.deployment()

    async def told():
        return "CheckpointNotFound" in await scene.reasons()

    assert await scene.eventually(told, "the Event")
    assert () == (await scene.kube.list(CHECKPOINTS, scene.namespace)).items
    assert "'qwen'" in missing["message"]
    await scene.by_hand("qwen")
    await scene.finish("qwen")
    await scene.condition("CheckpointsResolved", "True")
    assert before["spec"] == (await scene.deployment())["spec"]


async def test_what_cannot_be_is_a_condition(scene):
    gms = service(checkpoint={"enabled": True}, gpuMemoryService={"enabled": True})
    await scene.apply(graph(worker=gms, Planner=service(componentType="planner", checkpoint={"enabled": True})))
    failed = await scene.condition("CheckpointsResolved", "False")
    for name in ("demo-frontend", "demo-planner"):
        await scene.deployment(name)

    assert "GPU memory service" in failed["message"]
    assert "componentType planner" in failed["message"]
    assert "failed" == (await scene.graph())["status"]["state"]
    names = {each["metadata"]["name"] for each in (await scene.kube.list(DEPLOYMENTS, scene.namespace)).items}
    assert {"demo-frontend", "demo-planner"} == names


async def test_the_servers_judgement_of_a_service_is_shown(scene):
    bad = service()
    bad["extraPodSpec"]["mainContainer"]["volumeMounts"] = [{"name": "nowhere", "mountPath": "/data"}]
    await scene.apply(graph(worker=bad))
    entry = await scene.condition("Ready", "False", reason="failed_to_reconcile_the_resources")

    assert 'volumeMounts[0].name: Not found: "nowhere"' in entry["message"]
    assert await scene.deployment("demo-frontend")


async def test_somebody_elses_deployment_is_left_alone(scene):
    labels = {"app": "mine"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "mine:1"}]}}
    body = {
        "metadata": {"name": "demo-vllmdecodeworker"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    }
    await scene.kube.create(DEPLOYMENTS, body, scene.namespace)
    await scene.apply(graph())
    entry = await scene.condition("Ready", "False", reason="failed_to_reconcile_the_resources")

    assert "belongs to nobody we know" in entry["message"]
    assert "mine:1" == (await scene.deployment())["spec"]["template"]["spec"]["containers"][0]["image"]


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
