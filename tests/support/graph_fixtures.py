"""Graph deployments in our controller's process, with a real API server and the real Deployment controller.

No kubelet runs here: pods stay Pending, and the capture Jobs end as the test says.
"""

import copy
from contextlib import asynccontextmanager, contextmanager
from uuid import uuid4

from cluster.api import ControlPlane
from contract.api import keys
from kube.client import connect
from kube.errors import NotFoundError
from kube.resources import DEPLOYMENTS, GRAPHS, JOBS, NAMESPACES, PODS
from tests.support.controller_fixtures import DIGEST, LEASE, NO_CERTIFICATES, ROOT, Processes
from tests.support.controller_fixtures import Scene as Checkpoints
from tests.support.waiting import eventually

VALUES = NO_CERTIFICATES + "graphDeployments: {enabled: true}\nautomatic: {attempts: 1}\n"
IMAGE = "example.test/vllm-placeholder:1"
HOME = "snapshot-system"
WORKER = "VllmDecodeWorker"


@contextmanager
def graphs_plane():
    """With the controllers that make ReplicaSets and collect garbage."""
    with ControlPlane.start(controllers=True) as found:
        for crd in ("crds/nvidia.com_dynamocheckpoints.yaml", "files/nvidia.com_dynamographdeployments.yaml"):
            found.kubectl("apply", "--server-side", "-f", str(ROOT / "charts/snapshot" / crd))
        found.kubectl("wait", "--for=condition=Established", "crd", "--all")
        found.kubectl("create", "namespace", HOME)
        yield found


@contextmanager
def controllers_of(plane, folder):
    """One process for all namespaces, as with rbac.namespaceRestricted=false."""
    found = Processes(plane.kubeconfig, HOME, folder)
    found.start(VALUES, RESTRICTED_NAMESPACE="")
    try:
        yield found
    finally:
        found.end()
        # The next test file's need not wait until a dead one's Lease has run out.
        plane.kubectl("delete", "lease", LEASE, "-n", HOME, "--ignore-not-found")


@asynccontextmanager
async def graphs_in(plane, controllers):
    """A namespace of its own for graphs."""
    namespace = f"graphs-{uuid4().hex[:8]}"
    async with await connect(str(plane.kubeconfig)) as kube:
        await kube.create(NAMESPACES, {"metadata": {"name": namespace}})
        yield Scene(kube, namespace, controllers)


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


def annotations(deployment):
    return deployment["spec"]["template"]["metadata"].get("annotations", {})
