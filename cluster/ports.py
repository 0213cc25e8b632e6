"""Ports for servers that bind them some moments later.

They are below the range from which the kernel takes a port for each connection: one of those would be taken in between,
on a machine that does much else.
"""

import contextlib
import secrets
import socket
from pathlib import Path
from typing import Final

_CONNECTIONS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000


def free_ports(count: int) -> list[int]:
    """Choose ports of this machine that are not in use; all are held until the last is chosen.

    Raises:
        OSError: there are not as many.
    """
    first_of_connections = int(_CONNECTIONS.read_text().split()[0])
    candidates = range(min(_LOWEST, first_of_connections // 2), first_of_connections)
    held: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in secrets.SystemRandom().sample(candidates, len(candidates)):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.socket()).bind(("", port))
                held.append(port)
            if len(held) >= count:
                return held[:count]
    raise OSError(f"fewer than {count} ports are free in {candidates}")


def free_port() -> int:
    """Choose one port."""
    return free_ports(1)[0]
