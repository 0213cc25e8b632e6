"""Calls that the dump has interrupted are made again by the restored thread."""

import signal
import struct

import pytest

from agent.criu.images.interrupted import mended_core
from linux.ptrace.interrupted import (
    EPOLL_PWAIT,
    EPOLL_PWAIT2,
    EPOLL_WAIT,
    IO_GETEVENTS,
    MSGRCV,
    POLL,
    RESTART,
    SEMOP,
    SEMTIMEDOP,
    SIGTIMEDWAIT,
)
from linux.ptrace.polls import Poll
from tests.unit.agent.criu.test_shared_images import image, message

EINTR = (1 << 64) - 4
WAITED_AT, CALL = 0x7F00, 2


def core(
    *,
    call=SEMOP,
    answer=EINTR,
    third=0,
    fourth=0,
    fifth=0,
    at=WAITED_AT + CALL,
    mode=1,
    shared=b"",
    own=b"",
    blocked=0,
    first=0,
    second=0,
    other=False,
):
    registers = message(f8=fourth, f10=fifth, f11=answer, f13=third, f14=second, f15=first, f16=call, f17=at, f28=mode)
    info = message(f1=1, f2=registers)
    first = {} if other else {"f3": message(f1=1, f5=blocked, f10=shared)}
    return image(message(f1=1, f2=info, **first, f5=message(f1=0, f6=blocked if other else 0, f9=own)))


SIGNAL = message(f1=struct.pack("=4i", signal.SIGCHLD, 0, 1, 0))
FOREVER = (1 << 32) - 1


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="semop"),
        pytest.param({"call": MSGRCV, "fourth": 7}, id="msgrcv"),
        pytest.param({"call": SEMTIMEDOP}, id="semtimedop-without-a-limit"),
        pytest.param({"call": POLL, "third": FOREVER}, id="poll"),
        pytest.param({"call": POLL, "third": (1 << 64) - 1}, id="poll-of-a-long"),
        pytest.param({"call": EPOLL_WAIT, "fourth": FOREVER}, id="epoll_wait"),
        pytest.param({"call": EPOLL_PWAIT, "fourth": FOREVER, "fifth": 0x7000}, id="epoll_pwait"),
        pytest.param({"call": EPOLL_PWAIT2}, id="epoll_pwait2"),
        pytest.param({"call": SIGTIMEDWAIT, "fourth": 8}, id="sigwaitinfo"),
        pytest.param({"call": IO_GETEVENTS}, id="io_getevents"),
        pytest.param({"own": SIGNAL, "blocked": 1 << 16}, id="a-signal-waits-that-is-blocked"),
        pytest.param({"own": SIGNAL, "blocked": 1 << 16, "other": True}, id="another-thread-blocks-it"),
        pytest.param({"shared": SIGNAL, "blocked": 1 << 16}, id="a-signal-of-the-process-waits-that-is-blocked"),
    ],
)
def test_a_call_that_was_interrupted_is_made_again(fields):
    call = fields.get("call", SEMOP)
    assert core(**fields | {"answer": call, "at": WAITED_AT}) == mended_core(core(**fields))


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(core(call=0), id="another-call"),
        pytest.param(core(answer=0), id="done"),
        pytest.param(core(call=SEMTIMEDOP, fourth=0x7000), id="with-a-time-limit"),
        pytest.param(core(call=POLL, third=1000), id="poll-with-a-limit"),
        pytest.param(core(call=POLL), id="poll-that-does-not-wait"),
        pytest.param(core(call=EPOLL_WAIT, third=FOREVER, fourth=1000), id="epoll_wait-with-a-limit"),
        pytest.param(core(call=EPOLL_PWAIT2, fourth=0x7000), id="epoll_pwait2-with-a-limit"),
        pytest.param(core(call=SIGTIMEDWAIT, third=0x7000), id="sigtimedwait"),
        pytest.param(core(call=IO_GETEVENTS, fifth=0x7000), id="io_getevents-with-a-limit"),
        pytest.param(core(mode=2), id="32-bits"),
        pytest.param(core(shared=SIGNAL), id="a-signal-waits-for-the-process"),
        pytest.param(core(own=SIGNAL), id="a-signal-waits-for-the-thread"),
        pytest.param(core(own=SIGNAL, blocked=~(1 << 16) & FOREVER), id="others-are-blocked"),
        pytest.param(image(message(f1=1, f3=message(f1=6))), id="zombie"),
    ],
)
def test_other_threads_are_left_as_they_are(found):
    assert found == mended_core(found)


HALTED = {"call": RESTART, "first": 0x7000, "second": 2, "third": FOREVER}


def test_a_thread_that_was_halted_in_poll_before():
    poll = Poll(0x7000, 2, FOREVER, WAITED_AT + CALL)
    expected = core(**HALTED | {"answer": POLL, "at": WAITED_AT})
    assert expected == mended_core(core(**HALTED), poll)


@pytest.mark.parametrize(
    "poll",
    [
        pytest.param(None, id="not-known"),
        pytest.param(Poll(0x7000, 2, FOREVER, WAITED_AT), id="elsewhere"),
        pytest.param(Poll(0x7000, 3, FOREVER, WAITED_AT + CALL), id="of-others"),
    ],
)
def test_a_thread_that_was_halted_in_something_else(poll):
    assert core(**HALTED) == mended_core(core(**HALTED), poll)
