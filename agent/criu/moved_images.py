"""The images of a restore whose pod has another address: the artifact's, but for the one that names addresses."""

import ipaddress
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from agent.criu.inet_images import write_moved
from agent.errors import ContainerError, RefusedError
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


def moved_images(images: int, moves: Mapping[Address, Address], work: Path, resources: ExitStack) -> int:
    """Return a descriptor of a directory that holds *images* with other addresses, until *resources* are closed.

    Raises:
        ContainerError: the node cannot show the two folders as one.
    """
    top = resources.enter_context(tempfile.TemporaryDirectory(dir=work, prefix="run-"))
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    resources.callback(os.close, folder)
    write_moved(images, folder, moves)
    try:
        both = layered(folder, images)
    except OSError as error:
        words = f"cannot put the pod's address into the worker's sockets: {error.strerror}"
        raise ContainerError(AgentReason.RESTORE_FAILED, words) from error
    resources.callback(os.close, both)
    return both
