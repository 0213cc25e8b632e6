"""The life of a checkpoint against a real API server: versions, retries, adoption, retention; from the example files.

No Job controller and no kubelet run here: Jobs and pods end as the test says.
"""

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from aiohttp import ClientError, ClientSession

from cluster.ports import free_port
from contract.api import keys
from contract.api.times import format_micro_time, format_time
from kube.errors import InvalidError, NotFoundError
from kube.resources import CHECKPOINTS, EVENTS, JOBS, LEASES, PODS
from tests.support.builders.objects import pod as shaped
from tests.support.fixtures.controller import DIGEST, LEASE, NO_CERTIFICATES, ROOT, TAKEN_ON, Scene, checkpoints_in
from tests.support.waiting import eventually

EXAMPLES = ROOT / "examples" / "lifecycle"
AUTOMATIC = {keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_ARTIFACT_VERSION: "1", keys.ANN_WORKLOAD: "Deployment/web"}
OTHER_DIGEST = "blake3:" + "b" * 64


def example(name):
    return yaml.safe_load((EXAMPLES / name).read_text())


class Life(Scene):
    """What the life of a checkpoint needs besides."""

    def __init__(self, kube, namespace, controllers, kubectl):
        super().__init__(kube, namespace, controllers)
        self.kubectl = kubectl

    def apply(self, name):
        self.kubectl("apply", "-n", self.namespace, "-f", str(EXAMPLES / name))

    async def annotate(self, name, **notes):
        body = {"metadata": {"annotations": {f"nvidia.com/{key}": value for key, value in notes.items()}}}
        await self.kube.patch(CHECKPOINTS, name, body, self.namespace)

    async def job(self, name):
        async def there():
            return next((each for each in await self.jobs() if each["metadata"]["name"] == name), None)

        return await eventually(there, lambda: f"Job {name}; logs:\n{self.controllers.logs()[-4000:]}")

    async def vouch(self, name, told):
        """Be the pod that looked at an artifact, and its Job."""
        await self.job(name)
        body = {"containers": [{"name": "inspect", "image": "i"}], "restartPolicy": "Never"}
        metadata = {"name": name, "labels": {keys.LABEL_JOB_NAME: name}}
        await self.kube.create(PODS, {"metadata": metadata, "spec": body}, self.namespace)
        ended = {"exitCode": 0, "message": json.dumps(told)}
        state = {"name": "inspect", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
        status = {"phase": "Succeeded", "containerStatuses": [state | {"state": {"terminated": ended}}]}
        await self.kube.patch(PODS, name, {"status": status}, self.namespace, subresource="status")
        await self.complete(name)

    async def known(self, name, *versions, phase="Ready", age=3600, **parts):
        """A checkpoint that was captured long ago, written as the controller would have."""
        made = await self.make(name, identity={"model": name, "backendFramework": "generic"}, **parts)
        annotations = made["metadata"].get("annotations") or {}
        version = annotations.get(keys.ANN_ARTIFACT_VERSION, "1")
        checkpoint_id = made["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID]
        old = format_time(datetime.now(UTC) - timedelta(seconds=age))
        status = {
            "phase": phase,
            "checkpointID": checkpoint_id,
            "identityHash": checkpoint_id,
            "jobName": f"checkpoint-job-{checkpoint_id}-{version}",
            "createdAt": old,
            "lastUsedAt": old,
            "manifestDigest": DIGEST,
            "versions": [
                {"version": each, "manifestDigest": DIGEST, "size": 100, "createdAt": old} for each in versions
            ],
        }
        return await self.kube.patch(CHECKPOINTS, name, {"status": status}, self.namespace, subresource="status")

    async def events(self, reason):
        found = (await self.kube.list(EVENTS, self.namespace)).items
        return {event["message"] for event in found if event["reason"] == reason}

    async def restored(self, name, outcome):
        """Be an agent that has just restored into a pod, or tried to."""
        at = format_micro_time(datetime.now(UTC))
        report = {
            "container": "main",
            "outcome": outcome,
            "reason": "cpu-mismatch",
            "seconds": {},
            "bytes": 0,
            "at": at,
        }
        body = _user(name, "qwen", "1")
        body["metadata"]["annotations"][keys.ANN_RESTORE_REPORT] = json.dumps(report)
        await self.kube.create(PODS, body, self.namespace)


@pytest.fixture
async def scene(checkpoint_plane, kube, tmp_path):
    def life(*parts):
        return Life(*parts, checkpoint_plane.kubectl)

    async with checkpoints_in(checkpoint_plane, kube, "lifecycle", tmp_path, life) as found:
        yield found


async def test_a_new_version_and_the_way_back(scene):
    """While version 2 is made, what is known of version 1 and what others wrote stays."""
    scene.controllers.start()
    scene.apply("checkpoint.yaml")
    first = await scene.phase("Creating", "minilm")
    await scene.complete(first["jobName"])
    await scene.phase("Ready", "minilm")
    used = {"status": {"lastUsedAt": "2026-01-01T00:00:00Z"}}
    await scene.kube.patch(CHECKPOINTS, "minilm", used, scene.namespace, subresource="status")
    scene.apply("version-2.yaml")
    capturing = await scene.phase("Creating", "minilm")
    await scene.complete(capturing["jobName"])
    ready = await scene.phase("Ready", "minilm")

    assert [("1", DIGEST)] == [(each["version"], each["manifestDigest"]) for each in capturing["versions"]]
    assert ["1", "2"] == [each["version"] for each in ready["versions"]]
    assert "2026-01-01T00:00:00Z" == ready["lastUsedAt"]
    assert {"node": "node-1", **TAKEN_ON} == ready["source"]
    assert "source" not in capturing
    assert ready["location"].endswith("/versions/2")

    await scene.annotate("minilm", **{"snapshot-artifact-version": "1"})
    told = {"version": "1", "digest": DIGEST, "size": 4096, "createdAt": "2026-01-01T00:00:00Z"}
    await scene.vouch(f"checkpoint-adopt-{ready['checkpointID']}-1", told)

    async def back():
        status = await scene.status("minilm")
        return status if status["location"].endswith("/versions/1") else None

    status = await eventually(back, "version 1 again")
    assert "Ready" == status["phase"]
    captures = [job for job in await scene.jobs() if job["metadata"]["name"].startswith("checkpoint-job-")]
    assert 2 == len(captures)

    await scene.kube.delete(CHECKPOINTS, "minilm", scene.namespace)
    (kept,) = await eventually(lambda: scene.events("ArtifactKept"), scene.controllers.logs)
    assert f"/checkpoints/{ready['checkpointID']}/versions, versions 1, 2" in kept


async def test_the_identity_never_changes(scene):
    await scene.make()
    with pytest.raises(InvalidError, match=r"spec\.identity is immutable"):
        await scene.kube.patch(CHECKPOINTS, "qwen", {"spec": {"identity": {"model": "another"}}}, scene.namespace)


async def test_an_artifact_in_storage_is_taken_over(scene):
    scene.controllers.start()
    scene.apply("adopt.yaml")

    async def looking():
        return next((job for job in await scene.jobs() if "-adopt-" in job["metadata"]["name"]), None)

    job = (await eventually(looking, scene.controllers.logs))["metadata"]["name"]
    told = {"version": "2", "digest": OTHER_DIGEST, "size": 12, "createdAt": "2026-01-01T00:00:00Z"}
    await scene.vouch(job, told)
    ready = await scene.phase("Ready", "minilm")

    async def answered():
        notes = (await scene.checkpoint("minilm"))["metadata"]["annotations"]
        return notes if keys.ANN_ADOPT not in notes else None

    notes = await eventually(answered, "the end of the question")
    assert "2" == notes[keys.ANN_ARTIFACT_VERSION]
    assert (OTHER_DIGEST, 12) == (ready["manifestDigest"], ready["size"])
    assert {"True"} == {each["status"] for each in ready["conditions"] if each["type"] == "Adopted"}
    assert [] == [job for job in await scene.jobs() if job["metadata"]["name"].startswith("checkpoint-job-")]


async def test_attempts_go_on_with_another_leader(scene):
    """What is known of the first attempt is in the status; the process that saw it is killed."""
    values = NO_CERTIFICATES + "automatic: {attempts: 2, backoff: [2s]}\n"
    first = scene.controllers.start(values)
    await scene.make(annotations=AUTOMATIC, job={"readySignal": "File"})
    job = (await scene.phase("Creating"))["jobName"]
    await scene.complete(job, word="failed")
    waiting = await scene.phase("Pending")
    first.kill()
    first.wait()
    await scene.kube.delete(LEASES, LEASE, scene.namespace)
    scene.controllers.start(values)
    second = await scene.phase("Creating")
    await scene.complete(second["jobName"], word="failed")
    failed = await scene.phase("Failed")

    assert waiting["message"].startswith("attempt 2 of 2 in 2s: criu said no")
    assert (job[:-1] + "2", 2) == (second["jobName"], second["attempts"])
    assert "attempt 2 of 2" in failed["message"]
    assert keys.ANN_ARTIFACT_VERSION in failed["message"]


async def test_a_capture_without_a_free_gpu_waits_with_the_schedulers_words(scene):
    scene.controllers.start()
    await scene.make()
    job = (await scene.phase("Creating"))["jobName"]
    labels = {keys.LABEL_IS_SOURCE: "true", keys.LABEL_JOB_NAME: job}
    body = {"metadata": {"name": "p", "labels": labels}, "spec": {"containers": [{"name": "main", "image": "i"}]}}
    await scene.kube.create(PODS, body, scene.namespace)
    began = format_time(datetime.now(UTC) - timedelta(seconds=3000))
    # The Job has used most of its hour in the queue.
    await scene.kube.patch(JOBS, job, {"status": {"startTime": began}}, scene.namespace, subresource="status")
    words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    entry = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    status = {"conditions": [entry | {"lastTransitionTime": began}]}
    await scene.kube.patch(PODS, "p", {"status": status}, scene.namespace, subresource="status")

    async def said():
        found = [each for each in (await scene.status()).get("conditions", ()) if each["type"] == "Scheduled"]
        return found and words in found[0]["message"] and found[0]

    assert "Unschedulable" == (await eventually(said, "the condition"))["reason"]

    async def given_back():
        spec = (await scene.kube.get(JOBS, job, scene.namespace))["spec"]
        return spec["activeDeadlineSeconds"] > 6000

    assert await eventually(given_back, "a longer deadline")


async def test_retention_says_first_and_removes_then(scene):
    """What a dry run names is what the real one removes; what a pod uses, and what people made, stays."""
    rules = "{keepVersions: 1, ttlAfterLastUse: 30m, namespaceQuota: '350', dryRun: true}"
    label = {"labels": {keys.LABEL_CHECKPOINT_ID: "kept"}, "annotations": {keys.ANN_ARTIFACT_VERSION: "3"}}
    await scene.known("kept", "1", "2", "3", **label)
    await scene.known("unused", "1", labels={keys.LABEL_CHECKPOINT_ID: "unused"}, annotations=AUTOMATIC)
    await scene.known("in-use", "1", labels={keys.LABEL_CHECKPOINT_ID: "in-use"}, annotations=AUTOMATIC)
    for name, checkpoint_id, version in (("old", "kept", "1"), ("new", "in-use", "1")):
        await scene.kube.create(PODS, _user(name, checkpoint_id, version), scene.namespace)
    process = scene.controllers.start(NO_CERTIFICATES + f"retention: {rules}\n")

    async def told():
        said = await scene.events("RetentionDryRun")
        return said if len(said) == 2 else None

    said = await eventually(told, lambda: f"two Events; logs:\n{scene.controllers.logs()[-3000:]}")
    assert {"would remove version 2", "would remove the checkpoint"} == {each.partition(":")[0] for each in said}
    assert () == await scene.jobs()
    process.kill()
    process.wait()
    await scene.kube.delete(LEASES, LEASE, scene.namespace)

    scene.controllers.start(NO_CERTIFICATES + f"retention: {rules.replace('dryRun: true', 'dryRun: false')}\n")
    trim = await scene.job("checkpoint-trim-kept-2")
    command = trim["spec"]["template"]["spec"]["containers"][0]["command"]
    assert ["/checkpoints", "kept", "2"] == command[-3:]
    await scene.complete("checkpoint-trim-kept-2")

    async def shorter():
        return [each["version"] for each in (await scene.status("kept"))["versions"]] == ["1", "3"]

    assert await eventually(shorter, "version 2 to go")
    await scene.job("checkpoint-cleanup-unused")
    await scene.complete("checkpoint-cleanup-unused")
    assert await eventually(lambda: _gone(scene, "unused"), "the end of the unused one")
    assert "Ready" == (await scene.status("in-use"))["phase"]

    await scene.kube.delete(PODS, "old", scene.namespace)
    await scene.job("checkpoint-trim-kept-1")


def _user(name, checkpoint_id, version):
    body = shaped(labels={keys.LABEL_RESTORE: "enabled", keys.LABEL_CHECKPOINT_ID: checkpoint_id})
    notes = {keys.ANN_CHECKPOINT: checkpoint_id, keys.ANN_ARTIFACT_VERSION: version}
    body["metadata"] = {"name": name, "labels": body["metadata"]["labels"], "annotations": notes}
    return body


async def test_what_was_restored_while_nobody_led_counts_and_nothing_counts_twice(scene):
    """The first leader counts one restore and goes; another ends; the second leader counts that one alone."""
    port = free_port()
    first = scene.controllers.start(SNAPSHOT_HEALTH_PORT=str(port))
    await eventually(lambda: figures(port, "snapshot_controller_leader 1.0"), scene.controllers.logs)
    await scene.restored("seen", "restored")
    await eventually(lambda: restores(port, restored=1, failed=0), scene.controllers.logs)
    first.terminate()
    first.wait()
    await scene.restored("unseen", "failed")
    port = free_port()
    scene.controllers.start(SNAPSHOT_HEALTH_PORT=str(port))
    await eventually(lambda: restores(port, restored=0, failed=1), scene.controllers.logs)
    await scene.restored("seen-again", "restored")

    await eventually(lambda: restores(port, restored=1, failed=1), scene.controllers.logs)


async def figures(port, name):
    """Lines of one scrape."""
    try:
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            return [line for line in (await answer.text()).splitlines() if line.startswith(name)]
    except ClientError:
        return []


async def restores(port, **expected):
    """Whether the process has counted just these."""
    lines = await figures(port, "snapshot_restores_total")
    found = {word: sum(float(line.split()[-1]) for line in lines if f'"{word}"' in line) for word in expected}
    return expected == found


async def _gone(scene, name):
    try:
        await scene.checkpoint(name)
    except NotFoundError:
        return True
    return False


def test_the_examples_are_one_checkpoint_in_its_states():
    specs = [example(name)["spec"] for name in ("checkpoint.yaml", "version-2.yaml", "adopt.yaml")]

    assert specs[0] == specs[1] == specs[2]
