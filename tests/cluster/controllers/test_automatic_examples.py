"""The files of examples/automatic and examples/gpu, applied as they are; what needs no kubelet is seen here."""

import copy
from pathlib import Path

import pytest
import yaml

from contract.api import keys
from contract.config.values import load_values
from kube.resources import DEPLOYMENTS, JOBS, PODS, SERVICES, STATEFUL_SETS, Resource
from tests.support.fixtures import workload as shop
from tests.support.fixtures.workload import Workloads, gated, note
from tests.support.waiting import eventually

EXAMPLES = Path(__file__).parents[3] / "examples"
LEADER_WORKER_SETS = Resource("leaderworkerset.x-k8s.io", "v1", "leaderworkersets", "LeaderWorkerSet")
RESOURCES = {each.kind: each for each in (DEPLOYMENTS, JOBS, PODS, SERVICES, STATEFUL_SETS, LEADER_WORKER_SETS)}


def documents(name, folder="automatic"):
    return list(yaml.safe_load_all((EXAMPLES / folder / name).read_text()))


class Examples(Workloads):
    """A namespace in which the files are applied."""

    async def apply_file(self, name, folder="automatic"):
        for body in documents(name, folder):
            await self.apply(RESOURCES[body["kind"]], body)


@pytest.fixture
async def scene(workload_plane, tmp_path):
    async with shop.workloads_in(workload_plane, "examples", tmp_path, Examples) as found:
        found.controllers.start(shop.VALUES)
        yield found


@pytest.mark.parametrize(
    ("name", "app", "code", "count", "workload"),
    [
        pytest.param(
            "deployment.yaml", "automatic", "checkpoint-requested", 1, "Deployment/automatic", id="deployment"
        ),
        pytest.param("wait-for-checkpoint.yaml", "patient", "held", 3, "Deployment/patient", id="wait"),
        pytest.param("statefulset.yaml", "ordered", "checkpoint-requested", 1, "StatefulSet/ordered", id="statefulset"),
        pytest.param("job.yaml", "batch", "held", 1, "Job/batch", id="job"),
        pytest.param("pod.yaml", "lone", "checkpoint-requested", 1, "Pod/lone", id="pod"),
    ],
)
async def test_each_file_asks_for_a_checkpoint(scene, name, app, code, count, workload):
    scene.app = app
    await scene.apply_file(name)
    found = await scene.pods_with(code, count)
    (made,) = await scene.made()
    await scene.finish(made["metadata"]["name"])

    assert workload == made["metadata"]["annotations"][keys.ANN_WORKLOAD]
    if code == "held":
        gone = await scene.lifted("checkpoint-ready", count)
        assert {pod["metadata"]["uid"] for pod in found} == {pod["metadata"]["uid"] for pod in gone}


async def test_the_gpu_example_gets_a_capture_job_with_its_gpu(scene):
    scene.app = "vllm"
    await scene.apply_file("vllm.yaml", "gpu")
    await scene.pods_with("checkpoint-requested", 1)
    (made,) = await scene.made()
    assert "Deployment/vllm" == made["metadata"]["annotations"][keys.ANN_WORKLOAD]
    job = await eventually(lambda: capture_job(scene, made), "the capture Job")
    (target,) = job["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in target["env"]}
    assert "1" == target["resources"]["limits"]["nvidia.com/gpu"]
    assert ("spawn", "lo") == (environment["VLLM_WORKER_MULTIPROC_METHOD"], environment["NCCL_SOCKET_IFNAME"])
    assert "NCCL_NVLS_ENABLE" not in environment


async def capture_job(scene, checkpoint):
    """The Job that the controller has made of it."""
    found = await scene.kube.list(JOBS, scene.namespace)
    owned = (
        job for job in found.items if job["metadata"]["ownerReferences"][0]["uid"] == checkpoint["metadata"]["uid"]
    )
    return next(owned, None)


def definition():
    """As much of LeaderWorkerSet's as the API server needs to store one."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "leaderworkersets", "singular": "leaderworkerset", "kind": "LeaderWorkerSet"}
    spec = {"group": LEADER_WORKER_SETS.group, "names": names, "scope": "Namespaced", "versions": [version]}
    metadata = {"name": f"leaderworkersets.{LEADER_WORKER_SETS.group}"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": spec,
    }


def reference(obj):
    metadata = obj["metadata"]
    head = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    return head | {"controller": True, "blockOwnerDeletion": True}


def stateful_set(name, owner, template, replicas):
    """As LeaderWorkerSet's controller makes them: leaders of the set, workers of their leader's pod."""
    labels = {"leaderworkerset.sigs.k8s.io/name": "groups", "part": name}
    template = copy.deepcopy(template)
    template["metadata"]["labels"] |= labels
    worker = template["spec"]["containers"][0]
    worker["env"] = [*worker["env"], {"name": "LWS_LEADER_ADDRESS", "value": f"{name}.groups"}]
    spec = {
        "serviceName": "groups",
        "replicas": replicas,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels},
        "template": template,
    }
    return {"metadata": {"name": name, "ownerReferences": [reference(owner)]}, "spec": spec}


async def test_the_groups_of_a_leader_worker_set(scene, workload_plane):
    """Four pods of two groups ask for two checkpoints, both kept for the set; all are held and all are let go."""
    scene.app = "groups"
    workload_plane.kubectl.apply([definition()])
    workload_plane.kubectl("wait", "--for=condition=Established", f"crd/{definition()['metadata']['name']}")
    (body,) = documents("leaderworkerset.yaml")
    owner = await scene.apply(LEADER_WORKER_SETS, body)
    templates = body["spec"]["leaderWorkerTemplate"]
    await scene.apply(STATEFUL_SETS, stateful_set("groups", owner, templates["leaderTemplate"], 2))
    leaders = await scene.pods_with("held", 2)
    for leader in leaders:
        name = leader["metadata"]["name"]
        leader |= {"apiVersion": "v1", "kind": "Pod"}
        await scene.apply(STATEFUL_SETS, stateful_set(name, leader, templates["workerTemplate"], 1))
    held = await scene.pods_with("held", 4)
    made = await scene.made(2)
    for each in made:
        await scene.finish(each["metadata"]["name"])
    gone = await scene.lifted("checkpoint-ready", 4)

    assert {"LeaderWorkerSet/groups"} == {each["metadata"]["annotations"][keys.ANN_WORKLOAD] for each in made}
    assert {pod["metadata"]["uid"] for pod in held} == {pod["metadata"]["uid"] for pod in gone}
    assert 2 == len({note(pod, keys.ANN_CHECKPOINT) for pod in gone})
    assert [[]] * 4 == [gated(pod) for pod in gone]


def test_the_values_are_good():
    values = load_values((EXAMPLES / "automatic" / "values-wait.yaml").read_text())

    assert ("WaitForCheckpoint", 1800) == (values.startup_policy, values.wait_timeout_seconds)


def test_every_file_is_applied_by_some_test():
    here, node = Path(__file__), Path(__file__).parents[2] / "node/workers/captures/test_automatic.py"
    texts = here.read_text() + node.read_text()

    assert [] == [path.name for path in EXAMPLES.glob("*.yaml") if path.name not in texts]
