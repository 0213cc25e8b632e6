"""The addresses of a network namespace by which others reach it, read from /proc/PID/net."""

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from contract.api import trigger
from linux.net.sockets import Address
from linux.proc import PROC

_IS_OWN: Final = "host LOCAL"
_GLOBAL: Final = "00"
_ADDRESS, _SCOPE = 0, 3
"""Columns of if_inet6."""


def sole_addresses(pid: int, proc: Path = PROC) -> dict[int, Address]:
    """Return the one address of each version of a process's network namespace; none of a version of which it has more.

    A pod has one of each; of several, which one takes another's place could only be guessed.
    """
    found: dict[int, set[Address]] = {}
    for address in (*_version_4(pid, proc), *_version_6(pid, proc)):
        if not address.is_loopback and address != trigger.ADDRESS:
            found.setdefault(address.version, set()).add(address)
    return {version: next(iter(own)) for version, own in found.items() if len(own) == 1}


def _version_4(pid: int, proc: Path) -> Iterator[Address]:
    last = ""
    for line in (proc / str(pid) / "net/fib_trie").read_text().splitlines():
        if "|--" in line:
            last = line.split()[-1]
        elif _IS_OWN in line:
            yield ipaddress.ip_address(last)


def _version_6(pid: int, proc: Path) -> Iterator[Address]:
    with suppress(FileNotFoundError):  # a kernel without it
        for line in (proc / str(pid) / "net/if_inet6").read_text().splitlines():
            fields = line.split()
            if fields[_SCOPE] == _GLOBAL:
                yield ipaddress.IPv6Address(int(fields[_ADDRESS], 16))
