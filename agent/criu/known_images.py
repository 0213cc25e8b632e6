"""What was read in the images of an artifact, kept for its next restore: a burst of replicas restores the same ones."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class KnownImages(Generic[T]):
    """What *read* returns for the directory of an artifact's images, kept by their digest until the agent ends.

    Args:
        read: reads a directory, by its descriptor. If it raises, nothing is kept.
        most: artifacts that are known at once.
    """

    def __init__(self, read: Callable[[int], T], most: int = 16) -> None:
        self._read = read
        self._most = most
        self._known: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, digest: str, directory: int) -> T:
        """Return what is in a directory whose images are those of the artifact with that digest."""
        with self._lock:
            if digest in self._known:
                self._known.move_to_end(digest)
                return self._known[digest]
        found = self._read(directory)
        with self._lock:
            self._known[digest] = found
            self._known.move_to_end(digest)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return found
