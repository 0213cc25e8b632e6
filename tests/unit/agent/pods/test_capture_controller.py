"""Capture pods from a ready worker to the last word on their Job, in virtual time."""

import asyncio

import pytest

from agent.executor.api import ExecutionResult
from agent.pods.capture_controller import CaptureController
from agent.pods.report import Reporter
from contract.api import keys
from kube.store import Store
from tests.support.builders import agent
from tests.support.builders.agent import NOT_YET, RecordingKube, Said, ScriptedEngine, running, terminated
from tests.support.virtual_time import now, run

CAPTURED = ExecutionResult(ok=True, seconds={"total": 2.0}, size=4096, manifest_digest="blake3:ab")
FAILED = ExecutionResult(ok=False, reason="dump-failed", message="criu said no")
READY = agent.source(running(ready=True))


class Scene:
    """Captures over stand-ins."""

    def __init__(self, engine, *found):
        self.engine = engine
        self.kube = RecordingKube(*found)
        self.said = Said()
        self.pods = Store()
        reporter = Reporter(self.kube, self.said, "node-1")
        self.captures = CaptureController(
            self.kube, self.pods, engine, reporter, agent.storage(), "snapshot-agent/node-1"
        )

    def see(self, pod, version=[1]):  # noqa: B006 - versions only grow
        version[0] += 1
        pod = {**pod, "metadata": {**pod["metadata"], "resourceVersion": str(version[0])}}
        self.pods.put(pod)
        self.captures.see(pod)

    def job(self):
        return self.kube.annotations("Job", "job-1")


def play(scene, *steps):
    async def scenario():
        start = now()
        for seconds, pod in steps:
            await asyncio.sleep(start + seconds - now())
            scene.see(pod)
        await asyncio.sleep(60)
        await scene.captures.in_flight.drain(1)

    run(scenario())
    return scene


def test_a_ready_worker_is_captured_under_the_jobs_lease():
    scene = play(Scene(ScriptedEngine(CAPTURED), agent.job()), (0, READY))

    assert 1 == len(scene.engine.orders)
    assert {
        keys.ANN_CHECKPOINT_STATUS: "completed",
        keys.ANN_MANIFEST_DIGEST: "blake3:ab",
        keys.ANN_ARTIFACT_SIZE: "4096",
        keys.ANN_NODE: "node-1",
    }.items() <= scene.job().items()
    assert ["CheckpointRequested", "CheckpointSucceeded"] == scene.said.reasons("Job")
    lease = [call for call in scene.kube.calls if call[1] == "Lease"]
    assert ("create", "Lease", "job-1") in lease
    assert ("delete", "Lease", "job-1") == lease[-1]


def test_the_node_is_known_before_the_capture_and_the_verdict_after():
    scene = play(Scene(ScriptedEngine(CAPTURED), agent.job()), (0, READY))

    assert [{keys.ANN_NODE: "node-1"}] == scene.kube.written("Job")[:1]
    assert 2 == len(scene.kube.written("Job"))


def test_a_long_capture_keeps_its_lease():
    scene = play(Scene(ScriptedEngine(CAPTURED, seconds=45), agent.job()), (0, READY))

    renewals = [call for call in scene.kube.calls if call[:2] == ("patch", "Lease")]
    assert len(renewals) >= 4


@pytest.mark.parametrize(
    ("expected", "annotations"),
    [
        pytest.param(1, {}, id="nothing said"),
        pytest.param(0, {keys.ANN_CHECKPOINT_STATUS: "completed"}, id="completed"),
        pytest.param(0, {keys.ANN_CHECKPOINT_STATUS: "failed"}, id="failed"),
    ],
)
def test_a_job_with_its_verdict_is_left_alone(expected, annotations):
    scene = play(Scene(ScriptedEngine(CAPTURED), agent.job(annotations)), (0, READY), (1, READY))

    assert expected == len(scene.engine.orders)


def test_a_job_held_by_another_agent_is_left_to_it():
    lease = {
        "kind": "Lease",
        "metadata": {"name": "job-1", "resourceVersion": "5"},
        "spec": {"holderIdentity": "snapshot-agent/other", "leaseDurationSeconds": 3600},
    }
    scene = play(Scene(ScriptedEngine(CAPTURED), agent.job(), lease), (0, READY))

    assert [] == scene.engine.orders
    assert [] == scene.kube.written("Job")


def test_a_probed_worker_settles_first():
    probe = {keys.ANN_READY_SIGNAL: "Probe", keys.ANN_SETTLE_SECONDS: "7"}

    async def scenario():
        scene = Scene(ScriptedEngine(CAPTURED), agent.job())
        scene.see(agent.source(running(ready=True), annotations=probe))
        await asyncio.sleep(6.5)
        before = len(scene.engine.orders)
        await asyncio.sleep(2)
        return before, len(scene.engine.orders)

    assert (0, 1) == run(scenario())


def test_a_probed_worker_that_wavers_settles_anew():
    probe = {keys.ANN_READY_SIGNAL: "Probe", keys.ANN_SETTLE_SECONDS: "7"}

    async def scenario():
        scene = Scene(ScriptedEngine(CAPTURED), agent.job())
        for ready in (True, False, True):
            scene.see(agent.source(running(ready=ready), annotations=probe))
            await asyncio.sleep(5)
        before = len(scene.engine.orders)
        await asyncio.sleep(3)
        return before, len(scene.engine.orders)

    assert (0, 1) == run(scenario())


def test_a_failed_capture_says_why():
    scene = play(Scene(ScriptedEngine(FAILED), agent.job()), (0, READY))

    assert ("failed", "criu said no") == (
        scene.job()[keys.ANN_CHECKPOINT_STATUS],
        scene.job()[keys.ANN_CAPTURE_MESSAGE],
    )
    assert ["CheckpointRequested", "CheckpointFailed"] == scene.said.reasons("Job")


def test_a_worker_that_failed_is_told_with_its_code():
    scene = play(Scene(ScriptedEngine(CAPTURED), agent.job()), (0, agent.source(terminated(3), phase="Failed")))

    assert [] == scene.engine.orders
    assert ["CheckpointWorkerFailed"] == scene.said.reasons("Job")
    assert "exited with code 3" in scene.job()[keys.ANN_CAPTURE_MESSAGE]


def test_the_end_of_a_captured_worker_is_no_failure():
    """Standby ends the container before our word is on the Job."""
    scene = play(
        Scene(ScriptedEngine(CAPTURED, seconds=5), agent.job()),
        (0, READY),
        (4, agent.source(terminated(0), phase="Succeeded")),
        (20, agent.source(terminated(0), phase="Succeeded")),
    )

    assert "completed" == scene.job()[keys.ANN_CHECKPOINT_STATUS]
    assert ["CheckpointRequested", "CheckpointSucceeded"] == scene.said.reasons("Job")


def test_a_standby_that_is_slow_is_waited_for():
    scene = play(Scene(ScriptedEngine(NOT_YET, NOT_YET, CAPTURED), agent.job()), (0, READY))

    assert "completed" == scene.job()[keys.ANN_CHECKPOINT_STATUS]


def test_a_standby_that_never_comes_fails_the_capture():
    scene = play(Scene(ScriptedEngine(NOT_YET), agent.job()), (0, READY))

    assert "failed" == scene.job()[keys.ANN_CHECKPOINT_STATUS]


@pytest.mark.parametrize(
    "found",
    [
        pytest.param([], id="no Job"),
        pytest.param([{**agent.job(), "metadata": {"name": "job-1", "uid": "other"}}], id="not its Job"),
    ],
)
def test_a_pod_without_its_job_is_nobodys_business(found):
    scene = play(Scene(ScriptedEngine(CAPTURED), *found), (0, READY), (1, READY))

    assert [] == scene.engine.orders
    assert 1 == len(scene.kube.calls), "and the Job is not asked for again and again"


def test_an_ending_pod_is_looked_at_once_a_change():
    pod = agent.source(running(ready=True))
    pod["metadata"]["deletionTimestamp"] = "2026-11-21T03:00:00Z"
    scene = play(Scene(ScriptedEngine(CAPTURED), agent.job()), (0, pod), (1, pod))

    assert [] == scene.engine.orders
    assert 2 == len(scene.kube.calls)


ASKING = [{"name": "main", "command": ["snapshot-standby", "--capture", "--image-entrypoint", "--"]}]
STARTED = agent.source(running(imageID="sha256:ab"), containers=ASKING)
TOLD = ExecutionResult(ok=True)


class TellingEngine(ScriptedEngine):
    """Captures, and returns what its own list of answers says."""

    def __init__(self, *told):
        super().__init__(CAPTURED)
        self.told = list(told)
        self.asked = []

    async def provide_image_config(self, request):
        self.asked.append(request.image_id)
        return self.told.pop(0) if len(self.told) > 1 else self.told[0]


def test_a_stock_images_standby_is_told_once_what_it_runs():
    ready = agent.source(running(ready=True, imageID="sha256:ab"), containers=ASKING)
    scene = play(Scene(TellingEngine(NOT_YET, TOLD), agent.job()), (0, STARTED), (1, STARTED), (3, ready))

    assert ["sha256:ab"] * 2 == scene.engine.asked
    assert "completed" == scene.job()[keys.ANN_CHECKPOINT_STATUS]


def test_an_image_that_cannot_be_read_fails_the_capture_at_once():
    """Its worker never starts, so it would never become ready."""
    unreadable = ExecutionResult(ok=False, reason="image-unreadable", message="give the pod a command")
    scene = play(Scene(TellingEngine(unreadable), agent.job()), (0, STARTED))

    assert "failed" == scene.job()[keys.ANN_CHECKPOINT_STATUS]
    assert "give the pod a command" == scene.job()[keys.ANN_CAPTURE_MESSAGE]
    assert [] == scene.engine.orders
