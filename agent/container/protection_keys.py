"""Protection keys of a worker's processes: noted by a capture, and given again by a restore."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from agent.errors import ContainerError, CriuError
from artifact.parts.process import KeyedMemory, ProtectionKeys
from contract.api.states import AgentReason
from linux.proc import Status, status
from linux.ptrace import protection_keys
from linux.ptrace.lent_call import answer_of
from linux.ptrace.protection_keys import KeyRange, NoKeyError


def keys_of(pids: Iterable[int], proc: Path) -> list[ProtectionKeys]:
    """Return the keys of those processes that have any, and what is under them; on a node without keys none is asked.

    Args:
        pids: as numbered on the node.
        proc: /proc of the node.

    Raises:
        ContainerError: a process cannot be asked.
    """
    if not protection_keys.are_there():
        return []
    try:
        found = [answer_of(lambda pid: _of(pid, proc), pid, None) for pid in pids]
    except OSError as error:
        words = f"a process of the worker cannot be asked for its protection keys: {error}"
        raise ContainerError(AgentReason.DUMP_FAILED, words) from error
    return [each for each in found if each is not None]


def _of(pid: int, proc: Path) -> ProtectionKeys | None:
    if not (keys := protection_keys.allocated(pid)):
        return None
    memory = [_noted(each) for each in protection_keys.ranges(pid, proc)]
    return ProtectionKeys(process=status(pid, proc).inner_pid, keys=keys, memory=memory)


def _noted(found: KeyRange) -> KeyedMemory:
    return KeyedMemory(start=found.start, end=found.end, key=found.key, protection=found.protection)


def give_keys(tree: Mapping[int, Status], wanted: Sequence[ProtectionKeys]) -> None:
    """Give restored processes the keys that they had.

    Args:
        tree: processes that are stopped, by their pid on the node.
        wanted: as the manifest has them.

    Raises:
        CriuError: the kernel refuses.
    """
    of = {each.process: each for each in wanted}
    for pid, process in tree.items():
        if (each := of.get(process.inner_pid)) is None:
            continue
        try:
            protection_keys.give(
                pid, each.keys, [KeyRange(one.start, one.end, one.key, one.protection) for one in each.memory]
            )
        except (OSError, NoKeyError) as error:
            words = f"process {process.inner_pid} of the worker cannot have its protection keys again: {error}"
            raise CriuError(AgentReason.RESTORE_FAILED, words) from error
