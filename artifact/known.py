"""What was read in an artifact, kept for its next restore: a burst of replicas restores the same one."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Known(Generic[T]):
    """What was read in a file or folder of an artifact, kept by a key until the agent ends.

    Args:
        most: how many are known at once.
    """

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._known: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: str, read: Callable[[], T], may_keep: Callable[[T], bool] = lambda _: True) -> T:
        """Return what is known by a key, or what is read now.

        Args:
            key: what has the same one must have the same content.
            read: reads it. If it raises, nothing is kept.
            may_keep: asked of what was read: whether it is certain, and worth its memory.
        """
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = read()
        if not may_keep(found):
            return found
        with self._lock:
            self._known[key] = found
            self._known.move_to_end(key)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return found
