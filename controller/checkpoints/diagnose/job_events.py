"""Read what the Job controller warned of, once for all Jobs of a namespace that have no pod.

The API server has no index of Events: each list walks all that a namespace holds. When a quota keeps thousands of
Jobs from their pods, a list for each of them took minutes of the API server's time (docs/scale.md has the figures).
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from kube.api import KubeClient, Object
from kube.resources import EVENTS

FRESH: Final = 5.0
"""Seconds that a look serves all that ask; a warning is asked for some 15 s after it could have been written."""
FIELDS: Final = "involvedObject.kind=Job,type=Warning"


@dataclass
class _Look:
    """One namespace: what was found there, and when."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    at: float | None = None
    by_job: dict[str, tuple[Object, ...]] = field(default_factory=dict)


class JobEvents:
    """Warnings about Jobs, a few seconds old at most."""

    def __init__(self, kube: KubeClient, clock: Callable[[], float] = monotonic) -> None:
        self._kube = kube
        self._clock = clock
        self._looks: defaultdict[str, _Look] = defaultdict(_Look)

    async def of(self, namespace: str, job: str) -> tuple[Object, ...]:
        """Warnings about *job*, oldest first.

        Raises:
            KubeError: the call failed.
        """
        look = self._looks[namespace]
        # A caller that comes while the list is under way waits for it instead of listing too.
        async with look.lock:
            if look.at is None or self._clock() - look.at >= FRESH:
                look.by_job = _sorted((await self._kube.list(EVENTS, namespace, fields=FIELDS)).items)
                look.at = self._clock()
                self._forget()
        return look.by_job.get(job, ())

    def _forget(self) -> None:
        """Drop the warnings of namespaces that are too old to be answered."""
        now = self._clock()
        for namespace, look in tuple(self._looks.items()):
            if not look.lock.locked() and look.at is not None and now - look.at >= FRESH:
                del self._looks[namespace]


def _sorted(events: tuple[Object, ...]) -> dict[str, tuple[Object, ...]]:
    by_job: defaultdict[str, list[Object]] = defaultdict(list)
    for event in sorted(events, key=lambda event: str(event.get("lastTimestamp") or "")):
        event["metadata"].pop("managedFields", None)
        by_job[str((event.get("involvedObject") or {}).get("name", ""))].append(event)
    return {name: tuple(found) for name, found in by_job.items()}
