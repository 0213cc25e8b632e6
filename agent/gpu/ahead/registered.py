"""Keeps the page cache of files registered with the driver: a card then reads it at its bus's speed, and no CPU copies.

The kernel cannot reclaim such memory, so it has a budget; what was used longest ago goes first, and all of it goes when
its file is deleted or the node runs short of memory.
Imports the standard library alone, as ``agent.gpu.ahead.prefetcher`` does.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from linux import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

GRAIN: Final = 64 << 20
"""Bytes that one call registers, in some 2 ms. On an H200 machine 16 MiB to 1 GiB took the same time in all."""

MEMINFO: Final = "/proc/meminfo"


class Driver(Protocol):
    """Registers memory of this process."""

    def register(self, at: int, size: int) -> None:
        """Have the cards read memory directly; it is only read."""
        ...

    def unregister(self, at: int) -> None:
        """Undo that."""
        ...


@dataclass(frozen=True)
class Identity:
    """A file as it was: another one, or other bytes, make another identity."""

    device: int
    inode: int
    size: int
    changed: int
    """Nanoseconds (``st_ctime_ns``)."""


@dataclass(eq=False)
class Registered:
    """One file, all of whose page cache is registered."""

    identity: Identity
    descriptor: int
    at: int
    """Address in this process; only a card may read there: the file may have become shorter."""
    users: int = 0
    used: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.identity.size

    def pieces(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """Cut a range of the file into addresses and sizes, each registered by one call.

        The driver refuses a copy that goes on into what another call registered (CUDA_ERROR_INVALID_VALUE).
        """
        end = offset + size
        while offset < end:
            length = min(GRAIN - offset % GRAIN, end - offset)
            yield self.at + offset, length
            offset += length


def identity_of(descriptor: int) -> Identity:
    """Return the identity of an open file."""
    status = os.fstat(descriptor)
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)


def plan_room(files: Iterable[Registered], size: int, budget: int) -> Sequence[Registered] | None:
    """Return which files go, so that ``size`` more bytes are within the budget; None if too few may go."""
    kept = sorted(files, key=lambda each: each.used)
    over = sum(each.size for each in kept) + size - budget
    gone = []
    for each in kept:
        if over <= 0:
            break
        if not each.users:
            gone.append(each)
            over -= each.size
    return gone if over <= 0 else None


class RegisteredFiles:
    """The files that are registered. One thread may call ``keep`` and ``review``; ``hold`` and ``let_go`` any.

    Args:
        driver: registers; that thread has a context of it.
        budget: bytes that may be registered.
        is_short: says whether the node is short of memory, if that many bytes can no longer be reclaimed.
        wait: called before each call that registers: it waits while something else should have the driver.
    """

    def __init__(
        self, driver: Driver, budget: int, is_short: Callable[[int], bool], wait: Callable[[], object] = lambda: None
    ) -> None:
        self._driver = driver
        self._budget = budget
        self._is_short = is_short
        self._wait = wait
        self._files: dict[Identity, Registered] = {}
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Bytes that are registered."""
        with self._lock:
            return sum(each.size for each in self._files.values())

    def hold(self, descriptor: int) -> Registered | None:
        """Return a file that stays registered until ``let_go``; None if it is not registered, or has changed."""
        with self._lock:
            found = self._files.get(identity_of(descriptor))
            if found is not None:
                found.users += 1
                found.used = time.monotonic()
            return found

    def let_go(self, held: Registered) -> None:
        """End a hold."""
        with self._lock:
            held.users -= 1

    def keep(self, descriptor: int) -> str:
        """Register a file, in place of what was used longest ago; return why not if there is no room for it.

        Raises:
            OSError, DriverError: it cannot be registered.
        """
        identity = identity_of(descriptor)
        with self._lock:
            if not identity.size or identity in self._files:
                return ""
            gone = plan_room(self._files.values(), identity.size, self._budget)
            registered = sum(each.size for each in self._files.values())
        if gone is None:
            return f"more than the budget of {self._budget} bytes"
        if self._is_short(registered + identity.size - sum(each.size for each in gone)):
            return "less than an eighth of the node's memory would be left"
        self._drop(gone)
        made = Registered(identity, os.dup(descriptor), 0)
        try:
            made.at = self._register(made)
        except BaseException:
            os.close(made.descriptor)
            raise
        with self._lock:
            self._files[identity] = made
        return ""

    def review(self) -> None:
        """Give up what was deleted or changed, and all that is not in use if the node is short of memory."""
        is_short = self._is_short(self.bytes)
        with self._lock:
            files = list(self._files.values())
        self._drop([each for each in files if is_short or _is_stale(each)])

    def _register(self, file: Registered) -> int:
        at = syscalls.map_file(file.descriptor, file.size)
        done = 0
        try:
            while done < file.size:
                self._wait()
                self._driver.register(at + done, min(GRAIN, file.size - done))
                done += GRAIN
        except BaseException:
            self._unregister(at, min(done, file.size), file.size)
            raise
        return at

    def _drop(self, files: Iterable[Registered]) -> None:
        for file in files:
            with self._lock:
                if file.users:
                    continue
                self._files.pop(file.identity, None)
            self._unregister(file.at, file.size, file.size)
            os.close(file.descriptor)

    def _unregister(self, at: int, registered: int, mapped: int) -> None:
        for done in range(0, registered, GRAIN):
            self._driver.unregister(at + done)
        syscalls.unmap(at, mapped)


def _is_stale(file: Registered) -> bool:
    return not os.fstat(file.descriptor).st_nlink or identity_of(file.descriptor) != file.identity


def is_short(registered: int, meminfo: str = MEMINFO) -> bool:
    """Say whether less than an eighth of the node's memory is left, if so many bytes cannot be reclaimed.

    The kernel counts page cache as available, registered or not.
    """
    fields = _read_fields(meminfo)
    return fields.get("MemAvailable", 0) - registered < fields.get("MemTotal", 0) // 8


def default_budget(limit: int | None, meminfo: str = MEMINFO) -> int:
    """Return how many bytes may be registered if nothing else is said.

    Args:
        limit: bytes of memory that the agent may have; page cache that it reads counts for it. None: no limit.
        meminfo: the kernel's file of that name.
    """
    return limit // 2 if limit is not None else _read_fields(meminfo).get("MemTotal", 0) // 8


def _read_fields(meminfo: str) -> dict[str, int]:
    with suppress(OSError), Path(meminfo).open() as lines:
        return {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines)}
    return {}
