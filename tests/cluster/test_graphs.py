"""Graph deployments in our controller's process, with a real API server and the real Deployment controller.

No kubelet runs here: pods stay Pending, and the capture Jobs end as the test says.
"""

import asyncio
import copy
import json
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from cluster.api import ControlPlane
from cluster.errors import CommandError
from contract import keys
from kube.client import connect
from kube.errors import NotFoundError
from kube.informer import Informer, synced
from kube.resources import CHECKPOINTS, DEPLOYMENTS, GRAPHS, JOBS, LEASES, NAMESPACES, PODS
from tests.cluster.test_controller import DIGEST, LEASE, NO_CERTIFICATES, Processes, eventually
from tests.cluster.test_controller import Scene as Checkpoints

ROOT = Path(__file__).parents[2]
VALUES = NO_CERTIFICATES + "graphDeployments: {enabled: true}\nautomatic: {attempts: 1}\n"
IMAGE = "example.test/vllm-placeholder:1"
HOME = "snapshot-system"
WORKER = "VllmDecodeWorker"


def service(**fields):
    main = {"image": IMAGE, "args": ["python3 -m dynamo.vllm --model qwen"]}
    return {"componentType": "worker", "replicas": 1, "extraPodSpec": {"mainContainer": main}, **fields}


def graph(name="demo", worker=None, **services):
    auto = {"enabled": True, "mode": "Auto"}
    frontend = {"componentType": "frontend", "replicas": 1, "extraPodSpec": {"mainContainer": {"image": IMAGE}}}
    all_services = {"Frontend": frontend, WORKER: worker or service(checkpoint=auto), **services}
    head = {"apiVersion": keys.API_VERSION, "kind": keys.GRAPH_KIND, "metadata": {"name": name}}
    return {**head, "spec": {"services": all_services}}


class Scene(Checkpoints):
    """A namespace with graphs in it."""

    async def apply(self, body):
        return await self.kube.create(GRAPHS, copy.deepcopy(body), self.namespace)

    async def patch(self, body, name="demo"):
        return await self.kube.patch(GRAPHS, name, body, self.namespace)

    async def change(self, name="demo", **fields):
        return await self.patch({"spec": {"services": {WORKER: fields}}}, name)

    async def graph(self, name="demo"):
        return await self.kube.get(GRAPHS, name, self.namespace)

    async def deployment(self, name="demo-vllmdecodeworker"):
        async def there():
            try:
                return await self.kube.get(DEPLOYMENTS, name, self.namespace)
            except NotFoundError:
                return None

        return await self.eventually(there, f"Deployment {name}")

    async def replicas(self, wanted, name="demo-vllmdecodeworker"):
        async def so():
            found = await self.deployment(name)
            return found if found["spec"]["replicas"] == wanted else None

        return await self.eventually(so, f"{name} with {wanted} replicas")

    async def of_service(self, test=bool, name="demo"):
        """Wait until status.checkpoints of the worker passes *test*."""

        async def there():
            found = (await self.graph(name)).get("status", {}).get("checkpoints", {}).get(WORKER)
            return found if found and test(found) else None

        return await self.eventually(there, f"status.checkpoints.{WORKER}")

    async def condition(self, kind, status, name="demo", reason=None):
        async def there():
            for entry in (await self.graph(name)).get("status", {}).get("conditions", ()):
                if (entry["type"], entry["status"]) == (kind, status) and reason in (None, entry["reason"]):
                    return entry
            return None

        return await self.eventually(there, f"condition {kind} {status}")

    async def by_hand(self, name):
        """A checkpoint that nobody else has: one volume serves all namespaces here."""
        return await self.make(name, identity={"model": f"{self.namespace}/{name}", "backendFramework": "vllm"})

    async def complete(self, job, word="completed", namespace=None):
        """Be agent and kubelet: the word on the Job, and the end of its pod."""
        where = namespace or self.namespace
        notes = {
            keys.ANN_CHECKPOINT_STATUS: word,
            keys.ANN_MANIFEST_DIGEST: DIGEST,
            keys.ANN_ARTIFACT_SIZE: "4096",
            keys.ANN_CAPTURE_MESSAGE: "criu said no",
        }
        await self.kube.patch(JOBS, job, {"metadata": {"annotations": notes}}, where)

        async def pod():
            return (await self.kube.list(PODS, where, labels=f"{keys.LABEL_JOB_NAME}={job}")).items

        for each in await self.eventually(pod, f"the pod of {job}"):
            body = {"status": {"phase": "Succeeded"}}
            await self.kube.patch(PODS, each["metadata"]["name"], body, where, subresource="status")

    async def finish(self, name, word="completed"):
        """Have the capture of a checkpoint end."""
        await self.complete((await self.phase("Creating", name))["jobName"], word)
        return await self.phase("Ready" if word == "completed" else "Failed", name)

    async def eventually(self, look, what):
        return await eventually(look, lambda: f"{what}; logs:\n{self.controllers.logs()[-4000:]}")

    async def cleaned(self, name):
        """Have the removal of an automatic checkpoint's artifact end; its Job runs beside the agent."""
        job = f"checkpoint-cleanup-{name.removeprefix('checkpoint-')}"

        async def there():
            return [each for each in (await self.kube.list(JOBS, HOME)).items if each["metadata"]["name"] == job]

        assert await self.eventually(there, f"Job {job}")
        await self.complete(job, namespace=HOME)

    async def gone(self, resource, name):
        async def missing():
            try:
                await self.kube.get(resource, name, self.namespace)
            except NotFoundError:
                return True
            return False

        return await self.eventually(missing, f"the end of {name}")


@pytest.fixture(scope="module")
def plane():
    """With the controllers that make ReplicaSets and collect garbage."""
    with ControlPlane.start(controllers=True) as found:
        for crd in ("crds/nvidia.com_dynamocheckpoints.yaml", "files/nvidia.com_dynamographdeployments.yaml"):
            found.kubectl("apply", "--server-side", "-f", str(ROOT / "charts/snapshot" / crd))
        found.kubectl("wait", "--for=condition=Established", "crd", "--all")
        yield found


@pytest.fixture(scope="module")
def controllers(plane, tmp_path_factory):
    """One process for all namespaces, as with rbac.namespaceRestricted=false."""
    plane.kubectl("create", "namespace", HOME)
    found = Processes(plane.kubeconfig, HOME, tmp_path_factory.mktemp("controller"))
    found.start(VALUES, RESTRICTED_NAMESPACE="")
    yield found
    found.end()


@pytest.fixture
async def scene(plane, controllers):
    namespace = f"graphs-{uuid4().hex[:8]}"
    async with await connect(str(plane.kubeconfig)) as kube:
        await kube.create(NAMESPACES, {"metadata": {"name": namespace}})
        yield Scene(kube, namespace, controllers)


def annotations(deployment):
    return deployment["spec"]["template"]["metadata"].get("annotations", {})


async def test_immediate_from_cold_to_ready_without_a_new_template(scene):
    await scene.apply(graph())
    before = await scene.deployment()
    named = await scene.of_service()
    made = await scene.checkpoint(named["checkpointName"])
    await scene.finish(named["checkpointName"])
    ready = await scene.of_service(lambda found: found["ready"])
    after = await scene.deployment()

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


async def test_the_frontend_is_never_touched(scene):
    await scene.apply(graph())
    found = await scene.deployment("demo-frontend")

    assert {} == annotations(found)
    assert "Frontend" not in ((await scene.graph()).get("status", {}).get("checkpoints", {}))


async def test_the_seeds_inspection_and_scaling(scene, plane):
    await scene.apply(graph("vllm-auto-demo"))
    status = await scene.of_service(name="vllm-auto-demo")
    path = ".status.checkpoints.VllmDecodeWorker"
    said = plane.kubectl(
        *("get", "dgd", "vllm-auto-demo", "-n", scene.namespace, "-o"),
        f'jsonpath={{{path}.checkpointName}}{{"\\n"}}{{{path}.checkpointID}}{{"\\n"}}{{{path}.ready}}{{"\\n"}}',
    )
    plane.kubectl(
        *("patch", "dgd", "vllm-auto-demo", "-n", scene.namespace, "--type=merge"),
        *("-p", '{"spec":{"services":{"VllmDecodeWorker":{"replicas":2}}}}'),
    )
    await scene.replicas(2, "vllm-auto-demo-vllmdecodeworker")

    assert [status["checkpointName"], status["checkpointID"], "false"] == said.split()
    assert status["checkpointName"] == (await scene.of_service(name="vllm-auto-demo"))["checkpointName"]


async def test_a_new_generation_has_a_checkpoint_of_its_own_and_going_back_takes_the_old_one(scene):
    await scene.apply(graph())
    first = (await scene.of_service())["checkpointName"]
    await scene.change(extraPodSpec={"mainContainer": {"args": ["python3 -m dynamo.vllm --model other"]}})
    second = (await scene.of_service(lambda found: found["checkpointName"] != first))["checkpointName"]
    await scene.change(extraPodSpec={"mainContainer": {"args": ["python3 -m dynamo.vllm --model qwen"]}})
    third = (await scene.of_service(lambda found: found["checkpointName"] != second))["checkpointName"]

    assert first == third
    labels = [(await scene.checkpoint(name))["metadata"]["labels"] for name in (first, second)]
    assert 2 == len({each[keys.LABEL_WORKER_HASH] for each in labels})
    assert {"demo"} == {each[keys.LABEL_GRAPH] for each in labels}


async def test_the_first_guides_graph(scene, plane):
    """Seed 000's: no componentType, mode auto, one-string args, and identity in the older spelling too."""
    path = ROOT / "examples/graphs/my-llm.yaml"
    plane.kubectl("apply", "-n", scene.namespace, "-f", str(path))
    older = {"model": "meta-llama/Llama-3-8B", "framework": "vllm", "backendFramework": None}
    worker = {"checkpoint": {"identity": older}}

    async def named():
        return (await scene.graph("my-llm")).get("status", {}).get("checkpoints", {}).get("VllmWorker")

    first = await scene.eventually(named, "the checkpoint")
    await scene.patch({"spec": {"services": {"VllmWorker": worker}}}, "my-llm")
    await scene.finish(first["checkpointName"])
    deployment = await scene.deployment("my-llm-vllmworker")
    made = await scene.checkpoint(first["checkpointName"])

    (main,) = deployment["spec"]["template"]["spec"]["containers"]
    assert ["/bin/sh", "-c", "python3 -m dynamo.vllm --model meta-llama/Llama-3-8B"] == [
        *main["command"],
        *main["args"],
    ]
    assert first["checkpointName"] == annotations(deployment)[keys.ANN_CHECKPOINT_NAME]
    assert (f"{scene.namespace}/my-llm", "vllm") == (
        made["spec"]["identity"]["model"],
        made["spec"]["identity"]["backendFramework"],
    )
    assert first["checkpointName"] == (await named())["checkpointName"]


async def test_workers_wait_and_then_start(scene):
    await scene.apply(graph(worker=service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})))
    await scene.replicas(0)
    waiting = await scene.condition("Ready", "False", reason="waiting_for_checkpoint")
    state = (await scene.graph())["status"]["state"]
    await scene.finish((await scene.of_service())["checkpointName"])
    await scene.replicas(1)

    assert "pending" == state
    assert WORKER in waiting["message"]


async def test_a_service_without_replicas_leaves_the_number_to_others(scene, plane):
    """Held at zero, then one by the API's default; an autoscaler's number stays."""
    worker = service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})
    del worker["replicas"]
    await scene.apply(graph(worker=worker))
    await scene.replicas(0)
    await scene.finish((await scene.of_service())["checkpointName"])
    await scene.replicas(1)
    plane.kubectl("scale", "deployment", "demo-vllmdecodeworker", "--replicas=3", "-n", scene.namespace)
    await scene.change(envs=[{"name": "A", "value": "b"}])

    async def changed():
        found = await scene.deployment()
        return found["spec"]["template"]["spec"]["containers"][0].get("env")

    # The new generation waits for its checkpoint, the old one serves on.
    again = await scene.of_service(lambda found: not found["ready"])
    assert 3 == (await scene.deployment())["spec"]["replicas"]
    assert not await changed()
    await scene.finish(again["checkpointName"])
    await scene.eventually(changed, "the new template")
    assert 3 == (await scene.deployment())["spec"]["replicas"]


async def test_a_failed_checkpoint_holds_nobody_back(scene):
    await scene.apply(graph(worker=service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})))
    await scene.replicas(0)
    await scene.finish((await scene.of_service())["checkpointName"], word="failed")
    await scene.replicas(1)
    cold = await scene.condition("StartedCold", "True")

    assert "criu said no" in cold["message"]

    async def told():
        return "StartedCold" in await scene.reasons()

    assert await scene.eventually(told, "the Event")


async def test_a_deleted_checkpoint_is_made_anew_and_workers_that_run_stay(scene):
    await scene.apply(graph(worker=service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})))
    name = (await scene.of_service())["checkpointName"]
    await scene.finish(name, word="failed")
    await scene.replicas(1)
    before = (await scene.checkpoint(name))["metadata"]["uid"]
    await scene.kube.delete(CHECKPOINTS, name, scene.namespace)
    await scene.cleaned(name)

    async def anew():
        try:
            return (await scene.checkpoint(name))["metadata"]["uid"] != before
        except NotFoundError:
            return False

    assert await scene.eventually(anew, "the new checkpoint")
    await scene.phase("Creating", name)
    assert 1 == (await scene.deployment())["spec"]["replicas"]


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
    await scene.deployment("demo-planner")

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


async def test_a_service_that_goes_takes_its_deployment_along(scene):
    await scene.apply(graph())
    await scene.deployment("demo-frontend")
    await scene.patch({"spec": {"services": {"Frontend": None}}})
    await scene.gone(DEPLOYMENTS, "demo-frontend")

    assert await scene.deployment()


async def test_with_the_graph_goes_what_is_its_own_and_stays_what_is_retained(scene):
    keep = service(checkpoint={"enabled": True, "deletionPolicy": "Retain"})
    await scene.by_hand("manual")
    await scene.apply(graph(Kept=keep))
    own = (await scene.of_service())["checkpointName"]

    async def both():
        return (await scene.graph())["status"]["checkpoints"].get("Kept", {}).get("checkpointName")

    kept = await scene.eventually(both, "the other checkpoint")
    retained = await scene.checkpoint(kept)
    await scene.finish(own)
    await scene.kube.delete(GRAPHS, "demo", scene.namespace)
    await scene.cleaned(own)
    await scene.gone(CHECKPOINTS, own)
    await scene.gone(DEPLOYMENTS, "demo-vllmdecodeworker")

    async def released():
        metadata = (await scene.checkpoint(kept))["metadata"]
        return keys.LABEL_GRAPH not in metadata["labels"] and not metadata.get("ownerReferences")

    assert await scene.eventually(released, "the release of the retained one")
    assert [] == retained["metadata"].get("ownerReferences", [])
    assert await scene.checkpoint("manual")


async def test_a_graph_that_went_while_nobody_looked(scene, controllers):
    """There is no finalizer on graphs, so none is ever stuck; what is left is found at the next start."""
    keep = service(checkpoint={"enabled": True, "deletionPolicy": "Retain"})
    await scene.apply(graph(worker=keep))
    kept = (await scene.of_service())["checkpointName"]
    for process in controllers.running:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 10)
    await scene.kube.delete(GRAPHS, "demo", scene.namespace)
    controllers.start(VALUES, RESTRICTED_NAMESPACE="")

    async def released():
        return keys.LABEL_GRAPH not in (await scene.checkpoint(kept))["metadata"]["labels"]

    assert await scene.eventually(released, "the release")


async def test_thirty_graphs_and_a_controller_that_is_killed_again_and_again(scene, controllers):
    """One Deployment and one checkpoint each, made once, wherever it was when it died."""
    total = 30
    body = graph(worker=service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"}))
    del body["spec"]["services"]["Frontend"]
    async with counted(scene, CHECKPOINTS) as checkpoints, counted(scene, DEPLOYMENTS) as deployments:
        making = asyncio.gather(*(scene.apply({**body, "metadata": {"name": f"g{number}"}}) for number in range(total)))
        for threshold in (3, 12, 21):
            await scene.eventually(lambda least=threshold: reached(checkpoints, least), f"{threshold} checkpoints")
            controllers.end()
            await scene.kube.delete(LEASES, LEASE, HOME)
            controllers.start(VALUES, RESTRICTED_NAMESPACE="")
        await making
        for number in range(total):
            await scene.condition("Ready", "False", f"g{number}", reason="waiting_for_checkpoint")

    assert total == len(checkpoints) == len(set(checkpoints))
    assert {f"g{number}-vllmdecodeworker" for number in range(total)} == set(deployments)
    assert total == len(deployments)


@asynccontextmanager
async def counted(scene, resource):
    """Names of objects, each as often as a watch saw one appear or go."""
    informer, seen = Informer(scene.kube, resource, scene.namespace), []
    informer.add_handler(lambda change: seen.append(change.object["metadata"]["name"]) if None in change else None)
    task = asyncio.create_task(informer.run())
    await synced(informer)
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])


async def reached(found, least):
    return len(found) >= least


async def test_a_changed_deletion_policy_reaches_the_checkpoint(scene):
    await scene.apply(graph())
    name = (await scene.of_service())["checkpointName"]
    owners = []
    for policy in ("Retain", "Delete"):
        await scene.change(checkpoint={"deletionPolicy": policy})

        async def synced(policy=policy):
            metadata = (await scene.checkpoint(name))["metadata"]
            return metadata if metadata["annotations"][keys.ANN_DELETION_POLICY] == policy else None

        metadata = await scene.eventually(synced, policy)
        owners.append([owner["kind"] for owner in metadata.get("ownerReferences", ())])

    assert [[], ["DynamoGraphDeployment"]] == owners


async def test_nothing_is_written_at_rest(scene):
    wait = service(checkpoint={"enabled": True, "startupPolicy": "WaitForCheckpoint"})
    await scene.apply(graph(Waiting=wait))
    await scene.finish((await scene.of_service())["checkpointName"])
    await scene.of_service(lambda found: found["ready"])
    await scene.replicas(0, "demo-waiting")

    async def versions():
        found = [
            item
            for resource in (GRAPHS, DEPLOYMENTS, CHECKPOINTS)
            for item in (await scene.kube.list(resource, scene.namespace)).items
        ]
        return {(item["kind"], item["metadata"]["name"]): item["metadata"]["resourceVersion"] for item in found}

    async def renewed():
        return (await scene.kube.get(LEASES, LEASE, HOME))["spec"]["renewTime"]

    async def differs(last):
        return await renewed() != last

    async def calm():
        """The Deployment controller, which is slow after other tests, has said its last word."""
        made = (await scene.kube.list(DEPLOYMENTS, scene.namespace)).items
        if not all((each.get("status") or {}).get("conditions") for each in made):
            return False
        before, last = await versions(), await renewed()
        await scene.eventually(lambda: differs(last), "a renewal")
        return before == await versions()

    await scene.eventually(calm, "calm")
    before = await versions()
    for _ in range(2):
        last = await renewed()
        await scene.eventually(lambda last=last: differs(last), "a renewal")
    assert before == await versions()


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
def test_the_schema_refuses_mistakes(plane, words, services):
    body = {"apiVersion": keys.API_VERSION, "kind": keys.GRAPH_KIND, "metadata": {"name": "x"}}
    with pytest.raises(CommandError) as refused:
        plane.kubectl(
            "create", "--dry-run=server", "-f", "-", stdin=json.dumps(body | {"spec": {"services": services}})
        )

    assert words in str(refused.value)
