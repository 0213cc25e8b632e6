"""Where artifacts lie, against a real API server: agents found or missed, claims waited for, ids that would collide."""

from uuid import uuid4

import pytest
import yaml

from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.config.values import values_from
from kube.resources import CHECKPOINTS, DAEMON_SETS, JOBS, LEASES, NAMESPACES, PERSISTENT_VOLUME_CLAIMS, PODS, Resource
from tests.support.builders.objects import checkpoint, opted_in
from tests.support.fixtures.controller import LEASE, NO_CERTIFICATES, ROOT, Scene, checkpoints_in
from tests.support.waiting import eventually

EXAMPLES = ROOT / "examples" / "storage"
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")


def values(name):
    return NO_CERTIFICATES + (EXAMPLES / name).read_text()


def daemon_set(claim="shared-checkpoints", path="/checkpoints/"):
    labels = {keys.LABEL_AGENT: keys.LABEL_AGENT_VALUE}
    mounts = [{"name": "checkpoints", "mountPath": path}]
    spec = {
        "containers": [{"name": "agent", "image": "i", "volumeMounts": mounts}],
        "volumes": [{"name": "checkpoints", "persistentVolumeClaim": {"claimName": claim}}],
    }
    template = {"metadata": {"labels": labels}, "spec": spec}
    body = {"selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": "snap-agent", "labels": labels}, "spec": body}


class Store(Scene):
    """What is said of storage."""

    async def storage(self, status, words, name="qwen"):
        """Wait until condition StorageReady says this."""

        async def said():
            entries = (await self.status(name)).get("conditions", ())
            found = [each for each in entries if each["type"] == "StorageReady" and each["status"] == status]
            return found and words in found[0]["message"] and found[0]

        return await eventually(said, lambda: f"{status}: {words}; logs:\n{self.controllers.logs()[-3000:]}")

    async def restart(self, **how):
        self.controllers.end()
        await self.kube.delete(LEASES, LEASE, self.namespace)
        self.controllers.start(**how)


@pytest.fixture
async def scene(checkpoint_plane, kube, tmp_path):
    async with checkpoints_in(checkpoint_plane, kube, "storage", tmp_path, Store) as found:
        yield found


async def test_the_agent_that_mounts_the_volume_is_looked_for(scene):
    """Missing, mounting something else, not ready, ready: each said, in the order in which somebody repairs it."""
    scene.controllers.start(values("agent-mount.yaml"))
    await scene.make()
    missing = await scene.storage("False", f"no snapshot-agent DaemonSet ({keys.LABEL_AGENT}=snapshot-agent)")
    said = (await scene.status())["message"]
    await scene.kube.create(DAEMON_SETS, daemon_set("another"), scene.namespace)
    differs = await scene.storage("False", "mounts claim another at /checkpoints")
    await scene.kube.delete(DAEMON_SETS, "snap-agent", scene.namespace)
    await scene.kube.create(DAEMON_SETS, daemon_set(), scene.namespace)
    waiting = await scene.storage("False", "runs on no node")
    counts = {"currentNumberScheduled": 2, "desiredNumberScheduled": 2, "numberMisscheduled": 0, "numberReady": 0}
    await scene.kube.patch(DAEMON_SETS, "snap-agent", {"status": counts}, scene.namespace, subresource="status")
    await scene.storage("False", "shared-checkpoints bound?")
    ready = {"status": {"numberReady": 1}}
    await scene.kube.patch(DAEMON_SETS, "snap-agent", ready, scene.namespace, subresource="status")
    found = await scene.storage("True", f"{scene.namespace}/shared-checkpoints")

    reasons = [each["reason"] for each in (missing, differs, waiting, found)]
    assert ["AgentMissing", "AgentStorageDiffers", "AgentNotReady", "AgentMountsStorage"] == reasons
    assert "no snapshot-agent DaemonSet" in said


async def test_a_claim_of_ones_own_is_waited_for_and_its_loss_is_said(scene, control_plane):
    scene.controllers.start(values("pod-mount-existing.yaml"))
    await scene.make()
    missing = await scene.storage("False", f"PersistentVolumeClaim {scene.namespace}/snapshot-pvc does not exist")
    waiting = (await scene.status())["phase"]
    control_plane.kubectl("apply", "-n", scene.namespace, "-f", str(EXAMPLES / "claim.yaml"))
    await scene.complete((await scene.phase("Creating"))["jobName"])
    ready = await scene.phase("Ready")

    async def told():
        return "VolumeClaimMissing" in await scene.reasons()

    assert await eventually(told, "the Event")
    assert ("VolumeClaimMissing", "Pending") == (missing["reason"], waiting)
    assert "storage.pvc.create=true" in missing["message"]
    assert f"{scene.namespace}/snapshot-pvc" == ready["storageClaim"]
    # The API server's protection keeps a claim until nobody says otherwise; no controller does so here.
    gone = {"metadata": {"finalizers": None}}
    await scene.kube.delete(PERSISTENT_VOLUME_CLAIMS, "snapshot-pvc", scene.namespace)
    await scene.kube.patch(PERSISTENT_VOLUME_CLAIMS, "snapshot-pvc", gone, scene.namespace)
    await scene.storage("False", "is not there any more")
    assert "Ready" == (await scene.status())["phase"]


async def test_values_that_point_elsewhere_after_a_capture_are_said(scene):
    scene.controllers.start(NO_CERTIFICATES)
    await scene.kube.create(DAEMON_SETS, daemon_set("snapshot-pvc"), scene.namespace)
    await scene.make()
    await scene.complete((await scene.phase("Creating"))["jobName"])
    await scene.phase("Ready")
    moved = NO_CERTIFICATES + "storage: {pvc: {basePath: /elsewhere}}\n"
    await scene.restart(values=moved)
    changed = await scene.storage("False", "pods look at /elsewhere/")
    await scene.restart(values=NO_CERTIFICATES)
    back = await scene.storage("True", f"{scene.namespace}/snapshot-pvc")

    assert ("StorageChanged", "AgentMountsStorage") == (changed["reason"], back["reason"])


async def test_one_volume_for_all_namespaces_holds_an_id_once(scene):
    """A release that serves all namespaces; with podMount each would have a volume of its own."""
    label = f"shared-{uuid4().hex[:8]}"
    other = f"{scene.namespace}-b"
    await scene.kube.create(NAMESPACES, {"metadata": {"name": other}})
    scene.controllers.start(NO_CERTIFICATES, RESTRICTED_NAMESPACE="")
    await scene.make("first", labels={keys.LABEL_CHECKPOINT_ID: label})
    await scene.phase("Creating", "first")
    body = checkpoint("second", labels={keys.LABEL_CHECKPOINT_ID: label})
    body["metadata"] = {"name": "second", "labels": {keys.LABEL_CHECKPOINT_ID: label}}
    await scene.kube.create(CHECKPOINTS, body, other)
    there = Store(scene.kube, other, scene.controllers)
    failed = await there.phase("Failed", "second")
    jobs = (await scene.kube.list(JOBS, other)).items

    assert f"DynamoCheckpoint {scene.namespace}/first already has the checkpoint id" in failed["message"]
    assert keys.LABEL_CHECKPOINT_ID in failed["message"]
    assert () == jobs


async def test_a_claim_is_made_in_each_namespace_and_holds_many_checkpoints(scene):
    scene.controllers.start(values("pod-mount-created.yaml"))
    names = [f"c{number}" for number in range(5)]
    for name in names:
        await scene.make(name, identity={"model": name, "backendFramework": "vllm"})
    claims = {(await scene.phase("Creating", name))["checkpointID"] for name in names}
    found = (await scene.kube.list(PERSISTENT_VOLUME_CLAIMS, scene.namespace)).items
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for job in await scene.jobs()
        for volume in job["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }

    assert 5 == len(claims)
    assert [("snapshot-pvc", "200Gi")] == [
        (each["metadata"]["name"], each["spec"]["resources"]["requests"]["storage"]) for each in found
    ]
    assert {"snapshot-pvc"} == mounted


async def test_a_held_pod_whose_capture_never_came_gets_the_claim_that_it_mounts(scene):
    """It was promised a start, and names the claim for good: here its checkpoint is not there any more."""
    await scene.kube.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, scene.namespace)
    scene.controllers.start(values("pod-mount-created.yaml"))
    body = opted_in(name="gone", annotations={keys.ANN_ADMISSION: "held", keys.ANN_CHECKPOINT: "gone"})
    body["metadata"] |= {"name": "held", "namespace": scene.namespace}
    claim = {"claimName": "snapshot-pvc", "readOnly": True}
    body["spec"] |= {
        "schedulingGates": [{"name": keys.SCHEDULING_GATE}],
        "volumes": [{"name": keys.STORAGE_VOLUME, "persistentVolumeClaim": claim}],
    }
    await scene.kube.create(PODS, body, scene.namespace)

    async def let_go():
        return annotations_of(await scene.kube.get(PODS, "held", scene.namespace)).get(keys.ANN_GATE)

    end = await eventually(let_go, scene.controllers.logs)
    found = await scene.kube.get(PERSISTENT_VOLUME_CLAIMS, "snapshot-pvc", scene.namespace)

    assert ("checkpoint-deleted", "200Gi") == (end, found["spec"]["resources"]["requests"]["storage"])


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*mount*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_values_of_the_chart(path):

    assert values_from(yaml.safe_load(path.read_text())).storage.pvc.claim_name
