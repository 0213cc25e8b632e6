"""What of CRIU's images is read and mended once a dump is done; docs/decisions/0022-timers-mended-in-the-image.md.

Numbers of fields are those of criu's ``images/fdinfo.proto``, ``timerfd.proto`` and ``core.proto``.
"""

from collections.abc import Sequence
from typing import Final

from agent import protobuf
from agent.criu.images.files import core_images, read_image, replace_image
from agent.errors import CriuError
from agent.protobuf import Field
from contract.api.states import AgentReason

FILES: Final = "files.img"
TIMERFD: Final = 12
"""The field of a file that describes a timerfd."""
CLOCK, TICKS, FLAGS, SECONDS, NANOSECONDS, PERIOD_SECONDS, PERIOD_NANOSECONDS = 4, 5, 6, 7, 8, 9, 10
_TASK: Final = 3
"""The field of a core image that describes a process; images of other threads have none."""
_TASK_STATE: Final = 1
_STOPPED: Final = 3
_THREAD: Final = 5
"""The field of a core image that describes the thread."""
_DEATH_SIGNAL: Final = 8
_ABSOLUTE: Final = 1
_CANCEL_ON_SET: Final = 2
_LONGEST: Final = (1 << 63) - 1


def mend_timers(directory: int) -> None:
    """Rewrite those timerfds of an images directory that criu would restore wrongly.

    Raises:
        CriuError: the image cannot be read.
    """
    found = read_image(directory, FILES)
    try:
        entries = [protobuf.framed(_mended_file(entry)) for entry in protobuf.messages(found)]
    except ValueError as error:
        raise _unreadable(FILES, error) from error
    mended = found[: protobuf.MAGIC] + b"".join(entries)
    if mended != found:
        replace_image(directory, FILES, mended)


def mended_timer(timer: bytes) -> bytes:
    """Return the description of a timerfd that criu restores as it was; pure.

    The kernel shows the time that is left, and of a periodic timer that expired and was not read yet, none: criu takes
    that for a disarmed one. It is given a whole period.

    For a timer that was set to a moment, criu adds the seconds of the clock to what is left and forgets the
    nanoseconds: it would expire up to a second early. It is restored as one that was set to a length. That is no
    difference to its process but in one case, a timer that is cancelled by changes of the wall clock: that one keeps
    its flags, and expires up to a second late rather than early.
    """
    now = protobuf.parse(timer)
    left = _number(now, SECONDS), _number(now, NANOSECONDS)
    period = _number(now, PERIOD_SECONDS), _number(now, PERIOD_NANOSECONDS)
    flags = _number(now, FLAGS)
    if left == (0, 0) and _number(now, TICKS):  # without expiries it was switched off, and keeps its period
        left = period
    if flags & _ABSOLUTE and left != (0, 0):
        if flags & _CANCEL_ON_SET:
            left = min(left[0] + 1, _LONGEST), left[1]
        else:
            flags &= ~_ABSOLUTE
    return protobuf.encode(protobuf.replaced(now, {FLAGS: flags, SECONDS: left[0], NANOSECONDS: left[1]}))


def forget_parent(directory: int, root: int) -> None:
    """Take the parent-death signal from the root of the tree.

    Its parent is standby, with which the container ends. While it is restored its parent is criu, which ends: the root
    would be sent the signal before it runs.

    Raises:
        CriuError: the image cannot be read.
    """
    name = f"core-{root}.img"
    found = read_image(directory, name)
    try:
        first, end = protobuf.message(found)
        fields = protobuf.parse(first)
        threads = protobuf.embedded(fields, _THREAD)
    except ValueError as error:
        raise _unreadable(name, error) from error
    if threads and protobuf.number(own := protobuf.parse(threads[-1]), _DEATH_SIGNAL):
        kept = protobuf.encode([field for field in own if field.number != _DEATH_SIGNAL])
        mended = protobuf.framed(protobuf.encode(protobuf.replaced(fields, {_THREAD: kept})))
        replace_image(directory, name, found[: protobuf.MAGIC] + mended + found[end:])


def stopped_processes(directory: int) -> list[int]:
    """Return the processes that were stopped when they were dumped, as numbered inside the container.

    Raises:
        CriuError: an image cannot be read.
    """
    try:
        return sorted(pid for pid, name in core_images(directory) if _is_stopped(read_image(directory, name)))
    except ValueError as error:
        raise _unreadable("of a process", error) from error


def _is_stopped(core: bytes) -> bool:
    entry = protobuf.parse(next(protobuf.messages(core), b""))
    tasks = protobuf.embedded(entry, _TASK)
    return any(protobuf.number(protobuf.parse(task), _TASK_STATE) == _STOPPED for task in tasks)


def _mended_file(entry: bytes) -> bytes:
    if TIMERFD not in protobuf.values(entry):  # which refuses what is no message, of all files once
        return entry
    outer = protobuf.parse(entry)
    timers = protobuf.embedded(outer, TIMERFD)
    return protobuf.encode(protobuf.replaced(outer, {TIMERFD: mended_timer(timers[-1])})) if timers else entry


def _number(timer: Sequence[Field], field: int) -> int:
    if not (values := protobuf.numbers(timer, field)):
        raise ValueError(f"a timerfd has no number {field}")
    return values[-1]


def _unreadable(what: str, error: ValueError) -> CriuError:
    return CriuError(AgentReason.DUMP_FAILED, f"an image that criu wrote cannot be read: {what}: {error}")
