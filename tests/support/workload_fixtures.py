"""Opted-in workloads against a real API server with the stock controllers, our webhook and our controller.

No kubelet runs here: pods stay Pending, and the capture Jobs end as the test says.
"""

import asyncio
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from uuid import uuid4

from cluster.api import ControlPlane
from contract.api import keys
from contract.api.times import format_time
from kube.client import connect
from kube.errors import NotFoundError
from kube.resources import CHECKPOINTS, EVENTS, JOBS, LEASES, NAMESPACES, PODS, Resource
from tests.cluster.test_admission import Webhook
from tests.support.controller_fixtures import DIGEST, LEASE, NO_CERTIFICATES, ROOT, Processes, Scene
from tests.support.object_builders import container
from tests.support.registration import configuration
from tests.support.waiting import eventually, until

HOME = "snapshot-system"
PROBE = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1}
VALUES = NO_CERTIFICATES + "automatic: {attempts: 1}\n"
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
REPLICATION_CONTROLLERS = Resource("", "v1", "replicationcontrollers", "ReplicationController")


@contextmanager
def working_plane(folder):
    """A control plane whose pods come from its own controllers and pass our webhook."""
    with ControlPlane.start(controllers=True) as plane:
        kubectl = plane.kubectl
        kubectl("apply", "--server-side", "-f", str(ROOT / "charts/snapshot/crds/nvidia.com_dynamocheckpoints.yaml"))
        kubectl("wait", "--for=condition=Established", "crd", "--all")
        kubectl("create", "namespace", HOME)
        webhook = Webhook(plane, HOME, folder, values=VALUES, RESTRICTED_NAMESPACE="")
        try:
            webhook.authority.issue()
            until(webhook.ready, webhook.log)
            kubectl.apply([configuration(webhook, "opted-in")])
            yield plane
        finally:
            webhook.end()


@asynccontextmanager
async def workloads_in(plane, name, folder, kind=None):
    """A namespace of its own, in which pods can be made, and its controllers, of which none runs yet."""
    namespace = f"{name}-{uuid4().hex[:8]}"
    async with await connect(str(plane.kubeconfig)) as kube:
        await kube.create(NAMESPACES, {"metadata": {"name": namespace}})
        controllers = Processes(plane.kubeconfig, namespace, folder)
        found = (kind or Workloads)(kube, namespace, controllers)
        try:
            await found.eventually(lambda: _has_account(kube, namespace), "the service account")
            yield found
        finally:
            controllers.end()
            await kube.delete(NAMESPACES, namespace)


async def _has_account(kube, namespace):
    return (await kube.list(SERVICE_ACCOUNTS, namespace)).items


def pod_template(*, wait=False, name="main", notes=None, labels=None, pod=None, **fields):
    """A template that asks for an automatic checkpoint; *fields* are the container's, *pod* the spec's."""
    annotations = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"} if wait else {}
    worker = container(name, readinessProbe=PROBE, **fields)
    return {
        "metadata": {
            "labels": {"app": "web", keys.LABEL_RESTORE: keys.RESTORE_AUTO} | (labels or {}),
            "annotations": annotations | (notes or {}),
        },
        "spec": {"containers": [worker], **(pod or {})},
    }


def deployment(name="web", replicas=1, **parts):
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": pod_template(**parts)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def bare(name="bare", **parts):
    found = pod_template(**parts)
    return {"apiVersion": "v1", "kind": "Pod", **found, "metadata": found["metadata"] | {"name": name}}


class Workloads(Scene):
    """A namespace with workloads in it."""

    app = "web"

    async def apply(self, resource, body):
        return await self.kube.create(resource, body, self.namespace)

    async def pods(self):
        """Those of the workload, captures left out."""
        found = await self.kube.list(PODS, self.namespace, labels=f"app={self.app},!{keys.LABEL_IS_SOURCE}")
        return [pod for pod in found.items if not pod["metadata"].get("deletionTimestamp")]

    async def pods_with(self, code, count=1):
        """Wait until there are *count* pods of an admission code."""

        async def there():
            found = [pod for pod in await self.pods() if note(pod, keys.ANN_ADMISSION) == code]
            return found if len(found) == count else None

        return await self.eventually(there, f"{count} pods {code}")

    async def checkpoints(self):
        return (await self.kube.list(CHECKPOINTS, self.namespace)).items

    async def made(self, count=1):
        """Wait until there are *count* checkpoints; answer the newest name last."""

        async def there():
            found = sorted(await self.checkpoints(), key=lambda each: int(each["metadata"]["generation"]))
            return found if len(found) >= count else None

        found = await self.eventually(there, f"{count} checkpoints")
        assert count == len(found)
        return found

    async def finish(self, name, word="completed"):
        """Have the capture of a checkpoint end."""
        await self.complete_job((await self.phase("Creating", name))["jobName"], word)
        return await self.phase("Ready" if word == "completed" else "Failed", name)

    async def fail(self, job):
        """Have a capture end badly."""
        await self.complete_job(job, "failed")

    async def complete_job(self, job, word="completed"):
        """Be the agent and kubelet of a capture Job."""
        notes = {
            keys.ANN_CHECKPOINT_STATUS: word,
            keys.ANN_MANIFEST_DIGEST: DIGEST,
            keys.ANN_ARTIFACT_SIZE: "4096",
            keys.ANN_CAPTURE_MESSAGE: "criu said no",
        }
        await self.kube.patch(JOBS, job, {"metadata": {"annotations": notes}}, self.namespace)
        await self.end_pods(job)

    async def end_pods(self, job):
        """Be the kubelet of a Job's pods."""

        async def there():
            return (await self.kube.list(PODS, self.namespace, labels=f"{keys.LABEL_JOB_NAME}={job}")).items

        for each in await self.eventually(there, f"the pod of {job}"):
            status = {"phase": "Succeeded", "startTime": format_time(datetime.now(UTC))}
            name = each["metadata"]["name"]
            await self.kube.patch(PODS, name, {"status": status}, self.namespace, subresource="status")

    async def ready(self):
        """The only checkpoint, made Ready."""
        (found,) = await self.made()
        await self.finish(found["metadata"]["name"])
        return found["metadata"]["name"]

    async def lifted(self, end, count=1):
        """Wait until *count* pods were let go for this reason."""

        async def there():
            found = [pod for pod in await self.pods() if note(pod, keys.ANN_GATE) == end]
            return found if len(found) == count else None

        found = await self.eventually(there, f"{count} pods let go: {end}")
        assert not any(gated(pod) for pod in found)
        return found

    async def told(self, reason, about=None):
        """Wait for an Event; answer all of that reason."""

        async def there():
            found = [each for each in (await self.kube.list(EVENTS, self.namespace)).items if each["reason"] == reason]
            return [each for each in found if about in (None, each["involvedObject"]["name"])]

        return await self.eventually(there, f"the Event {reason}")

    async def gone(self, resource, name):
        async def missing():
            try:
                await self.kube.get(resource, name, self.namespace)
            except NotFoundError:
                return True
            return False

        return await self.eventually(missing, f"the end of {name}")

    async def eventually(self, look, what):
        return await eventually(look, lambda: f"{what}; logs:\n{self.controllers.logs()[-4000:]}")

    async def kill_controllers(self):
        """SIGKILL, whatever they do; the Lease is dropped so that the next one need not wait it out."""
        for process in self.controllers.running:
            process.kill()
            process.wait()
        with suppress(NotFoundError):
            await self.kube.delete(LEASES, LEASE, self.namespace)

    async def settle(self):
        """Until whatever was set off by now would have been seen: an object made now was handled."""
        marker = f"marker-{datetime.now(UTC).timestamp():.6f}".replace(".", "-")
        await self.make(marker, identity={"model": marker, "backendFramework": "generic"})
        await self.phase("Creating", marker)
        await self.kube.delete(CHECKPOINTS, marker, self.namespace)
        await self.gone(CHECKPOINTS, marker)


def note(pod, key):
    return pod["metadata"].get("annotations", {}).get(key)


def gated(pod):
    return [gate["name"] for gate in pod["spec"].get("schedulingGates") or ()]


async def second_of_creation_over(pod):
    """Times of creation have whole seconds."""
    while format_time(datetime.now(UTC)) <= pod["metadata"]["creationTimestamp"]:  # noqa: ASYNC110 - the clock's doing
        await asyncio.sleep(0.05)
