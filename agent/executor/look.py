"""Looks at a running container as a capture would before it freezes anything, and touches nothing."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.container.files.empty_dirs import mount_points
from agent.container.find import find_by_id, worker_of
from agent.container.inspection import inspect
from agent.errors import ContainerError
from agent.executor.acquire import STANDBY
from agent.executor.api import LookRequest, LookResult
from agent.executor.capture.plan import terminals
from agent.executor.environment import NodeEnvironment
from agent.executor.ipc.made import noted
from agent.preflight.checks import findings
from agent.preflight.facts import Terms, read_tree
from contract.api.memory import Memory
from contract.api.states import AgentReason
from linux.net.addresses import sole_addresses
from linux.proc import descendants, memory_sums, namespace_mates


def look(request: LookRequest, environment: NodeEnvironment) -> LookResult:
    """Return what is in the way of a capture of this container.

    A worker that standby started is looked at without standby; elsewhere the container's first process is the worker's.

    Raises:
        ContainerError: it does not run.
        OSError: it ended meanwhile.
    """
    place, proc = request.place, environment.proc
    found = find_by_id(place.pod_uid, place.container_id, environment.pod_groups, proc)
    if found is None:
        raise ContainerError(AgentReason.NO_WORKER, f"container {place.container} does not run on this node")
    mates = namespace_mates(found.init_pid, proc)
    root = worker_of(found.init_pid, mates) if found.program == STANDBY else None
    root_pid = root.pid if root is not None else found.init_pid
    pids = (root_pid, *descendants(root_pid, mates))
    seen = inspect(found.init_pid, proc)
    terms = Terms(
        empty_dirs=mount_points(found.init_pid, place.empty_dirs, seen.mounts, proc),
        writable_mounts=request.writable_mounts,
        own_addresses=() if request.through_pod else sole_addresses(found.init_pid, proc).values(),
        allow_unconfined=environment.allow_unconfined,
        unlinked_limit=environment.unlinked_limit,
        restored_objects=noted(environment.kubelet_pods, place),
    )
    tree = read_tree(found.init_pid, pids, terms, proc)
    in_the_way = [(AgentReason.TERMINAL, words) for words in terminals(seen)]
    in_the_way += [(each.reason, each.words) for each in findings(tree)]
    return LookResult(findings=tuple(in_the_way), processes=len(tree.processes), memory=_memory(pids, proc))


def _memory(pids: Sequence[int], proc: Path) -> Memory:
    resident = share = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            sums = memory_sums(pid, proc)
            resident, share = resident + sums.get("Rss", 0), share + sums.get("Pss", 0)
    return Memory(resident, share)
