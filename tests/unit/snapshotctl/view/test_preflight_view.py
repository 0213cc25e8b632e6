"""What ``snapshotctl preflight`` prints."""

import click
import pytest

from contract.api.memory import Memory
from contract.api.preflight import Seen, report_of
from contract.api.states import AgentReason
from snapshotctl.view.preflight import as_text

URING = (AgentReason.IO_URING, "descriptor 7 of process 12 (python3) is an io_uring")
QUEUE = (AgentReason.MESSAGE_QUEUE, "descriptor 9 of process 12 (python3) is the POSIX message queue /jobs")


def text(found, processes=1, memory=Memory()):  # noqa: B008 - frozen
    return click.unstyle(as_text(report_of("main@1", "main", "node-1", Seen(found, processes, memory), ""), "web-1"))


@pytest.mark.parametrize(("processes", "words"), [(1, "1 process,"), (3, "3 processes,")])
def test_nothing_in_the_way_is_one_line(processes, words):
    expected = f"Pod/web-1, container main on node node-1: {words} nothing is in the way of a capture\n"
    assert expected == text([], processes)


def test_each_code_is_told_once_with_its_remedy():
    shown = text([URING, URING, QUEUE])
    assert shown.startswith("Pod/web-1, container main on node node-1: 1 process, it would not be captured\n")
    assert 1 == shown.count("  io-uring\n")
    assert 2 == shown.count("what to do")
    assert 2 == shown.count(URING[1])
    assert "docs/reasons.md#message-queue" in shown


def test_more_than_a_report_holds_is_counted():
    assert "  and 950 more\n" in text([URING] * 1000)


def test_memory_is_shown_with_what_others_share():
    expected = "1 process, 1.0 GiB of memory, 300 MiB counting what others map too by its share, nothing is in the way"
    assert expected in text([], memory=Memory(1 << 30, 300 << 20))
