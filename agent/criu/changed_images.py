"""The images of a restore that are not all the artifact's: those that name the pod's address, or hold no pages."""

import ipaddress
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from agent.errors import RefusedError
from contract.api.states import AgentReason
from linux.sockets import Address
from linux.syscalls import layered


def plan_addresses(then: Iterable[str], now: Mapping[int, Address]) -> dict[Address, Address]:
    """Return which address takes the place of which; empty if all are the same; pure.

    Args:
        then: addresses of the capture's pod that the worker is bound to.
        now: the one address of each version that this pod has.

    Raises:
        RefusedError: this pod has none, or several.
    """
    moves = {}
    for address in map(ipaddress.ip_address, then):
        if address.version not in now:
            words = (
                f"the worker is bound to its pod's address, {address} then; this pod has none of that kind, or several"
            )
            raise RefusedError(AgentReason.ADDRESS_BOUND, words)
        if now[address.version] != address:
            moves[address] = now[address.version]
    return moves


def changed_images(images: int, write: Callable[[int], None], work: Path, resources: ExitStack) -> int:
    """Return a descriptor of a directory that holds *images*, but for those that *write* writes into another.

    Raises:
        OSError: the node cannot show the two folders as one.
    """
    top = resources.enter_context(tempfile.TemporaryDirectory(dir=work, prefix="run-"))
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    resources.callback(os.close, folder)
    write(folder)
    both = layered(folder, images)
    resources.callback(os.close, both)
    return both
