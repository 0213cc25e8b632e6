"""An informer cache of one collection: list once, follow the watch, list again when the version has expired.

The cache is eventually right, whatever happens: a watch that the server ended in good order is resumed from the
last version seen; after an expired version (410) or an unreachable server the collection is listed again, with growing,
jittered pauses (a server that comes back with an older database would just stay silent on a version of the future).
``synced`` is set when the first list is in and stays set: stale knowledge beats none, and writes are guarded by
resource versions anyway.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from time import monotonic
from typing import Final, NoReturn

from kube.api import KubeClient, Object, Transform
from kube.errors import ForbiddenError, GoneError, KubeError
from kube.resources import Resource
from kube.store import Change, Indexer, Store, version_of

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 15.0
"""Seconds between attempts: a restarted API server is found again soon, and not stormed by many clients at once."""
QUIET_WATCH: Final = 1.0
"""Seconds: a watch that ended sooner is followed by a pause, so that a server that ends them at once is not spun at."""

Handler = Callable[[Change], None]
logger = logging.getLogger(__name__)


def trimmed(obj: Object) -> Object:
    """Return *obj* without ``managedFields``, which no code here reads and which is often half of an object."""
    obj["metadata"].pop("managedFields", None)
    return obj


class Informer:
    """One collection, in memory."""

    def __init__(
        self,
        kube: KubeClient,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        indexers: Mapping[str, Indexer] | None = None,
        keep: Transform = trimmed,
    ) -> None:
        self.resource = resource
        self.store = Store(indexers)
        self.synced = asyncio.Event()
        self.forbidden = False
        """Whether the server answered 403 and has sent nothing since; it is asked again all the same."""
        self._kube = kube
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._keep = keep
        self._handlers: list[Handler] = []
        self._version = ""
        self._pause = FIRST_PAUSE
        self._heard = 0.0

    def age(self) -> float:
        """Return seconds since the server last said anything: a list, an event, or one of its bookmarks, once a minute.

        Before the first list it is the time since ``run`` began.
        """
        return monotonic() - self._heard if self._heard else 0.0

    def add_handler(self, handler: Handler) -> None:
        """Call *handler* on every change from now on; add handlers before ``run``. It must not block."""
        self._handlers.append(handler)

    def learn(self, obj: Object) -> None:
        """Take in the answer of a write at once, so that the next read is not behind our own write.

        If the watch has already passed that version, it knows better: the object may have been deleted since.
        """
        passed = int(self._version) if self._version.isdecimal() else 0
        if self.synced.is_set() and version_of(obj) > passed:
            self._notify(self.store.put(self._keep(obj)))

    async def run(self) -> NoReturn:
        """Keep the cache up to date until cancelled."""
        self._hear()
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
            except GoneError:
                logger.info("%s: resource version expired, listing again", self.resource.plural)
                self._version = ""
                await self._rest()
            except KubeError as error:
                is_known = self.forbidden and isinstance(error, ForbiddenError)
                self.forbidden = self.forbidden or isinstance(error, ForbiddenError)  # an outage grants no rights
                level = logging.DEBUG if is_known else logging.WARNING
                logger.log(level, "%s: %s; listing again", self.resource.plural, error)
                self._version = ""
                await self._rest()

    async def _list(self) -> None:
        listing = await self._kube.list(
            self.resource, self._namespace, labels=self._labels, fields=self._fields, keep=self._keep
        )
        for change in self.store.replace(listing.items):
            self._notify(change)
        self._version = listing.resource_version
        self.forbidden = False
        self._hear()
        self.synced.set()

    async def _follow(self) -> None:
        started = asyncio.get_running_loop().time()
        stream = self._kube.watch(
            self.resource,
            self._namespace,
            resource_version=self._version,
            labels=self._labels,
            fields=self._fields,
        )
        async with aclosing(stream):
            async for kind, obj in stream:
                self._pause = FIRST_PAUSE
                self._apply(kind, obj)
        if asyncio.get_running_loop().time() - started < QUIET_WATCH:
            await self._rest()
        else:
            self._pause = FIRST_PAUSE

    def _apply(self, kind: str, obj: Object) -> None:
        if kind != "BOOKMARK":
            self._notify(self.store.remove(obj) if kind == "DELETED" else self.store.put(self._keep(obj)))
        self._version = obj["metadata"]["resourceVersion"]
        self._hear()

    def _hear(self) -> None:
        self._heard = monotonic()

    def _notify(self, change: Change | None) -> None:
        if change is not None:
            for handler in self._handlers:
                handler(change)

    async def _rest(self) -> None:
        await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311 - spreads load, guards nothing
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


def learn(informers: Iterable[Informer], resource: Resource, obj: Object) -> None:
    """Have those that hold *resource* take in the answer of a write."""
    for informer in informers:
        if informer.resource == resource:
            informer.learn(obj)


async def synced(*informers: Informer) -> None:
    """Wait until every one of *informers* holds its collection."""
    for informer in informers:
        await informer.synced.wait()
