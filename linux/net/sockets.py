"""Sockets of a network namespace, read from /proc/PID/net: those that are bound, and TCP connections."""

import ipaddress
import re
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from linux.proc import PROC

_TABLES: Final = ("tcp", "tcp6", "udp", "udp6")
_GROUP: Final = re.compile(r"^\t+([0-9A-F]{8}) ", re.MULTILINE)
_EVERY_HOSTS: Final = re.compile(r"224\.0\.0\.1|ff0[125]::[12]|ff02::1:ff[0-9a-f:]+")
"""Groups that the kernel joins by itself: all nodes, all routers, and those by which it is asked for its addresses."""
_BROADCAST: Final = ipaddress.IPv4Address("255.255.255.255")
_LISTEN: Final = "0A"
_LOCAL, _REMOTE, _STATE, _INODE = 1, 2, 3, 9
"""Columns."""
_NETLINK_HELD: Final = 4
"""The column of the bytes that a netlink socket holds; that of its inode is the same."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class BoundSocket:
    """A socket that waits for peers: TCP that listens, or UDP."""

    inode: int
    protocol: str
    """TCP or UDP."""
    address: Address
    port: int

    @property
    def plain_address(self) -> Address:
        """The address; one of version 4 within version 6 is that of version 4."""
        return getattr(self.address, "ipv4_mapped", None) or self.address

    @property
    def is_anywhere(self) -> bool:
        """Say whether every machine has its address: none in particular, loopback, multicast or broadcast."""
        address = self.plain_address
        everywhere = address.is_unspecified or address.is_loopback or address.is_multicast
        return bool(everywhere or address == _BROADCAST)


def bound_sockets(pid: int, proc: Path = PROC) -> Iterator[BoundSocket]:
    """Yield the bound sockets of a process's network namespace."""
    for table, fields in _rows(pid, _TABLES, proc):
        if table.startswith("udp") or fields[_STATE] == _LISTEN:
            address, port = _address(fields[_LOCAL])
            yield BoundSocket(int(fields[_INODE]), table[:3].upper(), address, port)


def multicast_groups(pid: int, proc: Path = PROC) -> list[str]:
    """Return the multicast groups that sockets in a process's network namespace have joined: those of any process."""
    net, found = proc / str(pid) / "net", list[str]()
    with suppress(FileNotFoundError):
        for group in _GROUP.findall((net / "igmp").read_text()):
            found.append(str(ipaddress.IPv4Address(int.from_bytes(bytes.fromhex(group), sys.byteorder))))
    with suppress(FileNotFoundError):
        for line in (net / "igmp6").read_text().splitlines():
            found.append(str(ipaddress.IPv6Address(int(line.split()[2], 16))))
    return [group for group in found if not _EVERY_HOSTS.fullmatch(group)]


def unread_netlink(pid: int, proc: Path = PROC) -> Iterator[int]:
    """Yield the inodes of netlink sockets in a process's network namespace that hold messages."""
    for _, fields in _rows(pid, ("netlink",), proc):
        if fields[_NETLINK_HELD] != "0":
            yield int(fields[_INODE])


def connections(pid: int, proc: Path = PROC) -> Iterator[tuple[tuple[Address, int], tuple[Address, int]]]:
    """Yield address and peer of each TCP connection of a process's network namespace, whatever its state."""
    for _, fields in _rows(pid, ("tcp", "tcp6"), proc):
        if fields[_STATE] != _LISTEN:
            yield _unmapped(fields[_LOCAL]), _unmapped(fields[_REMOTE])


def socket_between(pid: int, local: tuple[str, int], remote: tuple[str, int], proc: Path = PROC) -> int | None:
    """Return the inode of the TCP socket that a process's network namespace has at one end of a connection."""
    wanted = tuple((ipaddress.ip_address(host), port) for host, port in (local, remote))
    for _, fields in _rows(pid, ("tcp", "tcp6"), proc):
        if fields[_STATE] != _LISTEN and (_unmapped(fields[_LOCAL]), _unmapped(fields[_REMOTE])) == wanted:
            return int(fields[_INODE])
    return None


def _rows(pid: int, tables: Iterable[str], proc: Path) -> Iterator[tuple[str, list[str]]]:
    for table in tables:
        with suppress(FileNotFoundError):
            for line in (proc / str(pid) / "net" / table).read_text().splitlines()[1:]:
                yield table, line.split()


def _unmapped(text: str) -> tuple[Address, int]:
    """Parse an address; one of version 4 within version 6 is that of version 4."""
    address, port = _address(text)
    return getattr(address, "ipv4_mapped", None) or address, port


def _address(text: str) -> tuple[Address, int]:
    """Parse 0100007F:1F90: words of the machine's own order, the port as a number."""
    host, _, port = text.partition(":")
    words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
    return ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)), int(port, 16)
