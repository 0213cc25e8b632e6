"""What a worker that asks for its capture is answered, over a real socket."""

import asyncio
import json
import socket

import pytest

from agent.pods import trigger_controller
from agent.pods.report import Reporter
from agent.pods.trigger_controller import TriggerController, answer_after, answer_before, listens_for
from contract.api import keys
from contract.api.running import CaptureResult
from contract.api.trigger import TriggerAnswer, TriggerStatus
from kube.errors import ForbiddenError, ServerUnavailableError, TooManyRequestsError
from tests.support.builders import agent
from tests.support.builders.agent import FIRST, ID, SECOND, UID, RecordingKube, Said, running

LABEL = {keys.LABEL_TRIGGER: "true", keys.LABEL_CHECKPOINT_ID: None}
OWN = {keys.ANN_TEMPLATE_HASH: "0" * 32, keys.ANN_CHECKPOINT: "qwen"}
CAPTURED = {keys.ANN_CHECKPOINT_STATUS: "completed"}
REFUSED = {keys.ANN_CHECKPOINT_STATUS: "failed", keys.ANN_CAPTURE_MESSAGE: "descriptor 7 (io-uring)"}


def pod(*statuses, annotations=OWN, labels=LABEL, **parts):
    return agent.target(*(statuses or [running()]), annotations=annotations, labels=labels, **parts)


def checkpoint(phase, uid=UID):
    found = agent.checkpoint(phase=phase)
    found["metadata"]["uid"] = "uid-1"
    return found | {"spec": {"source": {"podUID": uid}} if uid else {}}


@pytest.mark.parametrize(
    ("expected", "seen"),
    [
        pytest.param(True, pod(), id="labelled"),
        pytest.param(False, pod(labels={}), id="not-labelled"),
        pytest.param(False, pod(labels=LABEL | {keys.LABEL_TRIGGER: "yes"}), id="another-value"),
        pytest.param(False, pod(hostNetwork=True), id="network-of-the-node"),
        pytest.param(False, pod(phase="Succeeded"), id="ended"),
        pytest.param(False, agent.source(running(), labels=LABEL), id="of-a-job"),
    ],
)
def test_in_which_pods_the_agent_listens(expected, seen):
    assert expected == listens_for(seen)


@pytest.mark.parametrize(
    ("expected", "reason", "seen", "found"),
    [
        pytest.param(None, "", pod(), None, id="none-yet"),
        pytest.param(None, "", pod(), checkpoint("Failed"), id="failed-before"),
        pytest.param("skipped", "exists", pod(), checkpoint("Ready"), id="exists"),
        pytest.param("skipped", "in-progress", pod(), checkpoint("Creating"), id="in-progress"),
        pytest.param("skipped", "in-progress", pod(), checkpoint("Pending", uid=""), id="a-job"),
        pytest.param("failed", "needs label nvidia.com/snapshot-restore=auto", pod(annotations={}), None, id="by-name"),
    ],
)
def test_what_is_answered_without_a_capture(expected, reason, seen, found):
    answer = answer_before(seen, found)
    assert expected == (answer and answer.status)
    assert answer is None or reason in answer.reason


def result(notes, request="qwen@1"):
    return {keys.ANN_CAPTURE_RESULT: CaptureResult(request, "uid-1", "1", notes).to_json()}


@pytest.mark.parametrize(
    ("expected", "notes", "found"),
    [
        pytest.param(None, {}, None, id="no-checkpoint-yet"),
        pytest.param(None, {}, checkpoint("Creating"), id="at-work"),
        pytest.param(None, {}, checkpoint("Failed", uid="other"), id="failed-and-not-made-anew-yet"),
        pytest.param(None, result(CAPTURED, "qwen@0"), checkpoint("Creating"), id="an-earlier-answer"),
        pytest.param(("skipped", "in-progress"), {}, checkpoint("Creating", uid="other"), id="another-pod-was-first"),
        pytest.param(("created", ""), result(CAPTURED), checkpoint("Ready"), id="captured"),
        pytest.param(("failed", "descriptor 7 (io-uring)"), result(REFUSED), checkpoint("Failed"), id="refused"),
    ],
)
def test_what_is_answered_after_the_request(expected, notes, found):
    answer = answer_after(pod(annotations=OWN | notes), "qwen@1", found)
    assert expected == (answer and (answer.status, answer.reason))
    assert answer is None or ("qwen", ID) == (answer.checkpoint, answer.id)


class Networks:
    """A pod's network that is this process's own."""

    def __init__(self, caller=FIRST):
        self.found = caller
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()

    async def listen(self, pod_uid):
        assert UID == pod_uid
        return self.socket

    async def caller(self, pod_uid, peer):
        assert (UID, "127.0.0.1") == (pod_uid, peer[0])
        return self.found


async def ask(address, text):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(text.encode())
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    return head.split(b"\r\n")[0].decode(), json.loads(body or "{}")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(trigger_controller, "POLL_SECONDS", 0.001)


async def served(seen, networks, *objects, text="POST /checkpoint HTTP/1.1\r\nHost: x\r\n\r\n", changed=None):
    kube = RecordingKube(seen, *objects)
    if changed is not None:
        kube.changed = lambda stored: changed(kube, stored)
    controller = TriggerController(kube, networks, Reporter(kube, Said(), "node-1"))
    controller.see(seen)
    controller.see(seen)
    try:
        return await ask(networks.address, text), kube
    finally:
        await controller.in_flight.drain(0)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        pytest.param("HTTP/1.1 404 Not Found", "POST /other HTTP/1.1\r\n\r\n", id="another-path"),
        pytest.param("HTTP/1.1 405 Method Not Allowed", "GET /checkpoint HTTP/1.1\r\n\r\n", id="another-method"),
        pytest.param("HTTP/1.1 404 Not Found", "\r\n\r\n", id="no-request"),
    ],
)
async def test_what_is_no_request_for_a_capture(quick, status, text):
    (found, _), kube = await served(pod(), Networks(), text=text)
    assert status == found
    assert [] == kube.calls


@pytest.mark.parametrize("caller", [pytest.param("", id="unknown"), pytest.param(SECOND, id="another-container")])
async def test_a_container_beside_the_worker_may_not_ask(quick, caller):
    (status, answer), kube = await served(pod(), Networks(caller))
    assert ("HTTP/1.1 200 OK", "failed") == (status, answer["status"])
    assert "only a process of container main" in answer["reason"]
    assert [] == kube.patches


async def test_a_pod_holds_no_more_than_a_few_of_the_agents_descriptors(quick):
    networks = Networks()
    controller = TriggerController(RecordingKube(pod()), networks, Reporter(RecordingKube(), Said(), "node-1"))
    controller.see(pod())
    silent = [await asyncio.open_connection(*networks.address) for _ in range(trigger_controller.MOST_CONNECTIONS)]
    reader, writer = await asyncio.open_connection(*networks.address)
    assert b"" == await asyncio.wait_for(reader.read(), 5)
    for _, each in [*silent, (reader, writer)]:
        each.close()
    await controller.in_flight.drain(0)


async def test_a_request_becomes_an_annotation_and_its_result_the_answer(quick):
    def captured(kube, stored):
        request = stored["metadata"]["annotations"][keys.ANN_CAPTURE]
        stored["metadata"]["annotations"] |= result(CAPTURED, request)
        kube.objects["DynamoCheckpoint", "qwen"] = checkpoint("Ready")

    (status, answer), kube = await served(pod(), Networks(), changed=captured)
    assert "HTTP/1.1 200 OK" == status
    assert {"status": "created", "reason": "", "checkpoint": "qwen", "id": ID} == answer
    (written,) = kube.written("Pod")
    assert written[keys.ANN_CAPTURE].startswith("qwen@")


@pytest.mark.parametrize(
    "failures",
    [
        pytest.param([ServerUnavailableError("connection refused")] * 5, id="away"),
        pytest.param([TooManyRequestsError(429, "TooManyRequests", "later")], id="overloaded"),
        pytest.param([ForbiddenError(403, "Forbidden", "roles are written")] * 2, id="forbidden-for-a-moment"),
    ],
)
async def test_an_api_server_that_fails_meanwhile_says_nothing_of_the_capture(quick, failures):
    def captured(kube, stored):
        stored["metadata"]["annotations"] |= result(CAPTURED, stored["metadata"]["annotations"][keys.ANN_CAPTURE])
        kube.objects["DynamoCheckpoint", "qwen"] = checkpoint("Ready")
        kube.failures = list(failures)

    (_, answer), kube = await served(pod(), Networks(), changed=captured)
    assert ("created", ID, []) == (answer["status"], answer["id"], kube.failures)


async def test_a_pod_that_is_gone_is_told_so(quick):
    (_, answer), _ = await served(pod(), Networks(), changed=lambda kube, _: kube.objects.pop(("Pod", "web-1")))
    assert ("failed", True) == (answer["status"], "NotFoundError" in answer["reason"])


async def test_what_does_not_end_in_time_may_go_on(quick, monkeypatch):
    monkeypatch.setattr(trigger_controller, "PATIENCE", 0.05)
    (_, answer), _ = await served(pod(), Networks())
    assert "failed" == answer["status"]
    assert "DynamoCheckpoint qwen" in answer["reason"]
    assert "may go on" in answer["reason"]


async def test_a_capture_that_a_person_asked_for_is_not_disturbed(quick):
    warm = checkpoint("Creating")
    warm["metadata"]["name"] = "warm"
    seen = pod(annotations=OWN | {keys.ANN_CAPTURE: "warm@1"})
    (_, answer), kube = await served(seen, Networks(), warm)
    assert ("skipped", "in-progress", "warm") == (answer["status"], answer["reason"], answer["checkpoint"])
    assert [] == kube.patches


def test_an_answer_has_the_four_words_of_the_protocol():
    answer = json.loads(TriggerAnswer(TriggerStatus.SKIPPED, "exists", "c", "i").to_json())
    assert {"status": "skipped", "reason": "exists", "checkpoint": "c", "id": "i"} == answer
