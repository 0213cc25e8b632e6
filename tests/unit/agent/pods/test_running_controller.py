"""A running pod is captured if it and a checkpoint name each other, once for each request."""

import asyncio

import pytest

from agent.executor.api import CaptureRequest, ExecutionResult
from agent.pods import orders, running_controller
from agent.pods.report import Reporter
from agent.pods.running_controller import RunningController
from agent.pods.selection import Rejection, Wait
from contract.api import keys
from contract.api.running import CaptureResult, read_result
from contract.api.states import AgentReason
from tests.support.builders import agent
from tests.support.builders.agent import DIGEST, FIRST, ID, UID, RecordingKube, Said, ScriptedEngine, running, waiting

ASKED = {keys.ANN_CAPTURE: "qwen@1"}
ANSWER = CaptureResult("qwen@1", "uid-1", "1").to_json()
CAPTURED = ExecutionResult(ok=True, size=9, manifest_digest=DIGEST)
REFUSED = ExecutionResult(ok=False, reason=AgentReason.IO_URING, message="descriptor 7")


def pod(*statuses, **parts):
    return agent.target(*(statuses or [running()]), **{"annotations": ASKED} | parts)


def checkpoint(phase="Creating", uid=UID, checkpoint_id=ID):
    status = {"phase": phase, "checkpointID": checkpoint_id, "jobName": f"checkpoint-job-{ID}-1"}
    source = {"podName": "web-1", "podUID": uid}
    metadata = {"name": "qwen", "namespace": "ns", "uid": "uid-1"}
    return {"kind": "DynamoCheckpoint", "metadata": metadata, "spec": {"source": source}, "status": status}


@pytest.mark.parametrize(
    ("expected", "seen", "found"),
    [
        pytest.param(CaptureRequest, pod(), checkpoint(), id="each-names-the-other"),
        pytest.param(0.5, pod(), None, id="not-made-yet"),
        pytest.param(0.5, pod(), checkpoint(phase=None), id="not-looked-at-yet"),
        pytest.param(0.5, pod(), checkpoint("Pending"), id="not-begun"),
        pytest.param(None, pod(), checkpoint("Ready"), id="done"),
        pytest.param(0.5, pod(), checkpoint("Failed"), id="failed-and-perhaps-captured-again"),
        pytest.param(None, pod(), checkpoint(uid="another"), id="of-another-pod"),
        pytest.param(None, pod(), agent.checkpoint(phase="Creating"), id="of-a-job"),
        pytest.param(AgentReason.NO_WORKER, pod(waiting()), checkpoint(), id="does-not-run"),
        pytest.param(AgentReason.ID_INVALID, pod(), checkpoint(checkpoint_id="../x"), id="hostile-id"),
        pytest.param(
            AgentReason.CANARY_FAILED, pod(annotations={keys.ANN_CANARY: "{"}), checkpoint(), id="canary-unreadable"
        ),
    ],
)
def test_what_a_pod_asks_for(expected, seen, found):
    selected = orders.capture_running(seen, found, agent.storage())
    if isinstance(selected, Wait):
        assert expected == selected.again
    elif isinstance(selected, Rejection):
        assert expected == selected.reason
    else:
        assert (expected, FIRST, ID, "1") == (
            type(selected),
            selected.place.container_id,
            selected.checkpoint_id,
            selected.version,
        )


class Stage:
    def __init__(self, seen, outcome=CAPTURED, *objects):
        self.kube, self.said, self.engine = RecordingKube(seen, *objects), Said(), ScriptedEngine(outcome)
        reporter = Reporter(self.kube, self.said, "node-1")
        self.controller = RunningController(self.kube, self.engine, reporter, agent.storage())

    async def see(self, *pods):
        for each in pods:
            self.controller.see(each)
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=5)


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(agent.target(running()), id="not-asked"),
        pytest.param(pod(annotations=ASKED | {keys.ANN_CAPTURE_RESULT: ANSWER}), id="answered"),
        pytest.param(pod(phase="Succeeded"), id="ended"),
        pytest.param(agent.source(running(), annotations=ASKED), id="of-a-job"),
    ],
)
async def test_it_is_left_alone(seen):
    stage = Stage(seen, CAPTURED, checkpoint())
    await stage.see(seen)
    assert [] == stage.engine.orders
    assert [] == stage.kube.calls


@pytest.mark.parametrize(
    ("status", "event", "outcome"),
    [
        pytest.param("completed", "CheckpointSucceeded", CAPTURED, id="captured"),
        pytest.param("failed", "CheckpointFailed", REFUSED, id="refused"),
    ],
)
async def test_the_word_is_written_on_the_pod_once(status, event, outcome):
    stage = Stage(pod(), outcome, checkpoint())
    await stage.see(pod(), pod())
    await stage.see(pod())
    (written,) = stage.kube.written("Pod")
    result = read_result(written[keys.ANN_CAPTURE_RESULT])
    assert ("qwen@1", "uid-1", "1") == (result.request, result.checkpoint, result.version)
    assert status == result.notes[keys.ANN_CHECKPOINT_STATUS]
    assert [event] == stage.said.reasons() == stage.said.reasons("DynamoCheckpoint")
    if status == "completed":
        assert DIGEST == result.notes[keys.ANN_MANIFEST_DIGEST]
    else:
        assert "descriptor 7 (io-uring)" == result.notes[keys.ANN_CAPTURE_MESSAGE]


async def test_another_request_is_another_capture():
    stage = Stage(pod(), CAPTURED, checkpoint())
    await stage.see(pod())
    again = pod(annotations={keys.ANN_CAPTURE: "qwen@2"})
    stage.kube.objects["Pod", "web-1"] = again
    await stage.see(again)
    assert 2 == len(stage.engine.orders)


async def test_a_later_request_takes_no_result_away():
    stage = Stage(pod(), CAPTURED, checkpoint())
    stage.engine.seconds = 0.05
    again = pod(annotations={keys.ANN_CAPTURE: "other@2"})
    stage.controller.see(pod())
    stage.kube.objects["Pod", "web-1"] = again
    await stage.see(again)
    (written,) = stage.kube.written("Pod")
    assert "qwen@1" == read_result(written[keys.ANN_CAPTURE_RESULT]).request


async def test_a_request_that_the_controller_has_refused_meanwhile_is_answered_once(monkeypatch):
    monkeypatch.setattr(running_controller, "PATIENCE", 0.1)
    stage = Stage(pod(), CAPTURED, checkpoint("Failed"))
    await stage.see(pod(), pod(annotations=ASKED | {keys.ANN_CAPTURE_RESULT: ANSWER}))
    assert [] == stage.said.reasons() == stage.kube.written("Pod")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"request": "a"}', '{"request":1,"checkpoint":"a","version":"1","notes":{}}']
)
def test_what_is_no_result_is_none(text):
    assert read_result(text) is None
