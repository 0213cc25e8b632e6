"""Paths and times."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from contract.api.times import format_micro_time, format_time, parse_time
from kube import resources


@pytest.mark.parametrize(
    ("resource", "args", "path"),
    [
        pytest.param(resources.PODS, (), "/api/v1/pods", id="all-pods"),
        pytest.param(resources.PODS, ("ns",), "/api/v1/namespaces/ns/pods", id="pods-of-a-namespace"),
        pytest.param(resources.JOBS, ("ns", "j"), "/apis/batch/v1/namespaces/ns/jobs/j", id="one-job"),
        pytest.param(
            resources.CHECKPOINTS,
            ("ns", "c", "status"),
            "/apis/nvidia.com/v1alpha1/namespaces/ns/dynamocheckpoints/c/status",
            id="subresource",
        ),
        pytest.param(resources.NODES, (None, "n"), "/api/v1/nodes/n", id="cluster-scoped"),
        pytest.param(resources.PODS, ("ns", "../x?y"), "/api/v1/namespaces/ns/pods/..%2Fx%3Fy", id="hostile-name"),
    ],
)
def test_paths(resource, args, path):
    assert path == resource.path(*args)


def test_a_namespaced_object_needs_a_namespace():
    with pytest.raises(ValueError, match="needs a namespace"):
        resources.PODS.path(None, "p")


def test_a_cluster_scoped_kind_takes_none():
    with pytest.raises(ValueError, match="cluster-scoped"):
        resources.NODES.path("ns")


def test_times_are_utc_whatever_the_zone():
    moment = datetime(2026, 1, 31, 5, 0, tzinfo=timezone(timedelta(hours=-5)))

    assert "2026-01-31T10:00:00Z" == format_time(moment)
    assert "2026-01-31T10:00:00.000000Z" == format_micro_time(moment)
    assert datetime(2026, 1, 31, 10, tzinfo=UTC) == parse_time("2026-01-31T10:00:00Z")


def test_a_time_without_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        parse_time("2026-01-31T10:00:00")
