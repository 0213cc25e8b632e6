"""Has criu dump a worker, and keeps what criu leaves out."""

from collections.abc import Sequence

from agent.container import network
from agent.container.amx import users_of_amx
from agent.container.databases import databases_of
from agent.container.network import in_namespace
from agent.container.protection_keys import keys_of
from agent.container.rights import of_container
from agent.container.thread_settings import own_settings
from agent.container.waits import endless_polls
from agent.criu.connections import CONNECTED, SEQUENCE, End, Fate, peers
from agent.criu.driver import CriuDump
from agent.criu.images.inet import settle, used_addresses
from agent.criu.images.mended import stopped_processes
from agent.criu.images.unix import bind_to
from agent.executor.capture.given_files import (
    Special,
    open_programs,
    refuse_late_queues,
    save_eventfds,
    save_programs,
    save_queues,
    special_files,
)
from agent.executor.capture.state import Capture
from agent.executor.ipc.capture import objects_in, refuse_late, refuse_undone, save_objects
from artifact.parts.process import Connections
from contract.api.reports import PEERS
from linux.ipc import mqueue
from linux.ipc.mqueue import QueueStatus
from linux.ipc.sysvipc import SysvObject


def dump(capture: Capture) -> None:
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


def _note_what_criu_leaves_out(capture: Capture) -> None:
    """Look at the processes as late as can be, and if they go on while they are stopped: it may change."""
    pids, flags, proc = capture.plan.pids, capture.plan.taken_on.cpu_flags, capture.environment.proc
    capture.polls = {**capture.polls, **endless_polls(pids, proc)}
    capture.amx = users_of_amx(pids, flags, proc)
    capture.protection_keys = keys_of(pids, proc)
    capture.settings = own_settings(pids, capture.init_pid, proc)
    capture.databases = databases_of(pids, proc, capture.databases)


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
