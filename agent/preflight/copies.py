"""What of descriptors shows only in a copy of them.

A copy costs some calls, and a worker may have ten thousand descriptors: only those are made that may show something.
"""

import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from linux.copied import has_program, is_corked, is_hung_up, is_in_far_groups, signals_thread
from linux.descriptors import Descriptor
from linux.proc import Status

if TYPE_CHECKING:
    from agent.preflight.facts import Process

_MASTERS: Final = ("/dev/ptmx", "/dev/pts/ptmx")
_MAY_LOAD: Final = 1 << 21 | 1 << 39
"""CAP_SYS_ADMIN, CAP_BPF: without one a process loads no eBPF programs, where the node keeps them to these."""
_FOR_DESCRIPTORS: Final = 1 << (signal.SIGIO - 1) | ~((1 << 34) - 1)
"""Signals that a descriptor may send and not end its process: SIGIO, and those in real time that are not the C
library's own.
"""
_FILTERED: Final = ("TCP", "UDP", "RAW", "PING", "PACKET", "NETLINK")
"""Protocols of sockets that are asked for an eBPF program: a worker may have ten thousand Unix sockets."""
Where = frozenset[tuple[int, int]]
"""Process (inside) and number of descriptors."""


def may_load_programs(about: Status, proc: Path) -> bool:
    """Say whether a process may load eBPF programs."""
    if about.capabilities["CapBnd"] & _MAY_LOAD:
        return True
    with suppress(OSError):
        return (proc / "sys/kernel/unprivileged_bpf_disabled").read_text().strip() == "0"
    return False


def may_be_signalled(about: Status) -> bool:
    """Say whether a process has several threads, and awaits signals of descriptors."""
    return about.threads > 1 and bool(about.awaited_signals & _FOR_DESCRIPTORS)


def odd_sockets(by_pid: "Mapping[int, Process]") -> dict[tuple[int, int], str]:
    """Return what criu fails at or forgets of sockets, in words."""
    looks: list[tuple[Callable[[Process, Descriptor], bool], Callable[[int, int], bool], str]] = [
        (
            lambda _, each: each.protocol.startswith("UDP"),
            is_corked,
            "a UDP socket that holds back what is sent (UDP_CORK)",
        ),
        (lambda _, each: each.protocol == "NETLINK", is_in_far_groups, "a netlink socket in a group above 32"),
        (
            lambda process, each: process.may_load_programs and each.protocol.startswith(_FILTERED),
            has_program,
            "a socket that an eBPF program filters (SO_ATTACH_BPF)",
        ),
    ]  # fmt: skip
    return {where: words for kind, is_so, words in looks for where in _seen(by_pid, kind, is_so)}


def hung_up(by_pid: "Mapping[int, Process]") -> Where:
    """Return masters of pseudo-terminals whose other end was closed."""
    return _seen(by_pid, lambda _, each: each.target in _MASTERS, is_hung_up)


def signals_threads(by_pid: "Mapping[int, Process]") -> Where:
    """Return descriptors that signal another thread than a process's first."""
    return _seen(
        by_pid,
        lambda process, each: each.is_async or (process.may_be_signalled and each.socket is not None),
        signals_thread,
    )


def _seen(
    by_pid: "Mapping[int, Process]",
    is_of_kind: "Callable[[Process, Descriptor], bool]",
    is_so: Callable[[int, int], bool],
) -> Where:
    return frozenset(
        (process.pid, number)
        for pid, process in by_pid.items()
        for number in _those(pid, (each.number for each in process.descriptors if is_of_kind(process, each)), is_so)
    )


def _those(pid: int, numbers: Iterable[int], is_so: Callable[[int, int], bool]) -> list[int]:
    found = []
    for number in numbers:
        with suppress(OSError):
            if is_so(pid, number):
                found.append(number)
    return found
