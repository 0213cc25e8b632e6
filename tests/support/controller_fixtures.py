"""Controller processes and what they look after, with a real API server; Jobs run as the test says."""

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from contract.api import keys
from contract.api.times import format_time
from kube.informer import Informer, synced
from kube.resources import CHECKPOINTS, EVENTS, JOBS, NAMESPACES
from tests.support.object_builders import checkpoint
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
DIGEST = "blake3:" + "a" * 64
LEASE = "snap-controller"
# The certificates are tested by themselves; without this the process would look for the chart's Secrets.
NO_CERTIFICATES = "webhook: {certManager: {enabled: true}}\n"


class Processes:
    """Controller processes of one test."""

    def __init__(self, kubeconfig, namespace, folder):
        self._kubeconfig, self._namespace, self._folder = kubeconfig, namespace, folder
        self.running = []

    def start(self, values=NO_CERTIFICATES, **more):
        name = f"controller-{uuid4().hex[:6]}"
        config = self._folder / f"{name}.yaml"
        config.write_text(values)
        environment = os.environ | {
            "KUBECONFIG": str(self._kubeconfig),
            "POD_NAMESPACE": self._namespace,
            "POD_NAME": name,
            "RELEASE_FULLNAME": "snap",
            "RESTRICTED_NAMESPACE": self._namespace,
            "SNAPSHOT_CONFIG": str(config),
            "SNAPSHOT_HEALTH_PORT": "0",
            **more,
        }
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "controller"], cwd=ROOT, env=environment, stderr=log)
        process.pod_name = name
        self.running.append(process)
        return process

    def end(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()

    def logs(self):
        return "\n".join(path.read_text() for path in self._folder.glob("*.log"))


class Scene:
    """A namespace of its own with what a test needs in it."""

    def __init__(self, kube, namespace, controllers):
        self.kube, self.namespace, self.controllers = kube, namespace, controllers

    async def make(self, name="qwen", **parts):
        body = checkpoint(name, **parts)
        body["metadata"] = {
            key: body["metadata"][key] for key in ("name", "labels", "annotations") if key in body["metadata"]
        }
        return await self.kube.create(CHECKPOINTS, body, self.namespace)

    async def checkpoint(self, name="qwen"):
        return await self.kube.get(CHECKPOINTS, name, self.namespace)

    async def status(self, name="qwen"):
        return (await self.checkpoint(name)).get("status", {})

    async def jobs(self):
        return (await self.kube.list(JOBS, self.namespace)).items

    async def phase(self, wanted, name="qwen"):
        """Wait until the checkpoint has this phase; answer its status."""

        async def there():
            status = await self.status(name)
            return status if status.get("phase") == wanted else None

        return await eventually(there, lambda: f"{name} {wanted}; logs:\n{self.controllers.logs()[-4000:]}")

    async def complete(self, job, word="completed"):
        """Be the agent and kubelet: the Job ends well, with the agent's word on it."""
        now = format_time(datetime.now(UTC))
        notes = {
            keys.ANN_CHECKPOINT_STATUS: word,
            keys.ANN_MANIFEST_DIGEST: DIGEST,
            keys.ANN_ARTIFACT_SIZE: "4096",
            keys.ANN_CAPTURE_MESSAGE: "criu said no",
        }
        await self.kube.patch(JOBS, job, {"metadata": {"annotations": notes}}, self.namespace)
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("SuccessCriteriaMet", "Complete")
        ]
        status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions}
        await self.kube.patch(JOBS, job, {"status": status}, self.namespace, subresource="status")

    async def reasons(self):
        return [event["reason"] for event in (await self.kube.list(EVENTS, self.namespace)).items]


@asynccontextmanager
async def checkpoints_in(plane, kube, name, folder, kind=Scene):
    """A namespace of its own for checkpoints, and its controllers, of which none runs yet."""
    namespace = f"{name}-{uuid4().hex[:8]}"
    await kube.create(NAMESPACES, {"metadata": {"name": namespace}})
    controllers = Processes(plane.kubeconfig, namespace, folder)
    try:
        yield kind(kube, namespace, controllers)
    finally:
        controllers.end()


@asynccontextmanager
async def counted(scene, resource):
    """Names of the objects that appeared and of those that went, each as often as a watch saw it."""
    copy, appeared, went = Informer(scene.kube, resource, scene.namespace), [], []
    copy.add_handler(lambda change: appeared.append(change.object["metadata"]["name"]) if change.old is None else None)
    copy.add_handler(lambda change: went.append(change.object["metadata"]["name"]) if change.new is None else None)
    task = asyncio.create_task(copy.run())
    await synced(copy)
    try:
        yield appeared, went
    finally:
        task.cancel()
        await asyncio.wait([task])
