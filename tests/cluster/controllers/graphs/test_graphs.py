"""Graphs and their checkpoints: from cold to ready, and generations."""

from datetime import UTC, datetime

from contract.api import keys
from contract.api.times import parse_time
from tests.support.fixtures.graph import ROOT, WORKER, annotations, graph, service


async def test_immediate_from_cold_to_ready_without_a_new_template(graph_scene):
    await graph_scene.apply(graph())
    before = await graph_scene.deployment()
    named = await graph_scene.of_service()
    made = await graph_scene.checkpoint(named["checkpointName"])
    await graph_scene.finish(named["checkpointName"])
    ready = await graph_scene.of_service(lambda found: found["ready"])
    after = await graph_scene.deployment()

    assert ("true", named["checkpointName"], "Immediate", "main") == tuple(
        annotations(before)[key]
        for key in (
            keys.ANN_RESTORE_CANDIDATE,
            keys.ANN_CHECKPOINT_NAME,
            keys.ANN_STARTUP_POLICY,
            keys.ANN_TARGET_CONTAINERS,
        )
    )
    assert before["spec"] == after["spec"]
    assert before["metadata"]["generation"] == after["metadata"]["generation"]
    assert named["checkpointID"] == named["identityHash"] == ready["checkpointID"]
    assert f"checkpoint-{named['checkpointID']}" == named["checkpointName"]
    assert all(before["spec"]["template"]["metadata"]["labels"][key] for key in keys.GRAPH_LABELS)
    assert ["/bin/sh", "-c"] == made["spec"]["job"]["podTemplateSpec"]["spec"]["containers"][0]["command"]
    assert keys.FINALIZER in made["metadata"]["finalizers"]


async def test_the_frontend_is_never_touched(graph_scene):
    await graph_scene.apply(graph())
    found = await graph_scene.deployment("demo-frontend")

    assert {} == annotations(found)
    assert "Frontend" not in ((await graph_scene.graph()).get("status", {}).get("checkpoints", {}))


async def test_the_seeds_inspection_and_scaling(graph_scene, graph_plane):
    await graph_scene.apply(graph("vllm-auto-demo"))
    status = await graph_scene.of_service(name="vllm-auto-demo")
    path = ".status.checkpoints.VllmDecodeWorker"
    said = graph_plane.kubectl(
        *("get", "dgd", "vllm-auto-demo", "-n", graph_scene.namespace, "-o"),
        f'jsonpath={{{path}.checkpointName}}{{"\\n"}}{{{path}.checkpointID}}{{"\\n"}}{{{path}.ready}}{{"\\n"}}',
    )
    graph_plane.kubectl(
        *("patch", "dgd", "vllm-auto-demo", "-n", graph_scene.namespace, "--type=merge"),
        *("-p", '{"spec":{"services":{"VllmDecodeWorker":{"replicas":2}}}}'),
    )
    await graph_scene.replicas(2, "vllm-auto-demo-vllmdecodeworker")

    assert [status["checkpointName"], status["checkpointID"], "false"] == said.split()
    assert status["checkpointName"] == (await graph_scene.of_service(name="vllm-auto-demo"))["checkpointName"]


async def test_a_new_generation_has_a_checkpoint_of_its_own_and_going_back_takes_the_old_one(graph_scene):
    await graph_scene.apply(graph())
    first = (await graph_scene.of_service())["checkpointName"]
    await graph_scene.change(extraPodSpec={"mainContainer": {"args": ["python3 -m dynamo.vllm --model other"]}})
    second = (await graph_scene.of_service(lambda found: found["checkpointName"] != first))["checkpointName"]
    await graph_scene.change(extraPodSpec={"mainContainer": {"args": ["python3 -m dynamo.vllm --model qwen"]}})
    third = (await graph_scene.of_service(lambda found: found["checkpointName"] != second))["checkpointName"]

    assert first == third
    labels = [(await graph_scene.checkpoint(name))["metadata"]["labels"] for name in (first, second)]
    assert 2 == len({each[keys.LABEL_WORKER_HASH] for each in labels})
    assert {"demo"} == {each[keys.LABEL_GRAPH] for each in labels}


async def test_the_first_guides_graph(graph_scene, graph_plane):
    """Seed 000's: no componentType, mode auto, one-string args, and identity in the older spelling too."""
    path = ROOT / "examples/graphs/my-llm.yaml"
    graph_plane.kubectl("apply", "-n", graph_scene.namespace, "-f", str(path))
    older = {"model": "meta-llama/Llama-3-8B", "framework": "vllm", "backendFramework": None}
    worker = {"checkpoint": {"identity": older}}

    async def named():
        return (await graph_scene.graph("my-llm")).get("status", {}).get("checkpoints", {}).get("VllmWorker")

    first = await graph_scene.eventually(named, "the checkpoint")
    await graph_scene.patch({"spec": {"services": {"VllmWorker": worker}}}, "my-llm")
    await graph_scene.finish(first["checkpointName"])
    deployment = await graph_scene.deployment("my-llm-vllmworker")
    made = await graph_scene.checkpoint(first["checkpointName"])

    (main,) = deployment["spec"]["template"]["spec"]["containers"]
    assert ["/bin/sh", "-c", "python3 -m dynamo.vllm --model meta-llama/Llama-3-8B"] == [
        *main["command"],
        *main["args"],
    ]
    assert first["checkpointName"] == annotations(deployment)[keys.ANN_CHECKPOINT_NAME]
    assert (f"{graph_scene.namespace}/my-llm", "vllm") == (
        made["spec"]["identity"]["model"],
        made["spec"]["identity"]["backendFramework"],
    )
    assert first["checkpointName"] == (await named())["checkpointName"]


async def test_workers_wait_and_then_start(graph_scene):
    await graph_scene.apply(graph(worker=service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})))
    await graph_scene.replicas(0)
    waiting = await graph_scene.condition("Ready", "False", reason="waiting_for_checkpoint")
    state = (await graph_scene.graph())["status"]["state"]
    ready = await graph_scene.finish((await graph_scene.of_service())["checkpointName"])
    await graph_scene.replicas(1)
    (since,) = [each["lastTransitionTime"] for each in ready["conditions"] if each["type"] == "Ready"]

    assert "pending" == state
    assert WORKER in waiting["message"]
    # By then the copy of every webhook replica knows it too.
    assert 2 <= (datetime.now(UTC) - parse_time(since)).total_seconds()


async def test_a_service_without_replicas_leaves_the_number_to_others(graph_scene, graph_plane):
    """Held at zero, then one by the API's default; an autoscaler's number stays."""
    worker = service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})
    del worker["replicas"]
    await graph_scene.apply(graph(worker=worker))
    await graph_scene.replicas(0)
    await graph_scene.finish((await graph_scene.of_service())["checkpointName"])
    await graph_scene.replicas(1)
    graph_plane.kubectl("scale", "deployment", "demo-vllmdecodeworker", "--replicas=3", "-n", graph_scene.namespace)
    await graph_scene.change(envs=[{"name": "A", "value": "b"}])

    async def changed():
        found = await graph_scene.deployment()
        return found["spec"]["template"]["spec"]["containers"][0].get("env")

    # The new generation waits for its checkpoint, the old one serves on.
    again = await graph_scene.of_service(lambda found: not found["ready"])
    assert 3 == (await graph_scene.deployment())["spec"]["replicas"]
    assert not await changed()
    await graph_scene.finish(again["checkpointName"])
    await graph_scene.eventually(changed, "the new template")
    assert 3 == (await graph_scene.deployment())["spec"]["replicas"]


async def test_a_failed_checkpoint_holds_nobody_back(graph_scene):
    await graph_scene.apply(graph(worker=service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})))
    await graph_scene.replicas(0)
    await graph_scene.finish((await graph_scene.of_service())["checkpointName"], word="failed")
    await graph_scene.replicas(1)
    cold = await graph_scene.condition("StartedCold", "True")

    assert "criu said no" in cold["message"]

    async def told():
        return "StartedCold" in await graph_scene.reasons()

    assert await graph_scene.eventually(told, "the Event")
