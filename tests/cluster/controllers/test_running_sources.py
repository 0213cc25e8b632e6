"""Who may edit a pod tries to get its memory into pods of another template: each way ends in a reason, uncaptured."""

import pytest

from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.api.running import CaptureResult, read_result
from contract.api.states import AgentReason, CaptureStatus
from kube.api import PatchKind
from kube.resources import CHECKPOINTS, DEPLOYMENTS, PODS
from tests.support.fixtures import workload as shop
from tests.support.fixtures.controller import DIGEST
from tests.support.fixtures.workload import bare, deployment, note

SAYS_WHEN = {keys.LABEL_TRIGGER: "true"}
OTHER_IMAGE = {"image": "example.test/somebody-elses:1"}
STAMP = (keys.ANN_TEMPLATE_HASH, keys.ANN_CHECKPOINT)


@pytest.fixture
async def scene(workload_plane, tmp_path):
    async with shop.workloads_in(workload_plane, "sources", tmp_path) as found:
        found.controllers.start(shop.VALUES)
        yield found


async def annotate(scene, pod, notes):
    body = {"metadata": {"annotations": notes}}
    return await scene.kube.patch(PODS, pod["metadata"]["name"], body, scene.namespace)


async def ask(scene, pod, request="1", **notes):
    """Be the agent, for a worker that asks."""
    asked = f"{note(pod, keys.ANN_CHECKPOINT)}@{request}"
    return await annotate(scene, pod, {keys.ANN_CAPTURE: asked, **notes})


async def victim(scene, replicas=1):
    """Return the pods of a Deployment that may be captured while they run."""
    await scene.apply(DEPLOYMENTS, deployment(replicas=replicas, labels=SAYS_WHEN))
    return await scene.pods_with("capturable", replicas)


async def failed(scene, pod):
    """Have a pod's first capture fail; return its checkpoint."""
    words = {keys.ANN_CHECKPOINT_STATUS: CaptureStatus.FAILED.value, keys.ANN_CAPTURE_MESSAGE: "criu said no"}
    return await captured(scene, pod, words, "Failed")


async def captured(scene, pod, words, phase):
    """Be the agent, of a capture that ends with these words; return its checkpoint."""
    await ask(scene, pod)
    (made,) = await scene.made()
    await scene.phase("Creating", made["metadata"]["name"])
    asked = note(await stored(scene, pod), keys.ANN_CAPTURE)
    result = CaptureResult(asked, made["metadata"]["uid"], "1", words)
    await annotate(scene, pod, {keys.ANN_CAPTURE_RESULT: result.to_json()})
    await scene.phase(phase, made["metadata"]["name"])
    return await scene.kube.get(CHECKPOINTS, made["metadata"]["name"], scene.namespace)


async def stored(scene, pod):
    return await scene.kube.get(PODS, pod["metadata"]["name"], scene.namespace)


async def answered(scene, pod):
    """Wait for the answer to the pod's request."""

    async def there():
        notes = annotations_of(await stored(scene, pod))
        found = read_result(notes.get(keys.ANN_CAPTURE_RESULT, ""))
        return found if found is not None and found.request == notes[keys.ANN_CAPTURE] else None

    return await scene.eventually(there, "an answer")


async def forged(scene, of, *, labels=None, code="capturable", **fields):
    """Return a pod of somebody else that says that it is of the template of pod *of*."""
    pod = bare("stranger", **(fields or OTHER_IMAGE))
    pod["metadata"]["labels"] = {"app": "stranger"} if labels is None else labels
    made = await scene.apply(PODS, pod)
    notes = {key: note(of, key) for key in STAMP} | {keys.ANN_ADMISSION: code}
    await annotate(scene, made, notes)
    opted_in = {"metadata": {"labels": {keys.LABEL_RESTORE: keys.RESTORE_AUTO}}}
    return await scene.kube.patch(PODS, "stranger", opted_in, scene.namespace)


OPTED_IN = {keys.LABEL_RESTORE: keys.RESTORE_AUTO} | SAYS_WHEN
BY_NAME = {keys.LABEL_RESTORE: keys.RESTORE_BY_NAME} | SAYS_WHEN
WAYS = [
    pytest.param({}, id="past-the-webhook"),
    pytest.param({"labels": OPTED_IN}, id="admitted-as-another"),
    pytest.param({"labels": BY_NAME}, id="admitted-by-name"),
    pytest.param({"env": [{"name": "LD_PRELOAD", "value": "/mine.so"}]}, id="another-environment"),
]


@pytest.mark.parametrize("way", WAYS)
async def test_a_forged_stamp_makes_no_checkpoint(scene, way):
    (pod,) = await victim(scene)
    stranger = await forged(scene, pod, **way)
    await ask(scene, stranger)
    answer = await answered(scene, stranger)
    assert AgentReason.TEMPLATE_DIFFERS in answer.notes[keys.ANN_CAPTURE_MESSAGE]
    assert await scene.told("CheckpointNotMade", "stranger")
    assert () == tuple(await scene.checkpoints())
    await ask(scene, pod)
    (made,) = await scene.made()
    assert pod["metadata"]["uid"] == made["spec"]["source"]["podUID"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_forged_stamp_takes_no_checkpoint_over(scene, way):
    (pod,) = await victim(scene)
    before = await failed(scene, pod)
    stranger = await forged(scene, pod, **way)
    await ask(scene, stranger)
    answer = await answered(scene, stranger)
    assert AgentReason.TEMPLATE_DIFFERS in answer.notes[keys.ANN_CAPTURE_MESSAGE]
    assert before["metadata"]["uid"] == answer.checkpoint
    after = await scene.kube.get(CHECKPOINTS, before["metadata"]["name"], scene.namespace)
    assert before["spec"] == after["spec"]


async def test_a_forged_stamp_has_no_job_made_of_its_template(scene):
    (pod,) = await victim(scene)
    stranger = await forged(scene, pod, code="checkpoint-requested")
    assert await scene.told("CheckpointNotMade", "stranger")

    async def withdrawn():
        return note(await stored(scene, stranger), keys.ANN_REQUEST) == keys.REQUEST_WITHDRAWN

    assert await scene.eventually(withdrawn, "the request withdrawn")
    await scene.settle()
    assert () == tuple(await scene.checkpoints())


async def test_a_pod_that_was_changed_since_is_of_its_template_no_more(scene):
    one, other = await victim(scene, replicas=2)
    before = await failed(scene, one)
    image = {"spec": {"containers": [{"name": "main", **OTHER_IMAGE}]}}
    await scene.kube.patch(PODS, other["metadata"]["name"], image, scene.namespace, kind=PatchKind.STRATEGIC)
    await ask(scene, other)
    assert AgentReason.TEMPLATE_DIFFERS in (await answered(scene, other)).notes[keys.ANN_CAPTURE_MESSAGE]
    assert before["spec"] == (await scene.kube.get(CHECKPOINTS, before["metadata"]["name"], scene.namespace))["spec"]


async def test_another_workload_of_the_same_template_takes_no_checkpoint_over(scene):
    (pod,) = await victim(scene)
    before = await failed(scene, pod)
    twin = await scene.apply(PODS, bare("twin", labels=SAYS_WHEN))
    assert note(pod, keys.ANN_CHECKPOINT) == note(twin, keys.ANN_CHECKPOINT)
    await ask(scene, twin)
    assert AgentReason.OTHER_WORKLOAD in (await answered(scene, twin)).notes[keys.ANN_CAPTURE_MESSAGE]
    assert before["spec"] == (await scene.kube.get(CHECKPOINTS, before["metadata"]["name"], scene.namespace))["spec"]


async def test_another_pod_of_the_same_workload_does(scene):
    one, other = await victim(scene, replicas=2)
    before = await failed(scene, one)
    await ask(scene, other)

    async def taken():
        found = await scene.kube.get(CHECKPOINTS, before["metadata"]["name"], scene.namespace)
        return found["spec"]["source"]["podUID"] == other["metadata"]["uid"] and found

    found = await scene.eventually(taken, "the other pod in spec.source")
    assert "2" == annotations_of(found)[keys.ANN_ARTIFACT_VERSION]


async def test_a_new_version_alone_leaves_what_was_captured(scene):
    (pod,) = await victim(scene)
    words = {
        keys.ANN_CHECKPOINT_STATUS: CaptureStatus.COMPLETED.value,
        keys.ANN_MANIFEST_DIGEST: DIGEST,
        keys.ANN_ARTIFACT_SIZE: "9",
    }
    found = await captured(scene, pod, words, "Ready")
    name = found["metadata"]["name"]
    body = {"metadata": {"annotations": {keys.ANN_ARTIFACT_VERSION: "2"}}}
    await scene.kube.patch(CHECKPOINTS, name, body, scene.namespace)
    (told,) = await scene.told("PodCaptureNotRequested", name)
    assert "snapshotctl checkpoint --pod" in told["message"]
    assert ("Ready", DIGEST) == ((status := await scene.status(name))["phase"], status["manifestDigest"])
    await scene.kube.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 2}}, scene.namespace)
    await scene.pods_with("restore-shaped")
    await ask(scene, pod, "2")
    assert "checkpoint-job" in (await scene.phase("Creating", name))["jobName"]
