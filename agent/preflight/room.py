"""Whether a process has room left for what criu does in it: it maps memory there, to read the process from within."""

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from linux.proc import PROC

FREE_MAPPINGS: Final = 20
"""Under the kernel's limit: with 2 criu failed, with 20 it did not."""
_FREE_BYTES: Final = 1 << 20
_SHARE: Final = 128
"""Of its address space: criu keeps 16 bytes for each private page of 4096. Twice that is asked for."""
_PAGE: Final = resource.getpagesize()


def cramped(pid: int, maps: str, proc: Path = PROC) -> Iterator[str]:
    """Yield what a process has too little of, in words.

    Args:
        pid: whose.
        maps: the text of its maps.
        proc: /proc of the node.
    """
    with suppress(OSError, ValueError):
        free = int((proc / "sys/vm/max_map_count").read_text()) - maps.count("\n")
        if free < FREE_MAPPINGS:
            yield f"may map {free} more ranges of memory, and CRIU needs {FREE_MAPPINGS} (vm.max_map_count)"
    with suppress(OSError):
        limit, _ = resource.prlimit(pid, resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return
        used = int((proc / str(pid) / "statm").read_text().split()[0]) * _PAGE
        if limit - used < (needed := needed_bytes(used)):
            yield f"may map {max(limit - used, 0)} more bytes, and CRIU needs {needed} (RLIMIT_AS)"


def needed_bytes(used: int) -> int:
    """Return how much more a process that has mapped so much must be able to map; pure."""
    return _FREE_BYTES + used // _SHARE
