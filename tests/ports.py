"""Ports for servers that bind them some moments later.

They lie below the range from which the kernel takes a port for each connection that is made: one of those would be
taken in between sooner or later.
"""

import random
import socket
from pathlib import Path


def free_port() -> int:
    """A port that nobody has on this machine now, and that no connection is given."""
    first_of_connections = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(min(10_000, first_of_connections // 2), first_of_connections)
    for port in random.sample(candidates, len(candidates)):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port is free in {candidates}")
