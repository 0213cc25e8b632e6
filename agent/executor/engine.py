"""The engine behind ``api.Engine``: finds a container, claims it, carries the request out, writes standby's verdict.

Claiming comes first and at once, work waits for its turn: standby waits only seconds for an agent, but long for its
holder. Every failure becomes a verdict for standby and a result for the caller; no exception is lost on the way.
"""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from agent.container import image_config
from agent.container.inspection import open_in_container
from agent.errors import ContainerError
from agent.executor import acquire, capture, restore
from agent.executor.acquire import AcquiredContainer
from agent.executor.api import (
    CaptureRequest,
    ContainerRef,
    ExecutionResult,
    ImageConfigRequest,
    RejectRequest,
    RestoreRequest,
)
from agent.executor.environment import NodeEnvironment
from agent.executor.lock import ContainerLock
from agent.executor.timings import Timings
from agent.executor.undo_journal import Journal
from contract.api import control_files, keys
from contract.api.errors import SnapshotError
from contract.api.reports import ImageConfig
from linux import proc

PATIENCE: Final = 30.0
"""Seconds that a restore waits for a container to start before the caller looks at the pod again."""
POLL: Final = 0.02
"""Seconds between looks for a starting container: it is in the way of every restore."""
LOOKED_FOR_AT_ONCE: Final = 8
"""Containers that are looked for at that pace; the more there are beyond, the slower each: looking costs the node."""
AT_ONCE: Final = 16
"""Captures and restores in flight; each is a thread that mostly waits for a child."""
CLAIMS_AT_ONCE: Final = 4
"""Each takes some ms, of which most is reading the process table."""

T = TypeVar("T", CaptureRequest, RestoreRequest, RejectRequest)
logger = logging.getLogger(__name__)


Act = Callable[[T, AcquiredContainer, Timings], ExecutionResult]


class NodeEngine:
    """Captures and restores containers of this node.

    Args:
        tools: what it works with.
        at_once: how many captures and restores may be at work; all others are claimed and wait.
    """

    def __init__(self, environment: NodeEnvironment, at_once: int = AT_ONCE) -> None:
        self._environment = environment
        for left in environment.work.glob("run-*"):  # of an agent that was killed
            shutil.rmtree(left, ignore_errors=True)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="engine")
        self._claims = ThreadPoolExecutor(CLAIMS_AT_ONCE, thread_name_prefix="claim")
        self._looking = 0

    async def capture(self, request: CaptureRequest) -> ExecutionResult:
        """See ``api.Engine``."""
        return await self._carry_out(self._capture, request, self._threads)

    async def restore(self, request: RestoreRequest) -> ExecutionResult:
        """See ``api.Engine``; waits up to ``PATIENCE`` for the container to start."""
        return await self._meet(self._restore, request, self._threads)

    async def reject(self, request: RejectRequest) -> ExecutionResult:
        """See ``api.Engine``; waits for the container as a restore does, but for no turn."""
        return await self._meet(self._reject, request, self._claims)

    async def provide_image_config(self, request: ImageConfigRequest) -> ExecutionResult:
        """See ``api.Engine``."""
        return await asyncio.get_running_loop().run_in_executor(self._claims, self._provide_image_config, request)

    async def check(self) -> tuple[str, ...]:
        """See ``api.Engine``."""
        return await asyncio.get_running_loop().run_in_executor(self._claims, self._problems)

    def _problems(self) -> tuple[str, ...]:
        problems = []
        try:
            self._environment.criu.version()
        except SnapshotError as error:
            problems.append(str(error))
        if not self._environment.kubelet_pods.is_dir():
            problems.append(f"{self._environment.kubelet_pods} is not there: the agent needs the node's kubelet folder")
        return tuple(problems)

    async def _meet(self, act: Act[T], request: T, threads: ThreadPoolExecutor) -> ExecutionResult:
        """Carry an order out as soon as its container is there."""
        end = time.monotonic() + PATIENCE
        self._looking += 1
        try:
            while True:
                outcome = await self._carry_out(act, request, threads)
                if not outcome.retry or time.monotonic() > end:
                    return outcome
                await asyncio.sleep(POLL * (1 + self._looking // LOOKED_FOR_AT_ONCE))
        finally:
            self._looking -= 1

    async def _carry_out(self, act: Act[T], request: T, threads: ThreadPoolExecutor) -> ExecutionResult:
        acquired = await self._take(request.place)
        if isinstance(acquired, ExecutionResult):
            return acquired
        work = threads.submit(_timed, act, request, acquired)
        # Also where it is called off before its turn comes.
        work.add_done_callback(lambda _: acquired.close())
        return await asyncio.wrap_future(work)

    async def _take(self, place: ContainerRef) -> AcquiredContainer | ExecutionResult:
        if not acquire.claimable(place, self._environment):
            return acquire.NOT_YET
        taking = self._claims.submit(acquire.acquire, place, self._environment)
        try:
            return await asyncio.wrap_future(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(_let_go)
            raise

    # In threads from here on.

    def _capture(self, request: CaptureRequest, acquired: AcquiredContainer, timings: Timings) -> ExecutionResult:
        try:
            _refuse_second_attempt(acquired.lock)
            config = self._image_config(request, acquired)
            published = capture.capture(request, acquired.lock, acquired.waiting.init_pid, self._environment, timings)
            acquired.lock.captured()
        except Exception as error:  # noqa: BLE001 - every failure must become a verdict
            reason, message = _explain(error)
            with suppress(OSError):
                acquired.lock.failed(message, clean=True)
            return _told("capture failed", request.place, ExecutionResult(False, reason, message, timings.seconds()))
        outcome = ExecutionResult(
            ok=True,
            seconds=timings.seconds(),
            size=published.size,
            manifest_digest=published.digest,
            container_id=acquired.waiting.container_id,
            image=config,
        )
        return _told("captured", request.place, outcome)

    def _restore(self, request: RestoreRequest, acquired: AcquiredContainer, timings: Timings) -> ExecutionResult:
        try:
            self._clean_up_after_another(request.place, acquired)
            pid, size = restore.restore(request, acquired.lock, acquired.waiting.init_pid, self._environment, timings)
            acquired.lock.control.write(control_files.RESTORE_CONTEXT, restore.context(request))
            acquired.lock.restored(pid)
        except Exception as error:  # noqa: BLE001 - every failure must become a verdict
            return self._restore_failed(request.place, acquired, error, timings)
        self._forget_journal(request.place)
        outcome = ExecutionResult(
            ok=True, seconds=timings.seconds(), size=size, container_id=acquired.waiting.container_id
        )
        return _told("restored", request.place, outcome)

    def _reject(self, request: RejectRequest, acquired: AcquiredContainer, timings: Timings) -> ExecutionResult:
        return self._restore_failed(request.place, acquired, ContainerError(request.reason, request.message), timings)

    def _restore_failed(
        self, place: ContainerRef, acquired: AcquiredContainer, error: Exception, timings: Timings
    ) -> ExecutionResult:
        reason, message = _explain(error)
        with timings.phase("undo"):
            clean = _quietly(lambda: restore.undo(place, acquired.lock, acquired.waiting.init_pid, self._environment))
        with suppress(OSError):
            acquired.lock.failed(message, clean=clean)
        outcome = ExecutionResult(False, reason, message, timings.seconds(), container_id=acquired.waiting.container_id)
        return _told("restore failed", place, outcome)

    def _clean_up_after_another(self, place: ContainerRef, acquired: AcquiredContainer) -> None:
        before = acquired.lock.taken_before
        if before and not restore.undo(place, acquired.lock, acquired.waiting.init_pid, self._environment):
            raise ContainerError("agent-died", "an agent died during a restore and left files or processes")

    def _forget_journal(self, place: ContainerRef) -> None:
        journal = Journal.find(self._environment.kubelet_pods, place.pod_uid, place.container)
        if journal is not None:
            with journal:
                journal.remove()

    def _provide_image_config(self, request: ImageConfigRequest) -> ExecutionResult:
        try:
            waiting = acquire.find(request.place, self._environment)
            if waiting is None:
                return acquire.NOT_YET
            with waiting.control as directory:
                if directory.has(control_files.IMAGE_ENTRYPOINT) or self._has_record(waiting.init_pid):
                    return ExecutionResult(ok=True)
                config = self._config_of(request.image_id, waiting.init_pid)
                directory.write(control_files.IMAGE_CMD, _record(config.cmd))
                directory.write(control_files.IMAGE_ENTRYPOINT, _record(config.entrypoint))
        except (SnapshotError, OSError) as error:
            reason, message = _explain(error)
            return ExecutionResult(ok=False, reason=reason, message=message)
        return ExecutionResult(ok=True, image=config)

    def _has_record(self, init_pid: int) -> bool:
        """Whether the image itself tells standby, as placeholders do."""
        with suppress(OSError):
            os.close(open_in_container(init_pid, f"{keys.TOOLS_DIR}/entrypoint", os.O_PATH, self._environment.proc))
            return True
        return False

    def _image_config(self, request: CaptureRequest, acquired: AcquiredContainer) -> ImageConfig | None:
        """Worth knowing, and no reason to fail a capture."""
        try:
            return self._config_of(request.image_id, acquired.waiting.init_pid)
        except (ContainerError, OSError) as error:
            logger.warning("image of %s/%s: %s", request.place.namespace, request.place.pod, error)
            return None

    def _config_of(self, image_id: str, init_pid: int) -> ImageConfig:
        found = image_config.roots(proc.mounts(init_pid, self._environment.proc))
        return image_config.read_config(image_id, [self._environment.host_root / root.lstrip("/") for root in found])


def _timed(act: Act[T], request: T, acquired: AcquiredContainer) -> ExecutionResult:
    timings = Timings(acquired.since)
    timings.passed("queue")
    return act(request, acquired, timings)


def _let_go(taking: "Future[AcquiredContainer | ExecutionResult]") -> None:
    """Of a claim that nobody waits for any more."""
    if not taking.cancelled() and isinstance(acquired := taking.result(), AcquiredContainer):
        acquired.close()


def _record(words: tuple[str, ...]) -> str:
    return "".join(f"{word}\0" for word in words)


def _refuse_second_attempt(acquired: ContainerLock) -> None:
    """A dump that was cut off may have left the worker with criu's code in it."""
    if acquired.taken_before:
        raise ContainerError("agent-died", "the agent died during the capture; capture it again under a new version")


def _explain(error: Exception) -> tuple[str, str]:
    """Code and sentence; what nobody foresaw is logged whole."""
    if isinstance(error, SnapshotError):
        return error.code, str(error)
    logger.error("unforeseen failure", exc_info=error)
    return "internal-error", f"{type(error).__name__}: {error}"


def _quietly(act: Callable[[], bool]) -> bool:
    try:
        return act()
    except Exception:
        logger.exception("undo failed")
        return False


def _told(what: str, place: ContainerRef, outcome: ExecutionResult) -> ExecutionResult:
    """The one line that sums an attempt up."""
    facts = {"pod": f"{place.namespace}/{place.pod}", "container": place.container, "bytes": outcome.size}
    logger.info(what, extra=facts | {"reason": outcome.message, "seconds": outcome.seconds})
    return outcome
