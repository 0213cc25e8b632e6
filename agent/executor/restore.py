"""Restores an artifact into one locked container, phase by phase; what a failed restore did is undone in reverse.

The container is then as its image says, or the failure says that it is not: standby starts the worker cold, or has
kubelet restart the container.
"""

import itertools
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agent.container import dated_links, held_files, rootfs
from agent.container.confinement import expected_label, profile_of
from agent.container.dated_links import DatedLink
from agent.container.devices import gpu_minors
from agent.container.inspection import Inspection, inspect, open_in_container, surroundings
from agent.container.rights import Rights, of_container, refuse_wider_tree
from agent.container.rootfs import Changes
from agent.criu.connections import Endpoint, plan_addresses
from agent.criu.driver import CriuRestore
from agent.criu.image_labels import write_profile
from agent.criu.image_rights import refuse_wider_images
from agent.criu.inet_images import kept_ends, move_sockets
from agent.criu.own_images import own_images, read_in_place
from agent.criu.page_server import Lazy, PageServer
from agent.criu.shared_memory import Segment, empty
from agent.errors import ContainerError, CriuError
from agent.executor.api import ContainerRef, RestoreRequest
from agent.executor.environment import NodeEnvironment
from agent.executor.files.undo import end_leftovers, undo_files
from agent.executor.files.undo_journal import Journal
from agent.executor.gpu.device_memory import plan_loads, start_prefetches
from agent.executor.gpu.plan import GpuPlace, container_devices, pair_devices
from agent.executor.gpu.restore import await_freed, bring_back, find_cuda_processes
from agent.executor.lock import ContainerLock
from agent.executor.memory.guard import connect_guard
from agent.executor.memory.plan import plan_memory
from agent.executor.memory.shared import Pod, fill_shared, plan_shared
from agent.executor.phases import Phase
from agent.executor.restore_checks import CHECKS, PARK_CHECKS, Change, Place, RestorePlan, judge, plan_restore
from agent.executor.serving import NotServingError, Questions, await_answers, forget_woken, wake
from agent.executor.store import open_store
from agent.gpu.cuda import Device
from agent.gpu.prefetch import Prefetch
from artifact.manifest import DELETED_FILES
from artifact.read import Artifact, verify
from contract.api import control_files, keys
from contract.api.reports import MemoryRestore, ReportPhase, Step
from contract.api.states import AgentReason
from linux import filetree
from linux.addresses import sole_addresses
from linux.cgroup import cgroup_files
from linux.filetree import FileTreeError
from linux.proc import Status, descendants, namespace_mates, status
from linux.sockets import Address, connections

STOP_PATIENCE: Final = 3.0
"""Seconds: criu sends the stop and leaves; the kernel needs a moment to carry it out."""
logger = logging.getLogger(__name__)


@dataclass
class Restore:
    """One restore in progress: what it was asked for, and what its phases found and made."""

    place: ContainerRef
    lock: ContainerLock
    init_pid: int
    environment: NodeEnvironment
    request: RestoreRequest = field(init=False)
    """Set before the phases run; undoing them, as for a rejected pod, needs none."""
    resources: ExitStack = field(default_factory=ExitStack)
    artifact: Artifact = field(init=False)
    seen: Inspection = field(init=False)
    plan: RestorePlan = field(init=False)
    rights: Rights = field(init=False)
    """The container's."""
    profile: str = ""
    """Of AppArmor, for all of the tree."""
    moves: Mapping[Address, Address] = field(default_factory=dict)
    """Address of the capture's pod -> that of this one."""
    images: int = field(init=False)
    """Descriptor of the directory that criu restores from, which is the agent's own."""
    parked: str = ""
    """Digest of the manifest that the worker was parked of; empty if it was not."""
    ends: tuple[tuple[Endpoint, Endpoint], ...] = ()
    """Address and peer of each connection that criu restores."""
    renamed: list[tuple[str, str]] = field(default_factory=list)
    """Mount point and former name of kubelet's folders that criu is to find."""
    links: list[DatedLink] = field(default_factory=list)
    inside: list[dict[str, Any]] = field(default_factory=list)
    """Changes of files that are made by the helper that starts criu."""
    shared: tuple[Segment, ...] = ()
    """Memory that criu leaves empty, to be filled while the tree is stopped."""
    pages: PageServer | None = None
    """What fills the tree's memory; None if criu copied all of it."""
    memory: MemoryRestore = MemoryRestore.SWITCHED_OFF
    """How the tree's memory comes back; known once criu is done."""
    bypassed: Mapping[AgentReason, str] = field(default_factory=dict)
    """What is in the way, and was not to count."""
    devices: tuple[Device, ...] = ()
    """GPUs of the container; looked up only if there is device state."""
    tree: Mapping[int, Status] = field(default_factory=dict)
    """Every restored process, by host pid."""
    prefetches: Mapping[int, Sequence[Prefetch]] = field(default_factory=dict)
    """Device memory on its way to the card, by pid inside the container."""
    cuda_pids: tuple[int, ...] = ()
    """Host pids of those that may hold device memory."""


def refuse_late(restore: Restore) -> None:
    """Refuse to go on in a container that has started cold since: an agent may have stood still, or waited for storage.

    Raises:
        ContainerError: standby is not there any more.
    """
    if not restore.lock.is_awaited():
        words = "standby no longer waits: the restore took longer than it may, or the container has ended"
        raise ContainerError(AgentReason.ALREADY_STARTED, words)


def _open(restore: Restore) -> None:
    """Open the one artifact whose manifest the DynamoCheckpoint names."""
    request, environment = restore.request, restore.environment
    store = open_store(request.base_path, restore.init_pid, environment, through_pod=request.through_pod)
    restore.resources.callback(store.close)
    restore.artifact = store.open(request.checkpoint_id, request.version, request.manifest_digest)
    restore.resources.callback(restore.artifact.close)
    if _has_memory_outside(restore) and not request.parks:
        environment.prefetcher.prepare()  # it needs a moment to start, and checksums take longer
    answering = request.canary.canary.seconds if request.canary is not None else 0.0
    # Standby reads the first allowance of a claim, so it covers all attempts.
    restore.lock.allow(request.attempts * (environment.allowance(restore.artifact.size) + answering))


def _verify(restore: Restore) -> None:
    """Verify what is used from storage; what is copied is verified as it is copied."""
    verify(restore.artifact, restore.environment.verified, read_in_place(restore.artifact.manifest.files))


def _inspect(restore: Restore) -> None:
    """Compare the container and this node with those of the capture."""
    environment, artifact = restore.environment, restore.artifact
    _refuse_unknown_answer(restore)
    restore.seen = inspect(restore.init_pid, environment.proc)
    restore.images = _take_images(restore)
    deleted = Changes()
    if artifact.manifest.rootfs is not None:
        with os.fdopen(artifact.open(DELETED_FILES), "rb") as file:
            deleted = rootfs.parse_deleted(file.read())
    checks = PARK_CHECKS if restore.request.parks else CHECKS
    restore.bypassed = judge(artifact.manifest, place_of(restore), bypass_of(restore), checks)
    restore.plan = plan_restore(artifact.manifest, restore.seen, deleted)
    restore.rights = rights_of(restore)
    refuse_wider_images(restore.images, restore.rights)
    restore.renamed = held_files.check(restore.init_pid, artifact.manifest.held, environment.proc)
    if artifact.manifest.connections is not None:
        addresses = sole_addresses(restore.init_pid, environment.proc)
        restore.moves = plan_addresses(artifact.manifest.connections.addresses, addresses)


def rights_of(restore: Restore) -> Rights:
    """Return what the container may do, under the profile that its worker is restored with."""
    environment = restore.environment
    rights = of_container(restore.init_pid, environment.proc)
    restore.profile = profile_of(environment.proc / str(restore.init_pid))
    allowed = environment.allow_unconfined
    return replace(rights, label=expected_label(rights.label or "", restore.profile, allow_unconfined=allowed))


def _take_images(restore: Restore) -> int:
    environment = restore.environment
    with ExitStack() as during:
        namespace = None
        if restore.request.through_pod:
            namespace = os.open(environment.proc / str(restore.init_pid) / "ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            during.callback(os.close, namespace)
        return own_images(restore.artifact, environment.work, namespace, restore.resources)


def bypass_of(restore: Restore) -> frozenset[AgentReason]:
    """Return the checks whose word does not count, by the owner of the pod or of the node."""
    return restore.request.bypass | restore.environment.bypass


def place_of(restore: Restore) -> Place:
    """Return what the container has, its devices too if the worker has device state."""
    environment, seen, gpu = restore.environment, restore.seen, restore.artifact.manifest.gpu
    around = surroundings(seen, environment.criu.version(), environment.cgroup_root, environment.proc)
    if gpu is None:
        return Place(seen, around, restore.request.image)
    minors = gpu_minors(restore.init_pid, environment.proc)
    restore.devices = container_devices(environment.gpus.devices(), minors)
    gpus = GpuPlace(restore.devices, environment.gpus.driver(), environment.denied_drivers)
    return Place(seen, around, restore.request.image, gpus)


def _refuse_unknown_answer(restore: Restore) -> None:
    call = restore.request.canary
    if call is not None and call.canary.same and restore.artifact.manifest.canary is None:
        words = f"annotation {keys.ANN_CANARY} says same, but the captured worker was not asked; capture it again"
        raise ContainerError(AgentReason.CANARY_FAILED, words)


def _has_memory_outside(restore: Restore) -> bool:
    gpu = restore.artifact.manifest.gpu
    return gpu is not None and bool(gpu.outside)


def _start_prefetch(restore: Restore) -> None:
    gpu, devices = restore.artifact.manifest.gpu, restore.devices
    if gpu is not None and devices:
        prefetcher = restore.environment.prefetcher
        restore.prefetches = start_prefetches(restore.artifact, gpu, devices, prefetcher, restore.resources)


def _end_prefetch(restore: Restore) -> bool:
    for prefetch in itertools.chain.from_iterable(restore.prefetches.values()):
        prefetch.close()
    return True


def _put_files_back(restore: Restore) -> None:
    """Put files back, journaled. If there is nothing to put back, nothing is touched.

    Memory file systems are left to the helper: their pages count for the process that writes them, which must be in
    the pod's cgroups.
    """
    plan, artifact, environment, stack = restore.plan, restore.artifact, restore.environment, restore.resources
    restore.inside += [{"what": ReportPhase.FILES.value, "root": p, "size": s} for p, s in plan.resize.items()]
    changes = [c for c in plan.changes if c.gone or c.emptied or c.sockets or _has_entries(artifact, c)]
    if not changes and not restore.renamed:
        return
    restore.lock.control.write(control_files.DIRTY, "")
    place = restore.place
    journal = stack.enter_context(Journal.create(environment.kubelet_pods, place.pod_uid, place.container))
    memory = {mount.point for mount in restore.seen.mounts if mount.fstype == "tmpfs"}
    for number, change in enumerate(changes):
        tar = artifact.open(change.tar)
        stack.callback(os.close, tar)
        names = {"root": change.root, "gone": change.gone, "emptied": change.emptied, "made": change.sockets}
        step = {"what": ReportPhase.FILES.value, "tar": tar, "own": change.own, **names, **journal.step(number)}
        if change.root in memory:
            restore.inside.append(step)
        else:
            _change_from_outside(restore.init_pid, step, environment)
    _link_folders(restore, journal)


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


def _undo_files(restore: Restore) -> bool:
    return restore.lock.is_awaited() and undo_files(restore.place, restore.lock, restore.init_pid, restore.environment)


def _run_criu(restore: Restore) -> Sequence[Step]:
    """Have criu restore the tree, stopped; answers the steps within."""
    environment, init_pid = restore.environment, restore.init_pid
    _change_images(restore)
    with ExitStack() as during:  # the server has the connection to standby; a copy of ours would hide its end
        request = CriuRestore(
            init_pid=init_pid,
            images=restore.images,
            cgroup_files=cgroup_files(restore.seen.cgroups, environment.cgroup_root),
            keeps_connections=restore.artifact.manifest.connections is not None,
            inherit={what: _standby_fd(restore, number) for what, number in restore.plan.inherit.items()},
            lazy=_lazy(restore, during),
            has_profile=bool(restore.profile),
            file_changes=restore.inside,
            timeout=environment.allowance(restore.artifact.size),
        )
        restored = environment.criu.restore(request)
    restore.pages = restored.pages
    if restored.copied_because:
        logger.warning("memory is copied", extra={"reason": restored.copied_because})
        restore.memory = MemoryRestore.NO_SERVER
    with suppress(OSError):  # one that stays is harmless
        for link in restore.links:
            dated_links.remove(environment.kubelet_pods, restore.place.pod_uid, link)
    return restored.steps


def _change_images(restore: Restore) -> None:
    """Put this pod's address into the images, and leave to us what we fill faster."""
    restore.shared = plan_shared(restore.images, enabled=restore.environment.lazy_pages)
    if restore.moves:
        move_sockets(restore.images, restore.moves)
    if restore.profile:
        write_profile(restore.images, restore.profile)
    if (kept := restore.artifact.manifest.connections) is not None and kept.kept:
        restore.ends = tuple(kept_ends(restore.images))
    empty(restore.images, restore.shared)


def _lazy(restore: Restore, during: ExitStack) -> Lazy | None:
    restore.memory = plan_memory(
        restore.artifact.manifest,
        enabled=restore.environment.lazy_pages,
        lost_before=restore.lock.control.has(control_files.PAGES_LOST),
    )
    if restore.memory is not MemoryRestore.WHILE_RUNNING:
        return None
    guard = connect_guard(restore.lock.control, restore.init_pid)
    if guard is None:
        return Lazy(guard=None)
    during.callback(guard.close)
    return Lazy(guard=guard.fileno())


def _end_tree(restore: Restore) -> bool:
    # Standby ends what a restore left before it starts cold, and what is there then is not ours.
    ended = restore.lock.is_awaited() and end_leftovers(restore.init_pid, restore.environment.proc)
    if restore.pages is not None:
        restore.pages.stop()  # not before: until then it is what keeps the tree from running with holes
    return ended


def _await_tree(restore: Restore) -> None:
    try:
        restore.tree = await_stopped(restore.init_pid, restore.plan.worker_pid, restore.environment.proc)
    except ContainerError:
        if restore.pages is not None:
            restore.pages.refuse_ended()  # standby has ended the tree: this says why
        raise
    # What criu made of the images, whatever they said.
    refuse_wider_tree(restore.tree, restore.rights, restore.environment.proc)
    _check_connections(restore)


def _check_connections(restore: Restore) -> None:
    """Refuse a tree that lost a connection: the kernel ends one whose segment comes before its other end is there."""
    if not restore.ends:
        return
    found = set(connections(restore.init_pid, restore.environment.proc))
    lost = [end for end in restore.ends if end not in found]
    if lost:
        words = f"{len(lost)} connections within the worker did not come back, the first to {lost[0][1]}"
        raise CriuError(AgentReason.RESTORE_FAILED, words)


def _has_device_state(restore: Restore) -> bool:
    return restore.artifact.manifest.gpu is not None


def _restore_gpus(restore: Restore) -> Sequence[Step]:
    """Give the tree its device memory back. No thread of it runs before or after. Answers the steps within."""
    gpu, environment = restore.artifact.manifest.gpu, restore.environment
    if gpu is None:
        return ()
    threads = find_cuda_processes(environment.cuda, restore.tree, gpu.processes)
    restore.cuda_pids = tuple(threads)
    pairs = pair_devices(gpu, restore.devices)
    loads = plan_loads(
        restore.tree,
        restore.init_pid,
        restore.artifact,
        restore.resources,
        restore.prefetches,
        through_pod=restore.request.through_pod,
        proc=environment.proc,
    )
    seconds = environment.allowance(gpu.bytes)
    filling = bring_back(environment.cuda, list(restore.tree), threads, pairs, loads, seconds)
    _await_tree(restore)
    return filling


def _free_gpus(restore: Restore) -> bool:
    """End the tree, and see that its device memory is free: a failed restore cannot be made good, only ended."""
    ended = _end_tree(restore)
    return (not restore.cuda_pids or await_freed(restore.environment.gpus, restore.cuda_pids)) and ended


def _is_filled_by_us(restore: Restore) -> bool:
    return restore.pages is not None or bool(restore.shared)


def _await_pages(restore: Restore) -> None:
    """Wait until the worker may run: standby holds its memory beside the page server, or all of it is there."""
    environment = restore.environment
    seconds = environment.allowance(restore.artifact.size)
    if restore.shared:
        cgroups = cgroup_files(restore.seen.cgroups, environment.cgroup_root)
        pod = Pod(restore.init_pid, cgroups, environment.proc)
        fill_shared(restore.shared, restore.images, restore.tree, pod, seconds)
    if restore.pages is not None and (not restore.pages.is_guarded(seconds) or restore.request.parks):
        restore.pages.await_filled(seconds)
        restore.pages = None
        restore.memory = MemoryRestore.PARKED if restore.request.parks else MemoryRestore.FILLED_FIRST
    _refuse_ended(restore)


def _refuse_ended(restore: Restore) -> None:
    """Refuse a tree of which a process is ended: at a memory limit the kernel ends those that are stopped too."""
    ended = [mate.inner_pid for mate in restore.tree.values() if not _is_stopped(mate.pid, restore.environment.proc)]
    if ended:
        if restore.pages is not None:
            restore.pages.refuse_ended()  # standby has ended the tree: this says why
        words = f"process {ended[0]} of the worker was ended while its memory was filled: the pod's memory limit?"
        raise CriuError(AgentReason.RESTORE_FAILED, words)


def _is_stopped(pid: int, proc: Path) -> bool:
    with suppress(OSError):
        return status(pid, proc).state == "T"
    return False


def _has_canary(restore: Restore) -> bool:
    return restore.request.canary is not None


def to_wake(restore: Restore) -> list[int]:
    """Host pids of the restored processes that ran when they were captured."""
    return [pid for pid, status in restore.tree.items() if status.inner_pid not in restore.plan.stopped]


def _ask_canary(restore: Restore) -> None:
    """Have the worker answer its owner's question before it serves other clients."""
    # From here on the worker may write: a cold start in place would find what it left.
    restore.lock.control.write(control_files.DIRTY, "")
    wake(to_wake(restore), restore.lock.control, context(restore.request))
    questions = Questions(canary=restore.request.canary, answer=restore.artifact.manifest.canary)
    try:
        await_answers(questions, restore.tree, restore.init_pid, restore.environment.proc)
    except NotServingError as error:
        raise ContainerError(AgentReason.CANARY_FAILED, str(error)) from error


def _forget_canary(restore: Restore) -> bool:
    """Forget that the worker was awake; what it did cannot be taken back, so kubelet starts its container again."""
    if not restore.lock.is_awaited():
        return False
    was_awake = restore.lock.control.has(control_files.RESTORE_COMPLETE)
    forget_woken(restore.lock.control)
    return not was_awake


def _hand_over(restore: Restore) -> None:
    """Give standby its verdict; it then wakes the tree."""
    worker_pid = restore.plan.worker_pid
    restore.lock.control.write(control_files.RESTORE_CONTEXT, context(restore.request))
    if restore.pages is not None:
        restore.pages.refuse_ended()
    restore.artifact.refuse_changed(read_in_place(restore.artifact.manifest.files))
    restore.lock.restored(worker_pid, restore.plan.stopped)


RESTORE: Final = (
    Phase(ReportPhase.OPEN, _open),
    Phase(ReportPhase.VERIFY, _verify),
    Phase(ReportPhase.INSPECT, _inspect),
    Phase(ReportPhase.GPU_PREFETCH, _start_prefetch, undo=_end_prefetch, is_needed=_has_memory_outside),
    Phase(ReportPhase.FILES, _put_files_back, undo=_undo_files),
    Phase(ReportPhase.ENTER, _run_criu, undo=_end_tree),
    Phase(ReportPhase.LOOK, _await_tree),
    Phase(ReportPhase.PAGES, _await_pages, is_needed=_is_filled_by_us),
    Phase(ReportPhase.GPU_RESTORE, _restore_gpus, undo=_free_gpus, is_needed=_has_device_state),
    Phase(ReportPhase.CANARY, _ask_canary, undo=_forget_canary, is_needed=_has_canary),
    Phase(ReportPhase.VERDICT, _hand_over),
)
"""From a waiting container to a restored one. The verdict is the last step: nothing can fail after it."""


def _standby_fd(restore: Restore, number: int) -> int:
    """Open standby's own standard stream, which leads to the log of this container."""
    flags = os.O_RDONLY if number == 0 else os.O_WRONLY
    path = restore.environment.proc / str(restore.init_pid) / "fd" / str(number)
    fd = os.open(path, flags | os.O_CLOEXEC)
    restore.resources.callback(os.close, fd)
    return fd


def _change_from_outside(init_pid: int, step: Mapping[str, Any], environment: NodeEnvironment) -> None:
    try:
        root = open_in_container(init_pid, step["root"], proc=environment.proc)
        try:
            filetree.change(root, step)
        finally:
            os.close(root)
    except (OSError, FileTreeError) as error:
        raise ContainerError(AgentReason.FILES_FAILED, f"cannot put the worker's files back: {error}") from error


def _has_entries(found: Artifact, change: Change) -> bool:
    """Say whether a tar has entries; an empty one is two blocks of zeros, padded to 10 KiB."""
    fd = found.open(change.tar)
    try:
        return any(os.pread(fd, 512, 0))
    finally:
        os.close(fd)


def await_stopped(init_pid: int, worker_pid: int, proc: Path) -> dict[int, Status]:
    """Wait until the restored root is standby's child and stopped, and all of its tree with it; return the tree.

    Raises:
        ContainerError: it is not.
    """
    end = time.monotonic() + STOP_PATIENCE
    while True:
        mates = namespace_mates(init_pid, proc)
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


def context(request: RestoreRequest) -> str:
    """Return the content of ``restore-context.json``: where the worker continues."""
    place = request.place
    return json.dumps(
        {
            "checkpointId": request.checkpoint_id,
            "namespace": place.namespace,
            "podName": place.pod,
            "podUID": place.pod_uid,
            "containerName": place.container,
        }
    )
