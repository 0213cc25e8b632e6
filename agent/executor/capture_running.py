"""Captures a worker that goes on: it is stopped, dumped, its files saved, and woken; all that is slow comes after that.

It can be restored only if standby started it: a worker that is its container's first process has a process id that no
restored container has free. While it is stopped there is a note in its control directory. If this agent dies, standby
finds the note without a holder of the lock, and wakes the worker.
"""

import os
import signal
import time
from contextlib import suppress
from typing import Final

from agent.container.find import find_container
from agent.container.inspection import find_worker
from agent.criu.image_files import read_image
from agent.criu.images import FILES
from agent.errors import ContainerError, RefusedError
from agent.executor import lock
from agent.executor.acquire import STANDBY, AcquiredContainer, WaitingContainer
from agent.executor.api import ContainerRef, ExecutionResult
from agent.executor.capture import CAPTURE, Capture, make_plan
from agent.executor.environment import NodeEnvironment
from agent.executor.lock import ControlDir
from agent.executor.phases import Phase
from contract.api import control_files
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from contract.config.storage import BadIdError
from linux.proc import Status, descendants, namespace_mates

STOP_SECONDS: Final = 1.0
"""How long processes may take to stop: one that a disk or the kernel holds would hold the others too."""
FILL_SECONDS: Final = 300.0
"""How long the memory of a worker that was just restored may take to be filled: 60 GiB at 200 MB/s."""
_PAUSE: Final = 0.002
_LINK: Final = b"/link_remap."
"""In the path that criu gives to a deleted file with other names; it takes the file away when the worker goes on."""
_OF: Final = {phase.name: phase for phase in CAPTURE}


def acquire_running(place: ContainerRef, environment: NodeEnvironment) -> AcquiredContainer | ExecutionResult:
    """Acquire a container whose worker runs as standby's child, or say why it cannot be."""
    try:
        control_dir = ControlDir(lock.open_control_dir(environment.kubelet_pods, place.pod_uid, place.container))
    except (OSError, BadIdError):
        return _not_under_standby(place)
    found = find_container(place.pod_uid, place.container, environment.proc)
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
        for mate in running:
            with suppress(ProcessLookupError):
                os.kill(mate.pid, signal.SIGSTOP)
        time.sleep(_PAUSE)
    make_plan(capture, stands_still=True)


def _thaw(capture: Capture) -> bool:
    """Wake the worker, if it was stopped."""
    control = capture.lock.control
    if control.has(control_files.FROZEN):
        for mate in _tree(capture):
            if mate.inner_pid not in capture.stopped:
                with suppress(ProcessLookupError):
                    os.kill(mate.pid, signal.SIGCONT)
        control.remove(control_files.FROZEN)
    return True


def _tree(capture: Capture) -> list[Status]:
    """Return the worker's processes, the root first."""
    proc = capture.environment.proc
    worker = find_worker(capture.init_pid, proc)
    if worker is None:
        return []
    mates = namespace_mates(capture.init_pid, proc)
    return [mates[pid] for pid in (worker.root.pid, *descendants(worker.root.pid, mates)) if pid in mates]


def _refuse_links(capture: Capture) -> None:
    """Refuse what a restore would not find: a process that ends leaves such files, one that goes on does not."""
    if _LINK in read_image(capture.staged.directory, FILES):
        words = "the worker has a deleted file open that has another name, which is not kept while the worker goes on"
        raise RefusedError(AgentReason.UNSUPPORTED_DESCRIPTOR, words)


def _dump(capture: Capture) -> None:
    _OF[ReportPhase.DUMP].run(capture)
    _refuse_links(capture)


def _go_on(capture: Capture) -> None:
    """Wake the worker, and give it its devices back."""
    _thaw(capture)
    gpus = _OF[ReportPhase.GPU_CHECKPOINT], _OF[ReportPhase.GPU_SAVE], _OF[ReportPhase.GPU_LOCK]
    if capture.cuda_pids and not all(phase.undo(capture) for phase in gpus):
        words = "the worker runs, but the driver does not give it its devices back; delete its pod"
        raise ContainerError(AgentReason.GPU_FAILED, words)


RUNNING: Final = (
    Phase(ReportPhase.PAGES, _await_memory),
    _OF[ReportPhase.INSPECT],
    _OF[ReportPhase.CANARY],
    _OF[ReportPhase.GPU_LOCK],
    _OF[ReportPhase.GPU_SAVE],
    _OF[ReportPhase.GPU_CHECKPOINT],
    Phase(ReportPhase.FREEZE, _freeze, undo=_thaw),
    Phase(ReportPhase.DUMP, _dump),
    _OF[ReportPhase.FILES],
    Phase(ReportPhase.THAW, _go_on),
    _OF[ReportPhase.SEAL],
    _OF[ReportPhase.VERIFY],
    _OF[ReportPhase.PUBLISH],
)
"""From a running worker to a sealed artifact. What fails is undone, and the worker goes on as it was."""
