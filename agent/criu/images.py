"""What of CRIU's images is read and mended once a dump is done; docs/decisions/0030-timers-mended-in-the-image.md.

An image is two magic numbers, then messages, each after its length; all numbers are 32 bits, little-endian.
Numbers of fields are those of criu's ``images/fdinfo.proto``, ``timerfd.proto`` and ``core.proto``.
"""

import os
import re
import stat
import struct
from collections.abc import Iterator
from typing import Final

from agent.criu.messages import fields, replaced, unreadable

FILES: Final = "files.img"
TIMERFD: Final = 12
"""The field of a file that describes a timerfd."""
CLOCK, TICKS, FLAGS, SECONDS, NANOSECONDS, PERIOD_SECONDS, PERIOD_NANOSECONDS = 4, 5, 6, 7, 8, 9, 10
_TASK: Final = 3
"""The field of a core image that describes a process; images of other threads have none."""
_TASK_STATE: Final = 1
_STOPPED: Final = 3
_ABSOLUTE: Final = 1
_CANCEL_ON_SET: Final = 2
_HEADER: Final = 8
_CORE: Final = re.compile(r"core-([0-9]{1,10})\.img")
_LONGEST: Final = (1 << 63) - 1


def mend_timers(directory: int) -> None:
    """Rewrite those timerfds of an images directory that criu would restore wrongly.

    Raises:
        CriuError: the image cannot be read.
    """
    found = _read(directory, FILES)
    mended = found[:_HEADER] + b"".join(
        struct.pack("<I", len(entry)) + entry for entry in map(_mended_file, _entries(found))
    )
    if mended != found:
        _write(directory, FILES, mended)


def mended_timer(timer: bytes) -> bytes:
    """Return the description of a timerfd that criu restores as it was; pure.

    The kernel shows the time that is left, and of a periodic timer that expired and was not read yet, none: criu takes
    that for a disarmed one. It is given a whole period.

    For a timer that was set to a moment, criu adds the seconds of the clock to what is left and forgets the
    nanoseconds: it would expire up to a second early. It is restored as one that was set to a length. That is no
    difference to its process but in one case, a timer that is cancelled by changes of the wall clock: that one keeps
    its flags, and expires up to a second late rather than early.
    """
    now = fields(timer)
    left = _number(now, SECONDS), _number(now, NANOSECONDS)
    period = _number(now, PERIOD_SECONDS), _number(now, PERIOD_NANOSECONDS)
    flags = _number(now, FLAGS)
    if left == (0, 0):
        left = period
    if flags & _ABSOLUTE and left != (0, 0):
        if flags & _CANCEL_ON_SET:
            left = min(left[0] + 1, _LONGEST), left[1]
        else:
            flags &= ~_ABSOLUTE
    return replaced(timer, {FLAGS: flags, SECONDS: left[0], NANOSECONDS: left[1]})


def stopped_processes(directory: int) -> list[int]:
    """Return the processes that were stopped when they were dumped, as numbered inside the container.

    Raises:
        CriuError: an image cannot be read.
    """
    cores = [(int(match[1]), name) for name in os.listdir(directory) if (match := _CORE.fullmatch(name))]
    return sorted(pid for pid, name in cores if _is_stopped(_read(directory, name)))


def _is_stopped(core: bytes) -> bool:
    task = fields(next(_entries(core), b"")).get(_TASK, b"")
    return isinstance(task, bytes) and fields(task).get(_TASK_STATE) == _STOPPED


def _mended_file(entry: bytes) -> bytes:
    timer = fields(entry).get(TIMERFD)
    return replaced(entry, {TIMERFD: mended_timer(timer)}) if isinstance(timer, bytes) else entry


def _entries(image: bytes) -> Iterator[bytes]:
    at = _HEADER
    while at < len(image):
        if at + 4 > len(image):
            raise unreadable("it is cut off")
        (size,) = struct.unpack_from("<I", image, at)
        at += 4 + size
        if at > len(image):
            raise unreadable("it is cut off")
        yield image[at - size : at]


def _number(message: dict[int, int | bytes], field: int) -> int:
    value = message.get(field)
    if not isinstance(value, int):
        raise unreadable(f"a timerfd has no number {field}")
    return value


def _read(directory: int, name: str) -> bytes:
    with open(name, "rb", opener=lambda path, flags: os.open(path, flags | os.O_CLOEXEC, dir_fd=directory)) as file:
        return file.read()


def _write(directory: int, name: str, content: bytes) -> None:
    """Replace a file whole."""
    mode = stat.S_IMODE(os.stat(name, dir_fd=directory).st_mode)
    temporary = f".{name}"
    with open(
        temporary,
        "wb",
        opener=lambda path, flags: os.open(path, flags | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=directory),
    ) as file:
        file.write(content)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
