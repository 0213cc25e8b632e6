"""Makes System V objects in the IPC namespace of a container, and removes them again."""

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from agent.container.network import in_namespace
from agent.container.rights import SETGID, SETUID, Rights
from agent.errors import ContainerError, RefusedError
from artifact.ipc import Object, Queue, Segment, SemaphoreSet, SysvIpc
from contract.api.states import AgentReason
from linux.ipc import calls
from linux.ipc.sysvipc import SysvObject, sysv_objects

Name = tuple[str, int]
"""Kind and id of an object."""


def refuse_other_creators(found: SysvIpc, container: Rights) -> None:
    """Refuse objects that no process of a container could have made.

    Owners do not matter: each may give its objects away.

    Raises:
        RefusedError: ``images-wider``.
    """
    permitted = container.capabilities["CapPrm"]
    for kind, each in found.objects():
        if each.creator_uid not in container.users and not permitted >> SETUID & 1:
            raise _wider(kind, each, f"user {each.creator_uid}")
        if each.creator_gid not in container.groups and not permitted >> SETGID & 1:
            raise _wider(kind, each, f"group {each.creator_gid}")


def _wider(kind: str, each: Object, who: str) -> RefusedError:
    words = f"{SysvObject(kind, each.key, each.id)} was made by {who}, who is none of the container's"
    return RefusedError(AgentReason.IMAGES_WIDER, words)


def taken(found: SysvIpc, there: Iterable[SysvObject]) -> str | None:
    """Say which object is in the way of another; None if none is; pure."""
    others = list(there)
    by_id = {(other.kind, other.id): other for other in others}
    by_key = {(other.kind, other.key & 0xFFFFFFFF): other for other in others if other.key}
    for kind, each in found.objects():
        other = by_id.get((kind, each.id)) or by_key.get((kind, each.key))
        if other is not None:
            return f"the pod has {other} already, and the worker had {SysvObject(kind, each.key, each.id)}"
    return None


def refuse_taken(found: SysvIpc, init_pid: int, proc: Path) -> None:
    """Refuse objects of which an id or a key is another's.

    Raises:
        RefusedError: ``sysv-ipc-taken``.
    """
    there = in_namespace("ipc", init_pid, lambda: list(sysv_objects()), proc)
    if words := taken(found, there):
        raise RefusedError(AgentReason.SYSV_IPC_TAKEN, words)


def make(found: SysvIpc, init_pid: int, proc: Path, note: Callable[[Name], None]) -> dict[int, int]:
    """Make all objects, shared memory without its content; return a descriptor of each segment by its id.

    Args:
        found: what is made.
        init_pid: of the container.
        proc: /proc of the node.
        note: called with each that was made, at once.

    Raises:
        RefusedError: ``sysv-ipc-taken``: an id or a key was taken meanwhile.
        ContainerError: ``restore-failed``: the namespace has no room for them.
    """
    try:
        return in_namespace("ipc", init_pid, lambda: _make_all(found, note), proc)
    except OSError as error:
        words = f"the worker's System V objects cannot be made: {error.strerror} ({error.filename})"
        raise ContainerError(AgentReason.RESTORE_FAILED, words) from error


def _make_all(found: SysvIpc, note: Callable[[Name], None]) -> dict[int, int]:
    opened = dict[int, int]()
    with ExitStack() as if_it_fails:
        for kind, each in found.objects():
            _make_one(kind, each)
            note((kind, each.id))
            if kind == calls.SHM:
                opened[each.id] = calls.open_memory(each.id)
                if_it_fails.callback(os.close, opened[each.id])
            _fill(kind, each)
        if_it_fails.pop_all()
    return opened


def _make_one(kind: str, each: Object) -> None:
    try:
        calls.make(each.wanted(kind), _size(each))
    except calls.TakenError as error:
        words = f"{SysvObject(kind, each.key, each.id)} of the worker cannot be made: {error} in the pod"
        raise RefusedError(AgentReason.SYSV_IPC_TAKEN, words) from error


def _size(each: Object) -> int:
    if isinstance(each, SemaphoreSet):
        return len(each.values)
    return each.size if isinstance(each, Segment) else 0


def _fill(kind: str, each: Object) -> None:
    """Give an object its content, and then its owner."""
    capacity = 0
    if isinstance(each, SemaphoreSet):
        calls.set_semaphores(each.id, each.values, used=each.used)
    if isinstance(each, Queue):
        capacity = each.capacity
        room = max(capacity, each.held, len(each.messages))
        calls.set_owner(kind, each.id, each.uid, each.gid, each.mode, room)
        for message in each.messages:
            calls.send(each.id, message.kind, message.text)
    calls.set_owner(kind, each.id, each.uid, each.gid, each.mode, capacity)


def remove(names: Iterable[Name], init_pid: int, proc: Path) -> None:
    """Remove objects that are still there.

    Raises:
        OSError: the container has ended.
    """
    wanted = list(names)
    in_namespace("ipc", init_pid, lambda: _remove_all(wanted), proc)


def _remove_all(names: Iterable[Name]) -> None:
    for kind, number in names:
        calls.remove(kind, number)
