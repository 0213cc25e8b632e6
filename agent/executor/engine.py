"""The engine behind ``api.Engine``: finds a container, locks it, carries the request out, writes standby's verdict.

Locking comes first and at once, work waits for its turn: standby waits only seconds for an agent, but long for its
holder. Every failure becomes a verdict for standby and a result for the caller; no exception is lost on the way.
"""

import asyncio
import logging
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar

from agent.container import trigger
from agent.criu.page_server import Fill, PageServer
from agent.errors import ContainerError, CriuError
from agent.executor import acquire, image, node
from agent.executor.acquire import AcquiredContainer
from agent.executor.api import (
    CaptureRequest,
    ContainerRef,
    ExecutionResult,
    ImageConfigRequest,
    LookRequest,
    LookResult,
    NodeGpus,
    RejectRequest,
    RestoreRequest,
)
from agent.executor.capture.phases import CAPTURE
from agent.executor.capture.running import RUNNING, acquire_running
from agent.executor.capture.state import Capture
from agent.executor.claims import Claims
from agent.executor.environment import NodeEnvironment
from agent.executor.explain import explain, explain_capture
from agent.executor.files.undo_journal import Journal
from agent.executor.gpu.left import find_left, settle
from agent.executor.lock import ContainerLock
from agent.executor.look import look
from agent.executor.parked.park import park_phases
from agent.executor.parked.wake import wake_phases
from agent.executor.phases import Failure, Phase, run_phases, undo_phases
from agent.executor.restore.phases import RESTORE
from agent.executor.restore.state import Restore, beside, engine_of, refuse_late
from agent.executor.timings import Timings
from artifact.parts import process
from contract.api.errors import SnapshotError
from contract.api.reports import Connections, Filled, ImageConfig, ReportPhase, Step
from contract.api.states import AgentReason
from contract.nodes.node_facts import NodeFacts
from contract.pods.attempts import tries_again
from linux.proc import is_ending

PATIENCE: Final = 30.0
"""Seconds that a restore waits for a container to start before the caller looks at the pod again."""
POLL: Final = 0.02
"""Seconds between looks for a starting container: it is in the way of every restore."""
LOOKED_FOR_AT_ONCE: Final = 8
"""Containers that are looked for at that pace; the more there are beyond, the slower each: looking costs the node."""
AT_ONCE: Final = 16
"""Captures and restores in flight; each is a thread that mostly waits for a child."""
RETRY_PAUSE: Final = 0.5
"""Seconds before another attempt: what is to pass needs a moment, and the pod waits."""
CLAIMS_AT_ONCE: Final = 4
"""Each takes some ms, of which most is reading the process table."""

FILL_SECONDS: Final = 600.0
"""After so long without an end the agent says so, and waits on."""
FILLS_AT_ONCE: Final = 256
"""Page servers that are waited for: more than there are pods on a node."""

T = TypeVar("T", CaptureRequest, RestoreRequest, RejectRequest)
logger = logging.getLogger(__name__)


Act = Callable[[T, AcquiredContainer, Timings], ExecutionResult]
_Tried = tuple[Restore, Failure | None, tuple[tuple[AgentReason, str], ...]]
"""The last attempt, why it failed, and reason and message of those before it."""
Acquire = Callable[[ContainerRef, NodeEnvironment], AcquiredContainer | ExecutionResult]


class NodeEngine:
    """Captures and restores containers of this node.

    Args:
        environment: what it works with.
        at_once: how many captures and restores may be at work; all others are locked and wait.
    """

    def __init__(self, environment: NodeEnvironment, at_once: int = AT_ONCE) -> None:
        self._environment = environment
        for left in environment.work.glob("run-*"):  # of an agent that was killed
            shutil.rmtree(left, ignore_errors=True)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="engine")
        self._claims = ThreadPoolExecutor(CLAIMS_AT_ONCE, thread_name_prefix="claim")
        # Every user who may annotate a pod may ask, so these wait for one another and for nothing else.
        self._looks = ThreadPoolExecutor(1, thread_name_prefix="look")
        self._looking = 0
        self._written = Claims(environment)
        self._fills = ThreadPoolExecutor(FILLS_AT_ONCE, thread_name_prefix="fill")
        for place in find_left(environment.kubelet_pods):
            self._fills.submit(settle, place, environment)

    async def capture(self, request: CaptureRequest) -> ExecutionResult:
        """See ``api.Engine``."""
        return await self._carry_out(self._capture, request, self._threads)

    async def capture_running(self, request: CaptureRequest) -> ExecutionResult:
        """See ``api.Engine``."""
        acquired = await self._acquire_with(acquire_running, request.place)
        return await self._act(self._capture_running, request, acquired, self._threads)

    async def restore(self, request: RestoreRequest) -> ExecutionResult:
        """See ``api.Engine``; waits up to ``PATIENCE`` for the container to start."""
        return await self._meet(self._restore, request, self._threads)

    async def reject(self, request: RejectRequest) -> ExecutionResult:
        """See ``api.Engine``; waits for the container as a restore does, but for no turn."""
        return await self._meet(self._reject, request, self._claims)

    async def provide_image_config(self, request: ImageConfigRequest) -> ExecutionResult:
        """See ``api.Engine``."""
        return await asyncio.get_running_loop().run_in_executor(self._claims, self._provide_image_config, request)

    async def look(self, request: LookRequest) -> LookResult:
        """See ``api.Engine``."""
        return await asyncio.get_running_loop().run_in_executor(self._looks, self._look, request)

    async def listen(self, pod_uid: str) -> socket.socket | None:
        """See ``api.PodNetworks``."""
        groups, proc = self._environment.pod_groups, self._environment.proc
        return await asyncio.to_thread(trigger.listen, pod_uid, groups, proc)

    async def caller(self, pod_uid: str, peer: tuple[str, int]) -> str:
        """See ``api.PodNetworks``."""
        groups, proc = self._environment.pod_groups, self._environment.proc
        return await asyncio.to_thread(trigger.caller_of, pod_uid, peer, groups, proc)

    async def check(self) -> tuple[str, ...]:
        """See ``api.Engine``."""
        return await asyncio.get_running_loop().run_in_executor(self._claims, node.problems, self._environment)

    async def gpus(self) -> NodeGpus | None:
        """See ``api.Engine``."""
        return await asyncio.get_running_loop().run_in_executor(self._claims, node.gpus, self._environment)

    async def facts(self) -> NodeFacts | None:
        """See ``api.NodeView``."""
        return await asyncio.get_running_loop().run_in_executor(self._claims, node.facts, self._environment)

    async def _meet(self, act: Act[T], request: T, threads: ThreadPoolExecutor) -> ExecutionResult:
        """Carry a request out as soon as its container exists; never in another one than it was made for.

        Kubelet's word lags: what the pod says of its container, its image above all, may be of the one before.
        """
        end = time.monotonic() + PATIENCE
        was_written = False
        self._looking += 1
        try:
            while True:
                acquired = await self._acquire(request.place)
                if isinstance(acquired, AcquiredContainer) and not acquired.is_of(request.place):
                    acquired.close()
                    return acquire.ANOTHER
                outcome = await self._act(act, request, acquired, threads)
                if not outcome.retry or time.monotonic() > end:
                    return outcome
                pause = POLL * (1 + self._looking // LOOKED_FOR_AT_ONCE)
                if was_written:  # and was no claim: what a container writes must not set the pace
                    await asyncio.sleep(pause)
                was_written = not was_written and await self._written.wait(request.place, pause)
        finally:
            self._looking -= 1

    async def _carry_out(self, act: Act[T], request: T, threads: ThreadPoolExecutor) -> ExecutionResult:
        return await self._act(act, request, await self._acquire(request.place), threads)

    async def _act(
        self,
        act: Act[T],
        request: T,
        acquired: AcquiredContainer | ExecutionResult,
        threads: ThreadPoolExecutor,
    ) -> ExecutionResult:
        if isinstance(acquired, ExecutionResult):
            return acquired
        work = threads.submit(_timed, act, request, acquired)
        # Also if it is cancelled before its turn comes.
        work.add_done_callback(lambda _: acquired.close())
        return await asyncio.wrap_future(work)

    async def _acquire(self, place: ContainerRef) -> AcquiredContainer | ExecutionResult:
        if not acquire.claimable(place, self._environment):
            return acquire.NOT_YET
        return await self._acquire_with(acquire.acquire, place)

    async def _acquire_with(self, way: Acquire, place: ContainerRef) -> AcquiredContainer | ExecutionResult:
        acquiring = self._claims.submit(way, place, self._environment)
        try:
            return await asyncio.wrap_future(acquiring)
        except asyncio.CancelledError:
            acquiring.add_done_callback(_release)
            raise

    # In threads from here on.

    def _capture(self, request: CaptureRequest, acquired: AcquiredContainer, timings: Timings) -> ExecutionResult:
        lock, container = acquired.lock, acquired.waiting
        if lock.taken_before:
            # A dump that was cut off may have left the worker with criu's code in it.
            words = "the agent died during the capture; capture it again under a new version"
            return self._capture_failed(request, lock, ContainerError(AgentReason.AGENT_DIED, words), timings)
        config = image.read(request, container.init_pid, self._environment)
        capture = Capture(request, lock, container.init_pid, self._environment)
        with capture.resources:
            failure = run_phases(CAPTURE, capture, timings)
        if failure is not None:
            return self._capture_failed(request, lock, failure.error, timings)
        return _logged("captured", request.place, _published(capture, container.container_id, config, timings))

    def _capture_running(
        self, request: CaptureRequest, acquired: AcquiredContainer, timings: Timings
    ) -> ExecutionResult:
        container = acquired.waiting
        self._environment.neighbours.forget(container.init_pid)
        config = image.read(request, container.init_pid, self._environment)
        capture = Capture(request, acquired.lock, container.init_pid, self._environment, goes_on=True)
        with capture.resources:
            failure = run_phases(RUNNING, capture, timings)
        if failure is None:
            result = _published(capture, container.container_id, config, timings)
            return _logged("captured while it runs", request.place, result)
        init, proc = container.init_pid, self._environment.proc
        reason, message = explain_capture(failure.error, lambda: is_ending(init, init, proc))
        result = ExecutionResult(
            False,
            reason,
            message,
            seconds=timings.seconds(),
            steps=timings.steps(),
            container_id=container.container_id,
        )
        return _logged("capture of a running worker failed", request.place, result)

    def _capture_failed(
        self, request: CaptureRequest, lock: ContainerLock, error: Exception, timings: Timings
    ) -> ExecutionResult:
        reason, message = explain_capture(error)
        with suppress(OSError, ContainerError):
            lock.failed(message, clean=True)
        return _logged(
            "capture failed",
            request.place,
            ExecutionResult(False, reason, message, seconds=timings.seconds(), steps=timings.steps()),
        )

    def _restore(self, request: RestoreRequest, acquired: AcquiredContainer, timings: Timings) -> ExecutionResult:
        is_parked, container_id = acquired.lock.is_parked(), acquired.waiting.container_id
        if is_parked and request.parks:  # by an agent that could not say so any more
            return ExecutionResult(ok=True, parked=True, seconds=timings.seconds(), container_id=container_id)
        restore = Restore(request.place, acquired.lock, acquired.waiting.init_pid, self._environment)
        if acquired.lock.taken_before and not is_parked and not undo_phases(RESTORE, restore):
            words = "an agent died during a restore and left files or processes"
            error = ContainerError(AgentReason.AGENT_DIED, words)
            return self._restore_failed(request.place, acquired, error, timings, clean=False)
        restore, failure, tried = self._try(request, acquired, timings)
        if failure is not None:
            failed = self._restore_failed(request.place, acquired, failure.error, timings, clean=failure.clean)
            return replace(failed, bypassed=restore.bypassed, tried=tried)
        filling = self._watch_pages(restore, timings)
        if not request.parks:  # a worker that cannot be woken is undone by it
            self._forget_journal(request.place)
            self._environment.neighbours.note(request.manifest_digest, restore.init_pid, restore.libraries)
        result = ExecutionResult(
            ok=True,
            seconds=timings.seconds(),
            steps=timings.steps(),
            size=restore.artifact.size,
            container_id=container_id,
            parked=request.parks,
            connections=_connections(restore.artifact.manifest.connections),
            engine=engine_of(restore),
            hot=restore.hot,
            filling=filling,
            bypassed=restore.bypassed,
            tried=tried,
        )
        return _logged("parked" if result.parked else "restored", request.place, result)

    def _try(self, request: RestoreRequest, acquired: AcquiredContainer, timings: Timings) -> _Tried:
        """Make attempts until one succeeds or another would not help; each begins with nothing of the one before."""
        tried: list[tuple[AgentReason, str]] = []
        while True:
            restore = Restore(request.place, acquired.lock, acquired.waiting.init_pid, self._environment)
            restore.request = request
            with restore.resources:
                failure = run_phases(_phases(request, acquired.lock), restore, timings, refuse_late)
            for step in beside(restore):
                timings.beside(step)
            if failure is None:
                return restore, None, tuple(tried)
            if restore.verifier is not None and restore.verifier.error is not None:  # what failed was its outcome
                failure = replace(failure, error=restore.verifier.error)
            why = explain(failure.error)
            if not tries_again(why[0], clean=failure.clean, made=len(tried) + 1, attempts=request.attempts):
                return restore, failure, tuple(tried)
            logger.warning("restore is tried again: %s", why[1], extra={"container": request.place.container})
            tried.append(why)
            time.sleep(RETRY_PAUSE)

    def _watch_pages(self, restore: Restore, timings: Timings) -> Future[Filled | None] | None:
        """See that the page server of a worker that runs by now comes to its end."""
        if restore.pages is None:
            return None
        # What is restored no longer counts among the restores at work.
        return self._fills.submit(_await_filled, restore.place, restore.pages, timings)

    def _reject(self, request: RejectRequest, acquired: AcquiredContainer, timings: Timings) -> ExecutionResult:
        with timings.phase(ReportPhase.UNDO):  # an agent before this one may have started a restore
            restore = Restore(request.place, acquired.lock, acquired.waiting.init_pid, self._environment)
            clean = undo_phases(RESTORE, restore)
        error = ContainerError(request.reason, request.message)
        return self._restore_failed(request.place, acquired, error, timings, clean=clean)

    def _restore_failed(
        self, place: ContainerRef, acquired: AcquiredContainer, error: Exception, timings: Timings, *, clean: bool
    ) -> ExecutionResult:
        reason, message = explain(error)
        with suppress(OSError, ContainerError):
            acquired.lock.failed(message, clean=clean)
        container_id = acquired.waiting.container_id
        result = ExecutionResult(
            False, reason, message, seconds=timings.seconds(), steps=timings.steps(), container_id=container_id
        )
        return _logged("restore failed", place, result)

    def _forget_journal(self, place: ContainerRef) -> None:
        journal = Journal.find(self._environment.kubelet_pods, place.pod_uid, place.container)
        if journal is not None:
            with journal:
                journal.remove()

    def _provide_image_config(self, request: ImageConfigRequest) -> ExecutionResult:
        try:
            return image.provide(request, self._environment)
        except (SnapshotError, OSError) as error:
            reason, message = explain(error)
            return ExecutionResult(ok=False, reason=reason, message=message)

    def _look(self, request: LookRequest) -> LookResult:
        try:
            return look(request, self._environment)
        except Exception as error:  # noqa: BLE001 - the answer says so
            return LookResult(error=explain(error)[1])


def _phases(request: RestoreRequest, lock: ContainerLock) -> Sequence[Phase[Restore]]:
    """Return what is left to do; of a worker that could not be woken, all of it."""
    if request.parks:
        return park_phases(RESTORE)
    return wake_phases(RESTORE) if lock.is_parked() else RESTORE


def _published(capture: Capture, container_id: str, config: ImageConfig | None, timings: Timings) -> ExecutionResult:
    return ExecutionResult(
        ok=True,
        seconds=timings.seconds(),
        steps=timings.steps(),
        size=capture.published.size,
        manifest_digest=capture.published.digest,
        container_id=container_id,
        image=config,
        connections=_connections(capture.connections),
        source=capture.artifact.manifest.source,
    )


def _connections(found: process.Connections | None) -> Connections | None:
    return Connections(found.kept, found.closed, tuple(found.peers)) if found is not None else None


def _await_filled(place: ContainerRef, pages: PageServer, timings: Timings) -> Filled | None:
    """Wait as long as it takes, ending a slow server would end its worker; None if it has ended early."""
    facts: dict[str, object] = {"pod": f"{place.namespace}/{place.pod}", "container": place.container}
    while True:
        try:
            line = pages.await_filled(FILL_SECONDS)
            fill = Fill.parse(line)
            step = Step(ReportPhase.FILL, time.monotonic() - fill.seconds, fill.seconds)
            logger.info("memory restored", extra=facts | {"pages": line})
            return Filled(timings.since_start(step), fill.bytes, fill.faults)
        except CriuError as error:
            if not pages.has_ended():
                logger.warning("memory is still being restored", extra=facts | {"reason": str(error)})
                continue
            pages.stop()
            # Standby has ended the worker, or the container had ended before.
            logger.warning("the page server ended early", extra=facts | {"reason": str(error)})
            return None


def _timed(act: Act[T], request: T, acquired: AcquiredContainer) -> ExecutionResult:
    timings = Timings(acquired.since)
    timings.passed(ReportPhase.QUEUE)
    return act(request, acquired, timings)


def _release(acquiring: "Future[AcquiredContainer | ExecutionResult]") -> None:
    """Release a container whose caller no longer waits for it."""
    if not acquiring.cancelled() and isinstance(acquired := acquiring.result(), AcquiredContainer):
        acquired.close()


def _logged(what: str, place: ContainerRef, outcome: ExecutionResult) -> ExecutionResult:
    """Log the one line that sums an attempt up."""
    facts = {"pod": f"{place.namespace}/{place.pod}", "container": place.container, "bytes": outcome.size}
    logger.info(what, extra=facts | {"reason": outcome.message, "seconds": outcome.seconds})
    return outcome
