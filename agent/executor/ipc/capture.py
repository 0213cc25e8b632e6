"""Saves the System V objects of a worker, which criu has dumped with the tree, in a file of the artifact."""

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from agent.container.ipc.objects import refuse_other_creators
from agent.container.network import in_namespace
from agent.container.rights import Rights
from agent.criu.images.ipc.mappings import other_segments, stay_in_namespace, take_attachments
from agent.criu.images.ipc.objects import image_names, read_objects
from agent.errors import CriuError, RefusedError
from artifact.ipc import SysvIpc, write_ipc
from artifact.manifest import IPC
from artifact.publish import Staging
from contract.api.states import AgentReason
from linux.ipc import calls
from linux.ipc.sysvipc import SysvObject, sysv_objects


def objects_in(init_pid: int, proc: Path) -> tuple[SysvObject, ...]:
    """Return what there is in the IPC namespace of a container.

    Raises:
        OSError: it has ended.
    """
    return in_namespace("ipc", init_pid, lambda: tuple(sysv_objects()), proc)


def refuse_late(before: Sequence[SysvObject], after: Sequence[SysvObject], *, goes_on: bool) -> None:
    """Refuse what came while the worker was dumped; pure.

    Args:
        before: objects before the dump.
        after: those after it.
        goes_on: whether the worker is still there, so that it has its memory attached.

    Raises:
        RefusedError: ``sysv-ipc``.
    """
    known = {(each.kind, each.id) for each in before}
    if late := next((each for each in after if (each.kind, each.id) not in known), None):
        raise RefusedError(AgentReason.SYSV_IPC, f"{late} was made while the worker was captured")
    held = next((each for each in after if each.attached), None)
    if held is not None and not goes_on:
        raise RefusedError(AgentReason.SYSV_IPC, f"{held} is attached by a process outside of the worker")


def save_objects(staged: Staging, objects: Sequence[SysvObject], rights: Rights) -> SysvIpc:
    """Move what criu has dumped of an IPC namespace into a file, and have the images restored without it.

    Args:
        staged: with the images.
        objects: what there was before the dump.
        rights: of the container.

    Raises:
        RefusedError: ``sysv-ipc``: there is more than an artifact may have, or of a kind that is not carried.
        CriuError: ``dump-failed``: the images cannot be read.
    """
    directory = staged.directory
    used = {each.id for each in objects if each.used}
    try:
        found = read_objects(directory, used, take_attachments(directory))
        stay_in_namespace(directory)
        both = {each.id for each in found.segments} & other_segments(directory)
        for name in image_names(directory):
            os.unlink(name, dir_fd=directory)
    except ValidationError as error:
        words = f"System V objects that no artifact can have: {error.errors()[0]['msg']}"
        raise RefusedError(AgentReason.SYSV_IPC, words) from error
    except (OSError, ValueError, KeyError) as error:
        words = f"an image that criu wrote of System V objects cannot be read: {error}"
        raise CriuError(AgentReason.DUMP_FAILED, words) from error
    if both:
        words = f"criu numbers System V memory (id {min(both)}) as other shared memory of the worker; capture it again"
        raise CriuError(AgentReason.DUMP_FAILED, words)
    refuse_other_creators(found, rights)
    write_ipc(found, staged.file(IPC))
    return found


def refuse_undone(found: SysvIpc, init_pid: int, proc: Path) -> None:
    """Refuse semaphores that have got something back, now that the worker has ended (SEM_UNDO).

    It may have changed them after it was looked at; a worker that goes on was stopped then.

    Raises:
        RefusedError: ``sysv-ipc``.
    """

    def values() -> dict[int, list[int]]:
        return {each.id: calls.semaphore_values(each.id, len(each.values)) for each in found.semaphores}

    now = in_namespace("ipc", init_pid, values, proc)
    if undone := next((each for each in found.semaphores if each.values != now[each.id]), None):
        words = f"{SysvObject(calls.SEM, undone.key, undone.id)} have got something back at the worker's end (SEM_UNDO)"
        raise RefusedError(AgentReason.SYSV_IPC, words)
