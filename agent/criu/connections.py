"""What becomes of each TCP connection of a dumped tree: kept, ended or closed. Pure.

criu dumps every connection as if its peer waited elsewhere. Here a connection goes on only if both of its ends are in
the tree, on addresses that every pod has; all others have peers that know nothing of a restore, and are closed.
"""

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from agent.errors import RefusedError
from contract.api.states import AgentReason

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING = 1, 2, 4, 5, 7, 8, 9, 11
CONNECTED: Final = frozenset({ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING})
HALF_CLOSED: Final = frozenset({CLOSE_WAIT, LAST_ACK, CLOSING})
"""The peer sends no more."""
LASTING: Final = CONNECTED - {LAST_ACK, CLOSING}
"""States that end only by what a process does."""
_FIN_ON_ITS_WAY: Final = frozenset({FIN_WAIT1, CLOSING, LAST_ACK})
"""The end of what was sent counts as one byte that criu leaves out of the queue's length."""
SEQUENCE: Final = 1 << 32


class Endpoint(NamedTuple):
    """Address and port; an IPv4 address within IPv6 is the IPv4 address."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"  # noqa: PLR2004


@dataclass(frozen=True)
class Stream:
    """Where the queues of one end stood when it was dumped."""

    received: int
    """Sequence number of the byte that it expects next."""
    written: int
    """Sequence number of the byte that would be sent next."""
    unacknowledged: int
    """Bytes that the peer had not said to have."""
    unsent: int = 0
    """Bytes that had not left."""


@dataclass(frozen=True)
class End:
    """One end of a connection."""

    inode: int
    state: int
    local: Endpoint
    remote: Endpoint
    stream: Stream


@dataclass(frozen=True)
class Fate:
    """What becomes of the connections of a tree."""

    kept: tuple[tuple[End, End], ...] = ()
    """Both ends of each."""
    ended: tuple[End, ...] = ()
    """Their peer was in the tree and has finished; what it sent is yet to be read."""
    closed: tuple[End, ...] = ()


def decide(ends: Iterable[End], own: Collection[Address] = ()) -> Fate:
    """Say what becomes of each connection.

    Args:
        ends: of all connections of the tree.
        own: addresses of the pod that a restore replaces by those of its own pod.
    """
    found = {(end.local, end.remote): end for end in ends}
    kept, ended, closed = [], [], []
    for end in found.values():
        mate = found.get((end.remote, end.local))
        if mate is not None and _goes_on(end, mate, own):
            if end.inode < mate.inode:
                kept.append((end, mate))
        elif mate is None and end.state == CLOSE_WAIT and _is_everywhere(end, own):
            ended.append(end)
        else:
            closed.append(end)
    return Fate(tuple(kept), tuple(ended), tuple(closed))


def peers(fate: Fate) -> list[str]:
    """Return where the closed connections led to, each once, in order."""
    return sorted({str(end.remote) for end in fate.closed})


def _goes_on(end: End, mate: End, own: Collection[Address]) -> bool:
    states = {end.state, mate.state}
    return (
        end is not mate
        and states <= CONNECTED
        and _is_everywhere(end, own)
        and not _lacks(end, mate)
        and not _lacks(mate, end)
    )


def _is_everywhere(end: End, own: Collection[Address]) -> bool:
    return all(address.is_loopback or address in own for address in (end.local.address, end.remote.address))


def _lacks(receiver: End, sender: End) -> bool:
    """Say whether bytes were delivered after the receiver was dumped and before the sender was: they are in no image.

    The kernel's timers go on while the processes stand still; a held-back segment may leave in that moment.
    """
    return 0 < (acknowledged(sender) - receiver.stream.received) % SEQUENCE < SEQUENCE // 2


def acknowledged(end: End) -> int:
    """Return the sequence number up to which its peer had said to have everything."""
    stream = end.stream
    return (stream.written - stream.unacknowledged - (end.state in _FIN_ON_ITS_WAY)) % SEQUENCE


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
