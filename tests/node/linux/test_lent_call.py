"""A call that another process makes for us leaves it as it was, whatever it was doing."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.container.amx import users_of_amx
from images import native
from linux.proc import PROC, status
from linux.ptrace import amx, halt, lent_call
from linux.ptrace.lent_call import OtherCallsError, borrowed
from linux.syscalls import LIBC
from tests.support.fixtures.bare_container import wait_for

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: ptrace"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="AMX is Intel's"),
]
GETPID, ARCH_PRCTL, GET_XCOMP_PERM = 39, 158, 0x1022
GETNCNT, SETVAL = 14, 16
TIMES = 50
COUNTS = """
import signal, sys
count = 0
def handle(*_):
    global count
    count += 1
signal.signal(signal.SIGUSR1, handle)
print("up", flush=True)
sys.stdin.readline()
print(count, flush=True)
"""
NO_INSTRUCTION = """
import ctypes, mmap
libc = ctypes.CDLL(None)
with open("/proc/self/maps") as maps:
    page = next(line.split()[0] for line in maps if line.endswith("[vdso]\\n"))
start, end = (int(word, 16) for word in page.split("-"))
with open("{folder}/[vdso]", "w+b") as file:  # without such an instruction
    file.truncate(4096)
    named = mmap.mmap(file.fileno(), 4096)
{more}
print("up", flush=True)
libc.pause()  # to sleep the library would use the page
"""
WAITS_FOR_ITS_CHILD = """
import os
print("up", flush=True)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, "{fifo}", os.O_RDONLY, 0)])
print("went on", flush=True)
"""
SLEEPS = """
import time
print("up", flush=True)
begun = time.monotonic()
time.sleep(0.5)
print(round(time.monotonic() - begun, 1), flush=True)
"""
COMPUTES = """
print("up", flush=True)
total = 0
for i in range(3_000_000):
    total += i
print(total, flush=True)
"""
KILLED_FOR_CALLS = """
import ctypes, struct
def bpf(code, yes, no, value):
    return struct.pack("HBBI", code, yes, no, value)
# Load the number of the call; if it is getpid or arch_prctl, kill the process; else allow.
rules = bpf(0x20, 0, 0, 0) + bpf(0x15, 1, 0, 39) + bpf(0x15, 0, 1, 158)
rules += bpf(6, 0, 0, 0x80000000) + bpf(6, 0, 0, 0x7FFF0000)
kept = ctypes.create_string_buffer(rules)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("rules", ctypes.c_void_p)]
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.byref(Program(5, ctypes.addressof(kept))), 0, 0) == 0
print("up", flush=True)
input()
print("alive", flush=True)
"""

WAITS_FOR_A_SEMAPHORE = """
import ctypes, signal, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGUSR1, lambda *_: None)
number = libc.semget(0, 1, 0o1600)
try:
    print("up", flush=True)
    print(number, flush=True)
    print(libc.semop(number, struct.pack("=Hhh", 0, -1, 0), ctypes.c_size_t(1)), ctypes.get_errno(), flush=True)
finally:
    libc.semctl(number, 0, 0)
"""

PAUSE_OF_32_BITS = """
static int call(int n, int a, const void *b, int c) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(n), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}
void _start(void) {
    call(4, 1, "up\\n", 3); /* write */
    for (;;) call(29, 0, 0, 0); /* pause */
}
"""

PAUSE_AT_THE_END_OF_ITS_STACK = """
static long call(long n, long a, long b, long c, long d, long e) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = 0;
    __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
void _start(void) {
    long at = call(9, 0, 8192, 3, 0x22, -1) + 4096; /* mmap, two pages */
    call(11, at - 4096, 4096, 0, 0, 0);             /* munmap, the lower one */
    *(volatile long *)at = 0x1122334455667788;
    call(1, 1, (long)"up\\n", 3, 0, 0);
    __asm__ volatile("mov %0, %%rsp\\n1: mov $34, %%eax\\nsyscall\\njmp 1b" ::"r"(at)); /* pause */
}
"""


@pytest.fixture
def start_program():
    started = []

    def begin(command: list[str | Path]) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert "up\n" == process.stdout.readline()
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def start(start_program):
    return lambda script: start_program([sys.executable, "-c", script])


def test_it_answers(start):
    process = start(COUNTS)
    with borrowed(process.pid) as borrower:
        assert process.pid == borrower.call(GETPID, 0)
        answer, permitted = borrower.asked(ARCH_PRCTL, GET_XCOMP_PERM)
    assert (0, 3) == (answer, permitted & 3)  # x87 and SSE, which every processor has


@pytest.mark.parametrize(
    ("script", "said"),
    [pytest.param(SLEEPS, "0.5", id="sleep"), pytest.param(COMPUTES, "4499998500000", id="computation")],
)
def test_what_it_was_doing_goes_on(start, script, said):
    process = start(script)
    for _ in range(TIMES):
        with borrowed(process.pid) as borrower:
            assert process.pid == borrower.call(GETPID, 0)
    assert f"{said}\n" == process.stdout.readline()


def test_signals_that_come_meanwhile_interrupt_what_it_waits_for(start):
    process = start(COUNTS)
    for number in range(TIMES):
        wait_for(lambda: status(process.pid).state == "S", f"wait {number}")
        with borrowed(process.pid) as borrower:
            process.send_signal(signal.SIGUSR1)
            assert process.pid == borrower.call(GETPID, 0)
        time.sleep(0.002)  # Python takes several of one signal for one
    process.stdin.write("\n")
    process.stdin.flush()
    assert f"{TIMES}\n" == process.stdout.readline()


@pytest.fixture
def waiting(start):
    """Start a process that waits for a semaphore; return it with the semaphore's id."""
    process = start(WAITS_FOR_A_SEMAPHORE)
    number = int(process.stdout.readline())
    wait_for(lambda: waits(number), "wait")
    return process, number


def waits(number: int) -> bool:
    return LIBC.semctl(number, 0, GETNCNT) == 1


def test_a_process_goes_on_to_wait_for_a_semaphore(waiting):
    """The kernel ends such a wait with an error, whatever has halted the process."""
    process, number = waiting
    for _ in range(TIMES):
        with borrowed(process.pid) as borrower:
            assert process.pid == borrower.call(GETPID, 0)
        wait_for(lambda: waits(number), "wait")
    LIBC.semctl(number, 0, SETVAL, 1)
    assert "0 0\n" == process.stdout.readline()


def test_a_signal_that_comes_meanwhile_ends_the_wait_for_a_semaphore(waiting):
    process, _ = waiting
    with borrowed(process.pid) as borrower:
        process.send_signal(signal.SIGUSR1)
        assert process.pid == borrower.call(GETPID, 0)
    assert f"-1 {errno.EINTR}\n" == process.stdout.readline()


def test_a_stopped_process_stays_stopped(start):
    process = start(COUNTS)
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: status(process.pid).state == "T", "stop")
    assert not amx.may_use(process.pid)
    wait_for(lambda: status(process.pid).state == "T", "stop")
    process.send_signal(signal.SIGCONT)
    process.stdin.write("\n")
    process.stdin.flush()
    assert "0\n" == process.stdout.readline()


def test_a_filter_that_would_kill_it_does_not_see_the_call(start):
    process = start(KILLED_FOR_CALLS)
    with borrowed(process.pid) as borrower:
        assert process.pid == borrower.call(GETPID, 0)
    process.stdin.write("\n")
    process.stdin.flush()
    assert "alive\n" == process.stdout.readline()


def program(folder, text, *options):
    source = folder / "pause.c"
    source.write_text(text)
    command = [*native.compiler(), *options, "-O1", "-static", "-nostdlib", "-o", folder / "pause", source]
    subprocess.run(command, check=True)
    return folder / "pause"


def test_a_stack_without_room_below_is_given_back_as_it_was(tmp_path, start_program):
    process = start_program([program(tmp_path, PAUSE_AT_THE_END_OF_ITS_STACK)])
    wait_for(lambda: status(process.pid).state == "S", "pause")
    with borrowed(process.pid) as borrower:
        answer, permitted = borrower.asked(ARCH_PRCTL, GET_XCOMP_PERM)
        at = borrower._own.rsp
    assert (0, 3) == (answer, permitted & 3)
    with Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as memory:
        assert 0x1122334455667788 == int.from_bytes(os.pread(memory.fileno(), 8, at), "little")


def test_a_process_of_32_bits_is_not_asked(tmp_path, start_program):
    """Its calls have other numbers: 330 would be another one."""
    process = start_program([program(tmp_path, PAUSE_OF_32_BITS, "-target", "x86-linux-musl")])
    with pytest.raises(OtherCallsError), borrowed(process.pid):
        pass
    assert [] == users_of_amx([process.pid], ["amx_tile"], PROC)


def test_a_zombie_uses_no_amx(start):
    process = start("print('up', flush=True)")
    wait_for(lambda: status(process.pid).state == "Z", "zombie")
    assert [] == users_of_amx([process.pid], ["amx_tile"], PROC)


def test_one_that_has_ended_is_an_error(start):
    process = start("print('up', flush=True)")
    process.wait()
    with pytest.raises(OSError, match="No such file"), borrowed(process.pid):
        pass


def test_no_look_at_a_thread_waits_for_a_timer(monkeypatch, start):
    """A sleep of no length takes 50 microseconds, and there are thirty calls in each of a worker's processes."""
    slept, process = [], start(SLEEPS)
    sleep = time.sleep
    monkeypatch.setattr(halt.time, "sleep", lambda seconds: slept.append(seconds) or sleep(seconds))
    with borrowed(process.pid) as borrower:
        assert [process.pid] * TIMES == [borrower.call(GETPID, 0) for _ in range(TIMES)]
    assert 0 not in slept


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("", id="a-file-that-is-called-so"),
        pytest.param("assert libc.mprotect(ctypes.c_void_p(start), end - start, 1) == 0", id="not-to-be-run"),
        pytest.param("assert libc.munmap(ctypes.c_void_p(start), end - start) == 0", id="not-there"),
    ],
)
def test_a_process_without_the_kernels_own_page_is_asked_too(start, tmp_path, more):
    process = start(NO_INSTRUCTION.replace("{more}", more).replace("{folder}", str(tmp_path)))
    with borrowed(process.pid) as borrower:
        assert process.pid == borrower.call(GETPID, 0)


def test_an_instruction_that_is_taken_away_is_not_waited_for(start, monkeypatch):
    process = start(SLEEPS)
    monkeypatch.setattr(lent_call, "_instruction", lambda _: 0x1000)  # where nothing is
    with borrowed(process.pid) as borrower, pytest.raises(OSError, match="Bad address"):
        borrower.call(GETPID, 0)
    assert "0.5\n" == process.stdout.readline()


def test_one_that_cannot_halt_in_time_is_not_left_traced(start, tmp_path, monkeypatch):
    """Nothing takes a tracer away from a thread that has not halted: it would halt later, for ever."""
    os.mkfifo(tmp_path / "fifo")
    process = start(WAITS_FOR_ITS_CHILD.replace("{fifo}", str(tmp_path / "fifo")))
    wait_for(lambda: status(process.pid).state == "D", "the wait for the child")
    monkeypatch.setattr(halt, "PATIENCE", 0.2)
    with pytest.raises(TimeoutError, match="does not halt"), borrowed(process.pid):
        pass
    tracer = status(process.pid).tracer
    (tmp_path / "fifo").write_text("")
    assert 0 == tracer
    assert "went on\n" == process.stdout.readline()
