"""How the memory of a restored worker comes back: copied by criu before it runs, or filled while it runs; pure."""

from typing import Final

from artifact.manifest import Manifest
from contract.api.reports import MemoryRestore

SMALL: Final = 64 << 20
"""Bytes that criu copies in less time than a page server costs: at 1.4 GB/s, 45 ms."""
MOST_SHARED: Final = 0.1
"""Part of the memory that may be shared since a fork. The kernel's userfaultfd knows no sharing between processes: each
gets pages of its own, and the pod would hold more than the worker ever did."""


def plan_memory(found: Manifest, *, enabled: bool, lost_before: bool) -> MemoryRestore:
    """Decide about one restore; NO_SERVER and FILLED_FIRST are only known later."""
    if not enabled:
        return MemoryRestore.SWITCHED_OFF
    if found.pages < SMALL:
        return MemoryRestore.SMALL
    if found.process.shared > MOST_SHARED * found.pages:
        return MemoryRestore.SHARED
    return MemoryRestore.AFTER_LOSS if lost_before else MemoryRestore.WHILE_RUNNING
