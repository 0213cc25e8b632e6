"""Puts the worker's files back, journaled, and takes them back if the restore fails."""

import os
from collections.abc import Mapping, Sequence
from tarfile import TarInfo
from typing import Any, Final

from agent.container.files import dated_links
from agent.container.inspection import open_in_container
from agent.errors import ContainerError
from agent.executor.environment import NodeEnvironment
from agent.executor.files.undo import undo_files
from agent.executor.files.undo_journal import Journal
from agent.executor.restore.checks import Change
from agent.executor.restore.state import Restore
from artifact.known import Known
from artifact.read import Artifact
from artifact.verified import VerifiedFiles
from contract.api import control_files
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from linux import filetree, folder
from linux.filetree import FileTreeError
from linux.tar_content import members_in

KEPT_MEMBERS: Final = 4000
"""Of one archive; each takes 1.5 KiB."""


def put_files_back(restore: Restore) -> None:
    """Put files back, journaled. If there is nothing to put back, nothing is touched.

    A worker with System V objects leaves a journal too: with it a container that no agent tidied up does not start
    cold in a pod that has them.

    Memory file systems are left to the helper: their pages count for the process that writes them, which must be in
    the pod's cgroups.
    """
    plan, artifact, environment, stack = restore.plan, restore.artifact, restore.environment, restore.resources
    restore.inside += [{"what": ReportPhase.FILES.value, "root": p, "size": s} for p, s in plan.resize.items()]
    changes = [c for c in plan.changes if _changes_anything(restore, c)]
    if not changes and not restore.renamed and restore.ipc is None:
        return
    restore.lock.control.write(control_files.DIRTY, "")
    place = restore.place
    journal = stack.enter_context(Journal.create(environment.kubelet_pods, place.pod_uid, place.container))
    memory = {mount.point for mount in restore.seen.mounts if mount.fstype == "tmpfs"}
    for number, change in enumerate(changes):
        tar = artifact.open(change.tar)
        stack.callback(os.close, tar)
        names = {"root": change.root, "gone": change.gone, "emptied": change.emptied, "made": change.sockets}
        top = change.top.model_dump() if change.top is not None else None
        step = {
            "what": ReportPhase.FILES.value,
            "tar": tar,
            "own": change.own,
            "top": top,
            "durable": change.root != "/",  # the root file system ends with the container, a volume does not
            **names,
            **journal.step(number),
        }
        if change.root in memory:
            restore.inside.append(step)
        else:
            key, blake3 = f"{artifact.digest}/{change.tar}", artifact.manifest.files[change.tar].blake3
            members = archive_members(environment.file_members, key, tar, blake3, environment.verified)
            _change_from_outside(restore.init_pid, step, members, environment)
    _link_folders(restore, journal)


def archive_members(
    known: Known[Sequence[TarInfo]], key: str, tar: int, blake3: str, verified: VerifiedFiles | None
) -> Sequence[TarInfo]:
    """Return what is in an archive, read now or for an earlier restore.

    It is kept only if the file is still the one that was verified: another restore, which finds the right file, must
    not go by what was put in its place for a moment.

    Args:
        known: what was read before.
        key: of an archive with this content.
        tar: the file, open for reading.
        blake3: its sum.
        verified: files that were found right; None if all of them are read for every restore.
    """

    def may_keep(members: Sequence[TarInfo]) -> bool:
        return len(members) <= KEPT_MEMBERS and verified is not None and verified.knows(tar, blake3)

    return known.of(key, lambda: members_in(tar), may_keep)


def _link_folders(restore: Restore, journal: Journal) -> None:
    """Let criu find kubelet's dated folders by their former names; undone when it has."""
    environment, pod_uid = restore.environment, restore.place.pod_uid
    try:
        for point, name in restore.renamed:
            root = open_in_container(restore.init_pid, point, proc=environment.proc)
            try:
                mounted = os.fstat(root)
            finally:
                os.close(root)
            restore.links.append(dated_links.find_link(environment.kubelet_pods, pod_uid, mounted, name))
        journal.note_links(restore.links)
        for link in restore.links:
            dated_links.make(environment.kubelet_pods, pod_uid, link)
    except OSError as error:
        raise ContainerError(AgentReason.FILES_FAILED, f"cannot link kubelet's folders: {error}") from error


def take_files_back(restore: Restore) -> bool:
    """Undo what was put back; False if the container is not as its image says."""
    return restore.lock.is_awaited() and undo_files(restore.place, restore.lock, restore.init_pid, restore.environment)


def _change_from_outside(
    init_pid: int, step: Mapping[str, Any], members: Sequence[TarInfo], environment: NodeEnvironment
) -> None:
    try:
        root = open_in_container(init_pid, step["root"], proc=environment.proc)
        try:
            filetree.change(root, step, members)
        finally:
            os.close(root)
    except (OSError, FileTreeError) as error:
        raise ContainerError(AgentReason.FILES_FAILED, f"cannot put the worker's files back: {error}") from error


def _changes_anything(restore: Restore, change: Change) -> bool:
    if change.gone or change.emptied or change.sockets or _has_entries(restore.artifact, change):
        return True
    if change.top is None:
        return False
    root = open_in_container(restore.init_pid, change.root, proc=restore.environment.proc)
    try:
        return folder.describe(root) != change.top.model_dump()
    finally:
        os.close(root)


def _has_entries(found: Artifact, change: Change) -> bool:
    """Say whether a tar has entries; an empty one is two blocks of zeros, padded to 10 KiB."""
    fd = found.open(change.tar)
    try:
        return any(os.pread(fd, 512, 0))
    finally:
        os.close(fd)
