"""Looks at a worker before anything is touched: what a capture will do, what it refuses, what the worker answers."""

import time
from dataclasses import replace
from typing import Final

from agent.container.databases import databases_of
from agent.container.files.empty_dirs import is_folder, mount_points
from agent.container.files.volumes import made_since
from agent.container.inspection import Worker, find_worker, inspect, surroundings
from agent.container.questions.canary import NoAnswerError, ask, cannot_ask, wrong
from agent.container.rights import of_container, refuse_wider_tree
from agent.container.sandbox import refuse_sandboxed
from agent.container.waits import endless_polls
from agent.errors import ContainerError
from agent.executor.capture.devices import may_be_in_weights
from agent.executor.capture.plan import plan_capture
from agent.executor.capture.state import Capture
from agent.executor.files.capture import WorkerFiles, start_of
from agent.executor.gpu.capture import (
    look_at_gpus,
)
from agent.executor.gpu.device_memory import OutsideMemory, look_at_libraries
from agent.executor.gpu.find_weights import FIND_SECONDS
from agent.executor.ipc.made import noted
from agent.executor.store import open_store
from agent.preflight.checks import findings, refuse
from agent.preflight.facts import Terms, Tree, read_tree
from agent.preflight.threads import refuse_headless
from contract.api import control_files
from contract.api.states import AgentReason
from linux.net.addresses import sole_addresses

TRANSIENT_SECONDS: Final = 1.0
"""A socket of a name lookup, or a file that is being written, has ended by then."""


def inspect_worker(capture: Capture) -> None:
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
    comparing = FIND_SECONDS if may_be_in_weights(capture) else 0.0
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
        # Before it is stopped, so that nothing is left to search for then; after what is refused for being opened.
        capture.databases = databases_of(worker.pids, environment.proc, capture.databases)
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
    tree = read_tree(capture.init_pid, worker.pids, terms, proc)
    made = made_since(capture.lock.control.read(control_files.MOUNTS), tree.mounts)
    return replace(tree, made_mounts=made)


def needs_an_answer(capture: Capture) -> bool:
    """Say whether the restored worker must answer as this one does."""
    call = capture.request.canary
    return call is not None and call.canary.same


def ask_source(capture: Capture) -> None:
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
