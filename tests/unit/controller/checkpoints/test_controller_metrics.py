"""Captures are counted once, by the one who leads; phases are counted when asked."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from contract.api import keys
from contract.api.times import format_time
from controller.checkpoints.metrics import CaptureMetrics, PhaseCollector, leader_gauge
from kube.informer import Informer
from kube.resources import JOBS

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
REPORT = {"container": "main", "outcome": "captured", "reason": "", "seconds": {"dump": 1.5, "total": 4}, "bytes": 100}
FAILURE = REPORT | {"outcome": "failed", "reason": "dump-failed"}


class Scene:
    """The metrics of one process, and its copy of Jobs."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.leading = True
        self.jobs = Informer(None, JOBS)
        self.jobs.synced.set()
        CaptureMetrics(self.registry, lambda: NOW, lambda: self.leading).follow(self.jobs)
        self._version = 0

    def sees(self, made):
        self._version += 1
        made["metadata"]["resourceVersion"] = str(self._version)
        self.jobs.learn(made)

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    def ended(self):
        """All series that are not 0."""
        (family,) = (found for found in self.registry.collect() if found.name == "snapshot_captures")
        return {
            (sample.labels["outcome"], sample.labels["reason"]): sample.value
            for sample in family.samples
            if sample.value and sample.name.endswith("_total")
        }


@pytest.fixture
def scene():
    return Scene()


def job(*conditions, source="true", **notes):
    words = {
        keys.ANN_CHECKPOINT: "qwen",
        **{
            getattr(keys, name): value if isinstance(value, str) else json.dumps(value) for name, value in notes.items()
        },
    }
    created = format_time(NOW - timedelta(seconds=40))
    return {
        "metadata": {"name": "j", "namespace": "ns", "uid": "u", "annotations": words, "creationTimestamp": created},
        "spec": {"template": {"metadata": {"labels": {keys.LABEL_IS_SOURCE: source}}}},
        "status": {"conditions": [{"type": kind, "status": "True", "reason": why} for kind, why in conditions]},
    }


def test_the_gpu_phases_of_a_capture_have_series_of_their_own(scene):
    seconds = {"gpu-lock": 0.25, "gpu-checkpoint": 2.5, "dump": 4, "proof": 3, "total": 10}
    scene.sees(job())
    done = job(("Complete", ""), ANN_CHECKPOINT_STATUS="completed", ANN_CAPTURE_REPORT=REPORT | {"seconds": seconds})
    scene.sees(done)
    found = {phase: scene.value("snapshot_capture_phase_seconds_sum", phase=phase) for phase in seconds}

    assert seconds == found
    assert 0 == scene.value("snapshot_capture_phase_seconds_sum", phase="other")


def test_a_capture_that_went_well(scene):
    scene.sees(job())
    scene.sees(job(ANN_CHECKPOINT_STATUS="completed", ANN_CAPTURE_REPORT=REPORT))
    before = scene.ended()
    done = job(("Complete", ""), ANN_CHECKPOINT_STATUS="completed", ANN_CAPTURE_REPORT=REPORT)
    scene.sees(done)
    scene.sees(json.loads(json.dumps(done)))

    assert ({}, {("captured", ""): 1}) == (before, scene.ended())
    assert 100 == scene.value("snapshot_capture_bytes_total")
    assert 1.5 == scene.value("snapshot_capture_phase_seconds_sum", phase="dump")
    assert 40 == scene.value("snapshot_capture_job_seconds_sum", outcome="captured")


@pytest.mark.parametrize(
    ("expected", "ended"),
    [
        pytest.param(
            ("failed", "dump-failed"),
            job(ANN_CHECKPOINT_STATUS="failed", ANN_CAPTURE_REPORT=FAILURE),
            id="the-agents-word",
        ),
        pytest.param(("failed", "unknown"), job(ANN_CHECKPOINT_STATUS="failed"), id="a-word-without-report"),
        pytest.param(
            ("failed", "unknown"),
            job(ANN_CHECKPOINT_STATUS="failed", ANN_CAPTURE_REPORT=FAILURE | {"reason": "x" * 5000}),
            id="a-reason-that-is-none",
        ),
        pytest.param(("failed", "job-failed"), job(("Failed", "BackoffLimitExceeded")), id="the-jobs-word"),
        pytest.param(("failed", "deadline-exceeded"), job(("Failed", "DeadlineExceeded")), id="deadline"),
    ],
)
def test_reasons_of_failures(scene, expected, ended):
    scene.sees(job())
    scene.sees(ended)
    scene.sees(json.loads(json.dumps(ended)))

    assert {expected: 1} == scene.ended()


@pytest.mark.parametrize(
    "condition", ["another-process-leads", "known-from-the-first-list", "not-a-capture"], ids=lambda name: name
)
def test_what_is_not_counted(scene, condition):
    ended = job(("Failed", ""), source="false" if condition == "not-a-capture" else "true")
    if condition == "known-from-the-first-list":
        scene.jobs.synced.clear()
        scene.jobs.store.put(ended)
        scene.jobs.synced.set()
        ended = json.loads(json.dumps(ended))
    scene.leading = condition != "another-process-leads"
    scene.sees(ended)

    assert {} == scene.ended()


def test_a_job_that_ended_unseen_while_the_watch_was_away_is_counted(scene):
    scene.sees(job(("Failed", "")))

    assert {("failed", "job-failed"): 1} == scene.ended()


def checkpoint(phase, created, *changed):
    conditions = [{"lastTransitionTime": format_time(NOW - timedelta(seconds=age))} for age in changed]
    metadata = {"creationTimestamp": format_time(NOW - timedelta(seconds=created))}
    return {"metadata": metadata, "status": {"phase": phase, "conditions": conditions}}


def test_checkpoints_by_phase_and_how_long_none_of_them_moved():
    # No worker starts cold for it, so it is no failure that anybody is told of.
    given_up = checkpoint("Failed", 90)
    given_up["status"]["conditions"] = [{"type": "Ready", "status": "False", "reason": "WorkloadGone"}]
    there = [
        checkpoint("Creating", 9000, 300, 60),
        checkpoint("Creating", 9000, 600, 500),
        checkpoint("", 20),
        checkpoint("no-phase", 10),
        given_up,
    ]
    registry = CollectorRegistry()
    registry.register(PhaseCollector(there, lambda: NOW))

    def values(name):
        return [
            registry.get_sample_value(name, {"phase": phase}) for phase in ("Pending", "Creating", "Ready", "Failed")
        ]

    assert [2, 2, 0, 0] == values("snapshot_checkpoints")
    assert [20, 500, 0, 0] == values("snapshot_checkpoints_unmoved_seconds")


def test_who_leads_says_so():
    registry, leading = CollectorRegistry(), False
    leader_gauge(registry, lambda: leading)
    before = registry.get_sample_value("snapshot_controller_leader")
    leading = True

    assert (0, 1) == (before, registry.get_sample_value("snapshot_controller_leader"))
