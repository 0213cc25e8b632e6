"""Processes in a Landlock sandbox, which criu does not carry: they are seen by what they may not look into."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

from agent.container.confinement import label_of
from agent.errors import ContainerError, RefusedError
from contract.api.states import AgentReason
from linux.proc import PROC, Status, status
from linux.ptrace import landlock
from linux.ptrace.lent_call import answer_of

_SYS_ADMIN: Final = 1 << 21
_ALLOW_A_LOOK: Final = ("", "cri-containerd.apparmor.d", "crio-default", "docker-default")
"""Profiles under which processes may look into each other; others may forbid that themselves."""
_STANDBY: Final = 1
"""The container's first process, as all in it number it: it is in no sandbox that the worker made."""


def refuse_sandboxed(pids: Iterable[int], init_pid: int, proc: Path = PROC) -> None:
    """Refuse a worker of which a process's first thread is in a Landlock sandbox.

    Raises:
        RefusedError: it is.
        ContainerError: a process cannot be asked.
    """
    if not landlock.is_there() or label_of(proc / str(init_pid)) not in _ALLOW_A_LOOK:
        return
    first = status(init_pid, proc)
    for pid in pids:
        about = _status(pid, proc)
        if about is None or not can_tell(about, first):
            continue
        if _is_sandboxed(pid, about.inner_pid):
            words = f"process {about.inner_pid} is in a Landlock sandbox, which it would not be when it is restored"
            raise RefusedError(AgentReason.CONFINEMENT_LOST, words)


def _is_sandboxed(pid: int, inner: int) -> bool:
    try:
        return answer_of(partial(landlock.is_kept_from, inner_pid=inner, other=_STANDBY), pid, otherwise=False)
    except OSError as error:
        words = f"process {inner} of the worker cannot be asked for a sandbox: {error}"
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
