"""What is in the IPC namespace of the pod: what of it is the worker's alone, and what cannot be carried."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.container.network import in_namespace
from artifact.ipc import MOST_MESSAGES, MOST_OBJECTS, MOST_SEMAPHORES
from linux.ipc.calls import MSG, SEM, SHM, device_of_memory
from linux.ipc.mqueue import QueueStatus, queues
from linux.ipc.sysvipc import SysvObject, destroys_unattached, shares_namespace, sysv_objects
from linux.proc import PROC, is_alive, pids, shares_semaphore_undo
from linux.ptrace.lent_call import OtherCallsError
from linux.ptrace.sandboxes import can_be_asked
from linux.ptrace.semaphores import HiddenError, undoes

if TYPE_CHECKING:
    from agent.preflight.facts import Tree

_ATTACHED: Final = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) +/SYSV[0-9a-f]{8}(?: \(deleted\))?$",
    re.MULTILINE,
)
_OF_NODE: Final = "ipc:[4026531839]"
"""The one that the kernel starts with (IPC_NS_INIT_INO); /proc/1 may not be shown to us."""
_PAGE: Final = 4096
_LENDS_CALLS: Final = can_be_asked()
_NOT_ASKED: Final = "cannot be asked what semaphores get back at its end (SEM_UNDO)"


class Attached(NamedTuple):
    """A piece of a segment in the memory of a process."""

    id: int
    start: int
    end: int
    offset: int
    device: str
    """Of its file: huge pages are on one of their own."""


@dataclass(frozen=True)
class IpcFacts:
    """What is in the IPC namespace of a pod."""

    objects: tuple[SysvObject, ...] = ()
    posix_queues: tuple[QueueStatus, ...] = ()
    """POSIX message queues, open or not."""
    is_shared: bool = False
    """Processes of other containers are in it."""
    is_of_node: bool = False
    destroys_unattached: bool = False
    """kernel.shm_rmid_forced."""
    undo: Mapping[int, str] = field(default_factory=dict)
    """What processes, inside, have to undo, in words."""
    devices: Mapping[int, str] = field(default_factory=dict)
    """Of memory that no process has attached: where it is, by its id, as /proc/PID/maps names it."""
    restored: frozenset[tuple[str, int]] = frozenset()
    """Kind and id of those that a restore has made for this container."""


def attached(maps: str) -> tuple[Attached, ...]:
    """Return what of System V memory a process has mapped."""
    if "/SYSV" not in maps:
        return ()
    found = _ATTACHED.findall(maps)
    return tuple(
        Attached(int(inode), int(start, 16), int(end, 16), int(offset, 16), device)
        for start, end, offset, device, inode in found
    )


def read_facts(
    init_pid: int, by_pid: Mapping[int, int], restored: Collection[tuple[str, int]], proc: Path = PROC
) -> IpcFacts:
    """Read what there is; of a pod without any object no more is looked at.

    Args:
        init_pid: of the container.
        by_pid: the tree's processes, as the node and as the container number them.
        restored: kind and id of objects that a restore has made for this container.
        proc: /proc of the node.

    Raises:
        OSError: the container has ended.
    """
    objects, found = in_namespace("ipc", init_pid, lambda: (tuple(sysv_objects()), queues()), proc)
    if not objects and not found:
        return IpcFacts()
    sets = {each.id: each.size for each in objects if each.kind == SEM}

    def look() -> tuple[dict[int, str], dict[int, str]]:
        undo = {inner: _undo(init_pid, pid, sets, proc) for pid, inner in by_pid.items()} if sets else {}
        return undo, _unattached(objects)

    undo, devices = in_namespace("ipc", init_pid, look, proc)
    return IpcFacts(
        objects=objects,
        posix_queues=found,
        is_shared=any(shares_namespace(init_pid, proc)),
        is_of_node=is_of_node(init_pid, proc),
        destroys_unattached=in_namespace("ipc", init_pid, destroys_unattached, proc),
        devices=devices,
        undo={inner: words for inner, words in undo.items() if words},
        restored=frozenset(restored),
    )


def is_of_node(init_pid: int, proc: Path = PROC) -> bool:
    """Say whether a container is in the node's own IPC namespace."""
    return str((proc / str(init_pid) / "ns/ipc").readlink()) == _OF_NODE


def _unattached(objects: Collection[SysvObject]) -> dict[int, str]:
    """Look at memory that no process has attached by attaching it for a moment: nothing else shows what it is."""
    found = {}
    for each in objects:
        if each.kind == SHM and not each.attached:
            with suppress(OSError):
                device = device_of_memory(each.id)
                found[each.id] = f"{os.major(device):02x}:{os.minor(device):02x}"
    return found


def _undo(init_pid: int, pid: int, sets: Mapping[int, int], proc: Path) -> str:
    """Say what a process has to undo, in words; empty if nothing.

    The kernel makes a list of it for every process with threads, so only without a list is there nothing for certain.
    Standby has none.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        if pid != init_pid and all(shares_semaphore_undo(init_pid, tid) for tid in pids(proc / str(pid) / "task")):
            return ""
        if not _LENDS_CALLS:
            return _NOT_ASKED
        try:
            return "has changed semaphores that get it back at its end (SEM_UNDO)" if undoes(pid, sets) else ""
        except (HiddenError, OtherCallsError, OSError):
            return _NOT_ASKED if is_alive(pid, proc) else ""
    return ""


def sysv_ipc(tree: "Tree") -> Iterator[str]:
    """Find System V objects that are not the worker's alone, or of which something would be lost; pure."""
    facts = tree.ipc
    if not facts.objects:
        return
    if facts.is_of_node:
        yield f"the pod's IPC namespace is the node's, and has {facts.objects[0]}"
        return
    yield from _too_many(facts.objects)
    counted = Counter(piece.id for process in tree.processes for piece in process.attached)
    for each in facts.objects:
        if why := _not_ours(each, tree, counted[each.id] if each.kind == SHM else 0):
            yield why
    if facts.destroys_unattached and any(each.kind == SHM for each in facts.objects):
        yield "the pod destroys System V memory that no process has attached (sysctl kernel.shm_rmid_forced)"
    yield from _in_processes(tree)


def _not_ours(each: SysvObject, tree: "Tree", attached_by_us: int) -> str | None:
    facts = tree.ipc
    if each.is_locked:
        return f"{each} is locked in memory (SHM_LOCK)"
    if each.kind == SHM and facts.devices.get(each.id, tree.memory_device) != tree.memory_device:
        return f"{each} has huge pages (SHM_HUGETLB)"
    if each.attached > attached_by_us:
        return f"{each} is attached by a process outside of the worker"
    is_known = (each.kind, each.id) in facts.restored or bool(attached_by_us) or bool(each.users & tree.pids)
    if facts.is_shared and not is_known:
        return f"{each} may be of another container of the pod: no process of the worker made or used it last"
    return None


def _too_many(objects: Collection[SysvObject]) -> Iterator[str]:
    semaphores = sum(each.size for each in objects if each.kind == SEM)
    messages = sum(each.size for each in objects if each.kind == MSG)
    if len(objects) > MOST_OBJECTS or semaphores > MOST_SEMAPHORES or messages > MOST_MESSAGES:
        yield (
            f"the pod has {len(objects)} System V objects, {semaphores} semaphores and {messages} bytes of messages, "
            f"more than {MOST_OBJECTS}, {MOST_SEMAPHORES} or {MOST_MESSAGES}"
        )


def _in_processes(tree: "Tree") -> Iterator[str]:
    by_id = {each.id: each for each in tree.ipc.objects if each.kind == SHM}
    own = {piece.device for process in tree.processes for piece in process.attached} - {tree.memory_device}
    for process in tree.processes:
        if words := tree.ipc.undo.get(process.pid):
            yield f"{process} {words}"
        for number in sorted({piece.id for piece in process.attached}):
            name = by_id.get(number, f"System V shared memory (id {number})")
            pieces = [piece for piece in process.attached if piece.id == number]
            if any(piece.device in own for piece in pieces):
                yield f"{process} has attached {name}, which has huge pages (SHM_HUGETLB)"
            elif not _LENDS_CALLS:
                yield f"{process} has attached {name}, which only processes of x86-64 can attach again"
            elif number in by_id and not _is_whole(pieces, by_id[number].size):
                yield f"{process} has attached only a part of {name}"


def _is_whole(pieces: Collection[Attached], size: int) -> bool:
    """Say whether all attachments of a segment cover it, each in pieces that follow each other."""
    whole, end = -(-size // _PAGE) * _PAGE, 0
    expected = 0
    for piece in sorted(pieces, key=lambda each: each.start):
        if piece.offset != expected or (expected and piece.start != end):
            return False
        end, expected = piece.end, piece.offset + piece.end - piece.start
        expected = 0 if expected == whole else expected
    return expected == 0
