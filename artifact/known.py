"""What was read in an artifact, kept for its next restore: a burst of replicas restores the same one."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Known(Generic[T]):
    """What *read* returns for a file or folder of an artifact, kept by a key until the agent ends.

    Args:
        read: reads it, by its descriptor. If it raises, nothing is kept.
        most: how many are known at once.
        is_kept: whether it is worth its memory.
    """

    def __init__(self, read: Callable[[int], T], most: int = 16, is_kept: Callable[[T], bool] = lambda _: True) -> None:
        self._read = read
        self._most = most
        self._is_kept = is_kept
        self._known: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: str, fd: int) -> T:
        """Return what is in a file or folder. What has the same key must have the same content."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = self._read(fd)
        if not self._is_kept(found):
            return found
        with self._lock:
            self._known[key] = found
            self._known.move_to_end(key)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return found
