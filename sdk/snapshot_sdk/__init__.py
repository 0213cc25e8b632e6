"""The worker's side of snapshot and restore.

``quiesce()`` reports to the node agent that this process is worth a snapshot, and returns afterwards: in the process
that was captured, or in one that was restored from it, on another node, days later.
Nothing but the standard library, and little of it: every worker pays for this import.
"""

from __future__ import annotations

import enum
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], object])

__all__ = ["HookTimeoutError", "Outcome", "checkpoint", "keep_seeds", "on_restore", "quiesce", "restore_context"]

READY_FOR_SNAPSHOT = "ready-for-snapshot"
SNAPSHOT_COMPLETE = "snapshot-complete"
RESTORE_COMPLETE = "restore-complete"
RESTORE_CONTEXT = "restore-context.json"
CLAIM = "standby-claim"
QUIESCED = "quiesced-"
"""With the number of a rank that waits; between the processes of one worker."""
DONE = "done\n"
COLD_START = "cold-start\n"
ENV_CONTROL_DIR = ("DYN_SNAPSHOT_CONTROL_DIR", "SNAPSHOT_CONTROL_DIR")
TRIGGER = ("169.254.169.253", 8234, "/checkpoint")
"""Where the node agent listens, in pods whose label says so."""
CONNECT_SECONDS = 2.0
POLL_SECONDS = 0.1
_keeps_seeds = False


class HookTimeoutError(RuntimeError):
    """A hook did not return in time; the message names it. What it was doing may still go on."""


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
    In a restored process generators and environment are renewed first, then the hooks of ``on_restore`` are called.

    Args:
        rank: of this process, if the worker has several that must be ready and each of them calls this.
        ranks: how many there are. Rank 0 says that the worker is ready once all others have called.

    Raises:
        HookTimeoutError: a hook takes longer than its seconds; or what a hook raises. Let it end the worker.
    """
    directory = control_dir()
    if directory is None:
        return Outcome.NOT_MANAGED
    from snapshot_sdk import _restored  # noqa: PLC0415 - before the snapshot, and only if there is one

    try:
        if rank:
            _write(directory, QUIESCED + str(rank), _container())
        else:
            _await_others(directory, ranks)
            _write(directory, READY_FOR_SNAPSHOT, DONE)
    except OSError:
        return Outcome.NOT_MANAGED
    while True:
        restored = was_restored(directory)
        if restored:
            _restored.renew()
            return Outcome.RESTORED
        if restored is not None:
            return Outcome.COLD
        if _read(directory, SNAPSHOT_COMPLETE) is not None:
            return Outcome.CAPTURED
        pause()


def checkpoint(seconds: float = 3600.0) -> dict[str, str]:
    """Ask for the capture of this worker as it is now; it goes on afterwards, and so do those restored from it.

    Call it when all that replicas share is done. Never raises because of what becomes of the request.
    In a restored process generators and environment are renewed first, then the hooks of ``on_restore`` are called.

    Args:
        seconds: how long to wait for the answer; a capture takes seconds to minutes.

    Returns:
        ``status``, ``reason``, ``checkpoint`` and ``id``. ``status`` is ``created`` (this process was captured),
        ``skipped`` (there is a checkpoint already, or one is in the making), ``failed`` (also where no agent listens),
        or ``restored`` (this is a restored process).

    Raises:
        HookTimeoutError: a hook takes longer than its seconds; or what a hook raises.
    """
    directory = control_dir()
    before = claim(directory)
    try:
        answer = _post(seconds)
    except (OSError, ValueError) as error:
        answer = {"status": "failed", "reason": f"no answer from a snapshot agent: {error}"}
    # The connection ends in a restored process, and its container has a claim of its own.
    if directory is not None and claim(directory) != before and was_restored(directory):
        from snapshot_sdk import _restored  # noqa: PLC0415 - only in a restored process

        _restored.renew()
        answer = {"status": "restored"}
    return {"status": "failed", "reason": "", "checkpoint": "", "id": ""} | answer


def on_restore(hook: Hook, *, seconds: float = 60.0, name: str | None = None) -> Hook:
    """Have ``hook`` called once in this process when it has been restored; also usable as a decorator.

    Hooks are called in the order in which they were registered, after generators and environment have been renewed:
    before ``quiesce()`` returns, or, in a process that does not wait in it, from a thread within some 20 ms.
    In that thread an error is printed and the hooks after it are not called; in ``quiesce()`` it is raised.

    Args:
        hook: for example, connect again, take a new lease, seed a generator of the worker's own.
        seconds: that it may take.
        name: for messages; the function's own if there is none.
    """
    from snapshot_sdk import _restored  # noqa: PLC0415 - most workers never call this

    _restored.add(hook, seconds, name or _restored.name_of(hook))
    return hook


def keep_seeds() -> None:
    """Leave random generators as they were captured: all replicas then draw the same numbers.

    OpenSSL's is renewed all the same: what it draws is to be secret.
    """
    global _keeps_seeds  # noqa: PLW0603 - a word of the whole process
    _keeps_seeds = True


def keeps_seeds() -> bool:
    """Say whether this process wants generators that are no secret as they were captured."""
    return _keeps_seeds


def restore_context() -> dict[str, object]:
    """Return what the agent says about the place where this process was restored; empty if it says nothing."""
    import json  # noqa: PLC0415 - most workers never call this

    directory = control_dir()
    try:
        found = json.loads(_read(directory, RESTORE_CONTEXT) or "{}") if directory else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and "checkpointId" in found else {}  # standby's own says nothing


def control_dir() -> str | None:
    """Return the control directory, None if this container has none."""
    for name in ENV_CONTROL_DIR:
        path = os.environ.get(name)
        if path and os.path.isdir(path):  # noqa: PTH112 - pathlib costs more than the rest of this module
            return path
    return None


def place() -> bytes:
    """Return what all processes of this container share and no other container has."""
    return claim(control_dir()).encode() or os.urandom(16)


def claim(directory: str | None) -> str:
    """Return the nonce of this container's standby; empty if there is none."""
    return (_read(directory, CLAIM) or "").partition("\n")[0] if directory else ""


def was_restored(directory: str) -> bool | None:
    """Say whether this container was restored; None as long as that is not known."""
    found = _read(directory, RESTORE_COMPLETE)
    return None if found is None else found != COLD_START


def is_over(directory: str) -> bool:
    """Say whether it is known what became of the snapshot here."""
    return any(_read(directory, name) is not None for name in (RESTORE_COMPLETE, SNAPSHOT_COMPLETE))


def _post(seconds: float) -> dict[str, str]:
    import http.client  # noqa: PLC0415 - only a worker that asks for its capture needs them
    import json  # noqa: PLC0415

    host, port, path = TRIGGER
    connection = http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(seconds)
        connection.request("POST", path)
        found = json.loads(connection.getresponse().read())
    except http.client.HTTPException as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if not isinstance(found, dict):
        raise ValueError(f"not understood: {str(found)[:100]}")  # noqa: TRY004 - one kind of error for every bad answer
    return {str(key): str(value) for key, value in found.items()}


def _await_others(directory: str, ranks: int) -> None:
    container = _container()
    while any(_read(directory, QUIESCED + str(rank)) != container for rank in range(1, ranks)):
        if is_over(directory):
            return  # no snapshot is awaited here
        pause()


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
            return file.read(4096)  # other processes of the container may have made it huge
    except OSError:
        return None


def pause(seconds: float = POLL_SECONDS) -> None:
    """Sleep in the kernel by a length, not until a moment of the clock.

    Python's own sleep waits for a moment of the monotonic clock, and sleeps again when it is woken earlier.
    If the worker is restored on a machine that has not run for as long, that moment may be days away.
    """
    try:
        import ctypes  # noqa: PLC0415 - only a worker that waits for its snapshot needs it

        ctypes.CDLL(None).usleep(int(seconds * 1_000_000))
    except (ImportError, OSError, AttributeError):
        time.sleep(seconds)
