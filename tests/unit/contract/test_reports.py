"""Reports are annotations that others could have written: whatever they hold, words stay few and numbers finite."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api.engine import LARGEST_PART, Because, Choice, Memory, MemoryReport, Way, read_engine
from contract.api.reports import (
    LARGEST,
    LONGEST,
    MOST_CONNECTIONS,
    MOST_STEPS,
    UNKNOWN_REASON,
    Connections,
    Filled,
    HotSet,
    ReportPhase,
    Step,
    read_report,
    remarks,
    with_fill,
)
from contract.api.states import AgentReason

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def text(**fields):
    whole = {"container": "main", "outcome": "restored", "reason": "", "seconds": {"open": 0.1, "total": 0.5}}
    return json.dumps(whole | {"bytes": 7} | fields)


def test_a_good_report_is_read_whole():
    report = read_report(text())

    assert (True, "", 7, "main") == (report.ok, report.reason, report.size, report.container)
    assert {ReportPhase.OPEN: 0.1, ReportPhase.TOTAL: 0.5} == report.seconds


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        pytest.param("restore-failed", "restore-failed", id="known"),
        pytest.param(UNKNOWN_REASON, "of-the-next-release", id="not-known"),
        pytest.param(UNKNOWN_REASON, ["x"], id="no-text"),
        pytest.param(UNKNOWN_REASON, None, id="none"),
    ],
)
def test_reasons_of_failures_are_of_the_closed_list(expected, reason):
    assert expected == read_report(text(outcome="failed", reason=reason)).reason


@pytest.mark.parametrize(
    ("expected", "word"),
    [
        pytest.param(HotSet.USED, "used", id="used"),
        pytest.param(HotSet.IGNORED, "ignored", id="ignored"),
        pytest.param(None, "of-the-next-release", id="not-known"),
        pytest.param(None, ["used"], id="no-text"),
        pytest.param(None, None, id="none"),
    ],
)
def test_what_became_of_a_hot_set_is_of_the_closed_list(expected, word):
    assert expected is read_report(text(hotSet=word)).hot


def test_a_hot_set_that_was_not_used_is_remarked():
    assert "; its hot set was not used: the agent's log says why" == remarks(None, None, hot=HotSet.IGNORED)
    assert "" == remarks(None, None, hot=HotSet.USED)


def test_unknown_steps_are_added_to_the_rest():
    report = read_report(
        text(seconds={"other": 1, "a-new-step": 2, "open": "x", "files": -1, "look": True, "undo": 10**400})
    )

    assert {"other": 3.0, "open": 0.0, "files": 0.0, "look": 0.0, "undo": LONGEST} == report.seconds


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(Connections(2, 1, ("10.0.0.7:80",)), {"kept": 2, "closed": 1, "peers": ["10.0.0.7:80"]}, id="all"),
        pytest.param(Connections(0, 1, ("[fd00::7]:80",)), {"closed": 1, "peers": ["[fd00::7]:80"]}, id="ipv6"),
        pytest.param(Connections(0, 0), {"kept": "x", "closed": -1, "peers": ["evil\nhost:80", 7, "a"]}, id="broken"),
        pytest.param(Connections(0, 0), {"peers": "10.0.0.7:80"}, id="no-list"),
        pytest.param(Connections(0, MOST_CONNECTIONS), {"closed": 10**40}, id="too-many"),
    ],
)
def test_connections(expected, found):
    assert expected == read_report(text(connections=found)).connections


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param((), None, id="none"),
        pytest.param((Step(ReportPhase.OPEN, 0.5, 0.25),), [["open", 0.5, 0.25]], id="one"),
        pytest.param((Step(ReportPhase.OTHER, 0.0, LONGEST),), [[["x"], "evil", 10**40]], id="broken"),
        pytest.param((), [["open", 1], "open", {"open": 1}], id="no-steps"),
        pytest.param((Step(ReportPhase.CRIU, 0.0, 1.0),) * MOST_STEPS, [["criu", 0, 1]] * 100_000, id="too-many"),
        pytest.param((), {"open": [0, 1]}, id="no-list"),
    ],
)
def test_time_lines(expected, found):
    assert expected == read_report(text(steps=found)).steps


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param((), None, id="none"),
        pytest.param(("restore-failed",), ["restore-failed"], id="one"),
        pytest.param(("unknown", "unknown"), ["evil", {"a": 1}], id="of-no-list"),
        pytest.param(("gpu-busy",) * 5, ["gpu-busy"] * 1000, id="too-many"),
        pytest.param((), "restore-failed", id="no-list"),
    ],
)
def test_attempts(expected, found):
    assert expected == read_report(text(tried=found)).tried


@pytest.mark.parametrize(
    ("expected", "connections"),
    [
        pytest.param("", Connections(3, 0), id="none-closed"),
        pytest.param("1 TCP connection was closed (10.0.0.7:80)", Connections(0, 1, ("10.0.0.7:80",)), id="one"),
        pytest.param("2 TCP connections were closed", Connections(0, 2), id="not-named"),
        pytest.param("9 TCP connections were closed (a, b, c, d, ...)", Connections(0, 9, tuple("abcde")), id="many"),
    ],
)
def test_connections_in_words(expected, connections):
    assert expected == str(connections)


@pytest.mark.parametrize("broken", ["", "{", "[]", "null", "[" * 100_000, '{"outcome": "maybe"}', '{"outcome": []}'])
def test_what_is_no_report_is_none(broken):
    assert read_report(broken) is None


@given(
    outcome=st.sampled_from(["restored", "captured", "failed"]), reason=JSON, seconds=JSON, size=JSON, container=JSON
)
def test_whatever_it_holds_labels_are_bounded_and_numbers_finite(outcome, reason, seconds, size, container):
    whole = {"outcome": outcome, "reason": reason, "seconds": seconds, "bytes": size, "container": container}

    report = read_report(json.dumps(whole))

    assert report.reason in {"", UNKNOWN_REASON, *AgentReason}
    assert set(report.seconds) <= set(ReportPhase)
    assert 0 <= report.size <= LARGEST
    assert all(0 <= value <= LONGEST * 100 for value in report.seconds.values())


SERVED = Choice(Memory.PRIVATE, Way.SERVED, Because.LARGE, 3 << 30)
COPIED = Choice(Memory.PRIVATE, Way.COPIED, Because.NO_SERVER, 3 << 30)
AHEAD = Choice(Memory.DEVICE, Way.AHEAD, Because.ROOM, 512 << 20)


@pytest.mark.parametrize(
    ("expected", "report"),
    [
        pytest.param("memory (3.0 GiB) filled while it runs", MemoryReport((SERVED,), (SERVED,)), id="as-planned"),
        pytest.param(
            "memory (3.0 GiB) copied by criu before it ran: no page server could be used, the agent's log says why; "
            "device memory (512.0 MiB) read onto the card ahead; planned was: memory (3.0 GiB) filled while it runs",
            MemoryReport((SERVED, AHEAD), (COPIED, AHEAD)),
            id="otherwise",
        ),
        pytest.param("", MemoryReport(), id="nothing"),
    ],
)
def test_how_memory_came_back_is_one_line(expected, report):
    assert expected == str(report)
    assert report == read_engine(report.as_rows())
    assert remarks(None, None, report) == (f"; {expected}" if expected else "")


def test_every_choice_has_words():
    every = [Choice(part, way, because, 1 << 20) for part in Memory for way in Way for because in Because]
    assert len(every) == len(set(map(str, every))) + len(Memory) * len(Way) * 3, "four reasons need no words"


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(None, {"plan": "x"}, id="no-list"),
        pytest.param((), {"plan": [["memory", "served", "large"], 7, ["memory", "by-magic", "large", 1]]}, id="bad"),
        pytest.param((), {"plan": [[["x"], {}, None, 1], ["memory", "served", "large", True]]}, id="no-words"),
        pytest.param((0,), {"plan": [["memory", "served", "large", -1]]}, id="less-than-nothing"),
        pytest.param((LARGEST_PART,), {"plan": [["memory", "served", "large", 10**40]]}, id="too-much"),
        pytest.param((1,) * 16, {"plan": [["memory", "served", "large", 1]] * 1000}, id="too-many"),
    ],
)
def test_choices_of_a_report_are_of_closed_lists(expected, found):
    report = read_report(text(engine=found)).engine
    assert expected == (None if report is None else tuple(choice.bytes for choice in report.plan))


AT = "2026-11-29T10:00:00.000000Z"
FILL = Filled(Step(ReportPhase.FILL, 0.2, 3.0), 7, 1)


@pytest.mark.parametrize(
    ("expected", "note"),
    [
        pytest.param(["open", "fill", "verdict"], FILL.as_note(AT), id="of-this-report"),
        pytest.param(["open", "verdict"], FILL.as_note("2026-11-29T10:00:01.000000Z"), id="of-another"),
        pytest.param(["open", "verdict"], FILL.as_note(None), id="of-none"),
        pytest.param(["open", "verdict"], "", id="not-there"),
        pytest.param(["open", "verdict"], "[" * 10000, id="deep"),
        pytest.param(["open", "verdict"], f'{{"at": "{AT}", "step": 7}}', id="no-step"),
        pytest.param(["open", "verdict"], "[]", id="no-object"),
    ],
)
def test_a_fill_is_on_the_time_line_of_its_own_report(expected, note):
    report = read_report(text(at=AT, steps=[["open", 0, 0.1], ["verdict", 0.5, 0.01]]))
    assert expected == [step.phase for step in with_fill(report, note).steps]
