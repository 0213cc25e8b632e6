"""When a checkpoint was last used: what decides how long it is kept.

A pod uses the checkpoint that it names for as long as it lives, because its container may start again at any time.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from contract.api.times import format_time, parsed_time
from controller.workloads import pods
from kube.api import Object

EVERY: Final = 3600.0
"""Seconds between two writes for one checkpoint: days are what it is compared with."""


def last_use(checkpoint: Object, users: Iterable[Object], now: datetime) -> tuple[str | None, float | None]:
    """Return what ``status.lastUsedAt`` should become, None if it is good; and when to look again."""
    if checkpoint["metadata"].get("deletionTimestamp") or not any(pods.alive(pod) for pod in users):
        return None, None
    before = parsed_time((checkpoint.get("status") or {}).get("lastUsedAt"))
    age = EVERY if before is None else (now - before).total_seconds()
    return (format_time(now), EVERY) if age >= EVERY else (None, EVERY - age)
