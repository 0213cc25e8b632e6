"""Which process ids are left to what starts in a container while its worker is restored."""

from collections.abc import Iterable
from typing import Final

LOWEST: Final = 100
"""Standby, and what has entered the container before, are below."""
ROOM: Final = 500
"""Ids that the helpers of criu and some probes may take: ``runc exec`` takes one for each thread too."""
_END: Final = 32768
"""No kernel counts less far."""


def last_pid(ids: Iterable[int]) -> int:
    """Return what the pid counter is set to before criu starts: none of the worker's own ids should follow soon.

    A worker's ids begin at 1000, but those of processes that it has started after a restore follow this number.

    Args:
        ids: of the worker's processes and threads, inside the container.
    """
    taken = sorted({each for each in ids if each > LOWEST})
    gaps = list(zip([LOWEST, *taken], [*taken, _END], strict=True))
    wide = (before for before, end in gaps if end - before > ROOM)
    return next(wide, max(gaps, key=lambda gap: gap[1] - gap[0])[0])
