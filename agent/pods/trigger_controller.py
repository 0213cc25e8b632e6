"""Captures that workers ask for: in each pod whose owner allows it, the agent listens for its worker's request.

The request becomes an annotation of the pod, from which the controller makes the DynamoCheckpoint; from there on it is
the capture of a running pod as any other. The answer is always 200: a worker goes on whatever becomes of it.
"""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from typing import Final

from agent.executor.api import PodNetworks
from agent.pods import selection
from agent.pods.inflight import InFlight
from agent.pods.report import Reporter
from contract.api import keys, trigger
from contract.api.checkpoint import TargetError, annotations_of, id_of, labels_of, target_containers
from contract.api.running import CaptureResult, is_capturing, new_request, read_result, requested_checkpoint
from contract.api.states import CaptureStatus, Phase
from contract.api.trigger import TriggerAnswer, TriggerStatus
from kube.api import KubeClient, Object
from kube.errors import KubeError, NotFoundError
from kube.resources import CHECKPOINTS, PODS

FIRST_LOOK: Final = 0.2
LAST_LOOK: Final = 2.0
"""Seconds between looks for the pod's network, ever longer: each reads the node's processes."""
POLL_SECONDS: Final = 0.5
LONGEST_PAUSE: Final = 15.0
"""Between looks while the API server fails."""
LOOKS: Final = 10
"""At a pod whose status does not show the caller yet: a worker may ask as soon as it starts."""
PATIENCE: Final = float(keys.DEFAULT_ACTIVE_DEADLINE_SECONDS)
"""Seconds; the time that the controller gives the capture itself."""
SAID_NOTHING: Final = 180.0
"""Seconds without a DynamoCheckpoint after which the request has failed."""
MOST_CONNECTIONS: Final = 8
"""Of one pod at a time; more are hung up."""
_READ_SECONDS: Final = 10.0
_MAX_REQUEST: Final = 16 << 10
_EMPTY: Final = b"\r\n\r\n"
logger = logging.getLogger(__name__)


def listens_for(pod: Object) -> bool:
    """Say whether the worker of a pod may ask for its capture: its label says so, and its network is its own."""
    spec = pod.get("spec") or {}
    wanted = labels_of(pod).get(keys.LABEL_TRIGGER) == "true" and not labels_of(pod).get(keys.LABEL_IS_SOURCE)
    return wanted and not spec.get("hostNetwork") and selection.alive(pod)


def answer_before(pod: Object, checkpoint: Object | None) -> TriggerAnswer | None:
    """Return the answer if nothing is to be captured; pure."""
    name = annotations_of(pod).get(keys.ANN_CHECKPOINT, "")
    if not name or not annotations_of(pod).get(keys.ANN_TEMPLATE_HASH):
        words = f"the pod asks for no checkpoint of its own: it needs label {keys.LABEL_RESTORE}={keys.RESTORE_AUTO}"
        return TriggerAnswer(TriggerStatus.FAILED, words)
    if checkpoint is None:
        return None
    phase = (checkpoint.get("status") or {}).get("phase") or Phase.PENDING
    if phase == Phase.FAILED:
        return None
    reason = trigger.EXISTS if phase == Phase.READY else trigger.IN_PROGRESS
    return TriggerAnswer(TriggerStatus.SKIPPED, reason, name, id_of(checkpoint))


def answer_after(pod: Object, request: str, checkpoint: Object | None) -> TriggerAnswer | None:
    """Return the answer to a request once the capture has ended, or another pod's is at work; pure."""
    result = read_result(annotations_of(pod).get(keys.ANN_CAPTURE_RESULT, ""))
    name = annotations_of(pod).get(keys.ANN_CHECKPOINT, "")
    if result is not None and result.request == request:
        return _of_result(result, name, checkpoint)
    source = ((checkpoint or {}).get("spec") or {}).get("source") or {}
    failed = ((checkpoint or {}).get("status") or {}).get("phase") == Phase.FAILED
    if checkpoint is not None and not failed and source.get("podUID") != pod["metadata"]["uid"]:
        return TriggerAnswer(TriggerStatus.SKIPPED, trigger.IN_PROGRESS, name, id_of(checkpoint))
    return None


def _of_result(result: CaptureResult, name: str, checkpoint: Object | None) -> TriggerAnswer:
    found = id_of(checkpoint) if checkpoint is not None else ""
    if result.notes.get(keys.ANN_CHECKPOINT_STATUS) == CaptureStatus.COMPLETED:
        return TriggerAnswer(TriggerStatus.CREATED, "", name, found)
    words = result.notes.get(keys.ANN_CAPTURE_MESSAGE, "the agent gives no reason")
    return TriggerAnswer(TriggerStatus.FAILED, words, name, found)


class TriggerController:
    """Listens in the pods that it is shown."""

    def __init__(self, kube: KubeClient, networks: PodNetworks, reporter: Reporter) -> None:
        self._kube = kube
        self._networks = networks
        self._reporter = reporter
        self._asking: set[str] = set()
        """UIDs of pods with a request at work."""
        self._open: Counter[str] = Counter()
        """Connections by pod: each is a descriptor of the agent, and the other end is any process of the pod."""
        self.in_flight = InFlight()

    def see(self, pod: Object) -> None:
        """Look at a pod that is new or has changed."""
        key = (pod["metadata"]["uid"], "trigger")
        if listens_for(pod):
            self.in_flight.start(key, lambda: self._listen(pod), lambda: None)
        else:
            self.in_flight.cancel(key)

    def forget(self, pod: Object) -> None:
        """Stop listening in a pod that no longer exists."""
        self.in_flight.cancel((pod["metadata"]["uid"], "trigger"))
        self._open.pop(pod["metadata"]["uid"], None)

    async def _listen(self, pod: Object) -> None:
        pause = FIRST_LOOK
        try:
            while (sock := await self._networks.listen(pod["metadata"]["uid"])) is None:
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, LAST_LOOK)
        except OSError as error:
            logger.warning("pod %s cannot ask for its capture: %s", pod["metadata"]["name"], error)
            return
        server = await asyncio.start_server(lambda r, w: self._serve(pod, r, w), sock=sock, limit=_MAX_REQUEST)
        async with server:
            await server.serve_forever()

    async def _serve(self, pod: Object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = pod["metadata"]["uid"]
        self._open[uid] += 1
        try:
            if self._open[uid] <= MOST_CONNECTIONS:
                with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                    await self._respond(pod, reader, writer)
        finally:
            self._open[uid] -= 1
            writer.close()

    async def _respond(self, pod: Object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_READ_SECONDS):
            head = await reader.readuntil(_EMPTY)
        method, path, *_ = [*head.partition(b"\r\n")[0].decode("latin-1").split(" "), ""]
        status, body = "200 OK", "{}"
        if path.partition("?")[0] != trigger.PATH:
            status = "404 Not Found"
        elif method != "POST":
            status = "405 Method Not Allowed"
        else:
            body = (await self._answer(pod, writer.get_extra_info("peername"))).to_json()
        writer.write(_response(status, body))
        await writer.drain()

    async def _answer(self, pod: Object, peer: tuple[str, int]) -> TriggerAnswer:
        uid = pod["metadata"]["uid"]
        if uid in self._asking:
            name = annotations_of(pod).get(keys.ANN_CHECKPOINT, "")
            return TriggerAnswer(TriggerStatus.SKIPPED, trigger.IN_PROGRESS, name)
        self._asking.add(uid)
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._capture(pod, peer)
        except TimeoutError:
            name = annotations_of(pod).get(keys.ANN_CHECKPOINT, "")
            words = f"no end after {PATIENCE:.0f} s, and it may go on; see DynamoCheckpoint {name}"
            return TriggerAnswer(TriggerStatus.FAILED, words, name)
        except Exception as error:  # noqa: BLE001 - the worker goes on, and the answer says so
            logger.warning("request of pod %s: %r", pod["metadata"]["name"], error)
            return TriggerAnswer(TriggerStatus.FAILED, f"{type(error).__name__}: {error}")
        finally:
            self._asking.discard(uid)

    async def _capture(self, pod: Object, peer: tuple[str, int]) -> TriggerAnswer:
        pod, words = await self._judged(pod, peer)
        if words:
            return TriggerAnswer(TriggerStatus.FAILED, words)
        if (answer := answer_before(pod, await self._own_checkpoint(pod))) is not None:
            return answer
        # A person may have asked, for a checkpoint of another name.
        busy = await self._checkpoint(pod, requested_checkpoint(annotations_of(pod).get(keys.ANN_CAPTURE, "")))
        if busy is not None and is_capturing(busy, pod):
            return TriggerAnswer(TriggerStatus.SKIPPED, trigger.IN_PROGRESS, busy["metadata"]["name"], id_of(busy))
        request = new_request(annotations_of(pod)[keys.ANN_CHECKPOINT])
        await self._reporter.asks_for_capture(pod, request)
        left = SAID_NOTHING
        while True:
            await asyncio.sleep(POLL_SECONDS)
            left -= POLL_SECONDS
            pod, checkpoint = await self._look(pod)
            if (answer := answer_after(pod, request, checkpoint)) is not None:
                return answer
            if checkpoint is None and left < 0:
                return TriggerAnswer(TriggerStatus.FAILED, "the controller made no checkpoint; see the pod's Events")

    async def _look(self, pod: Object) -> tuple[Object, Object | None]:
        """Return the pod and its checkpoint as they are; a failure of the API server says nothing of the capture."""
        pause = POLL_SECONDS
        while True:
            try:
                pod = await self._kube.get(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"])
                return pod, await self._own_checkpoint(pod)
            except NotFoundError:
                raise
            except KubeError as error:
                logger.warning("request of pod %s: %s; it waits", pod["metadata"]["name"], error)
                await asyncio.sleep(max(pause, error.retry_after or 0))
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _judged(self, pod: Object, peer: tuple[str, int]) -> tuple[Object, str]:
        """Return the pod as it is now, and why the caller may not ask; its status is behind the node by a moment."""
        for _ in range(LOOKS):
            pod = await self._kube.get(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"])
            words = await self._refusal(pod, peer)
            if not words:
                break
            await asyncio.sleep(POLL_SECONDS)
        return pod, words

    async def _refusal(self, pod: Object, peer: tuple[str, int]) -> str:
        """Say why the caller may not ask; empty if it may: a container beside the worker must not stop it."""
        try:
            target = target_containers(pod)[0]
        except TargetError as error:
            return str(error)
        caller = await self._networks.caller(pod["metadata"]["uid"], peer)
        if caller and caller == selection.running_id(pod, target):
            return ""
        return f"only a process of container {target} may ask for its capture"

    async def _own_checkpoint(self, pod: Object) -> Object | None:
        return await self._checkpoint(pod, annotations_of(pod).get(keys.ANN_CHECKPOINT, ""))

    async def _checkpoint(self, pod: Object, name: str) -> Object | None:
        try:
            return await self._kube.get(CHECKPOINTS, name, pod["metadata"]["namespace"]) if name else None
        except NotFoundError:
            return None


def _response(status: str, body: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"{head}\r\n\r\n{body}".encode()
