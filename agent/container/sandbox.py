"""Processes that have forbidden themselves what criu does not carry: Landlock sandboxes, PR_SET_MDWE."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.container.confinement import label_of
from agent.errors import ContainerError, RefusedError
from contract.api.states import AgentReason
from linux.proc import PROC, Status, status
from linux.ptrace import sandboxes
from linux.ptrace.lent_call import answer_of
from linux.ptrace.sandboxes import Forbidden

_SYS_ADMIN: Final = 1 << 21
_ALLOW_A_LOOK: Final = ("", "cri-containerd.apparmor.d", "crio-default", "docker-default")
"""Profiles under which processes may look into each other; others may forbid that themselves."""
_KINDS: Final = ("user", "pid")
_STANDBY: Final = 1
"""The container's first process, as all in it number it: it is in no sandbox that the worker made."""


def refuse_sandboxed(pids: Iterable[int], init_pid: int, proc: Path = PROC) -> None:
    """Refuse a worker of which a process has forbidden itself what a restored one could do.

    Raises:
        RefusedError: it has, or is in a Landlock sandbox; of the sandbox of one thread only the first is seen.
        ContainerError: a process cannot be asked.
    """
    if not sandboxes.can_be_asked():
        return
    first, has_landlock = status(init_pid, proc), sandboxes.has_landlock()
    may_look = has_landlock and label_of(proc / str(init_pid)) in _ALLOW_A_LOOK
    for pid in pids:
        if (about := _status(pid, proc)) is None:
            continue
        may_tell = may_look and can_tell(about, first) and _shares_namespaces(pid, init_pid, proc)
        found = _asked(pid, about, _STANDBY if may_tell else None)
        if found.written_programs:
            words = "has forbidden itself memory that can be written and run (PR_SET_MDWE)"
            raise RefusedError(
                AgentReason.CONFINEMENT_LOST, f"process {about.inner_pid} {words}: a restore forgets that"
            )
        if found.looks:
            words = f"process {about.inner_pid} is in a Landlock sandbox, which it would not be when it is restored"
            raise RefusedError(AgentReason.CONFINEMENT_LOST, words)


def _shares_namespaces(pid: int, other: int, proc: Path) -> bool:
    """Say whether process ids and capabilities mean the same to both."""
    try:
        return all(
            (proc / f"{pid}/ns/{kind}").readlink() == (proc / f"{other}/ns/{kind}").readlink() for kind in _KINDS
        )
    except OSError:  # it has ended
        return False


def _asked(pid: int, about: Status, other: int | None) -> Forbidden:
    try:
        return answer_of(lambda pid: sandboxes.forbidden(pid, about.inner_pid, other), pid, otherwise=Forbidden())
    except OSError as error:
        words = f"process {about.inner_pid} of the worker cannot be asked what confines it: {error}"
        raise ContainerError(AgentReason.DUMP_FAILED, words) from error


def can_tell(about: Status, first: Status) -> bool:
    """Say whether a process may be in a sandbox, and nothing else would keep it from a look at the first; pure."""
    may_be = about.no_new_privileges or bool(about.capabilities["CapPrm"] & _SYS_ADMIN)
    has_no_less = not first.capabilities["CapPrm"] & ~about.capabilities["CapPrm"]
    return may_be and has_no_less and (about.users, about.user_groups) == (first.users, first.user_groups)


def _status(pid: int, proc: Path) -> Status | None:
    try:
        return status(pid, proc)
    except OSError:  # it has ended
        return None
