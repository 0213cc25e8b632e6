# ruff: noqa: ARG002 - a fake takes what the seam gives
"""A scripted Kube: answers what the test says, remembers what was asked. It knows no Kubernetes."""

import asyncio
import itertools

from kube.api import Listing, WatchEvent
from kube.errors import AlreadyExistsError, ConflictError, NotFoundError


def obj(name, version, namespace="ns", uid=None, **fields):
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version), "uid": uid or f"uid-{name}"}
    return {"metadata": metadata, **fields}


class ScriptedWatches:
    """``lists`` and ``watches`` are used up in order, exceptions are raised; without a script left, a watch waits."""

    def __init__(self, lists, watches):
        self.lists = iter(lists)
        self.watches = iter(watches)
        self.listed = 0
        self.watched_from = []

    async def list(self, resource, namespace=None, *, labels="", fields="", keep=None):
        self.listed += 1
        answer = next(self.lists)
        if isinstance(answer, Exception):
            raise answer
        items, version = answer
        return Listing(tuple(keep(item) if keep else item for item in items), str(version))

    async def watch(self, resource, namespace=None, *, resource_version, labels="", fields=""):
        self.watched_from.append(resource_version)
        script = next(self.watches, None)
        if script is None:
            await asyncio.get_running_loop().create_future()
        for event in script:
            if isinstance(event, Exception):
                raise event
            yield WatchEvent(*event)


class OneObject:
    """A single named object with optimistic locking, for the Lease."""

    def __init__(self):
        self.object = None
        self.fail = None
        self.writes = 0
        self._versions = itertools.count(1)

    async def get(self, resource, name, namespace=None):
        await self._maybe_fail()
        if self.object is None:
            raise NotFoundError(404, "NotFound", name)
        return self._copy()

    async def create(self, resource, body, namespace=None, *, dry_run=False):
        await self._maybe_fail()
        if self.object is not None:
            raise AlreadyExistsError(409, "AlreadyExists", "there")
        self._store({**body, "metadata": dict(body["metadata"])})
        return self._copy()

    async def patch(self, resource, name, body, namespace=None, **_):
        await self._maybe_fail()
        if body["metadata"]["resourceVersion"] != self.object["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", "changed")
        self._store({**self.object, "spec": self.object["spec"] | body["spec"]})
        return self._copy()

    def _store(self, value):
        self.writes += 1
        value["metadata"] = value["metadata"] | {"resourceVersion": str(next(self._versions))}
        self.object = value

    def _copy(self):
        return {**self.object, "metadata": dict(self.object["metadata"]), "spec": dict(self.object["spec"])}

    async def _maybe_fail(self):
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
