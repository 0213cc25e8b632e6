"""Timers go on after a restore: each at its period, none early, on a machine that has run for longer or shorter."""

import json
import os
import time

import pytest

from contract.api import control_files
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import until_ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

MARGIN = 2.0
"""Seconds that a busy machine may be late with one expiry."""
WORKER = """
import asyncio, ctypes, json, os, select, signal, sys, threading, time
sys.path.insert(0, "/tools")
import snapshot_sdk

libc = ctypes.CDLL(None, use_errno=True)
CLOCKS = {"realtime": 0, "monotonic": 1, "boottime": 7}
PERIOD, DUE = 0.2, 5.0
CANCEL_ON_SET = 3  # with TFD_TIMER_ABSTIME

class Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every", "every_ns", "first", "first_ns")]

class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_long), ("number", ctypes.c_int), ("how", ctypes.c_int), ("", ctypes.c_long * 6)]

def must(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def spec(first, every):
    return ctypes.byref(Spec(int(every), int(every % 1 * 1e9), int(first), int(first % 1 * 1e9)))

def timerfd(clock, flags, first, every=0.0):
    fd = must(libc.timerfd_create(clock, os.O_NONBLOCK))
    must(libc.timerfd_settime(fd, flags, spec(first + (time.clock_gettime(clock) if flags else 0), every), None))
    return fd

def posix_timer(clock, number):
    made = ctypes.c_void_p()
    must(libc.timer_create(clock, ctypes.byref(Event(0, number, 0)), ctypes.byref(made)))
    must(libc.timer_settime(made, 0, spec(PERIOD, PERIOD), None))

def ticks(fd):
    try:
        return int.from_bytes(os.read(fd, 8), sys.byteorder)
    except BlockingIOError:
        return 0

counts = {}
def count(name):
    counts[name] = counts.get(name, 0) + 1

async def tick():
    while True:
        await asyncio.sleep(PERIOD)
        count("asyncio")

def sleep():
    while True:
        time.sleep(PERIOD)
        count("sleep")

def wait():
    never = threading.Event()
    while not never.wait(PERIOD):
        count("condition")

MODES = {"relative": 0, "absolute": 1}
KINDS = [(f"{name}-{mode}", clock, flags) for name, clock in CLOCKS.items() for mode, flags in MODES.items()]
KINDS.append(("realtime-cancelled", 0, CANCEL_ON_SET))
periodic = {name: timerfd(clock, flags, PERIOD, PERIOD) for name, clock, flags in KINDS}
minutes = timerfd(1, 0, 0.1, 600.0)
for number, (name, clock) in enumerate(CLOCKS.items()):
    signal.signal(signal.SIGRTMIN + 3 + number, lambda *_, name=name: count("posix-" + name))
    posix_timer(clock, signal.SIGRTMIN + 3 + number)
signal.signal(signal.SIGALRM, lambda *_: count("setitimer"))
signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)
for target in (lambda: asyncio.run(tick()), sleep, wait):
    threading.Thread(target=target, daemon=True).start()
time.sleep(0.5)  # the periodic ones have expired and were not read
print("warm", flush=True)
once = {name: timerfd(clock, flags, DUE) for name, clock, flags in KINDS}
due = time.monotonic() + DUE
outcome = snapshot_sdk.quiesce().name
woken = time.monotonic()
left = due - woken
for fd in (*periodic.values(), minutes):
    ticks(fd)
counts.clear()
fired, waiting, poll = {}, {fd: name for name, fd in once.items()}, select.poll()
for fd in waiting:
    poll.register(fd, select.POLLIN)
while time.monotonic() < woken + 3 or (waiting and time.monotonic() < woken + 10):
    for fd, _ in poll.poll(100):
        poll.unregister(fd)
        fired[waiting.pop(fd)] = time.monotonic() - due
    for name, fd in periodic.items():
        counts[name] = counts.get(name, 0) + ticks(fd)
over = time.monotonic() - woken
armed = Spec()
must(libc.timerfd_gettime(minutes, ctypes.byref(armed)))
report = {"outcome": outcome, "left": left, "fired": fired, "counts": counts, "over": over, "minutes": armed.first}
print("report", json.dumps(report), flush=True)
threading.Event().wait()
"""
ONCE = (
    *("realtime-relative", "realtime-absolute", "monotonic-relative", "monotonic-absolute"),
    *("boottime-relative", "boottime-absolute", "realtime-cancelled"),
)
PERIODIC = (*ONCE, "posix-realtime", "posix-monotonic", "posix-boottime", "setitimer", "asyncio", "sleep", "condition")


@pytest.mark.parametrize(
    "uptime",
    [
        pytest.param(0, id="same-uptime"),
        pytest.param(10_000_000, id="longer-up"),
        pytest.param(60 - int(time.monotonic()), id="just-started"),
    ],
)
async def test_every_timer_goes_on(node, uptime):
    """One that is due in some seconds fires then, not early; one that expired unread while captured goes on."""
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", WORKER, uptime=uptime)
    until_ready(source)
    outcome = await node.capture(source, f"timers{uptime}")
    assert outcome.ok, outcome
    target = node.start_as(BareContainer, "--", PYTHON, "-c", WORKER)
    target.init()
    outcome = await node.restore(target, f"timers{uptime}", outcome.manifest_digest)
    assert outcome.ok, outcome
    line = next(line for line in target.says("report ").splitlines() if line.startswith("report "))
    found = json.loads(line.removeprefix("report "))

    assert "RESTORED" == found["outcome"]
    assert 0 < found["left"] <= 5
    assert dict.fromkeys(ONCE, "on time") == {name: _punctual(name, late) for name, late in found["fired"].items()}
    expected = found["over"] / 0.2
    fewest = (found["over"] - 1.0) / 0.2 / 2  # the one that may be a second late, on a busy machine
    counts = {name: found["counts"].get(name, 0) for name in PERIODIC}
    assert dict.fromkeys(PERIODIC, "at its period") == {
        name: "at its period" if fewest <= n <= expected + 2 else f"{n} of {expected:.0f}" for name, n in counts.items()
    }
    assert 590 < found["minutes"] <= 600


def _punctual(name: str, late: float) -> str:
    latest = MARGIN + (1.0 if name == "realtime-cancelled" else 0.0)  # rather late than early
    return "on time" if -0.01 <= late <= latest else f"{late:+.3f} s"


CLOCKS = """
import sys, threading, time
sys.path.insert(0, "/tools")
import snapshot_sdk
print("warm", time.monotonic(), flush=True)
snapshot_sdk.quiesce()
print("clocks", time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time(), flush=True)
threading.Event().wait()
"""


async def test_the_worker_alone_keeps_its_clocks(node):
    """docs/after-a-restore.md: what is executed in the container later has the node's, and may ask for the offset."""
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", CLOCKS, uptime=10_000_000)
    before = float(source.says("warm ").split()[1])
    wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, "ready file")
    outcome = await node.capture(source, "clocks")
    assert outcome.ok, outcome
    target = node.start_as(BareContainer, "--", PYTHON, "-c", CLOCKS)
    target.init()
    restored = await node.restore(target, "clocks", outcome.manifest_digest)
    assert restored.ok, restored
    worker = [float(word) for word in target.says("clocks ").split("clocks ")[1].split()]
    script = f"{PYTHON} -c 'import time; print(time.monotonic(), time.time())'; cat /proc/$1/timens_offsets"
    executed = target.run(f"set -- $(pgrep -P 1); {script}").stdout.split()

    assert before < worker[0] < before + 60
    assert abs(float(executed[0]) - time.monotonic()) < 60
    assert abs(float(executed[1]) - worker[2]) < 60
    assert abs(float(executed[0]) + float(executed[3]) - worker[0]) < 60
