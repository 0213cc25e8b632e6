"""Captures a worker that goes on: it is stopped, dumped, its files saved, and woken; all that is slow comes after that.

It can be restored only if standby started it: a worker that is its container's first process has a process id that no
restored container has free. While it is stopped there is a note in its control directory. If this agent dies, standby
finds the note without a holder of the lock, and wakes the worker. While it lacks its devices there is another note: the
next agent gives them back, and if that fails standby ends the container.
"""

import os
import signal
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from agent.container.find import find_container, worker_of
from agent.container.inspection import find_worker
from agent.criu.images.remaps import given_names
from agent.errors import ContainerError, RefusedError
from agent.executor import lock
from agent.executor.acquire import STANDBY, AcquiredContainer, WaitingContainer
from agent.executor.api import ContainerRef, ExecutionResult
from agent.executor.capture.look import make_plan
from agent.executor.capture.phases import CAPTURE
from agent.executor.capture.state import Capture
from agent.executor.environment import NodeEnvironment
from agent.executor.files.links import give_names, take_away_left
from agent.executor.gpu.capture import are_running, restore_in_place, unlock_processes
from agent.executor.lock import ContainerLock, ControlDir
from agent.executor.phases import Phase, nothing_to_undo
from contract.api import control_files
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from contract.config.storage import BadIdError
from linux.proc import Status, descendants, namespace_mates, status
from linux.ptrace.polls import go_on

STOP_SECONDS: Final = 1.0
"""How long processes may take to stop: one that a disk or the kernel holds would hold the others too."""
FILL_SECONDS: Final = 300.0
"""How long the memory of a worker that was just restored may take to be filled: 60 GiB at 200 MB/s."""
_AT_ONCE: Final = 0.01
"""How long a process is waited for before its children are left to the next look at the tree."""
_PAUSE: Final = 0.002
DEVICES_LOST: Final = (
    "the driver does not give the worker its devices back; standby ends it, and the container starts again"
)
_OF: Final = {phase.name: phase for phase in CAPTURE}


def acquire_running(place: ContainerRef, environment: NodeEnvironment) -> AcquiredContainer | ExecutionResult:
    """Acquire a container whose worker runs as standby's child, or say why it cannot be."""
    try:
        control_dir = ControlDir(lock.open_control_dir(environment.kubelet_pods, place.pod_uid, place.container))
    except (OSError, BadIdError):
        return _not_under_standby(place)
    found = find_container(place.pod_uid, place.container, environment.pod_groups, environment.proc)
    if found is None or found.program != STANDBY:
        control_dir.close()
        return _not_under_standby(place)
    try:
        held = lock.acquire(control_dir, found.init_pid, environment.proc, has_started=True)
    except ContainerError as error:
        control_dir.close()
        return ExecutionResult(ok=False, reason=error.code, message=str(error))
    return AcquiredContainer(held, WaitingContainer(found.init_pid, found.container_id, control_dir))


def _not_under_standby(place: ContainerRef) -> ExecutionResult:
    words = (
        f"container {place.container} was not started by snapshot-standby, so its worker has a process id that no "
        "restored container has free"
    )
    return ExecutionResult(ok=False, reason=AgentReason.NOT_UNDER_STANDBY, message=words)


def is_filled(capture: Capture) -> bool:
    """Say whether no page server is at work: standby holds the descriptors of memory that is not all there yet."""
    descriptors = capture.environment.proc / str(capture.init_pid) / "fd"
    for descriptor in descriptors.iterdir():
        with suppress(OSError):
            if "userfaultfd" in str(descriptor.readlink()):
                return False
    return True


def _make_whole(capture: Capture) -> None:
    undo_left(capture.lock, capture.init_pid, capture.environment)
    _await_memory(capture)


def undo_left(lock: ContainerLock, init_pid: int, environment: NodeEnvironment) -> None:
    """Have a worker go on as it was that an agent was killed in the capture of.

    The notes are in a directory of the container's: they decide no more than which of its own processes stay stopped.

    Raises:
        SnapshotError: the driver fails; standby will end the container.
    """
    if lock.control.has(control_files.FROZEN):
        words = (lock.control.read(control_files.FROZEN) or b"").split()
        wake(lock, tree_of(init_pid, environment.proc), [int(word) for word in words if word.isdigit()])
    worker = find_worker(init_pid, environment.proc) if lock.control.has(control_files.DEVICES) else None
    if worker is None:
        return
    cuda, seconds = environment.cuda, environment.allowance(worker.resident)
    back = lock.control.read(control_files.DEVICES) != control_files.DEVICES_LOST.encode()
    if back:
        pids = tuple(cuda.find(worker.pids))
        if environment.gpus.driver() is None:  # the note stays: standby waits for an agent that has one
            raise ContainerError(AgentReason.GPU_MISSING, "the agent finds no driver to give devices back with")
        back = restore_in_place(cuda, pids, seconds) and unlock_processes(cuda, pids) and are_running(cuda, pids)
    note_devices(lock, back=back)
    if not back:
        raise ContainerError(AgentReason.GPU_FAILED, DEVICES_LOST)


def _await_memory(capture: Capture) -> None:
    """Wait until a restored worker has all of its memory: criu would take what is missing for zeros."""
    end = time.monotonic() + FILL_SECONDS
    while not is_filled(capture):
        if time.monotonic() > end:
            words = "the worker was restored a moment ago, and its memory is still being filled; try again later"
            raise RefusedError(AgentReason.UNSUPPORTED_MEMORY, words)
        time.sleep(_PAUSE)


def _freeze(capture: Capture) -> None:
    """Stop the worker, and decide once more, about what it is by now: until then it could start and end processes."""
    before = _tree(capture)
    capture.stopped = [mate.inner_pid for mate in before if mate.state == "T"]
    noted = capture.stopped[: control_files.MAX_STOPPED]
    capture.lock.control.write(control_files.FROZEN, " ".join(map(str, noted)))
    end = time.monotonic() + STOP_SECONDS
    while running := [mate for mate in _tree(capture) if mate.state != "T"]:
        if time.monotonic() > end:
            words = f"process {running[0].inner_pid} does not stop (state {running[0].state})"
            raise ContainerError(AgentReason.WORKER_NOT_STOPPED, words)
        _stop(running, capture.environment.proc)
        time.sleep(_PAUSE)
    make_plan(capture, stands_still=True)


def _stop(running: Sequence[Status], proc: Path) -> None:
    """Stop processes, of which parents come first: one that still runs would see that its child is stopped.

    A look at the whole tree for each of its generations would take longer than all have together. Those below a process
    that does not stop at once are left.
    """
    asked: set[int] = set()
    ours = {mate.pid for mate in running}
    has_stopped = cache(lambda pid: pid in asked and _stops(pid, proc))
    for mate in running:
        if mate.parent not in ours or has_stopped(mate.parent):
            asked.add(mate.pid)
            with suppress(ProcessLookupError):
                os.kill(mate.pid, signal.SIGSTOP)


def _stops(pid: int, proc: Path) -> bool:
    """Say whether a process that was asked to stop does so at once."""
    end = time.monotonic() + _AT_ONCE
    with suppress(FileNotFoundError, ProcessLookupError):
        while status(pid, proc).state != "T":
            if time.monotonic() > end:
                return False
            time.sleep(_PAUSE / 10)
        return True
    return False


def _thaw(capture: Capture) -> bool:
    """Wake the worker, if it was stopped."""
    for each in capture.polls.values():
        with suppress(OSError):  # it has ended
            go_on(each.tid, each.poll)
    try:
        capture.names.close()
    finally:  # a name that stays is harmless, a worker that stays stopped is not
        wake(capture.lock, _tree(capture), capture.stopped)
    return True


def wake(lock: ContainerLock, tree: Sequence[Status], stopped: Collection[int]) -> None:
    """Wake a tree that an agent has stopped, but for the processes that were stopped before.

    Children go first: a parent that waits for them as a shell does, and runs before them, takes them for stopped.
    """
    if lock.control.has(control_files.FROZEN):
        for mate in reversed(tree):
            if mate.inner_pid not in stopped:
                with suppress(ProcessLookupError):
                    os.kill(mate.pid, signal.SIGCONT)
        lock.control.remove(control_files.FROZEN)


def _tree(capture: Capture) -> list[Status]:
    return tree_of(capture.init_pid, capture.environment.proc)


def tree_of(init_pid: int, proc: Path) -> list[Status]:
    """Return the worker's processes, the root first; none of a container that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        mates = namespace_mates(init_pid, proc)  # no more of them: the worker waits for it
        if (root := worker_of(init_pid, mates)) is not None:
            return [mates[pid] for pid in (root.pid, *descendants(root.pid, mates))]
    return []


def _take_devices(capture: Capture) -> None:
    """Leave a note first: without it the worker would hang for ever if this agent died."""
    capture.lock.control.write(control_files.DEVICES, "")
    _OF[ReportPhase.GPU_LOCK].run(capture)


def _save_device_memory(capture: Capture) -> None:
    """Note, before anything is taken out, that no other agent could undo it: this one alone has what was saved."""
    capture.before_release = lambda: capture.lock.control.write(control_files.DEVICES, control_files.DEVICES_LOST)
    _OF[ReportPhase.GPU_SAVE].run(capture)


def _give_devices_back(capture: Capture) -> bool:
    """Undo all that was done to the devices of processes that run, or have standby start the container again."""
    if not capture.lock.control.has(control_files.DEVICES):
        return True
    phases = (_OF[ReportPhase.GPU_CHECKPOINT], _OF[ReportPhase.GPU_SAVE], _OF[ReportPhase.GPU_LOCK])
    back = all(phase.undo(capture) for phase in phases) and are_running(capture.environment.cuda, capture.cuda_pids)
    note_devices(capture.lock, back=back)
    return back


def note_devices(lock: ContainerLock, *, back: bool) -> None:
    """Note that a worker has its devices again, or never will."""
    if back:
        lock.control.remove(control_files.DEVICES)
    else:
        lock.control.write(control_files.DEVICES, control_files.DEVICES_LOST)


def _dump(capture: Capture) -> None:
    pids = [mate.pid for mate in _tree(capture)]
    take_away_left(capture.init_pid, pids)
    _OF[ReportPhase.DUMP].run(capture)
    give_names(given_names(capture.staged.directory), capture.init_pid, pids, capture.names)


def _go_on(capture: Capture) -> None:
    """Wake the worker, and give it its devices back."""
    _thaw(capture)
    if not _give_devices_back(capture):
        raise ContainerError(AgentReason.GPU_FAILED, DEVICES_LOST)


RUNNING: Final = (
    Phase(ReportPhase.PAGES, _make_whole),
    _OF[ReportPhase.INSPECT],
    _OF[ReportPhase.CANARY],
    replace(_OF[ReportPhase.GPU_LOCK], run=_take_devices, undo=_give_devices_back),
    replace(_OF[ReportPhase.GPU_SAVE], run=_save_device_memory, undo=nothing_to_undo),  # as the lock is undone
    replace(_OF[ReportPhase.GPU_CHECKPOINT], undo=nothing_to_undo),
    Phase(ReportPhase.FREEZE, _freeze, undo=_thaw),
    Phase(ReportPhase.DUMP, _dump),
    _OF[ReportPhase.FILES],
    Phase(ReportPhase.THAW, _go_on),
    _OF[ReportPhase.WEIGHTS],
    _OF[ReportPhase.SEAL],
    _OF[ReportPhase.VERIFY],
    _OF[ReportPhase.PUBLISH],
)
"""From a running worker to a sealed artifact. What fails is undone, and the worker goes on as it was."""
