"""Record locks of files that their process has mapped too: criu loses them, so restored processes take them again."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from agent.errors import CriuError
from contract.api.states import AgentReason
from linux.descriptors import Descriptor
from linux.mapped import mapped_files
from linux.proc import Status
from linux.ptrace.lent_call import OtherCallsError
from linux.ptrace.record_locks import RecordLock, missing, take


def has_lost_locks(opened: Iterable[Descriptor], maps: str) -> bool:
    """Say whether a restore by criu alone would lose locks of a process.

    Args:
        opened: its descriptors.
        maps: the text of its maps.
    """
    locked = {descriptor.target for descriptor in opened if descriptor.is_locked}
    return bool(locked) and not locked.isdisjoint(mapped_files(maps))


def take_again(tree: Mapping[int, Status], wanted: Mapping[int, Sequence[RecordLock]], proc: Path) -> None:
    """Have restored processes take the locks that they have no more.

    Args:
        tree: processes that are stopped, by their pid on the node.
        wanted: by process, as numbered inside the container.
        proc: /proc of the node.

    Raises:
        CriuError: the kernel refuses.
    """
    for pid, process in tree.items():
        if (locks := wanted.get(process.inner_pid)) is None:
            continue
        try:
            if lost := missing(pid, locks, proc):
                take(pid, lost)
        except BlockingIOError as error:
            words = f"{error.filename} of process {process.inner_pid} is locked by another container of the pod"
            raise CriuError(AgentReason.RESTORE_FAILED, words) from error
        except (OSError, OtherCallsError) as error:
            why = error if isinstance(error, OSError) else "it is of 32 bits"
            words = f"process {process.inner_pid} of the worker cannot have its record locks again: {why}"
            raise CriuError(AgentReason.RESTORE_FAILED, words) from error
