"""Holds every thread of some processes but a few, which run meanwhile; then all are as before.

A restored tree is left stopped until standby wakes it, but the CUDA driver needs one thread of each process to run.
ptrace(2) does both: every thread is seized, the processes are continued, and only the wanted threads are let out of
their trap. The kernel kills the held processes if the holder dies (PTRACE_O_EXITKILL): an unsupervised one would run on
with its device state half restored. Processes that ran before are held in the same way, and run on after it; those the
kernel kills only once ``bind`` was called. All calls must come from the thread that entered.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from linux import proc
from linux.proc import is_alive
from linux.syscalls import LIBC

PATIENCE: Final = 10.0
"""Seconds that threads are given to reach their trap: 138 of them were seen to take 16 ms."""
_CONT, _DETACH, _SETOPTIONS, _SEIZE, _INTERRUPT = 7, 17, 0x4200, 0x4206, 0x4207
_EXITKILL: Final = 0x100000
_EVENT_STOP: Final = 128
_WALL: Final = 0x40000000
_PAUSE: Final = 0.0005


class HoldError(Exception):
    """A thread could not be held, or did not stop again."""


class ThreadHold:
    """A context in which only ``running`` of the processes' threads run.

    Args:
        pids: processes in our pid namespace.
        running: thread ids that may run; others of the same processes may not.
        stopped: whether the processes are stopped by SIGSTOP, and are to be so again.

    Raises:
        HoldError: on entering, if a thread cannot be seized; on leaving, if one does not stop again.
    """

    def __init__(self, pids: Iterable[int], running: Collection[int], *, stopped: bool = True) -> None:
        self._pids = tuple(pids)
        self._running = set(running)
        self._held: set[int] = set()
        self._ended: set[int] = set()
        self._owed: dict[int, int] = {}
        """Signals on whose way to a thread it was caught."""
        self._stopped = stopped

    def __enter__(self) -> Self:
        try:
            while new := self._seize():  # one that was being started shows only once its maker has stopped
                self._await(new)
        except BaseException:
            self._detach()
            raise
        if self._stopped:
            for pid in self._pids:
                os.kill(pid, signal.SIGCONT)
        for tid in self._running:
            _ptrace(_CONT, tid, self._owed.pop(tid, 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop_running()
        finally:
            self._detach()

    def bind(self) -> None:
        """From here on, have the kernel kill the processes if this one dies."""
        for tid in self._held - self._running:
            _ptrace(_SETOPTIONS, tid, _EXITKILL)

    def unbind(self) -> None:
        """Undo ``bind``: they ran before, and would run on."""
        for tid in self._held - self._running:
            _ptrace(_SETOPTIONS, tid, 0)

    def run(self, act: Callable[[int], None], pids: Collection[int]) -> None:
        """Act on processes at once, each in a thread of its own, while the wanted threads run.

        Raises:
            Exception: the first of *act*, once all are done.
        """
        if not pids:
            return
        with ThreadPoolExecutor(len(pids), thread_name_prefix="hold") as threads:
            calls = [threads.submit(act, pid) for pid in pids]
            while not all(call.done() for call in calls):
                self.pump()
                time.sleep(_PAUSE)
        for call in calls:
            call.result()

    def pump(self) -> None:
        """Let running threads go on that stopped for a signal; to be called again and again while they work."""
        for tid in self._running:
            status = _stopped(tid)
            if status is not None:
                _ptrace(_CONT, tid, _passed_on(status))

    def _seize(self) -> set[int]:
        """Seize until no new thread appears: a thread that is not held yet may start another. Return those seized."""
        before = set(self._held)
        while new := {tid for pid in self._pids for tid in _threads(pid)} - self._held - self._ended:
            for tid in new:
                if LIBC.ptrace(_SEIZE, tid, 0, _EXITKILL if self._stopped else 0) != 0:
                    if not Path(f"/proc/{tid}").exists():
                        self._ended.add(tid)
                        continue
                    raise HoldError(f"cannot hold thread {tid}: {os.strerror(ctypes.get_errno())}")
                self._held.add(tid)
                _ptrace(_INTERRUPT, tid, 0)
        if missing := self._running - self._held:
            raise HoldError(f"threads {sorted(missing)} are not of processes {sorted(self._pids)}")
        return self._held - before

    def _await(self, threads: Collection[int]) -> None:
        waiting, end = set(threads), time.monotonic() + PATIENCE
        while waiting:
            for tid in tuple(waiting):
                status = _stopped(tid)
                if status is not None:
                    self._owed[tid] = _passed_on(status)
                if status is not None or not is_alive(tid):
                    waiting.discard(tid)
            _wait_until(end, waiting, "did not stop to be held")

    def _stop_running(self) -> None:
        """Stop the threads that run: by SIGSTOP, which stays, or by ptrace, which cannot let go of one that runs."""
        if not self._stopped:
            for tid in self._running:
                _ptrace(_INTERRUPT, tid, 0)
            self._await(self._running)
            return
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        waiting, end = set(self._running), time.monotonic() + PATIENCE
        while waiting:
            for tid in tuple(waiting):
                status = _stopped(tid)
                if not is_alive(tid) or (status is not None and _is_group_stop(status)):
                    waiting.discard(tid)
                elif status is not None:
                    _ptrace(_CONT, tid, _passed_on(status))
            _wait_until(end, waiting, "did not stop again")

    def _detach(self) -> None:
        """Let go of all. The first may take a signal that ends its process, while others are still ours."""
        left = {tid for tid in self._held if not _let_go(tid, self._owed.get(tid, 0))}
        # Its tracer must wait for a thread that has ended, or its process stays a zombie; but a child of ours is for
        # what started it.
        left -= {pid for pid in self._pids if _is_child(pid)}
        end = time.monotonic() + PATIENCE
        while left and time.monotonic() < end:
            left -= {tid for tid in left if _is_over(tid) or _let_go(tid, self._owed.get(tid, 0))}
            time.sleep(_PAUSE)


def _is_child(pid: int) -> bool:
    with suppress(OSError):
        return proc.status(pid).parent == os.getpid()
    return False


def _let_go(tid: int, signal_number: int) -> bool:
    """Let a thread go on with the signal that it was caught with; False if it is in no stop, or has ended."""
    return bool(LIBC.ptrace(_DETACH, tid, 0, signal_number) == 0)


def _is_over(tid: int) -> bool:
    """Say whether a thread that could not be let go of has ended, and is reaped."""
    try:
        ended, _ = os.waitpid(tid, os.WNOHANG | _WALL)
    except ChildProcessError:
        return True
    return bool(ended) and not is_alive(tid)


def _threads(pid: int) -> list[int]:
    return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]


def _ptrace(request: int, tid: int, data: int) -> None:
    """Call ptrace; a thread that has ended meanwhile is no error, since waiting for it shows that."""
    LIBC.ptrace(request, tid, 0, data)


def _stopped(tid: int) -> int | None:
    """Return the wait status of a thread that has stopped since the last call."""
    with suppress(ChildProcessError):
        pid, status = os.waitpid(tid, os.WNOHANG | _WALL)
        if pid and os.WIFSTOPPED(status):
            return status
    return None


def _is_group_stop(status: int) -> bool:
    return status >> 16 == _EVENT_STOP and os.WSTOPSIG(status) == signal.SIGSTOP


def _passed_on(status: int) -> int:
    """Return the signal to deliver: its own, unless the stop was one of ptrace's events."""
    number = os.WSTOPSIG(status)
    return 0 if status >> 16 or number in (signal.SIGTRAP, signal.SIGCONT) else number


def _wait_until(end: float, waiting: Collection[int], what: str) -> None:
    if waiting and time.monotonic() > end:
        raise HoldError(f"threads {sorted(waiting)[:5]} {what}")
    time.sleep(_PAUSE)
