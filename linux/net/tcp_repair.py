"""Resets a TCP connection whose socket has ended without a word, by the kernel's repair mode (CAP_NET_ADMIN)."""

import socket
import struct
from typing import Final

from linux.net.sockets import Address

_REPAIR, _REPAIR_QUEUE, _QUEUE_SEQUENCE = 19, 20, 21
_RECEIVE, _SEND = 1, 2
_OFF_IN_SILENCE: Final = -1
"""Leaves repair mode without a segment that asks for the peer's window."""
_AT_ONCE: Final = struct.pack("ii", 1, 0)


def reset(local: tuple[Address, int], remote: tuple[Address, int], sent: int, received: int) -> None:
    """End a connection for its peer; in the network namespace of the calling thread.

    Args:
        local: its address and port here.
        remote: those of the peer.
        sent: sequence number of the next byte to the peer.
        received: that of the next byte from it.

    Raises:
        OSError: the address is not here, or the kernel refuses.
    """
    family = socket.AF_INET6 if local[0].version == 6 else socket.AF_INET  # noqa: PLR2004
    with socket.socket(family, socket.SOCK_STREAM) as again:
        again.setsockopt(socket.IPPROTO_TCP, _REPAIR, 1)
        for queue, sequence in ((_SEND, sent), (_RECEIVE, received)):
            again.setsockopt(socket.IPPROTO_TCP, _REPAIR_QUEUE, queue)
            again.setsockopt(socket.IPPROTO_TCP, _QUEUE_SEQUENCE, struct.pack("=I", sequence))
        again.bind((str(local[0]), local[1]))
        again.connect((str(remote[0]), remote[1]))
        again.setsockopt(socket.IPPROTO_TCP, _REPAIR, _OFF_IN_SILENCE)
        again.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
