"""Figures that every process has: its version, memory, processor time, open files, and how late its event loop is.

A late loop is what all of a process's clients feel at once: one synchronous step too long, or a processor taken away.
"""

import asyncio
from typing import Final, NoReturn

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, disable_created_metrics

from contract.version import VERSION

BEAT: Final = 1.0
"""Seconds between two looks at how late the loop is."""
_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2)


class Figures:
    """What this process says about itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # The client adds each counter's time of creation, in this format as a series of its own that has no use.
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library forgot to say so
        ProcessCollector(registry=registry)
        version = Gauge("snapshot_build_info", "Always 1; the label is the version.", ["version"], registry=registry)
        version.labels(VERSION).set(1)
        self._late = Histogram(
            "snapshot_process_loop_lag_seconds",
            "How late the event loop came to a task that was due, sampled each second.",
            buckets=_BUCKETS,
            registry=registry,
        )

    async def follow(self) -> NoReturn:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT
            await asyncio.sleep(BEAT)
            self._late.observe(max(0.0, loop.time() - due))
