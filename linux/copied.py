"""What of another process's open file shows only in a copy of its descriptor."""

import os
import select
import socket
from typing import Final

from linux.net.unix_file import copied

_UDP_CORK: Final = 1


def is_hung_up(pid: int, number: int) -> bool:
    """Say whether reading from a pseudo-terminal's master would fail, as its other end was closed.

    Raises:
        OSError: the process has ended, or closed it.
    """
    held = copied(pid, number)
    try:
        poll = select.poll()
        poll.register(held, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))
    finally:
        os.close(held)


def is_corked(pid: int, number: int) -> bool:
    """Say whether a UDP socket holds back what is sent until that option is taken off (UDP_CORK).

    Raises:
        OSError: the process has ended, or closed it.
    """
    with socket.socket(fileno=copied(pid, number)) as held:
        return held.getsockopt(socket.IPPROTO_UDP, _UDP_CORK) != 0
