"""What a process may do, and what of it the first process of its container may not."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Final

from agent.container.confinement import has_module, label_of
from agent.errors import RefusedError
from contract.api.states import AgentReason
from linux.proc import CAPABILITY_SETS, PROC, pids, read_plainly, status
from linux.ptrace.seccomp import FILTER, filters
from linux.seccomp.program import decides_alike
from linux.seccomp.strictness import is_as_strict

CHOWN, SETGID, SETUID, SYS_RESOURCE = 0, 6, 7, 24
"""Numbers of capabilities: with them a process gives files away, itself other groups, other users, higher limits."""
UNLIMITED: Final = (1 << 64) - 1
_NAMESPACES: Final = ("ipc", "mnt", "net", "pid", "user", "uts")
_LIMIT: Final = re.compile(r"^Max .{21} *\S+ +(\S+)", re.MULTILINE)
"""The hard one. Lines of /proc/PID/limits are in the order of the numbers of the limits."""
_STATUS: Final = re.compile(rb"^(Uid|Gid|Groups|NoNewPrivs|Seccomp|Cap(?:Prm|Eff|Inh|Amb|Bnd)):\t(.*)$", re.MULTILINE)
"""What /proc/PID/status says of rights."""


@dataclass(frozen=True)
class Rights:
    """Of one thread."""

    users: frozenset[int]
    """Real, effective, saved, and of its files."""
    groups: frozenset[int]
    """The same, and the supplementary ones."""
    capabilities: Mapping[str, int]
    """By ``linux.proc.CAPABILITY_SETS``."""
    no_new_privileges: bool
    seccomp: int | None
    """Mode as in /proc; None if it is that of the process's first thread, whatever that is."""
    filters: tuple[bytes, ...] | None = None
    """Of seccomp, the oldest first; None if they were not read."""
    label: str | None = ""
    """Profile of AppArmor, or context of SELinux; empty without, None if it is not compared."""
    limits: tuple[int, ...] = ()
    """Hard limits by number; empty if they were not read."""
    namespaces: tuple[str, ...] = ()
    """As /proc names them; empty if they were not read."""


def wider(wanted: Rights, container: Rights) -> Iterator[str]:
    """Yield what is wanted and is not the container's; pure."""
    permitted = container.capabilities["CapPrm"]
    for name in CAPABILITY_SETS:
        allowed = {"CapBnd": 0, "CapInh": permitted}.get(name, permitted)
        allowed |= container.capabilities[name]
        if extra := wanted.capabilities[name] & ~allowed:
            yield f"capabilities {extra:#x} ({name})"
    if (users := wanted.users - container.users) and not permitted >> SETUID & 1:
        yield f"users {sorted(users)}"
    if (groups := wanted.groups - container.groups) and not permitted >> SETGID & 1:
        yield f"groups {sorted(groups)}"
    if container.no_new_privileges and not wanted.no_new_privileges:
        yield "new privileges by programs that it runs (no_new_privs is off)"
    if wanted.namespaces and wanted.namespaces != container.namespaces:
        yield "namespaces of its own"
    yield from _freer(wanted, container)
    if not permitted >> SYS_RESOURCE & 1:
        pairs = zip_longest(wanted.limits, container.limits, fillvalue=0)
        higher = [number for number, (then, now) in enumerate(pairs) if then > now]
        if higher:
            yield f"hard limits {higher} are higher"


def _freer(wanted: Rights, container: Rights) -> Iterator[str]:
    if container.seccomp and wanted.seccomp == 0:
        yield "no seccomp filter"
    elif wanted.filters is not None and not _are_as_strict(wanted.filters, container.filters or ()):
        yield "seccomp filters that may let through what the container's stop"
    if None not in (wanted.label, container.label) and wanted.label != container.label:
        yield f"security label {wanted.label or 'unconfined'}, not {container.label or 'unconfined'}"


def _are_as_strict(filters: Sequence[bytes], own: Sequence[bytes]) -> bool:
    """Say whether filters begin with such as stop what the container's own stop, of an older runtime for example."""
    pairs = zip(filters, own, strict=False)
    return len(filters) >= len(own) and all(decides_alike(*pair) or is_as_strict(*pair) for pair in pairs)


def of_container(init_pid: int, proc: Path = PROC) -> Rights:
    """Return the rights of a container: those of its first process, which the runtime has started.

    Raises:
        RefusedError: its seccomp filters cannot be read.
        OSError: it has ended.
    """
    found = _process(proc / str(init_pid))
    try:
        return replace(found, filters=filters(init_pid)) if found.seccomp == FILTER else found
    except OSError as error:
        words = f"the container's seccomp filters cannot be read: {error}"
        raise RefusedError(AgentReason.IMAGES_WIDER, words) from error


def refuse_wider_tree(tree: Iterable[int], container: Rights, proc: Path = PROC) -> None:
    """Refuse processes if any has more than its container; one that ends meanwhile is passed over.

    Args:
        tree: host pids.
        container: what there is to have.
        proc: /proc of the node.

    Raises:
        RefusedError: ``images-wider``.
    """
    fine: Rights | None = None
    for pid in tree:
        base = proc / str(pid)
        with suppress(FileNotFoundError, ProcessLookupError):
            inner = status(pid, proc).inner_pid
            refuse(inner, _process(base), container)
            is_labelled = has_module(base)
            for number in pids(base / "task"):
                found = _thread(f"{base}/task/{number}", is_labelled=is_labelled)
                if found is not fine:  # threads of a process mostly have the same
                    refuse(inner, found, container)
                    fine = found


def refuse(inner_pid: int, wanted: Rights, container: Rights) -> None:
    """Refuse a process, by its pid inside the container, that would have more than the container.

    Raises:
        RefusedError: ``images-wider``.
    """
    if problems := list(wider(wanted, container)):
        words = f"process {inner_pid} of the worker has more than its container gives it: {'; '.join(problems)}"
        raise RefusedError(AgentReason.IMAGES_WIDER, words)


def _process(base: Path) -> Rights:
    limits = _LIMIT.findall((base / "limits").read_text())
    return replace(
        _thread(str(base)),
        limits=tuple(UNLIMITED if word == "unlimited" else int(word) for word in limits),
        namespaces=tuple(str((base / "ns" / kind).readlink()) for kind in _NAMESPACES),
    )


def _thread(task: str, *, is_labelled: bool = True) -> Rights:
    found = tuple(_STATUS.findall(read_plainly(f"{task}/status")))
    return _rights(found, label_of(task) if is_labelled else "")


@lru_cache  # so that the same are one object
def _rights(found: tuple[tuple[bytes, bytes], ...], label: str) -> Rights:
    fields = {name.decode(): text.decode() for name, text in found}
    return Rights(
        users=frozenset(map(int, fields["Uid"].split())),
        groups=frozenset(map(int, f"{fields['Gid']} {fields['Groups']}".split())),
        capabilities={name: int(fields[name], 16) for name in CAPABILITY_SETS},
        no_new_privileges=fields["NoNewPrivs"] == "1",
        seccomp=int(fields["Seccomp"]),
        label=label,
    )
