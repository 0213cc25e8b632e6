"""The answer to a preflight is read as if another user had written it."""

import json

import pytest

from contract.api.memory import Memory
from contract.api.preflight import MAX_FINDINGS, MAX_WORDS, Found, Seen, read_preflight, report_of, requested_container
from contract.api.states import AgentReason

FOUND = [(AgentReason.IO_URING, "descriptor 7 of process 12 (python3) is an io_uring")]


def test_what_is_written_is_read():
    report = report_of("main@1", "main", "node-1", Seen(FOUND, 3, Memory(7, 5)), "")
    assert report == read_preflight(report.to_json())
    assert (Found("io-uring", FOUND[0][1]),) == report.findings


def test_no_worker_makes_it_longer_than_an_annotation_should_be():
    report = report_of("main", "main", "node-1", Seen([(AgentReason.IO_URING, "x" * 10_000)] * 1000, 1), "")
    assert (MAX_FINDINGS, 1000 - MAX_FINDINGS) == (len(report.findings), report.left_out)
    assert len(report.to_json()) < MAX_FINDINGS * (MAX_WORDS + 100)


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "[" * 100_000, "null"])
def test_what_is_no_report_is_none(text):
    assert read_preflight(text) is None


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"findings": 7}, id="findings"),
        pytest.param({"findings": [7, None]}, id="finding"),
        pytest.param({"processes": -1, "left_out": True, "error": [], "node": {}}, id="fields"),
    ],
)
def test_what_is_no_word_is_left_out(fields):
    report = read_preflight(json.dumps({"request": "main"} | fields))
    assert report is not None
    assert ("main", (), 0, 0, "", "") == (
        report.request,
        report.findings,
        report.processes,
        report.left_out,
        report.error,
        report.node,
    )


@pytest.mark.parametrize(("request_", "container"), [("main", "main"), ("main@2", "main"), (" a @", "a"), ("@x", "")])
def test_a_request_names_a_container(request_, container):
    assert container == requested_container(request_)
