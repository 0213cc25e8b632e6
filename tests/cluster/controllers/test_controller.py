"""The controller process against a real API server, which has no other controllers: Jobs here run as the test says."""

import asyncio
import signal

import pytest

from contract.api import keys
from kube.errors import NotFoundError
from kube.resources import CHECKPOINTS, JOBS, LEASES, PERSISTENT_VOLUME_CLAIMS, PODS
from tests.support.builders.objects import container, template
from tests.support.fixtures.controller import DIGEST, LEASE, NO_CERTIFICATES, checkpoints_in, counted
from tests.support.waiting import PATIENCE, eventually

POD_MOUNT = NO_CERTIFICATES + "storage: {accessMode: podMount, pvc: {create: false}}\n"


@pytest.fixture
async def scene(checkpoint_plane, kube, tmp_path):
    async with checkpoints_in(checkpoint_plane, kube, "controller", tmp_path) as found:
        yield found


async def test_from_a_new_object_to_ready(scene):
    scene.controllers.start()
    await scene.make()
    creating = await scene.phase("Creating")
    (job,) = await scene.jobs()
    await scene.complete(job["metadata"]["name"])
    ready = await scene.phase("Ready")

    assert creating["jobName"] == job["metadata"]["name"]
    assert ("qwen", True) == tuple(job["metadata"]["ownerReferences"][0][field] for field in ("name", "controller"))
    assert (DIGEST, 4096, "pvc") == (ready["manifestDigest"], ready["size"], ready["storageType"])
    labels = (await scene.checkpoint())["metadata"]["labels"]
    assert ready["checkpointID"] == labels[keys.LABEL_CHECKPOINT_ID]

    async def told():
        return {"JobCreated", "CheckpointReady"} <= set(await scene.reasons())

    assert await eventually(told, "the Events")


async def test_a_failed_capture_and_a_new_version(scene):
    scene.controllers.start()
    await scene.make()
    first = (await scene.phase("Creating"))["jobName"]
    await scene.complete(first, word="failed")
    failed = await scene.phase("Failed")
    bump = {"metadata": {"annotations": {keys.ANN_ARTIFACT_VERSION: "2"}}}
    await scene.kube.patch(CHECKPOINTS, "qwen", bump, scene.namespace)
    second = (await scene.phase("Creating"))["jobName"]

    assert "criu said no" in failed["message"]
    assert first[:-1] + "2" == second


async def test_a_job_that_is_deleted_fails_the_checkpoint(scene):
    scene.controllers.start()
    await scene.make()
    job = (await scene.phase("Creating"))["jobName"]
    await scene.kube.delete(JOBS, job, scene.namespace)
    failed = await scene.phase("Failed")

    assert "no longer exists" in failed["message"]
    assert job == failed["jobName"]


async def test_the_servers_judgement_of_a_template_is_shown_and_a_correction_heals(scene):
    scene.controllers.start()
    bad = template(container(volumeMounts=[{"name": "nowhere", "mountPath": "/data"}]))
    await scene.make(pod_template=bad)
    failed = await scene.phase("Failed")
    good = {"spec": {"job": {"podTemplateSpec": template(container())}}}
    await scene.kube.patch(CHECKPOINTS, "qwen", good, scene.namespace)
    await scene.phase("Creating")

    assert "volumeMounts[0].name: Not found" in failed["message"]
    (entry,) = [each for each in failed["conditions"] if each["type"] == "TemplateValid"]
    assert ("False", "TemplateInvalid") == (entry["status"], entry["reason"])


async def test_a_missing_volume_is_waited_for_by_name(scene):
    scene.controllers.start(POD_MOUNT)
    await scene.make()

    async def waiting():
        status = await scene.status()
        return status if "storage.pvc.create" in status.get("message", "") else None

    status = await eventually(waiting, "the message")
    jobs = await scene.jobs()
    body = {
        "metadata": {"name": "snapshot-pvc"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    await scene.kube.create(PERSISTENT_VOLUME_CLAIMS, body, scene.namespace)
    await scene.phase("Creating")

    assert ("Pending", ()) == (status["phase"], jobs)
    assert f"{scene.namespace}/snapshot-pvc" in status["message"]


async def test_the_volume_is_made_where_the_values_say_so(scene):
    scene.controllers.start(POD_MOUNT.replace("create: false", "create: true, size: 3Gi"))
    await scene.make()
    await scene.phase("Creating")

    claim = await scene.kube.get(PERSISTENT_VOLUME_CLAIMS, "snapshot-pvc", scene.namespace)
    assert "3Gi" == claim["spec"]["resources"]["requests"]["storage"]


async def test_a_bad_template_leaves_no_volume_behind(scene):
    scene.controllers.start(POD_MOUNT.replace("create: false", "create: true"))
    await scene.make(pod_template=template(container(volumeMounts=[{"name": "nowhere", "mountPath": "/data"}])))
    await scene.phase("Failed")

    assert () == (await scene.kube.list(PERSISTENT_VOLUME_CLAIMS, scene.namespace)).items


async def test_two_objects_of_one_identity_the_second_fails_until_the_first_is_gone(scene):
    scene.controllers.start()
    await scene.make("first")
    await scene.phase("Creating", "first")
    await scene.make("second")
    failed = await scene.phase("Failed", "second")
    job = (await scene.status("first"))["jobName"]
    await scene.kube.delete(CHECKPOINTS, "first", scene.namespace)
    # No garbage collector runs here.
    await scene.kube.delete(JOBS, job, scene.namespace)
    await scene.phase("Creating", "second")

    assert "DynamoCheckpoint first" in failed["message"]


async def test_an_automatic_checkpoint_takes_its_artifact_along(scene):
    scene.controllers.start()
    await scene.make(annotations={keys.ANN_AUTO_CHECKPOINT: "true"}, job={"readySignal": "File"})
    await scene.complete((await scene.phase("Creating"))["jobName"])
    ready = await scene.phase("Ready")
    await scene.kube.delete(CHECKPOINTS, "qwen", scene.namespace)

    async def cleanup():
        return [job for job in await scene.jobs() if job["metadata"]["name"].startswith("checkpoint-cleanup-")]

    (job,) = await eventually(cleanup, "the cleanup Job")
    assert keys.FINALIZER in (await scene.checkpoint())["metadata"]["finalizers"]
    await scene.complete(job["metadata"]["name"])

    async def gone():
        try:
            await scene.checkpoint()
        except NotFoundError:
            return True
        return False

    assert await eventually(gone, "the end of the checkpoint")
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert ["/checkpoints", ready["checkpointID"]] == command[-2:]


async def test_a_stuck_pod_is_explained(scene):
    scene.controllers.start()
    await scene.make()
    job = (await scene.phase("Creating"))["jobName"]
    labels = {keys.LABEL_IS_SOURCE: "true", keys.LABEL_JOB_NAME: job}
    pod = {"metadata": {"name": "p", "labels": labels}, "spec": {"containers": [{"name": "main", "image": "i"}]}}
    await scene.kube.create(PODS, pod, scene.namespace)
    waiting = {
        "reason": "CreateContainerError",
        "message": "exec: /opt/dynamo-snapshot/bin/snapshot-standby: no such file",
    }
    state = {
        "name": "main",
        "image": "i",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": waiting},
    }
    status = {"phase": "Pending", "containerStatuses": [state]}
    await scene.kube.patch(PODS, "p", {"status": status}, scene.namespace, subresource="status")

    async def explained():
        return "make docker-build-placeholder" in (await scene.status()).get("message", "")

    assert await eventually(explained, "the remedy")
    assert await eventually(lambda: _has(scene, "ContainerNotStarted"), "the Event")


async def _has(scene, reason):
    return reason in await scene.reasons()


async def test_nothing_is_written_at_rest(scene):
    """Objects in every phase; while the leader renews its Lease several times, none of them changes."""
    scene.controllers.start()
    for name in ("ready", "creating", "failed"):
        await scene.make(name, identity={"model": name, "backendFramework": "vllm"})
    await scene.complete((await scene.phase("Creating", "ready"))["jobName"])
    await scene.complete((await scene.phase("Creating", "failed"))["jobName"], word="failed")
    for name in ("ready", "creating", "failed"):
        await scene.phase(name.capitalize(), name)

    async def versions():
        found = [*(await scene.kube.list(CHECKPOINTS, scene.namespace)).items, *await scene.jobs()]
        return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in found}

    async def renewed():
        return (await scene.kube.get(LEASES, LEASE, scene.namespace))["spec"]["renewTime"]

    before = await versions()
    for _ in range(3):
        last = await renewed()
        await eventually(lambda last=last: _differs(renewed, last), "a renewal")

    assert before == await versions()


async def _differs(read, last):
    return await read() != last


async def test_a_signal_ends_the_process_and_frees_the_lease(scene):
    process = scene.controllers.start()

    async def leads():
        try:
            return (await scene.kube.get(LEASES, LEASE, scene.namespace))["spec"].get("holderIdentity")
        except NotFoundError:
            return None

    holder = await eventually(leads, "leadership")
    process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(process.wait, PATIENCE)

    assert holder.startswith(process.pod_name)
    assert 0 == code
    assert not await leads()


async def test_two_hundred_checkpoints_and_a_leader_that_is_killed_again_and_again(scene):
    """Exactly one Job each, whatever the leader was doing when it died."""
    total, kills = 200, (15, 45, 80, 120, 160)
    for _ in range(2):
        scene.controllers.start()
    async with counted(scene, JOBS) as (appeared, went):
        making = asyncio.gather(
            *(scene.make(f"c{n}", identity={"model": f"m{n}", "backendFramework": "vllm"}) for n in range(total))
        )
        for threshold in kills:
            await eventually(lambda least=threshold: _reached(appeared, least), f"{threshold} Jobs", seconds=60)
            await _kill_leader(scene)
            scene.controllers.start()
        await making
        names = [f"c{n}" for n in range(total)]
        for name in names:
            await scene.phase("Creating", name)
        jobs = {job["metadata"]["name"] for job in await scene.jobs()}
        recorded = {(await scene.status(name))["jobName"] for name in names}

    assert total == len(jobs) == len(appeared) == len(set(appeared))
    assert [] == went
    assert jobs == recorded


async def _reached(found, least):
    return len(found) >= least


async def _kill_leader(scene):
    """SIGKILL, in the middle of whatever it does; its Lease is dropped so that the test need not wait it out."""
    holder = (await scene.kube.get(LEASES, LEASE, scene.namespace))["spec"]["holderIdentity"]
    (leader,) = [each for each in scene.controllers.running if holder.startswith(each.pod_name)]
    leader.kill()
    await asyncio.to_thread(leader.wait)
    await scene.kube.delete(LEASES, LEASE, scene.namespace)
