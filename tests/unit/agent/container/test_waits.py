"""Which threads wait in poll(2) without a limit."""

import struct

import pytest

from agent.container.waits import Waiting, endless_polls
from linux.ptrace.interrupted import POLL, RESTART
from linux.ptrace.polls import Poll

AFTER = 64
FOREVER = 0xFFFFFFFF
GLIBC = b"\xb8" + struct.pack("<I", POLL) + b"\x0f\x05"
SLEEPS = b"\xb8" + struct.pack("<I", 35) + b"\x0f\x05"
BY_A_REGISTER = b"\x48\x89\xc8\x90\x90\x0f\x05"


def says(call, third=FOREVER):
    return f"{call} 0x7000 0x2 {third:#x} 0x0 0x0 0x0 0x7fff {AFTER:#x}\n"


@pytest.mark.parametrize(
    ("expected", "text", "code", "place"),
    [
        pytest.param(True, says(POLL), BY_A_REGISTER, b"do_signal_stop", id="in-poll"),
        pytest.param(True, says(RESTART), GLIBC, b"do_signal_stop", id="halted-before"),
        pytest.param(False, says(POLL, 1000), GLIBC, b"do_signal_stop", id="with-a-limit"),
        pytest.param(False, says(0), GLIBC, b"do_signal_stop", id="another-call"),
        pytest.param(False, says(RESTART), SLEEPS, b"do_signal_stop", id="halted-in-another-call"),
        pytest.param(False, says(RESTART), BY_A_REGISTER, b"do_signal_stop", id="nothing-says-what"),
        pytest.param(
            True, says(RESTART), BY_A_REGISTER, b"poll_schedule_timeout.constprop.0", id="the-kernel-says-what"
        ),
        pytest.param(False, says(RESTART), BY_A_REGISTER, b"hrtimer_nanosleep", id="the-kernel-says-another"),
        pytest.param(False, "running\n", GLIBC, b"do_signal_stop", id="running"),
        pytest.param(False, f"-1 0x7fff {AFTER:#x}\n", GLIBC, b"do_signal_stop", id="in-no-call"),
    ],
)
def test_what_it_waits_in(tmp_path, expected, text, code, place):
    task = tmp_path / "7/task/8"
    task.mkdir(parents=True)
    (tmp_path / "7/mem").write_bytes(bytes(AFTER - len(code)) + code)
    (task / "syscall").write_text(text)
    (task / "status").write_text("Name:\tx\nNSpid:\t8\t3\n")
    (task / "wchan").write_bytes(place)
    assert ({3: Waiting(8, Poll(0x7000, 2, FOREVER, AFTER))} if expected else {}) == endless_polls([7, 9], tmp_path)


def test_a_thread_may_have_any_name_and_any_address(tmp_path):
    """The kernel cuts a name after fifteen bytes, within a letter as well; a tracer may set any address."""
    for tid, after in ((8, AFTER), (9, (1 << 64) - 1)):
        task = tmp_path / f"7/task/{tid}"
        task.mkdir(parents=True)
        (task / "syscall").write_text(says(RESTART).replace(hex(AFTER), hex(after)))
        (task / "status").write_bytes(b"Name:\tlect\xc3\nNSpid:\t%d\n" % tid)
        (task / "wchan").write_bytes(b"do_signal_stop")
    (tmp_path / "7/mem").write_bytes(bytes(AFTER - len(GLIBC)) + GLIBC)
    assert {8: Waiting(8, Poll(0x7000, 2, FOREVER, AFTER))} == endless_polls([7], tmp_path)
