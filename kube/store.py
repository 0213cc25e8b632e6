"""What an informer knows: objects by namespace and name, with secondary indexes so that no look-up scans."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from kube.api import Object

Key = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""
Indexer = Callable[[Object], Iterable[str]]
"""The values under which an object is found in one index."""


class Change(NamedTuple):
    """One step of an object's life: ``old`` is None when it appears, ``new`` when it is deleted."""

    old: Object | None
    new: Object | None

    @property
    def object(self) -> Object:
        """The newest known state, also of an object that was deleted."""
        found = self.new if self.new is not None else self.old
        if found is None:
            raise ValueError("a change needs an old or a new object")
        return found


def key_of(obj: Object) -> Key:
    """Return the store key of *obj*."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def version_of(obj: Object) -> int:
    """Return the resourceVersion as a number; versions of one kind are ordered (documented since Kubernetes 1.35)."""
    text = str(obj["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0


class Store:
    """Objects of one kind. They must not be changed: copy first."""

    def __init__(self, indexers: Mapping[str, Indexer] | None = None) -> None:
        self._objects: dict[Key, Object] = {}
        self._indexers = dict(indexers or {})
        self._indexes: dict[str, defaultdict[str, set[Key]]] = {name: defaultdict(set) for name in self._indexers}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        return iter(tuple(self._objects.values()))

    def get(self, namespace: str, name: str) -> Object | None:
        """Return the object, or None."""
        return self._objects.get((namespace, name))

    def by_index(self, index: str, value: str) -> tuple[Object, ...]:
        """Return all objects that *index* files under *value*, in order of their keys.

        Raises:
            KeyError: the store has no such index.
        """
        found = self._indexes[index].get(value, ())
        return tuple(self._objects[key] for key in sorted(found))

    def put(self, obj: Object) -> Change | None:
        """File *obj* unless what is here is as new: a late watch event never undoes what a write's answer brought."""
        key = key_of(obj)
        old = self._objects.get(key)
        if old is not None and 0 < version_of(obj) <= version_of(old):
            return None
        self._file(key, old, obj)
        return Change(old, obj)

    def remove(self, obj: Object) -> Change | None:
        """Forget *obj*, unless an object of the same name that was made later has taken its place."""
        key = key_of(obj)
        old = self._objects.get(key)
        if old is None or (
            old["metadata"].get("uid") != obj["metadata"].get("uid") and version_of(old) > version_of(obj)
        ):
            return None
        self._file(key, old, None)
        return Change(old, None)

    def replace(self, items: Iterable[Object]) -> tuple[Change, ...]:
        """Take *items* as the whole truth, whatever their versions; answer what is different now."""
        wanted = {key_of(item): item for item in items}
        changes = []
        for key in [key for key in self._objects if key not in wanted]:
            old = self._objects[key]
            self._file(key, old, None)
            changes.append(Change(old, None))
        for key, item in wanted.items():
            before = self._objects.get(key)
            if before is None or version_of(before) != version_of(item) or version_of(item) == 0:
                self._file(key, before, item)
                changes.append(Change(before, item))
        return tuple(changes)

    def _file(self, key: Key, old: Object | None, new: Object | None) -> None:
        for name, indexer in self._indexers.items():
            index = self._indexes[name]
            for value in indexer(old) if old is not None else ():
                index[value].discard(key)
                if not index[value]:
                    del index[value]
            for value in indexer(new) if new is not None else ():
                index[value].add(key)
        if new is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = new
