"""What is written, and what is never written over."""

import asyncio
import json
import platform
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.executor.api import ExecutionResult
from agent.pods.report import Reporter, capture_notes, fill_notes, restore_notes
from contract.api import keys
from contract.api.reports import Connections, Filled, HotSet, ImageConfig, ReportPhase, Step, read_report
from contract.api.states import AgentReason, RestoreStatus
from contract.nodes.node_facts import NodeFacts, Source
from contract.pods.systems import architecture_of
from kube.errors import ConflictError, ForbiddenError, ServerUnavailableError
from tests.support.builders import agent
from tests.support.builders.agent import FIRST, RESTORED, SECOND, RecordingKube, Said, reported, running
from tests.support.virtual_time import run

NOW = datetime(2026, 1, 31, 10, 0, 0, 250_000, tzinfo=UTC)
CAPTURED = ExecutionResult(ok=True, seconds={"criu": 1.23456, "total": 2.0}, size=4096, manifest_digest="blake3:ab")
FAILED = ExecutionResult(ok=False, reason="dump-failed", message="criu said no")
STATUS = keys.ANN_RESTORE_STATUS_PREFIX + "main"


def test_capture_notes_of_success():
    notes = capture_notes(agent.job(), "main", "node-1", CAPTURED)

    assert {
        keys.ANN_NODE: "node-1",
        keys.ANN_CHECKPOINT_STATUS: "completed",
        keys.ANN_MANIFEST_DIGEST: "blake3:ab",
        keys.ANN_ARTIFACT_SIZE: "4096",
    }.items() <= notes.items()
    assert {
        "container": "main",
        "outcome": "captured",
        "reason": "",
        "seconds": {"criu": 1.2346, "total": 2.0},
        "bytes": 4096,
        "architecture": architecture_of(platform.machine()),
    } == json.loads(notes[keys.ANN_CAPTURE_REPORT])
    assert keys.ANN_CAPTURE_MESSAGE not in notes


def test_capture_notes_say_what_became_of_connections():
    outcome = replace(CAPTURED, connections=Connections(2, 1, ("10.0.0.7:80",)))
    notes = capture_notes(agent.job(), "main", "node-1", outcome)

    assert outcome.connections == read_report(notes[keys.ANN_CAPTURE_REPORT]).connections


def test_a_report_says_what_became_of_the_hot_set():
    notes = capture_notes(agent.job(), "main", "node-1", replace(CAPTURED, hot=HotSet.IGNORED))

    assert HotSet.IGNORED is read_report(notes[keys.ANN_CAPTURE_REPORT]).hot


def test_capture_notes_say_what_it_was_taken_on():
    facts = NodeFacts(architecture="amd64", kernel="6.1.0", criu="4.2.1", cpu_flags=frozenset({"avx2"}))
    notes = capture_notes(agent.job(), "main", "node-1", replace(CAPTURED, source=Source(facts=facts)))

    said = json.loads(notes[keys.ANN_CAPTURE_REPORT])["source"]
    assert {"architecture": "amd64", "kernel": "6.1.0", "criu": "4.2.1", "cpuFlags": "avx2"} == said


def test_capture_notes_of_failure():
    notes = capture_notes(agent.job(), "main", "node-1", FAILED)

    assert ("failed", "criu said no") == (notes[keys.ANN_CHECKPOINT_STATUS], notes[keys.ANN_CAPTURE_MESSAGE])
    assert keys.ANN_MANIFEST_DIGEST not in notes


@pytest.mark.parametrize("word", ["completed", "failed"])
@pytest.mark.parametrize("outcome", [pytest.param(CAPTURED, id="captured"), pytest.param(FAILED, id="not")])
def test_a_jobs_final_word_stays(word, outcome):
    assert capture_notes(agent.job({keys.ANN_CHECKPOINT_STATUS: word}), "main", "node-1", outcome) is None


@pytest.mark.parametrize(
    ("written", "before"),
    [
        pytest.param(True, {}, id="nothing said yet"),
        pytest.param(True, reported("in_progress"), id="in progress"),
        pytest.param(True, reported("failed", SECOND), id="of the container before"),
        pytest.param(False, reported("failed"), id="failed"),
        pytest.param(False, reported("completed"), id="completed"),
    ],
)
@pytest.mark.parametrize("status", list(RestoreStatus))
def test_a_containers_final_word_stays(written, before, status):
    pod = agent.target(running(), annotations=before)

    assert written == (restore_notes(pod, "main", FIRST, status, RESTORED, NOW) is not None)


def test_restore_notes():
    notes = restore_notes(agent.target(), "main", FIRST, RestoreStatus.COMPLETED, RESTORED, NOW)

    assert ("completed", FIRST) == (notes[STATUS], notes[keys.ANN_RESTORE_CONTAINER_ID_PREFIX + "main"])
    assert {
        "container": "main",
        "outcome": "restored",
        "reason": "",
        "seconds": {"criu": 0.5, "total": 0.75},
        "bytes": 1 << 20,
        "at": "2026-01-31T10:00:00.250000Z",
    } == json.loads(notes[keys.ANN_RESTORE_REPORT])


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        pytest.param("artifact-missing", "artifact-missing", id="of the list"),
        pytest.param("internal-error", "something-else", id="of no list"),
    ],
)
def test_reasons_of_reports_are_a_closed_list(expected, reason):
    notes = restore_notes(
        agent.target(),
        "main",
        FIRST,
        RestoreStatus.FAILED,
        ExecutionResult(ok=False, reason=reason, message="x"),
        NOW,
    )

    assert {"outcome": "failed", "reason": expected}.items() <= json.loads(notes[keys.ANN_RESTORE_REPORT]).items()


@pytest.mark.parametrize(
    ("expected", "image"),
    [
        pytest.param(
            {"entrypoint": ["python3"], "cmd": ["-m", "x"], "user": "1000", "workingDir": "/app"},
            ImageConfig(("python3",), ("-m", "x"), "1000", "/app"),
            id="known",
        ),
        pytest.param(None, None, id="not known"),
    ],
)
def test_a_capture_tells_what_its_image_runs(expected, image):
    notes = capture_notes(agent.job(), "main", "node-1", ExecutionResult(ok=True, image=image))

    assert expected == json.loads(notes.get(keys.ANN_IMAGE_CONFIG, "null"))


@pytest.mark.parametrize("status", [RestoreStatus.IN_PROGRESS, RestoreStatus.PARKED])
def test_what_has_not_ended_says_no_more_than_that(status):
    notes = restore_notes(agent.target(), "main", FIRST, status, RESTORED, NOW)

    assert reported(status.value) == notes


def provide_image_config(kube, act):
    said = Said()
    run(act(Reporter(kube, said, "node-1")))
    return said


def test_a_restore_is_written_on_the_object_as_it_is_and_told():
    pod = agent.target(running())
    kube = RecordingKube(pod)
    said = provide_image_config(kube, lambda reporter: reporter.restored(pod, "main", FIRST, RESTORED))

    assert "completed" == kube.annotations("Pod", "web-1")[STATUS]
    assert "1" == kube.patches[0][2]["metadata"]["resourceVersion"]
    assert [("Pod", "Normal", "RestoreSucceeded", "container main restored in 0.75 s, 1.0 MiB")] == said.events


def test_what_was_bypassed_is_reported_and_told():
    pod = agent.target(running())
    kube, outcome = RecordingKube(pod), replace(RESTORED, bypassed={AgentReason.CPU_MISMATCH: "it lacks avx512f"})
    said = provide_image_config(kube, lambda reporter: reporter.restored(pod, "main", FIRST, outcome))

    assert (AgentReason.CPU_MISMATCH,) == read_report(
        kube.annotations("Pod", "web-1")[keys.ANN_RESTORE_REPORT]
    ).bypassed
    assert said.events[0][3].endswith("1.0 MiB; bypassed cpu-mismatch: it lacks avx512f")


def test_a_failed_restore_is_told_with_its_reason():
    pod = agent.target(running())
    outcome = ExecutionResult(ok=False, reason="artifact-missing", message="nothing there")
    said = provide_image_config(RecordingKube(pod), lambda reporter: reporter.restored(pod, "main", FIRST, outcome))

    assert [
        ("Pod", "Warning", "RestoreFailed", "container main is not restored (artifact-missing): nothing there")
    ] == said.events


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        pytest.param("CheckpointSucceeded", CAPTURED, id="captured"),
        pytest.param("CheckpointFailed", FAILED, id="failed"),
        pytest.param(
            "CheckpointWorkerFailed",
            ExecutionResult(ok=False, reason=AgentReason.WORKER_EXITED, message="code 3"),
            id="worker",
        ),
    ],
)
def test_a_captures_end_is_told_on_the_job_and_its_pod(event, outcome):
    job, pod = agent.job(), agent.source()
    said = provide_image_config(RecordingKube(job), lambda reporter: reporter.captured(job, pod, "main", outcome))

    assert [event] == said.reasons("Job")
    assert [event] == said.reasons("Pod")


@pytest.mark.parametrize(
    "errors",
    [
        pytest.param([ServerUnavailableError("away")] * 9, id="server away"),
        pytest.param([ForbiddenError(403, "Forbidden", "not yet")] * 3, id="rights come late"),
    ],
)
def test_what_was_done_is_told_however_long_it_takes(errors):
    job = agent.job()
    kube = RecordingKube(job)
    kube.failures = errors
    provide_image_config(kube, lambda reporter: reporter.captured(job, agent.source(), "main", CAPTURED))

    assert "completed" == kube.annotations("Job", "job-1")[keys.ANN_CHECKPOINT_STATUS]


def test_a_conflict_is_met_with_another_look():
    job = agent.job()
    kube = RecordingKube(job)
    original, calls = kube.get, []

    async def get(resource, name, namespace=None):
        """Between our read and our write, another client writes the final report."""
        found = await original(resource, name, namespace)
        if not calls:
            kube.failures = [ConflictError(409, "Conflict", "changed")]
            kube.annotations("Job", "job-1")[keys.ANN_CHECKPOINT_STATUS] = "failed"
        calls.append(name)
        return found

    kube.get = get
    provide_image_config(kube, lambda reporter: reporter.captured(job, agent.source(), "main", CAPTURED))

    assert 2 == len(calls)
    assert "failed" == kube.annotations("Job", "job-1")[keys.ANN_CHECKPOINT_STATUS]


@pytest.mark.parametrize("there", [pytest.param(False, id="gone"), pytest.param(True, id="another of its name")])
def test_an_object_that_is_gone_needs_no_word(there):
    pod = agent.target(running())
    other = agent.target(running())
    other["metadata"]["uid"] = "another"
    kube = RecordingKube(*([other] if there else []))
    provide_image_config(kube, lambda reporter: reporter.restored(pod, "main", FIRST, RESTORED))

    assert [] == kube.patches


def test_the_same_word_is_not_written_twice():
    job = agent.job({keys.ANN_NODE: "node-1"})
    kube = RecordingKube(job)
    request = type("Order", (), {"place": type("Place", (), {"container": "main", "pod": "p"})})

    provide_image_config(kube, lambda reporter: reporter.capture_begun(job, agent.source(), request))

    assert [] == kube.patches


def test_long_messages_are_cut():
    notes = capture_notes(agent.job(), "main", "n", ExecutionResult(ok=False, reason="dump-failed", message="x" * 5000))

    assert 1024 == len(notes[keys.ANN_CAPTURE_MESSAGE])


def test_writes_that_are_cancelled_end():
    job = agent.job()
    kube = RecordingKube(job)
    kube.failures = [ServerUnavailableError("away")] * 1000

    async def act():
        reporter = Reporter(kube, Said(), "node-1")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await reporter.captured(job, agent.source(), "main", CAPTURED)

    run(act())


@pytest.mark.parametrize(
    ("expected", "found", "container"),
    [
        pytest.param(True, FIRST, "main", id="of-the-newest-restore"),
        pytest.param(False, SECOND, "main", id="of-a-container-before"),
        pytest.param(False, FIRST, "sidecar", id="of-another-container"),
    ],
)
def test_a_fill_is_noted_beside_its_own_report(expected, found, container):
    pod = agent.target(running())
    pod["metadata"]["annotations"] |= restore_notes(pod, "main", FIRST, RestoreStatus.COMPLETED, RESTORED, NOW)
    notes = fill_notes(pod, container, found, Filled(Step(ReportPhase.FILL, 0.25, 2.0), 7, 1))

    assert expected == (notes is not None)
    assert [keys.ANN_RESTORE_FILL] * expected == [*(notes or {})]
