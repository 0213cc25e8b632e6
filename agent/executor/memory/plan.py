"""How the private memory of a restored worker comes back: copied by criu before it runs, or by a page server; pure."""

from typing import Final

from contract.api.engine import Because, Choice, Memory, Way

SMALL: Final = 64 << 20
"""Bytes that criu copies in less time than a page server costs: at 1.4 GB/s, 45 ms."""
SMALL_SHARED: Final = 128 << 20
"""The same of shared memory: a process that fills it takes 50 ms to start, and the page server is at work beside it. A
vLLM with 84 MiB of it waited 0.17 s for them on 16 cores."""
MOST_SHARED: Final = 0.1
"""Part of the memory that may be shared since a fork. The kernel's userfaultfd knows no sharing between processes: each
gets pages of its own, and the pod would hold more than the worker ever did."""


def plan_memory(
    pages: int,
    forked: int,
    *,
    enabled: bool,
    lost_before: bool,
    criu_fails: bool = False,
    guarded: bool = True,
    parks: bool = False,
) -> Choice:
    """Decide about one restore.

    Args:
        pages: bytes of the worker's memory.
        forked: bytes of it that processes share since a fork.
        enabled: whether this node uses page servers.
        lost_before: whether one of this pod ended with pages missing.
        criu_fails: whether this criu cannot leave the memory of this worker to a page server.
        guarded: whether standby can hold the memory too.
        parks: whether the worker is stopped when it is restored.
    """

    def choice(way: Way, because: Because) -> Choice:
        return Choice(Memory.PRIVATE, way, because, pages)

    copied = {
        Because.SWITCHED_OFF: not enabled,
        Because.SMALL: pages < SMALL,
        Because.FORKED: forked > MOST_SHARED * pages,
        Because.CRIU_FAILS: criu_fails,
        Because.LOST_BEFORE: lost_before,
    }
    if reason := next((reason for reason, is_so in copied.items() if is_so), None):
        return choice(Way.COPIED, reason)
    if parks:
        return choice(Way.FILLED, Because.PARKS)
    return choice(Way.SERVED, Because.LARGE) if guarded else choice(Way.FILLED, Because.UNGUARDED)
