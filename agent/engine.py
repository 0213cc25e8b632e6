"""The engine behind ``orders.Engine``: finds the container, claims it, does what was ordered, and tells standby.

Claiming comes first and at once, work waits for its turn: standby waits only seconds for an agent, but long for its
holder. Every failure becomes a verdict for standby and an Outcome for the caller; no exception is lost on the way.
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

from agent import capture, discover, hold, image, restore
from agent.claim import Claim
from agent.errors import ContainerError, SnapshotError
from agent.hold import Held
from agent.inspection import open_in_container
from agent.journal import Journal
from agent.orders import CaptureOrder, ImageConfig, Outcome, Place, RefuseOrder, RestoreOrder, TellOrder
from agent.phases import Phases
from agent.tools import Tools
from contract.api import control_files, keys

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

T = TypeVar("T", CaptureOrder, RestoreOrder, RefuseOrder)
logger = logging.getLogger(__name__)


Act = Callable[[T, Held, Phases], Outcome]


class NodeEngine:
    """Captures and restores containers of this node.

    Args:
        tools: what it works with.
        at_once: how many captures and restores may be at work; all others are claimed and wait.
    """

    def __init__(self, tools: Tools, at_once: int = AT_ONCE) -> None:
        self._tools = tools
        for left in tools.work.glob("errand-*"):  # of an agent that was killed
            shutil.rmtree(left, ignore_errors=True)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="engine")
        self._claims = ThreadPoolExecutor(CLAIMS_AT_ONCE, thread_name_prefix="claim")
        self._looking = 0

    async def capture(self, order: CaptureOrder) -> Outcome:
        """See ``orders.Engine``."""
        return await self._carry_out(self._capture, order, self._threads)

    async def restore(self, order: RestoreOrder) -> Outcome:
        """See ``orders.Engine``; waits up to ``PATIENCE`` for the container to start."""
        return await self._meet(self._restore, order, self._threads)

    async def refuse(self, order: RefuseOrder) -> Outcome:
        """See ``orders.Engine``; waits for the container as a restore does, but for no turn."""
        return await self._meet(self._refuse, order, self._claims)

    async def tell(self, order: TellOrder) -> Outcome:
        """See ``orders.Engine``."""
        return await asyncio.get_running_loop().run_in_executor(self._claims, self._tell, order)

    async def check(self) -> tuple[str, ...]:
        """See ``orders.Engine``."""
        return await asyncio.get_running_loop().run_in_executor(self._claims, self._problems)

    def _problems(self) -> tuple[str, ...]:
        problems = []
        try:
            self._tools.criu.version()
        except SnapshotError as error:
            problems.append(str(error))
        if not self._tools.kubelet_pods.is_dir():
            problems.append(f"{self._tools.kubelet_pods} is not there: the agent needs the node's kubelet folder")
        return tuple(problems)

    async def _meet(self, act: Act[T], order: T, threads: ThreadPoolExecutor) -> Outcome:
        """Carry an order out as soon as its container is there."""
        end = time.monotonic() + PATIENCE
        self._looking += 1
        try:
            while True:
                outcome = await self._carry_out(act, order, threads)
                if not outcome.retry or time.monotonic() > end:
                    return outcome
                await asyncio.sleep(POLL * (1 + self._looking // LOOKED_FOR_AT_ONCE))
        finally:
            self._looking -= 1

    async def _carry_out(self, act: Act[T], order: T, threads: ThreadPoolExecutor) -> Outcome:
        held = await self._take(order.place)
        if isinstance(held, Outcome):
            return held
        work = threads.submit(_timed, act, order, held)
        # Also where it is called off before its turn comes.
        work.add_done_callback(lambda _: held.close())
        return await asyncio.wrap_future(work)

    async def _take(self, place: Place) -> Held | Outcome:
        if not hold.claimable(place, self._tools):
            return hold.NOT_YET
        taking = self._claims.submit(hold.take, place, self._tools)
        try:
            return await asyncio.wrap_future(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(_let_go)
            raise

    # In threads from here on.

    def _capture(self, order: CaptureOrder, held: Held, phases: Phases) -> Outcome:
        try:
            _refuse_second_attempt(held.claim)
            config = self._image_config(order, held)
            published = capture.capture(order, held.claim, held.waiting.init_pid, self._tools, phases)
            held.claim.captured()
        except Exception as error:  # noqa: BLE001 - every failure must become a verdict
            reason, message = _explain(error)
            with suppress(OSError):
                held.claim.failed(message, clean=True)
            return _told("capture failed", order.place, Outcome(False, reason, message, phases.seconds()))
        outcome = Outcome(
            ok=True,
            seconds=phases.seconds(),
            size=published.size,
            manifest_digest=published.digest,
            container_id=held.waiting.container_id,
            image=config,
        )
        return _told("captured", order.place, outcome)

    def _restore(self, order: RestoreOrder, held: Held, phases: Phases) -> Outcome:
        try:
            self._clean_up_after_another(order.place, held)
            pid, size = restore.restore(order, held.claim, held.waiting.init_pid, self._tools, phases)
            held.claim.control.write(control_files.RESTORE_CONTEXT, restore.context(order))
            held.claim.restored(pid)
        except Exception as error:  # noqa: BLE001 - every failure must become a verdict
            return self._restore_failed(order.place, held, error, phases)
        self._forget_journal(order.place)
        outcome = Outcome(ok=True, seconds=phases.seconds(), size=size, container_id=held.waiting.container_id)
        return _told("restored", order.place, outcome)

    def _refuse(self, order: RefuseOrder, held: Held, phases: Phases) -> Outcome:
        return self._restore_failed(order.place, held, ContainerError(order.reason, order.message), phases)

    def _restore_failed(self, place: Place, held: Held, error: Exception, phases: Phases) -> Outcome:
        reason, message = _explain(error)
        with phases.lap("undo"):
            clean = _quietly(lambda: restore.undo(place, held.claim, held.waiting.init_pid, self._tools))
        with suppress(OSError):
            held.claim.failed(message, clean=clean)
        outcome = Outcome(False, reason, message, phases.seconds(), container_id=held.waiting.container_id)
        return _told("restore failed", place, outcome)

    def _clean_up_after_another(self, place: Place, held: Held) -> None:
        before = held.claim.taken_before
        if before and not restore.undo(place, held.claim, held.waiting.init_pid, self._tools):
            raise ContainerError("agent-died", "an agent died during a restore and left files or processes")

    def _forget_journal(self, place: Place) -> None:
        journal = Journal.find(self._tools.kubelet_pods, place.pod_uid, place.container)
        if journal is not None:
            with journal:
                journal.remove()

    def _tell(self, order: TellOrder) -> Outcome:
        try:
            waiting = hold.find(order.place, self._tools)
            if waiting is None:
                return hold.NOT_YET
            with waiting.control as directory:
                if directory.has(control_files.IMAGE_ENTRYPOINT) or self._has_record(waiting.init_pid):
                    return Outcome(ok=True)
                config = self._config_of(order.image_id, waiting.init_pid)
                directory.write(control_files.IMAGE_CMD, _record(config.cmd))
                directory.write(control_files.IMAGE_ENTRYPOINT, _record(config.entrypoint))
        except (SnapshotError, OSError) as error:
            reason, message = _explain(error)
            return Outcome(ok=False, reason=reason, message=message)
        return Outcome(ok=True, image=config)

    def _has_record(self, init_pid: int) -> bool:
        """Whether the image itself tells standby, as placeholders do."""
        with suppress(OSError):
            os.close(open_in_container(init_pid, f"{keys.TOOLS_DIR}/entrypoint", os.O_PATH, self._tools.proc))
            return True
        return False

    def _image_config(self, order: CaptureOrder, held: Held) -> ImageConfig | None:
        """Worth knowing, and no reason to fail a capture."""
        try:
            return self._config_of(order.image_id, held.waiting.init_pid)
        except (ContainerError, OSError) as error:
            logger.warning("image of %s/%s: %s", order.place.namespace, order.place.pod, error)
            return None

    def _config_of(self, image_id: str, init_pid: int) -> ImageConfig:
        found = image.roots(discover.mounts(init_pid, self._tools.proc))
        return image.read_config(image_id, [self._tools.host_root / root.lstrip("/") for root in found])


def _timed(act: Act[T], order: T, held: Held) -> Outcome:
    phases = Phases(held.since)
    phases.passed("queue")
    return act(order, held, phases)


def _let_go(taking: "Future[Held | Outcome]") -> None:
    """Of a claim that nobody waits for any more."""
    if not taking.cancelled() and isinstance(held := taking.result(), Held):
        held.close()


def _record(words: tuple[str, ...]) -> str:
    return "".join(f"{word}\0" for word in words)


def _refuse_second_attempt(held: Claim) -> None:
    """A dump that was cut off may have left the worker with criu's code in it."""
    if held.taken_before:
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


def _told(what: str, place: Place, outcome: Outcome) -> Outcome:
    """The one line that sums an attempt up."""
    facts = {"pod": f"{place.namespace}/{place.pod}", "container": place.container, "bytes": outcome.size}
    logger.info(what, extra=facts | {"reason": outcome.message, "seconds": outcome.seconds})
    return outcome
