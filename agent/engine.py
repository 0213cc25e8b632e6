"""The engine behind ``orders.Engine``: finds the container, claims it, captures or restores, and tells standby.

Every failure becomes a verdict for standby and an Outcome for the caller; no exception is lost on the way.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from agent import capture, claim, discover, restore
from agent.claim import Claim, ControlDir
from agent.errors import ContainerError, SnapshotError
from agent.journal import Journal
from agent.orders import CaptureOrder, Outcome, Place, RestoreOrder
from agent.phases import Phases
from agent.tools import Tools
from contract import control
from contract.storage import BadIdError

STANDBY: Final = "snapshot-standby"
PATIENCE: Final = 30.0
"""Seconds that a restore waits for a container to start before the caller looks at the pod again."""
POLL: Final = 0.02
"""Seconds between looks for a starting container: it is in the way of every restore."""
AT_ONCE: Final = 16
"""Captures and restores in flight; each is a thread that mostly waits for a child."""

T = TypeVar("T", CaptureOrder, RestoreOrder)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """A container whose standby waits for us."""

    init_pid: int
    container_id: str
    control: ControlDir


class NodeEngine:
    """Captures and restores containers of this node."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        for left in tools.work.glob("errand-*"):  # of an agent that was killed
            shutil.rmtree(left, ignore_errors=True)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="engine")

    async def capture(self, order: CaptureOrder) -> Outcome:
        """See ``orders.Engine``."""
        return await self._in_thread(self._capture, order)

    async def restore(self, order: RestoreOrder) -> Outcome:
        """See ``orders.Engine``; waits up to ``PATIENCE`` for the container to start."""
        end = asyncio.get_running_loop().time() + PATIENCE
        outcome = await self._in_thread(self._restore, order)
        while outcome.retry and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(POLL)
            outcome = await self._in_thread(self._restore, order)
        return outcome

    async def check(self) -> tuple[str, ...]:
        """See ``orders.Engine``."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._problems)

    async def _in_thread(self, act: Callable[[T], Outcome], order: T) -> Outcome:
        return await asyncio.get_running_loop().run_in_executor(self._threads, act, order)

    def _problems(self) -> tuple[str, ...]:
        problems = []
        try:
            self._tools.criu.version()
        except SnapshotError as error:
            problems.append(str(error))
        if not self._tools.kubelet_pods.is_dir():
            problems.append(f"{self._tools.kubelet_pods} is not there: the agent needs the node's kubelet folder")
        return tuple(problems)

    # One claim at a time from here on, in a thread.

    def _capture(self, order: CaptureOrder) -> Outcome:
        phases = Phases()
        with ExitStack() as stack:
            try:
                held, waiting = self._claim(order.place, stack)
            except ContainerError as error:
                return Outcome(ok=False, reason=error.code, message=str(error))
            if held is None or waiting is None:
                return _not_yet("standby-not-up", "the container's standby does not wait for a capture (yet)")
            try:
                _refuse_second_attempt(held)
                published = capture.capture(order, held, waiting.init_pid, self._tools, phases)
                held.captured()
            except Exception as error:  # noqa: BLE001 - every failure must become a verdict
                return self._capture_failed(order, held, error, phases)
            outcome = Outcome(
                ok=True,
                seconds=phases.seconds(),
                size=published.size,
                manifest_digest=published.digest,
                container_id=waiting.container_id,
            )
            return _told("captured", order.place, outcome)

    def _capture_failed(self, order: CaptureOrder, held: Claim, error: Exception, phases: Phases) -> Outcome:
        reason, message = _explain(error)
        with suppress(OSError):
            held.failed(message, clean=True)
        return _told("capture failed", order.place, Outcome(False, reason, message, phases.seconds()))

    def _restore(self, order: RestoreOrder) -> Outcome:
        phases = Phases()
        with ExitStack() as stack:
            try:
                held, waiting = self._claim(order.place, stack)
            except ContainerError as error:
                return Outcome(ok=False, reason=error.code, message=str(error))
            if held is None or waiting is None:
                return _not_yet("standby-not-up", "the container's standby is not up yet")
            try:
                self._clean_up_after_another(order, held, waiting)
                pid, size = restore.restore(order, held, waiting.init_pid, self._tools, phases)
                held.control.write(control.RESTORE_CONTEXT, restore.context(order))
                held.restored(pid)
            except Exception as error:  # noqa: BLE001 - every failure must become a verdict
                return self._restore_failed(order, held, waiting, error, phases)
            self._forget_journal(order)
            outcome = Outcome(ok=True, seconds=phases.seconds(), size=size, container_id=waiting.container_id)
            return _told("restored", order.place, outcome)

    def _restore_failed(
        self, order: RestoreOrder, held: Claim, waiting: Waiting, error: Exception, phases: Phases
    ) -> Outcome:
        reason, message = _explain(error)
        with phases.lap("undo"):
            clean = _quietly(lambda: restore.undo(order, held, waiting.init_pid, self._tools))
        with suppress(OSError):
            held.failed(message, clean=clean)
        outcome = Outcome(False, reason, message, phases.seconds(), container_id=waiting.container_id)
        return _told("restore failed", order.place, outcome)

    def _clean_up_after_another(self, order: RestoreOrder, held: Claim, waiting: Waiting) -> None:
        if held.taken_before and not restore.undo(order, held, waiting.init_pid, self._tools):
            raise ContainerError("agent-died", "an agent died during a restore and left files or processes")

    def _forget_journal(self, order: RestoreOrder) -> None:
        journal = Journal.find(self._tools.kubelet_pods, order.place.pod_uid, order.place.container)
        if journal is not None:
            with journal:
                journal.remove()

    def _claim(self, place: Place, stack: ExitStack) -> tuple[Claim | None, Waiting | None]:
        """The container's lock, or None while there is nothing to claim (yet).

        Raises:
            ContainerError: the container has started by itself, so there never will be.
        """
        waiting = self._find(place)
        if waiting is None:
            return None, None
        stack.callback(waiting.control.close)
        try:
            return stack.enter_context(claim.take(waiting.control, waiting.init_pid, self._tools.proc)), waiting
        except ContainerError:
            if waiting.control.has(control.RESTORE_COMPLETE):
                raise ContainerError(
                    "already-started", "the container has started before an agent could claim it"
                ) from None
            return None, None

    def _find(self, place: Place) -> Waiting | None:
        try:
            directory = claim.open_control_dir(self._tools.kubelet_pods, place.pod_uid, place.container)
        except (OSError, BadIdError):
            return None
        control_dir = ControlDir(directory)
        # Cheap first: this is asked fifty times a second for every pod that has yet to start.
        claimable = control_dir.has(control.CLAIM)
        found = discover.find_container(place.pod_uid, place.container, self._tools.proc) if claimable else None
        if found is not None and found.program == STANDBY:
            return Waiting(found.init_pid, found.container_id, control_dir)
        started = found is not None and control_dir.has(control.RESTORE_COMPLETE)
        control_dir.close()
        if started:
            raise ContainerError("already-started", "the container has started before an agent could claim it")
        return None


def _refuse_second_attempt(held: Claim) -> None:
    """A dump that was cut off may have left the worker with criu's code in it."""
    if held.taken_before:
        raise ContainerError("agent-died", "the agent died during the capture; capture it again under a new version")


def _not_yet(reason: str, message: str) -> Outcome:
    return Outcome(ok=False, reason=reason, message=message, retry=True)


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


def _told(what: str, place: Place, outcome: Outcome) -> Outcome:
    """The one line that sums an attempt up."""
    facts = {"pod": f"{place.namespace}/{place.pod}", "container": place.container, "bytes": outcome.size}
    logger.info(what, extra=facts | {"reason": outcome.message, "seconds": outcome.seconds})
    return outcome
