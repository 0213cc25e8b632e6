"""Columns, ages and sizes; and errors with the command that helps."""

from datetime import UTC, datetime, timedelta

import pytest

from contract.api.times import format_time
from kube.errors import (
    ConfigError,
    ForbiddenError,
    NotFoundError,
    ServerUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
)
from snapshotctl.commands.get import split
from snapshotctl.live.errors import explain, not_installed
from snapshotctl.view.table import age, columns, line, size

NOW = datetime(2026, 1, 29, 10, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("0s", -5, id="clocks-differ"),
        pytest.param("119s", 119, id="seconds"),
        pytest.param("2m", 120, id="minutes"),
        pytest.param("119m", 7199, id="many-minutes"),
        pytest.param("2h", 7200, id="hours"),
        pytest.param("3d", 3 * 86400, id="days"),
        pytest.param("2y", 800 * 86400, id="years"),
    ],
)
def test_ages(text, seconds):
    assert text == age(format_time(NOW - timedelta(seconds=seconds)), NOW)


@pytest.mark.parametrize("since", [None, "", "yesterday"])
def test_no_age(since):
    assert "" == age(since, NOW)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("0 B", 0, id="none"),
        pytest.param("1023 B", 1023, id="bytes"),
        pytest.param("1.0 KiB", 1024, id="unit"),
        pytest.param("10 GiB", 10 * 2**30, id="two-digits"),
        pytest.param("2048 PiB", 2**61, id="beyond"),
        pytest.param("", None, id="unknown"),
    ],
)
def test_sizes(text, number):
    assert text == size(number)


def test_columns_are_aligned_and_later_lines_fit_below():
    lines = columns(["NAME", "PHASE"], [["a-long-name", "x"], ["b", ""]])
    assert ["NAME          PHASE", "a-long-name   x", "b"] == lines
    assert "c             y" == line(["c", "y"], [11, 5])


@pytest.mark.parametrize(
    ("kind", "names", "what"),
    [
        pytest.param("checkpoints", (), (), id="nothing"),
        pytest.param("checkpoints", ("qwen",), ("qwen",), id="a-name"),
        pytest.param("checkpoints", ("qwen",), ("dckpt", "qwen"), id="short-name"),
        pytest.param("pods", ("a", "b"), ("Pods", "a", "b"), id="pods"),
    ],
)
def test_what_get_is_asked_for(kind, names, what):
    assert (kind, names) == split(what)


def forbidden(user="jane", verb="get", resource="pods", group="", where=' in the namespace "ns"'):
    words = (
        f'{resource} "x" is forbidden: User "{user}" cannot {verb} resource "{resource}" in API group "{group}"{where}'
    )
    return ForbiddenError(403, "Forbidden", words)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        pytest.param("--kubeconfig", ConfigError("no usable file; pass --kubeconfig"), id="no-cluster"),
        pytest.param("kubectl cluster-info", ServerUnavailableError("GET /: refused"), id="down"),
        pytest.param("--kube-context", UnauthorizedError(401, "Unauthorized", "no"), id="wrong-user"),
        pytest.param("helm install", NotFoundError(404, "", "404 page not found"), id="no-group"),
        pytest.param(
            "kubectl create role snapshot-user-read-pods --verb=get,list,watch --resource=pods -n ns",
            forbidden(),
            id="role",
        ),
        pytest.param(
            "kubectl create role snapshot-user-read-pods-log --verb=get,list,watch --resource=pods/log -n ns",
            forbidden(resource="pods/log"),
            id="part-of-a-kind",
        ),
        pytest.param(
            "kubectl create rolebinding snapshot-user-read-pods-a-b --role=snapshot-user-read-pods "
            "--serviceaccount=a:b -n ns",
            forbidden("system:serviceaccount:a:b"),
            id="service-account",
        ),
        pytest.param(
            "kubectl create rolebinding snapshot-user-read-pods-jane-doe --role=snapshot-user-read-pods "
            "'--user=Jane Doe' -n ns",
            forbidden("Jane Doe"),
            id="name-with-a-space",
        ),
        pytest.param(
            "kubectl create clusterrole snapshot-user-patch-dynamocheckpoints --verb=patch "
            "--resource=dynamocheckpoints.nvidia.com",
            forbidden(verb="patch", resource="dynamocheckpoints", group="nvidia.com", where=" at the cluster scope"),
            id="cluster-role",
        ),
        pytest.param("a policy said so", ForbiddenError(403, "Forbidden", "a policy said so"), id="policy"),
        pytest.param("slow down", TooManyRequestsError(429, "", "slow down"), id="other"),
    ],
)
def test_errors_say_what_to_do(words, error):
    assert words in explain(error)


def test_an_object_that_is_missing_is_no_missing_installation():
    assert not not_installed(NotFoundError(404, "NotFound", 'dynamocheckpoints.nvidia.com "x" not found'))
