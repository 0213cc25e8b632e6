"""Whether processes of a worker may use AMX: noted by a capture, and asked for again by a restore.

criu carries the permission neither in its images nor by inheritance; linux/ptrace/amx.py says what a process is
without it.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from agent.errors import ContainerError, CriuError
from contract.api.states import AgentReason
from linux.proc import Status, status
from linux.ptrace import amx
from linux.ptrace.lent_call import answer_of


def users_of_amx(pids: Iterable[int], cpu_flags: Collection[str], proc: Path) -> list[int]:
    """Return those of some processes that may use AMX, as numbered inside the container.

    Args:
        pids: as numbered on the node.
        cpu_flags: instruction sets of the node, as /proc/cpuinfo names them; without AMX no process is asked.
        proc: where /proc is mounted.

    Raises:
        ContainerError: a process cannot be asked.
    """
    if amx.FLAG not in cpu_flags:
        return []
    try:
        return [status(pid, proc).inner_pid for pid in pids if answer_of(amx.may_use, pid, otherwise=False)]
    except OSError as error:
        words = f"a process of the worker cannot be asked whether it may use AMX: {error}"
        raise ContainerError(AgentReason.DUMP_FAILED, words) from error


def permit_amx(tree: Mapping[int, Status], users: Collection[int]) -> None:
    """Give restored processes the permission that they had.

    Args:
        tree: processes that are stopped, by their pid on the node.
        users: those to permit, as numbered inside the container.

    Raises:
        CriuError: the kernel refuses.
    """
    for pid, process in tree.items():
        if process.inner_pid not in users:
            continue
        try:
            amx.permit(pid)
        except OSError as error:
            words = f"process {process.inner_pid} of the worker could use AMX, and cannot here: {error.strerror}"
            raise CriuError(AgentReason.RESTORE_FAILED, words) from error
