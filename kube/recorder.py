"""Events: what ``kubectl describe`` shows under an object.

Recording never waits and never fails the work it speaks of: events go to a bounded queue, a single task sends them,
and the same key about the same object raises a counter instead of making another Event.
"""

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Literal, NoReturn
from uuid import uuid4

from contract.api.times import format_time
from kube.api import KubeClient, Object
from kube.errors import AlreadyExistsError, KubeError, NotFoundError, bounded
from kube.resources import EVENTS

MAX_MESSAGE: Final = 1024
"""Characters; the API server refuses longer ones."""
MAX_WAITING: Final = 10_000
"""Events that may wait for a slow API server, some 7 MiB; beyond it the newest are dropped and counted.

5,000 checkpoints and 2,000 pods made at once have 7,500 waiting at the worst (docs/scale.md).
"""
MAX_REMEMBERED: Final = 4096
"""Sentences remembered for counting, least recently used out first."""
MAX_NAME: Final = 253
SUFFIX: Final = 17

EventType = Literal["Normal", "Warning"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EventSpec:
    """An Event that a plan wants recorded about the object that it is for."""

    type: EventType
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _EventKey:
    namespace: str
    kind: str
    name: str
    uid: str
    api_version: str
    type: EventType
    reason: str
    message: str


class Recorder:
    """Sends Events in the name of *component*."""

    def __init__(self, kube: KubeClient, component: str, instance: str = "") -> None:
        self._kube = kube
        self._component = component
        self._instance = instance
        self._waiting: asyncio.Queue[_EventKey] = asyncio.Queue(MAX_WAITING)
        self._sent: OrderedDict[_EventKey, tuple[str, int]] = OrderedDict()
        self.dropped = 0
        """Events that were never sent: too many waited."""

    @property
    def waiting(self) -> int:
        """Events that wait to be sent."""
        return self._waiting.qsize()

    def record(self, about: Object, kind: EventType, reason: str, message: str) -> None:
        """Record an Event about an object; *reason* is one CamelCase word. Cluster-scoped objects: in ``default``."""
        key = _key_of(about, kind, reason, message)
        try:
            self._waiting.put_nowait(key)
        except asyncio.QueueFull:
            self.dropped += 1
            logger.warning("event dropped, %d are waiting: %s %s", MAX_WAITING, reason, message)

    async def say_once(self, about: Object, kind: EventType, reason: str, message: str) -> None:
        """Say *reason* about an object now, and never twice while the first Event lives, whatever process said it.

        Raises:
            KubeError: the Event could not be made.
        """
        key = _key_of(about, kind, reason, message)
        digest = sha256(f"{key.uid}\0{key.name}\0{reason}".encode()).hexdigest()
        with suppress(AlreadyExistsError):
            await self._kube.create(EVENTS, self._event(key, digest), key.namespace)

    async def run(self) -> NoReturn:
        """Send what was recorded until cancelled."""
        while True:
            key = await self._waiting.get()
            try:
                await self._send(key)
            except KubeError as error:
                logger.warning("event not sent: %s", error, extra={"reason": key.reason, "about": key.name})
            finally:
                self._waiting.task_done()

    async def flush(self, seconds: float = 2.0) -> None:
        """Wait until everything recorded so far was sent, at most *seconds*; ``run`` must be running."""
        try:
            async with asyncio.timeout(seconds):
                await self._waiting.join()
        except TimeoutError:
            logger.warning("%d events not sent before shutdown", self._waiting.qsize())

    async def _send(self, key: _EventKey) -> None:
        if key in self._sent and await self._count(key):
            return
        event = self._event(key, uuid4().hex)
        await self._kube.create(EVENTS, event, key.namespace)
        self._remember(key, event["metadata"]["name"], 1)

    async def _count(self, key: _EventKey) -> bool:
        name, count = self._sent[key]
        body = {"count": count + 1, "lastTimestamp": format_time(datetime.now(UTC))}
        try:
            await self._kube.patch(EVENTS, name, body, key.namespace)
        except NotFoundError:
            # Events live an hour.
            return False
        self._remember(key, name, count + 1)
        return True

    def _remember(self, key: _EventKey, name: str, count: int) -> None:
        self._sent[key] = (name, count)
        self._sent.move_to_end(key)
        if len(self._sent) > MAX_REMEMBERED:
            self._sent.popitem(last=False)

    def _event(self, key: _EventKey, suffix: str) -> Object:
        now = format_time(datetime.now(UTC))
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "name": f"{key.name[: MAX_NAME - SUFFIX].rstrip('-.')}.{suffix[: SUFFIX - 1]}",
                "namespace": key.namespace,
            },
            "involvedObject": {
                "apiVersion": key.api_version,
                "kind": key.kind,
                "name": key.name,
                "namespace": key.namespace,
                "uid": key.uid,
            },
            "type": key.type,
            "reason": key.reason,
            "message": key.message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": self._component, **({"host": self._instance} if self._instance else {})},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }


def _key_of(about: Object, kind: EventType, reason: str, message: str) -> _EventKey:
    metadata = about["metadata"]
    return _EventKey(
        namespace=metadata.get("namespace") or "default",
        kind=about["kind"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        api_version=about["apiVersion"],
        type=kind,
        reason=reason,
        message=bounded(message, MAX_MESSAGE),
    )
