"""Restores and held pods as figures, whatever the reports say."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from contract.api import keys
from contract.api.reports import Report, ReportPhase
from contract.api.states import AgentReason, GateEnd
from contract.api.times import format_time
from controller.workloads.metrics import MAX_UNSEEN, HeldCollector, Metrics

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def report(reason="", **seconds):
    return Report("main", not reason, reason, {ReportPhase(key): value for key, value in seconds.items()}, 1000)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    """Of a process that was scraped before."""
    found = Metrics(registry)
    generate_latest(registry)
    return found


def restores(registry):
    """What one scrape shows."""
    served = generate_latest(registry).decode()
    (line,) = [each for each in served.splitlines() if each.startswith('snapshot_restores_total{outcome="restored"')]
    return float(line.split()[-1])


def test_the_first_scrape_shows_zero_and_the_second_everything(registry):
    """Prometheus sees an increase only where it saw the series before."""
    metrics = Metrics(registry)
    for _ in range(3):
        metrics.restored(report(total=1))

    assert [0, 3, 3] == [restores(registry) for _ in range(3)]
    metrics.restored(report(total=1))
    assert 4 == restores(registry)


def test_where_nobody_scrapes_nothing_piles_up(registry):
    metrics = Metrics(registry)
    for _ in range(MAX_UNSEEN + 1):
        metrics.restored(report(total=1))

    assert [1, MAX_UNSEEN + 1] == [restores(registry) for _ in range(2)]


def test_a_good_restore_is_counted_with_its_seconds_and_bytes(registry, metrics):
    metrics.restored(report(criu=0.2, dump=0.5, total=0.9))

    assert 1 == registry.get_sample_value("snapshot_restores_total", {"outcome": "restored", "reason": ""})
    assert 1000 == registry.get_sample_value("snapshot_restore_bytes_total")
    sums = {
        phase: registry.get_sample_value("snapshot_restore_phase_seconds_sum", {"phase": phase})
        for phase in ("criu", "other", "total", "open")
    }
    assert {"criu": 0.2, "other": 0.5, "total": 0.9, "open": 0} == sums


def test_the_gpu_phase_of_a_restore_has_a_series_of_its_own(registry, metrics):
    assert 0 == registry.get_sample_value("snapshot_restore_phase_seconds_sum", {"phase": "gpu-restore"})
    metrics.restored(report(**{"gpu-restore": 1.25}, total=4))

    assert 1.25 == registry.get_sample_value("snapshot_restore_phase_seconds_sum", {"phase": "gpu-restore"})
    assert 0 == registry.get_sample_value("snapshot_restore_phase_seconds_sum", {"phase": "other"})


def test_a_failed_restore_is_counted_by_reason_alone(registry, metrics):
    metrics.restored(report(AgentReason.RESTORE_FAILED.value, total=3))

    failed = {"outcome": "failed", "reason": "restore-failed"}
    assert 1 == registry.get_sample_value("snapshot_restores_total", failed)
    assert (0, 0) == (
        registry.get_sample_value("snapshot_restore_bytes_total"),
        registry.get_sample_value("snapshot_restore_phase_seconds_count", {"phase": "total"}),
    )


@pytest.mark.parametrize("reason", [*AgentReason, "unknown"])
def test_every_failure_is_a_series_before_it_happens(registry, reason):
    Metrics(registry)

    assert 0 == registry.get_sample_value("snapshot_restores_total", {"outcome": "failed", "reason": reason})


@pytest.mark.parametrize("end", GateEnd)
def test_pods_let_go_by_reason(registry, end):
    Metrics(registry).lifted(end)

    values = {each: registry.get_sample_value("snapshot_gates_lifted_total", {"end": each}) for each in GateEnd}
    assert {each: float(each == end) for each in GateEnd} == values


def pod(age, *gates, phase="Pending"):
    return {
        "metadata": {"creationTimestamp": format_time(NOW - timedelta(seconds=age))},
        "spec": {"schedulingGates": [{"name": name} for name in gates]},
        "status": {"phase": phase},
    }


def test_only_pods_behind_our_gate_are_held(registry):
    there = [
        pod(100, keys.SCHEDULING_GATE),
        pod(300, "example.test/other", keys.SCHEDULING_GATE),
        pod(900, "example.test/other"),
        pod(800, keys.SCHEDULING_GATE, phase="Failed"),
    ]
    registry.register(HeldCollector(there, lambda: NOW, 1800))

    assert [2, 300, 1800] == [
        registry.get_sample_value(f"snapshot_gates_{name}")
        for name in ("held", "oldest_seconds", "wait_timeout_seconds")
    ]


def test_where_none_is_held_there_is_no_oldest(registry):
    registry.register(HeldCollector([], lambda: NOW, 1800))

    assert [0, 0] == [registry.get_sample_value(f"snapshot_gates_{name}") for name in ("held", "oldest_seconds")]
