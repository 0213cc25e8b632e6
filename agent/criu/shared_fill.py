"""Copies the content of shared memory with several threads; loaded by ``agent.criu.nsenter``, in the pod's cgroups.

Memory counts for the cgroup of the process that writes it first, so that cannot be the agent.
"""

import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

PIECE: Final = 4 << 20
"""Bytes: many for each thread, few calls."""
_MAPPING_COST: Final = 2
"""Processor time of reading into a mapping, as a multiple of what writing takes: 0.9 and 0.45 s for 1 GiB.

But those that write to one segment wait for each other.
"""

Run = tuple[int, int, int]
"""Offset in the image, offset in the segment, length."""
Job = tuple[int, int, Sequence[Run]]
"""Descriptor of the image, of the segment, and what of the one goes to the other."""


def fill(jobs: Sequence[Job], threads: int) -> None:
    """Copy all of it.

    Raises:
        OSError, ValueError: an image is cut short, or names what is beyond a segment's end.
    """
    steps = iter([step for job in jobs for step in (_reads if is_shared_out(jobs, threads) else _writes)(*job)])
    errors: list[Exception] = []

    def work() -> None:
        try:
            for step in steps:  # an iterator over a list gives each step to one thread
                step()
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]


def is_shared_out(jobs: Sequence[Job], threads: int) -> bool:
    """Say whether all threads at each segment are done sooner than one thread for each; pure."""
    sizes = [sum(length for _, _, length in runs) for _, _, runs in jobs]
    return _MAPPING_COST * sum(sizes) < threads * max(sizes)


def _writes(source: int, target: int, runs: Sequence[Run]) -> Iterator[Callable[[], None]]:
    yield partial(_write, source, target, _within(target, runs))


def _reads(source: int, target: int, runs: Sequence[Run]) -> Iterator[Callable[[], None]]:
    view = memoryview(mmap.mmap(target, 0))
    for offset, start, length in _within(target, runs):
        for at in range(0, length, PIECE):
            yield partial(_read, source, view[start + at : start + min(length, at + PIECE)], offset + at)


def _within(target: int, runs: Sequence[Run]) -> list[Run]:
    """Cut off what of the last page is beyond the segment's end."""
    size = os.fstat(target).st_size
    if beyond := [start + length for _, start, length in runs if start + length >= size + mmap.PAGESIZE]:
        raise ValueError(f"its image names {beyond[0]} bytes, and it has {size}")
    return [(offset, start, min(length, size - start)) for offset, start, length in runs]


def _write(source: int, target: int, runs: Sequence[Run]) -> None:
    for offset, start, length in runs:
        os.lseek(target, start, os.SEEK_SET)
        done = 0
        while done < length:
            done += _some(os.sendfile(target, source, offset + done, length - done))


def _read(source: int, view: memoryview, offset: int) -> None:
    done = 0
    while done < len(view):
        done += _some(os.preadv(source, [view[done:]], offset + done))


def _some(count: int) -> int:
    if not count:
        raise ValueError("its image is cut short")
    return count
