"""Captures one container: dump, files, seal, verify, proof, publish; each a phase that is undone if a later one fails.

The worker's end is part of it: criu ends the tree that it has dumped, and standby ends with it.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from agent.container import network
from agent.container.amx import users_of_amx
from agent.container.databases import databases_of
from agent.container.files.empty_dirs import is_folder, mount_points
from agent.container.files.volumes import made_since
from agent.container.inspection import Worker, find_worker, inspect, surroundings
from agent.container.ipc import queues as message_queues
from agent.container.ipc.objects import remove
from agent.container.network import in_namespace
from agent.container.protection_keys import keys_of
from agent.container.questions.canary import NoAnswerError, ask, cannot_ask, wrong
from agent.container.questions.probe import askable
from agent.container.rights import of_container, refuse_wider_tree
from agent.container.sandbox import refuse_sandboxed
from agent.container.thread_settings import own_settings
from agent.container.waits import endless_polls
from agent.criu.connections import CONNECTED, SEQUENCE, End, Fate, peers
from agent.criu.driver import CriuDump
from agent.criu.images.inet import bound_ports, settle, used_addresses
from agent.criu.images.interrupted import make_again
from agent.criu.images.mended import stopped_processes
from agent.criu.images.own import read_in_place
from agent.criu.images.unix import bind_to
from agent.errors import ContainerError
from agent.executor.api import RestoreRequest
from agent.executor.capture.given_files import (
    Special,
    open_programs,
    refuse_late_queues,
    save_eventfds,
    save_programs,
    save_queues,
    special_files,
)
from agent.executor.capture.plan import plan_capture
from agent.executor.capture.state import Capture
from agent.executor.files.capture import WorkerFiles, start_of
from agent.executor.gpu.capture import (
    checkpoint_processes,
    describe_saved,
    lock_processes,
    look_at_gpus,
    restore_in_place,
    unlock_processes,
)
from agent.executor.gpu.device_memory import OutsideMemory, look_at_libraries
from agent.executor.gpu.find_weights import FIND_SECONDS, Finder, refer
from agent.executor.ipc.capture import objects_in, refuse_late, refuse_undone, save_objects
from agent.executor.ipc.made import noted
from agent.executor.phases import Phase
from agent.executor.proof import keep_hot_set, prove
from agent.executor.restore.state import Restore
from agent.executor.serving import Questions
from agent.executor.store import open_store, sums
from agent.gpu.preload import COPIERS
from agent.preflight.checks import findings, refuse
from agent.preflight.facts import Terms, Tree, read_tree
from agent.preflight.threads import refuse_headless
from artifact.manifest import DEVICE_MEMORY, IPC, QUEUES, Captured
from artifact.parts.process import Connections
from artifact.read import open_sealed, verify
from contract.api import control_files
from contract.api.reports import PEERS, ReportPhase
from contract.api.states import AgentReason
from linux.ipc import mqueue
from linux.ipc.mqueue import QueueStatus
from linux.ipc.sysvipc import SysvObject
from linux.net.addresses import sole_addresses

TRANSIENT_SECONDS: Final = 1.0
"""A socket of a name lookup, or a file that is being written, has ended by then."""


def _inspect(capture: Capture) -> None:
    """Look at the container, decide, and refuse whatever would not work."""
    request, environment, init_pid = capture.request, capture.environment, capture.init_pid
    if not capture.goes_on and (words := cannot_ask(request.canary, capture.lock.control.directory)):
        raise ContainerError(AgentReason.CANARY_FAILED, words)
    worker = find_worker(init_pid, environment.proc)
    if worker is None:
        refuse_headless(init_pid, environment.proc)
    if worker is not None and (use := look_at_gpus(worker, init_pid, environment)):
        found = look_at_libraries(use.processes, init_pid, environment.gpus, environment.proc)
        if found.held:
            capture.device_memory = OutsideMemory(environment.cuda, init_pid, found, environment.proc)
        capture.use = replace(use, outside={pid: each.bytes for pid, each in found.held.items()})
    make_plan(capture, worker if capture.use is None else None)  # of GPUs the look may have taken a while
    capture.store = open_store(request.base_path, init_pid, environment, through_pod=request.through_pod)
    capture.resources.callback(capture.store.close)
    capture.store.refuse_existing(request.checkpoint_id, request.version)
    capture.staged = capture.resources.enter_context(capture.store.stage(request.checkpoint_id))
    comparing = FIND_SECONDS if _may_be_in_weights(capture) else 0.0
    capture.lock.allow(environment.allowance(capture.plan.allowance_bytes) + comparing)


def make_plan(capture: Capture, worker: Worker | None = None, *, stands_still: bool = False) -> None:
    """Decide about the worker as it is now, and refuse what would not work.

    Args:
        capture: of what.
        worker: as it was just found; looked for without.
        stands_still: whether it is stopped.
    """
    environment, init_pid = capture.environment, capture.init_pid
    capture.seen = inspect(init_pid, environment.proc, with_ids=False)
    empty_dirs = mount_points(init_pid, capture.request.place.empty_dirs, capture.seen.mounts, environment.proc)
    request = replace(capture.request, place=replace(capture.request.place, empty_dirs=empty_dirs))
    capture.request = request
    worker = worker or find_worker(init_pid, environment.proc)
    around = surroundings(capture.seen, environment.criu.version(), environment.cgroup_root, environment.proc)
    if stands_still:  # its device memory has moved into it by now
        around = replace(around, headroom=None)
    plan = plan_capture(request, capture.seen, worker, around, capture.use)
    # A single file is what a container of the new pod writes, as its init containers do; it is compared, if it is open.
    folders = tuple(each for each in plan.volumes if is_folder(init_pid, each.point, environment.proc))
    capture.plan = replace(plan, volumes=folders)
    if not request.through_pod:
        capture.own_addresses = tuple(sole_addresses(init_pid, environment.proc).values())
    if worker is not None:
        tree = _preflight(capture, worker, stands_still=stands_still)
        capture.renamed = tree.renamed_sockets
        capture.lost_locks = any(process.loses_locks for process in tree.processes)
        rights = of_container(init_pid, environment.proc)
        if environment.allow_unconfined:
            rights = replace(rights, label=None)  # a worker that was restored without it has another
        refuse_wider_tree(worker.pids, rights, environment.proc)
        if not environment.allow_unconfined:
            refuse_sandboxed(worker.pids, init_pid, environment.proc)
        empty_dirs, started = request.place.empty_dirs, start_of(capture.lock.control)
        capture.files = WorkerFiles(
            init_pid, capture.seen, worker, capture.plan, environment, tree.written(), empty_dirs, started
        )
        capture.files.refuse()


def _preflight(capture: Capture, worker: Worker, *, stands_still: bool) -> Tree:
    """Refuse what is in the way, if it is there twice; return what was seen of the processes."""
    tree = _look(capture, worker)
    if found := findings(tree):
        if stands_still:
            refuse(found)
        time.sleep(TRANSIENT_SECONDS)
        tree = _look(capture, worker)
        again = findings(tree)
        refuse([finding for finding in found if finding in again])
    return tree


def _look(capture: Capture, worker: Worker) -> Tree:
    request = capture.request
    terms = Terms(
        empty_dirs=request.place.empty_dirs,
        writable_mounts=request.writable_mounts,
        own_addresses=capture.own_addresses,
        allow_unconfined=capture.environment.allow_unconfined,
        unlinked_limit=capture.environment.unlinked_limit,
        goes_on=capture.goes_on,
        restored_objects=noted(capture.environment.kubelet_pods, request.place),
    )
    proc = capture.environment.proc  # who waits in poll(2) is known as long as nothing has halted or stopped it
    capture.polls = {**capture.polls, **endless_polls(worker.pids, proc)}
    if capture.goes_on:  # so that little is left to search for once it is stopped
        capture.databases = databases_of(worker.pids, proc, capture.databases)
    tree = read_tree(capture.init_pid, worker.pids, terms, proc)
    made = made_since(capture.lock.control.read(control_files.MOUNTS), tree.mounts)
    return replace(tree, made_mounts=made)


def _needs_an_answer(capture: Capture) -> bool:
    call = capture.request.canary
    return call is not None and call.canary.same


def _ask_source(capture: Capture) -> None:
    """Have the worker answer its canary while it still serves: the restored one must say the same."""
    if (call := capture.request.canary) is None:
        return
    try:
        answer = ask(call, capture.init_pid, capture.lock.control.directory, capture.environment.proc)
    except NoAnswerError as error:
        raise ContainerError(AgentReason.CANARY_FAILED, f"the worker that is to be captured: {error}") from error
    if problem := wrong(call.canary, answer, None):
        raise ContainerError(AgentReason.CANARY_FAILED, f"the worker that is to be captured: {problem}")
    capture.answer = answer.sha256


def _uses_gpus(capture: Capture) -> bool:
    return bool(capture.plan.cuda_pids)


def _lock_gpus(capture: Capture) -> None:
    capture.cuda_pids = capture.plan.cuda_pids
    if capture.device_memory is not None:
        capture.device_memory.keep_out()
    lock_processes(capture.environment.cuda, capture.cuda_pids)


def _unlock_gpus(capture: Capture) -> bool:
    unlocked = unlock_processes(capture.environment.cuda, capture.cuda_pids)
    if capture.device_memory is not None:
        capture.device_memory.let_in()
    return unlocked


def _has_memory_outside(capture: Capture) -> bool:
    return capture.device_memory is not None


def _save_device_memory(capture: Capture) -> None:
    """Have device memory written to files of the artifact: the driver's own checkpoint then has little to move."""
    if (memory := capture.device_memory) is None:
        return
    names = {
        pid: [f"{DEVICE_MEMORY}{held.library.inner_pid}-{number}.img" for number in range(COPIERS)]
        for pid, held in memory.held.items()
    }
    capture.memory_files = {pid: [_new_file(capture, name) for name in of] for pid, of in names.items()}
    discards = not capture.goes_on
    memory.take_out(capture.memory_files, _gpu_seconds(capture), capture.before_release, discards=discards)
    capture.outside = describe_saved(memory, names, capture.use.devices if capture.use else ())


def _new_file(capture: Capture, name: str) -> int:
    descriptor = capture.staged.file(name)
    capture.resources.callback(os.close, descriptor)
    return descriptor


def _put_device_memory_back(capture: Capture) -> bool:
    if capture.device_memory is None:
        return True
    return capture.device_memory.put_back(capture.memory_files, _gpu_seconds(capture))


def _checkpoint_gpus(capture: Capture) -> None:
    checkpoint_processes(capture.environment.cuda, capture.cuda_pids, _gpu_seconds(capture))


def _restore_gpus(capture: Capture) -> bool:
    return restore_in_place(capture.environment.cuda, capture.cuda_pids, _gpu_seconds(capture))


def _gpu_seconds(capture: Capture) -> float:
    return capture.environment.allowance(capture.plan.gpu.bytes if capture.plan.gpu else 0)


def _note_what_criu_leaves_out(capture: Capture) -> None:
    """Look at the processes as late as can be, and if they go on while they are stopped: it may change."""
    pids, flags, proc = capture.plan.pids, capture.plan.taken_on.cpu_flags, capture.environment.proc
    capture.polls = {**capture.polls, **endless_polls(pids, proc)}
    capture.amx = users_of_amx(pids, flags, proc)
    capture.protection_keys = keys_of(pids, proc)
    capture.settings = own_settings(pids, capture.init_pid, proc)
    capture.databases = databases_of(pids, proc, capture.databases)


def _dump(capture: Capture) -> None:
    """Have criu write the tree's images into the staging directory."""
    environment, plan = capture.environment, capture.plan
    _note_what_criu_leaves_out(capture)
    objects = objects_in(capture.init_pid, environment.proc)
    programs = open_programs(plan.pids, environment.proc, capture.resources)
    special = special_files(plan.pids, environment.proc)
    queues = in_namespace("ipc", capture.init_pid, mqueue.queues, environment.proc)
    environment.criu.dump(
        CriuDump(
            init_pid=capture.init_pid,
            worker_pid=plan.worker_pid,
            images=capture.staged.directory,
            leave_running=capture.goes_on,
            with_ipc=bool(objects),
            given=[*programs.given, *special.given],
            timeout=environment.longest,
        )
    )
    bind_to(capture.staged.directory, capture.renamed)
    if not capture.goes_on:
        capture.stopped = stopped_processes(capture.staged.directory)
    fate = settle(capture.staged.directory, capture.own_addresses)
    capture.connections = _connections(capture, fate)
    if fate.closed and not capture.goes_on:
        severed = [_severed(end) for end in fate.closed if end.state in CONNECTED]
        network.hang_up(capture.init_pid, severed, environment.proc)
    _save_objects(capture, objects)
    capture.programs = save_programs(capture.staged, programs)
    capture.eventfds = save_eventfds(capture.staged, special.eventfds)
    _save_queues(capture, queues, special)


def _save_queues(capture: Capture, before: Sequence[QueueStatus], special: Special) -> None:
    """Save POSIX message queues, given what there was before the dump, and refuse what came since."""
    init_pid, proc = capture.init_pid, capture.environment.proc
    refuse_late_queues(before, in_namespace("ipc", init_pid, mqueue.queues, proc), goes_on=capture.goes_on)
    if before:
        capture.queues = save_queues(capture.staged, special.queues, init_pid, proc)


def _save_objects(capture: Capture, before: Sequence[SysvObject]) -> None:
    """Save System V objects, given what there was before the dump, and refuse what came since."""
    init_pid, proc = capture.init_pid, capture.environment.proc
    refuse_late(before, objects_in(init_pid, proc), goes_on=capture.goes_on)
    if before:
        capture.ipc = save_objects(capture.staged, before, of_container(init_pid, proc))
        if not capture.goes_on:
            refuse_undone(capture.ipc, init_pid, proc)


def _connections(capture: Capture, fate: Fate) -> Connections:
    return Connections(
        kept=len(fate.kept) + len(fate.ended),
        closed=len(fate.closed),
        peers=peers(fate)[:PEERS],
        addresses=used_addresses(capture.staged.directory, capture.own_addresses),
    )


def _severed(end: End) -> network.Severed:
    stream = end.stream
    return network.Severed(end.local, end.remote, (stream.written - stream.unsent) % SEQUENCE, stream.received)


def _save_files(capture: Capture) -> None:
    """Add what the worker keeps in files: its changes to the root file system, shared memory, volumes."""
    capture.saved = capture.files.save(capture.staged)


def _may_be_in_weights(capture: Capture) -> bool:
    """Say whether device memory may be left to files of a model: every library must find it there again."""
    held = capture.device_memory.held.values() if capture.device_memory is not None else ()
    said, environment = capture.request.refers_to_weights, capture.environment
    wanted = environment.refers_to_weights if said is None else said
    return wanted and environment.weight_matcher is not None and any(each.takes_ranges for each in held)


def _refer_to_weights(capture: Capture) -> None:
    """Take device memory out of the artifact that is in files of a model on the pod's volumes."""
    memory, environment = capture.device_memory, capture.environment
    if memory is None or environment.weight_matcher is None:
        return
    finder = Finder(
        environment.weight_matcher,
        capture.init_pid,
        capture.seen.init,
        capture.seen.mounts,
        capture.request.place.empty_dirs,
        environment.verified,
        environment.proc,
    )
    files = {pid: files for pid, files in capture.memory_files.items() if memory.held[pid].takes_ranges}
    found = finder.find(files)
    capture.outside = {**capture.outside, **refer(found, files, capture.outside, capture.staged)}
    capture.weights = found.weights


def _process(capture: Capture) -> dict[str, object]:
    """Return what is known of the processes only once they were dumped."""
    return {
        "stopped": capture.stopped,
        "amx": capture.amx,
        "protection_keys": capture.protection_keys,
        "settings": capture.settings,
        "lost_locks": capture.lost_locks,
        "databases": [each for each in capture.databases if each.places],
        "programs": capture.programs,
        "eventfds": capture.eventfds,
    }


def _seal(capture: Capture) -> None:
    make_again(capture.staged.directory, capture.polls)  # here, since a worker that goes on does so by now
    plan, request = capture.plan, capture.request
    outside = {"outside": list(capture.outside.values()), "weights": list(capture.weights)}
    captured = Captured(
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        taken_on=plan.taken_on,
        container=plan.container,
        process=plan.process.model_copy(update=_process(capture)),
        used_mounts=list(plan.used_mounts),
        rootfs=capture.saved.rootfs,
        volumes=capture.saved.volumes,
        held=capture.saved.held,
        gpu=plan.gpu.model_copy(update=outside) if plan.gpu else None,
        canary=capture.answer,
        connections=capture.connections,
        ipc=IPC if capture.ipc is not None else None,
        posix_queues=QUEUES if capture.queues is not None else None,
    )
    capture.published = capture.store.seal(capture.staged, request.checkpoint_id, request.version, captured)


def _verify(capture: Capture) -> None:
    """Open what was sealed as a restore would, and read all of it, but for what the proof will read as a restore does.

    It copies all that is not named here, and takes the sums of what it copies.
    """
    directory, digest = capture.staged.directory, capture.published.digest
    by = sums(through_pod=capture.request.through_pod)
    capture.artifact = open_sealed(directory, capture.request.checkpoint_id, digest, by)
    capture.resources.callback(capture.artifact.close)
    files = capture.artifact.manifest.files
    is_copied = _is_to_be_proved(capture) and not capture.goes_on
    verify(capture.artifact, capture.environment.verified, read_in_place(files) if is_copied else files)


def _is_to_be_proved(capture: Capture) -> bool:
    return capture.environment.proof


def _prove(capture: Capture) -> None:
    """Restore what was sealed, here: Ready means that it was restored once."""
    request = capture.request
    restore = Restore(request.place, capture.lock, capture.init_pid, capture.environment)
    restore.request = RestoreRequest(
        place=request.place,
        checkpoint_id=request.checkpoint_id,
        version=request.version,
        base_path=request.base_path,
        through_pod=request.through_pod,
        manifest_digest=capture.published.digest,
    )
    restore.artifact = capture.artifact
    if capture.queues is not None:
        message_queues.remove([each.name for each in capture.queues.queues], capture.init_pid, capture.environment.proc)
    if capture.ipc is not None:  # the restored worker has them too, under the same ids
        names = [(kind, each.id) for kind, each in capture.ipc.objects()]
        remove(names, capture.init_pid, capture.environment.proc)
    questions = Questions(askable(request.probe, capture.lock.control.directory), request.canary, capture.answer)
    ranges = prove(restore, capture.plan.pids, bound_ports(capture.staged.directory), questions)
    keep_hot_set(capture.staged, capture.published.digest, ranges, restore.memory or restore.engine.memory)


def _publish(capture: Capture) -> None:
    capture.store.publish(capture.staged, capture.request.checkpoint_id, capture.request.version)
    capture.is_published = True


def _withdraw(capture: Capture) -> bool:
    """Remove what was published: it has not been reported, and the next attempt may have its version."""
    if capture.is_published:
        capture.store.withdraw(capture.request.checkpoint_id, capture.request.version)
        capture.is_published = False
    return True


def _report(capture: Capture) -> None:
    capture.lock.captured()


CAPTURE: Final = (
    Phase(ReportPhase.INSPECT, _inspect),
    Phase(ReportPhase.CANARY, _ask_source, is_needed=_needs_an_answer),
    Phase(ReportPhase.GPU_LOCK, _lock_gpus, undo=_unlock_gpus, is_needed=_uses_gpus),
    Phase(ReportPhase.GPU_SAVE, _save_device_memory, undo=_put_device_memory_back, is_needed=_has_memory_outside),
    Phase(ReportPhase.GPU_CHECKPOINT, _checkpoint_gpus, undo=_restore_gpus, is_needed=_uses_gpus),
    Phase(ReportPhase.DUMP, _dump),
    Phase(ReportPhase.FILES, _save_files),
    Phase(ReportPhase.WEIGHTS, _refer_to_weights, is_needed=_may_be_in_weights),
    Phase(ReportPhase.SEAL, _seal),
    Phase(ReportPhase.VERIFY, _verify),
    Phase(ReportPhase.PROOF, _prove, is_needed=_is_to_be_proved),
    Phase(ReportPhase.PUBLISH, _publish, undo=_withdraw),
    Phase(ReportPhase.VERDICT, _report),
)
"""From a claimed container to a proved artifact. The staging directory ends with the context, whatever happens."""
