"""Has criu restore the processes, stopped, and sees that they are whole and that their memory is there."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from agent.container.amx import permit_amx
from agent.container.databases import renew
from agent.container.files import dated_links
from agent.container.protection_keys import give_keys
from agent.container.record_locks import take_again
from agent.container.rights import refuse_wider_tree
from agent.container.thread_settings import set_again
from agent.criu.driver import CriuRestore
from agent.criu.images.file_locks import record_locks
from agent.criu.images.inet import kept_ends, move_sockets
from agent.criu.images.labels import write_profile
from agent.criu.images.pids import last_pid
from agent.criu.page_server import Fill, Lazy, PageServer
from agent.criu.shared_memory import empty
from agent.errors import ContainerError, CriuError
from agent.executor.files.undo import end_leftovers
from agent.executor.ipc.restore import attach_objects
from agent.executor.memory.guard import connect_guard
from agent.executor.memory.shared import Pod, fill_shared
from agent.executor.restore.given_files import make_eventfds, make_programs
from agent.executor.restore.state import Restore, of_pod
from agent.executor.restore.verification import await_host_memory
from artifact.hot_set import BadHotSetError, read_hot_set
from contract.api.engine import Because, Choice, Memory, Way
from contract.api.reports import HotSet, ReportPhase, Step
from contract.api.states import AgentReason
from linux.cgroup import cgroup_files
from linux.net.sockets import connections
from linux.proc import Status, descendants, namespace_mates, status

STOP_PATIENCE: Final = 3.0
"""Seconds: criu sends the stop and leaves; the kernel needs a moment to carry it out."""
logger = logging.getLogger(__name__)


def run_criu(restore: Restore) -> Sequence[Step]:
    """Have criu restore the tree, stopped; answers the steps within."""
    environment, init_pid = restore.environment, restore.init_pid
    # criu looks for symbols in the vdso that the memory has, and writes where they say, with every right of the node.
    waited = await_host_memory(restore)
    _change_images(restore)
    with ExitStack() as during:  # the server has the connection to standby; a copy of ours would hide its end
        request = CriuRestore(
            init_pid=init_pid,
            images=restore.images,
            cgroup_files=cgroup_files(restore.seen.cgroups, environment.cgroup_root),
            keeps_connections=restore.artifact.manifest.connections is not None,
            inherit=_inherited(restore, during),
            lazy=_lazy(restore, during),
            has_profile=bool(restore.profile),
            last_pid=last_pid(restore.artifact.manifest.process.ids),
            file_changes=restore.inside,
            timeout=environment.allowance(restore.artifact.size),
        )
        restored = environment.criu.restore(request)
    restore.pages = restored.pages
    if restored.pages is not None and restored.pages.unusable:
        _ignore_hot_set(restore, restored.pages.unusable)
    if restored.copied_because:
        logger.warning("memory is copied", extra={"reason": restored.copied_because})
        restore.memory = Choice(Memory.PRIVATE, Way.COPIED, Because.NO_SERVER, restore.engine.memory.bytes)
    with suppress(OSError):  # one that stays is harmless
        for link in restore.links:
            dated_links.remove(environment.kubelet_pods, restore.place.pod_uid, link)
    return [*waited, *restored.steps]


def _change_images(restore: Restore) -> None:
    """Put this pod's address into the images, and leave to us what we fill faster."""
    if restore.moves:
        move_sockets(restore.images, restore.moves)
    if restore.profile:
        write_profile(restore.images, restore.profile)
    if (kept := restore.artifact.manifest.connections) is not None and kept.kept:
        restore.ends = tuple(kept_ends(restore.images))
    empty(restore.images, restore.engine.shared)


def _lazy(restore: Restore, during: ExitStack) -> Lazy | None:
    if restore.engine.memory.way not in (Way.SERVED, Way.FILLED):
        return None
    guard = connect_guard(restore.lock.control, restore.init_pid)
    if guard is None:  # all of it is filled before the worker runs: in any order
        return Lazy(guard=None)
    during.callback(guard.close)
    return Lazy(guard=guard.fileno(), hot=_hot_set(restore), records=restore.records)


def _hot_set(restore: Restore) -> bytes:
    try:
        found = read_hot_set(restore.artifact)
    except BadHotSetError as error:
        _ignore_hot_set(restore, str(error))
        return b""
    restore.hot = HotSet.USED if found else None
    return found


def _ignore_hot_set(restore: Restore, why: str) -> None:
    logger.warning("the artifact's hot set is not used", extra={"reason": why})
    restore.hot = HotSet.IGNORED


def _inherited(restore: Restore, during: ExitStack) -> Mapping[str, int]:
    """Return what criu is given in place of files of the images, by the names that those have."""
    streams = {what: _standby_fd(restore, number) for what, number in restore.plan.inherit.items()}
    manifest = restore.artifact.manifest
    made = {**make_programs(manifest, restore.images, during), **make_eventfds(manifest, during)}
    return {**streams, **made, **restore.given}


def _standby_fd(restore: Restore, number: int) -> int:
    """Open standby's own standard stream, which leads to the log of this container."""
    flags = os.O_RDONLY if number == 0 else os.O_WRONLY
    path = restore.environment.proc / str(restore.init_pid) / "fd" / str(number)
    fd = os.open(path, flags | os.O_CLOEXEC)
    restore.resources.callback(os.close, fd)
    return fd


def end_tree(restore: Restore) -> bool:
    """End the tree, and what fills its memory."""
    # Standby ends what a restore left before it starts cold, and what is there then is not ours.
    ended = restore.lock.is_awaited() and end_leftovers(restore.init_pid, restore.environment.proc)
    if restore.pages is not None:
        restore.pages.stop()  # not before: until then it is what keeps the tree from running with holes
    return ended


def complete_tree(restore: Restore) -> None:
    """Wait for the tree that criu left stopped, and give it what criu leaves out."""
    await_tree(restore)
    process, proc = restore.artifact.manifest.process, restore.environment.proc
    permit_amx(restore.tree, process.amx)
    give_keys(restore.tree, process.protection_keys)
    set_again(restore.tree, process.settings, restore.init_pid, proc)
    renew(restore.tree, process.databases, proc)
    take_again(restore.tree, record_locks(restore.images), proc)
    attach_objects(restore)
    _check_connections(restore)


def await_tree(restore: Restore) -> None:
    """Wait for a tree that stops, and look at its rights."""
    try:
        restore.tree = await_stopped(restore)
    except ContainerError:
        if restore.pages is not None:
            restore.pages.refuse_ended()  # standby has ended the tree: this says why
        raise
    # What criu made of the images, whatever they said.
    with restore.environment.turn.taken():
        refuse_wider_tree(restore.tree, restore.rights, restore.environment.proc)


def _check_connections(restore: Restore) -> None:
    """Refuse a tree that lost a connection: the kernel ends one whose segment comes before its other end is there."""
    if not restore.ends:
        return
    found = set(connections(restore.init_pid, restore.environment.proc))
    lost = [end for end in restore.ends if end not in found]
    if lost:
        words = f"{len(lost)} connections within the worker did not come back, the first to {lost[0][1]}"
        raise CriuError(AgentReason.RESTORE_FAILED, words)


def is_filled_by_us(restore: Restore) -> bool:
    """Say whether memory is filled that criu left out."""
    return restore.pages is not None or bool(restore.engine.shared)


def await_pages(restore: Restore) -> None:
    """Wait until the worker may run: standby holds its memory beside the page server, or all of it is there."""
    environment = restore.environment
    seconds = environment.allowance(restore.artifact.size)
    if shared := restore.engine.shared:
        cgroups = cgroup_files(restore.seen.cgroups, environment.cgroup_root)
        pod = Pod(restore.init_pid, cgroups, environment.proc)
        fill_shared(shared, restore.images, restore.tree, pod, seconds)
    if restore.pages is not None:
        planned, is_guarded = restore.engine.memory, restore.pages.is_guarded(seconds)
        if not is_guarded or planned.because is Because.PARKS:
            _await_filled(restore, restore.pages, seconds)
        elif planned.way is Way.FILLED:  # standby's socket came a moment after the plan
            restore.memory = Choice(Memory.PRIVATE, Way.SERVED, Because.LARGE, planned.bytes)
    during = "its memory was filled: the pod's memory limit?"
    refuse_ended(restore, during, lambda pid: not _is_stopped(pid, environment.proc))


def _await_filled(restore: Restore, pages: PageServer, seconds: float) -> None:
    """Wait until all memory is in, as planned or because standby does not hold it."""
    fill = Fill.parse(pages.await_filled(seconds))
    restore.pages = None
    restore.beside.append(Step(ReportPhase.FILL, time.monotonic() - fill.seconds, fill.seconds))
    if restore.engine.memory.way is Way.SERVED:
        restore.memory = Choice(Memory.PRIVATE, Way.FILLED, Because.UNGUARDED, restore.engine.memory.bytes)


def refuse_ended(restore: Restore, during: str, is_ended: Callable[[int], bool]) -> None:
    """Refuse a tree of which a process is ended: at a memory limit the kernel ends those that are stopped too.

    Args:
        restore: with its tree.
        during: what went on, in words that follow "while".
        is_ended: asked of each process, by its host pid.

    Raises:
        CriuError: one is.
    """
    ended = [mate.inner_pid for mate in restore.tree.values() if is_ended(mate.pid)]
    if ended:
        if restore.pages is not None:
            restore.pages.refuse_ended()  # standby has ended the tree: this says why
        raise CriuError(AgentReason.RESTORE_FAILED, f"process {ended[0]} of the worker was ended while {during}")


def _is_stopped(pid: int, proc: Path) -> bool:
    with suppress(OSError):
        return status(pid, proc).state == "T"
    return False


def await_stopped(restore: Restore) -> dict[int, Status]:
    """Wait until the restored root is standby's child and stopped, and all of its tree with it; return the tree.

    Raises:
        ContainerError: it is not.
    """
    init_pid, worker_pid = restore.init_pid, restore.plan.worker_pid
    end = time.monotonic() + STOP_PATIENCE
    while True:
        with restore.environment.turn.taken():
            mates = namespace_mates(init_pid, restore.environment.proc, of_pod(restore))
        root = next((m for m in mates.values() if m.inner_pid == worker_pid and m.parent == init_pid), None)
        if root is not None:
            tree = [root.pid, *descendants(root.pid, mates)]
            if all(mates[pid].state == "T" for pid in tree):
                return {pid: mates[pid] for pid in tree}
        if time.monotonic() > end:
            raise ContainerError(
                AgentReason.TREE_MISSING, f"criu says it is done, but process {worker_pid} is not there stopped"
            )
        time.sleep(0.002)
