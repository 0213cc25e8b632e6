"""Settings of threads that criu leaves out: noted by a capture, and set again by a restore from outside.

Processors are set if the new container has all of them, and I/O priorities that take no capability: what an artifact
says gives no thread more than its container has.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Final

from artifact.parts.process import ThreadSettings
from linux.proc import Status, pids, status
from linux.thread_settings import (
    BEST_EFFORT,
    CLASS_SHIFT,
    IDLE,
    Settings,
    set_io_priority,
    set_timer_slack,
    settings,
)

MOST: Final = 10_000
"""Threads that are noted; more than a worker has."""
logger = logging.getLogger(__name__)


def own_settings(processes: Iterable[int], init_pid: int, proc: Path) -> list[ThreadSettings]:
    """Return the settings of those threads that have others than their container's first process.

    Args:
        processes: as numbered on the node.
        init_pid: the container's first process, which nothing has changed.
        proc: /proc of the node.
    """
    try:
        usual = settings(init_pid, proc)
    except OSError as error:  # an agent may be kept from it, which is no reason not to capture
        logger.warning("settings of threads are not noted", extra={"reason": str(error)})
        return []
    found = list[ThreadSettings]()
    for pid in processes:
        with suppress(OSError):  # it has ended, or is a zombie
            found += _of_process(pid, usual, proc)
    return found[:MOST]


def _of_process(pid: int, usual: Settings, proc: Path) -> Iterator[ThreadSettings]:
    for tid in pids(proc / str(pid) / "task"):
        own = settings(tid, proc)
        if own != usual:
            yield ThreadSettings(
                process=status(pid, proc).inner_pid,
                id=status(tid, proc).inner_pid,
                cpus=sorted(own.cpus) if own.cpus != usual.cpus else None,
                io_priority=own.io_priority if own.io_priority != usual.io_priority else None,
                timer_slack=own.timer_slack if own.timer_slack != usual.timer_slack else None,
            )


def set_again(tree: Mapping[int, Status], wanted: Sequence[ThreadSettings], init_pid: int, proc: Path) -> None:
    """Give restored threads the settings that they had.

    Args:
        tree: stopped processes, by their pid on the node.
        wanted: as the manifest has them.
        init_pid: the container's first process.
        proc: /proc of the node.
    """
    if not wanted:
        return
    allowed = os.sched_getaffinity(init_pid)
    of = {(each.process, each.id): each for each in wanted}
    concerned = {process for process, _ in of}
    for pid, process in tree.items():
        if process.inner_pid not in concerned:
            continue
        for tid in pids(proc / str(pid) / "task"):
            if (each := of.get((process.inner_pid, status(tid, proc).inner_pid))) is not None:
                _set(tid, within(each, allowed), proc)


def within(wanted: ThreadSettings, allowed: AbstractSet[int]) -> ThreadSettings:
    """Return what of it a container may have that has these processors; pure."""
    has_all = wanted.cpus is not None and allowed >= set(wanted.cpus)
    is_plain = wanted.io_priority is not None and wanted.io_priority >> CLASS_SHIFT in (BEST_EFFORT, IDLE)
    return wanted.model_copy(
        update={
            "cpus": wanted.cpus if has_all else None,
            "io_priority": wanted.io_priority if is_plain else None,
        }
    )


def _set(tid: int, wanted: ThreadSettings, proc: Path) -> None:
    try:
        if wanted.cpus is not None:
            os.sched_setaffinity(tid, wanted.cpus)
        if wanted.io_priority is not None:
            set_io_priority(tid, wanted.io_priority)
        if wanted.timer_slack is not None:
            set_timer_slack(tid, wanted.timer_slack, proc)
    except OSError as error:
        logger.warning(
            "a thread does not have its settings again", extra={"thread_id": wanted.id, "reason": str(error)}
        )
