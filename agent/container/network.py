"""What is done in the namespaces of a container, mostly its network, from outside of it."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from linux import syscalls
from linux.net.sock_diag import end_leftovers
from linux.net.sockets import Address
from linux.net.tcp_repair import reset
from linux.proc import PROC

T = TypeVar("T")


class Severed(NamedTuple):
    """A connection whose socket here has ended without a word to its peer."""

    local: tuple[Address, int]
    remote: tuple[Address, int]
    sent: int
    """Sequence number of the next byte to the peer."""
    received: int
    """That of the next byte from it."""


def in_network(init_pid: int, act: Callable[[], T], proc: Path = PROC) -> T:
    """Act in the network namespace of a container.

    Raises:
        OSError: the container has ended.
    """
    return in_namespace("net", init_pid, act, proc)


def in_namespace(kind: str, init_pid: int, act: Callable[[], T], proc: Path = PROC) -> T:
    """Act in one of a container's namespaces, by its name in /proc/PID/ns.

    Raises:
        OSError: the container has ended.
    """

    def enter_and_act() -> T:
        with (proc / str(init_pid) / "ns" / kind).open() as namespace:
            syscalls.setns(namespace.fileno())
        return act()

    with ThreadPoolExecutor(1, thread_name_prefix=kind) as thread:  # it stays there, so it is used once
        return thread.submit(enter_and_act).result()


def free_ports(init_pid: int, ports: Collection[int], proc: Path = PROC) -> None:
    """End what is left of ended connections: a listener could not bind its port again."""
    in_network(init_pid, lambda: end_leftovers(ports), proc)


def hang_up(init_pid: int, connections: Collection[Severed], proc: Path = PROC) -> None:
    """Reset connections, so that no peer waits for what does not come."""
    in_network(init_pid, lambda: _reset(connections), proc)


def _reset(connections: Collection[Severed]) -> None:
    for connection in connections:
        with suppress(OSError):  # the peer then finds out when it sends
            reset(*connection)
