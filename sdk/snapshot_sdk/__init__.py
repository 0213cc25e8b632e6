"""The worker's side of snapshot and restore.

``quiesce()`` reports to the node agent that this process is worth a snapshot, and returns afterwards: in the process
that was captured, or in one that was restored from it, on another node, days later.
Nothing but the standard library, and little of it: every worker pays for this import.
"""

from __future__ import annotations

import enum
import os
import time

__all__ = ["Outcome", "quiesce", "restore_context"]

READY_FOR_SNAPSHOT = "ready-for-snapshot"
SNAPSHOT_COMPLETE = "snapshot-complete"
RESTORE_COMPLETE = "restore-complete"
RESTORE_CONTEXT = "restore-context.json"
QUIESCED = "quiesced-"
"""With the number of a rank that waits; between the processes of one worker."""
DONE = "done\n"
COLD_START = "cold-start\n"
ENV_CONTROL_DIR = ("DYN_SNAPSHOT_CONTROL_DIR", "SNAPSHOT_CONTROL_DIR")
POLL_SECONDS = 0.1


class Outcome(enum.Enum):
    """What happened while ``quiesce`` waited."""

    NOT_MANAGED = "not-managed"
    """No snapshots are taken here: there is no control directory."""
    CAPTURED = "captured"
    """A snapshot was taken, and this is the process that it was taken of."""
    RESTORED = "restored"
    """This is a restored process: time has passed, the machine, the addresses and the name may be others."""
    COLD = "cold"
    """The container started without a snapshot after all."""


def quiesce(rank: int = 0, ranks: int = 1) -> Outcome:
    """Say that this process is ready for its snapshot, and wait until it has been taken.

    Call it when everything that replicas share is done and no request is being served.
    Returns at once if there is no control directory; never raises because of one that cannot be used.

    Args:
        rank: of this process, if the worker has several that must be ready and each of them calls this.
        ranks: how many there are. Rank 0 says that the worker is ready once all others have called.
    """
    directory = control_dir()
    if directory is None:
        return Outcome.NOT_MANAGED
    try:
        if rank:
            _write(directory, QUIESCED + str(rank), _container())
        else:
            _await_others(directory, ranks)
            _write(directory, READY_FOR_SNAPSHOT, DONE)
    except OSError:
        return Outcome.NOT_MANAGED
    while True:
        restored = _read(directory, RESTORE_COMPLETE)
        if restored is not None:
            return Outcome.COLD if restored == COLD_START else Outcome.RESTORED
        if _read(directory, SNAPSHOT_COMPLETE) is not None:
            return Outcome.CAPTURED
        _pause()


def restore_context() -> dict[str, object]:
    """Return what the agent says about the place where this process was restored; empty if it says nothing."""
    import json  # noqa: PLC0415 - most workers never call this

    directory = control_dir()
    try:
        found = json.loads(_read(directory, RESTORE_CONTEXT) or "{}") if directory else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def control_dir() -> str | None:
    """Return the control directory, None if this container has none."""
    for name in ENV_CONTROL_DIR:
        path = os.environ.get(name)
        if path and os.path.isdir(path):  # noqa: PTH112 - pathlib costs more than the rest of this module
            return path
    return None


def _await_others(directory: str, ranks: int) -> None:
    container = _container()
    while any(_read(directory, QUIESCED + str(rank)) != container for rank in range(1, ranks)):
        if any(_read(directory, name) is not None for name in (RESTORE_COMPLETE, SNAPSHOT_COMPLETE)):
            return  # no snapshot is awaited here
        _pause()


def _container() -> str:
    """Return what no other container of the pod shares: the directory outlives a container that is restarted."""
    try:
        with open("/proc/1/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            return file.read().rpartition(")")[2].split()[19]  # when it was started
    except (OSError, IndexError):
        return "unknown"


def _write(directory: str, name: str, content: str) -> None:
    temporary = os.path.join(directory, "." + name + ".sdk")  # noqa: PTH118 - as above
    with open(temporary, "w", encoding="ascii") as file:  # noqa: PTH123 - as above
        file.write(content)
    os.replace(temporary, os.path.join(directory, name))  # noqa: PTH105, PTH118 - as above


def _read(directory: str, name: str) -> str | None:
    try:
        with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as file:  # noqa: PTH118, PTH123 - as above
            return file.read()
    except OSError:
        return None


def _pause() -> None:
    """Sleep in the kernel by a length, not until a moment of the clock.

    Python's own sleep waits for a moment of the monotonic clock, and sleeps again when it is woken earlier.
    If the worker is restored on a machine that has not run for as long, that moment may be days away.
    """
    try:
        import ctypes  # noqa: PLC0415 - only a worker that waits for its snapshot needs it

        ctypes.CDLL(None).usleep(int(POLL_SECONDS * 1_000_000))
    except (ImportError, OSError, AttributeError):
        time.sleep(POLL_SECONDS)
