"""The client of the helper process that holds the CUDA driver open; it is started when it is needed, and again."""

import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agent.gpu import driver, nvml
from agent.gpu.cuda import CudaError, Device, DriverVersion
from agent.gpu.driver import ProcessState
from contract.api.states import AgentReason

START_SECONDS: Final = 30.0
"""cuInit was seen to take 0.1 to 0.5 s; a driver that is being installed takes longer."""
FIND_SECONDS: Final = 10.0
ABSENT_SECONDS: Final = 60.0
"""How long a node without a driver is taken for one: a GPU operator may install it later."""
REASONS: Final = {
    "CUDA_ERROR_NO_DEVICE": AgentReason.GPU_MISSING,
    "CUDA_ERROR_NOT_SUPPORTED": AgentReason.GPU_UNSUPPORTED,
    "CUDA_ERROR_OUT_OF_MEMORY": AgentReason.GPU_MEMORY,
    "CUDA_ERROR_NOT_READY": AgentReason.GPU_BUSY,
}
"""What the driver's errors mean for a capture or restore; any other is ``gpu-failed``."""
_LOOKS: Final = (driver.RESTORE_THREAD, driver.STATE, nvml.DEVICES, nvml.USED)
"""Calls that change nothing, so that another helper may be asked what one did not answer."""
_ENDED: Final = "the CUDA helper has ended"
_NO_CUDA: Final = "CUDA_ERROR_NOT_INITIALIZED"
_NO_PROCESS: Final = "CUDA_ERROR_OPERATING_SYSTEM"
_ROOMS: Final = Path(__file__).parents[2]
logger = logging.getLogger(__name__)


class CudaHelper:
    """The real ``Cuda`` and ``Gpus``: a resident helper process.

    Args:
        find_library: asked for libcuda whenever a helper is started: the driver may be installed after the agent.
    """

    def __init__(self, find_library: Callable[[], str] = lambda: driver.LIBRARY) -> None:
        self._find_library = find_library
        self._lock = threading.Lock()
        self._helper: _Helper | None = None
        self._absent = ""
        """Why there was no driver when it was last looked for: said once, and not each minute."""
        self._absent_until = 0.0

    def driver(self) -> DriverVersion | None:
        """See ``Gpus``."""
        helper = self._running()
        return helper.driver if helper else None

    def devices(self) -> Sequence[Device]:
        """See ``Gpus``."""
        return [Device(**facts) for facts in self._facts(nvml.DEVICES)]

    def used(self) -> Mapping[int, Mapping[str, int]]:
        """See ``Gpus``."""
        return dict(self._facts(nvml.USED))

    def _facts(self, what: str) -> Any:  # noqa: ANN401 - lists of what the driver says
        return self._call(what, 0, FIND_SECONDS) if self._running() is not None else []

    def find(self, pids: Iterable[int]) -> Mapping[int, int]:
        """See ``Cuda``."""
        asked = tuple(pids)
        try:
            return self._find(asked)
        except _EndedError:
            return self._find(asked)

    def _find(self, pids: Sequence[int]) -> Mapping[int, int]:
        helper = self._running()
        if helper is None:
            return {}
        calls = {pid: helper.send(driver.RESTORE_THREAD, pid) for pid in pids}
        found = {}
        for pid, call in calls.items():
            try:
                found[pid] = int(_result(call, driver.RESTORE_THREAD, pid, FIND_SECONDS))
            except _RefusedError as error:
                if error.name != _NO_CUDA and not (error.name == _NO_PROCESS and not Path(f"/proc/{pid}").exists()):
                    raise error.translated() from error
        return found

    def state(self, pid: int, seconds: float) -> ProcessState:
        """See ``Cuda``."""
        return ProcessState(self._call(driver.STATE, pid, seconds))

    def lock(self, pid: int, seconds: float) -> None:
        """See ``Cuda``. The driver keeps the limit itself; ours is a little longer."""
        self._call(driver.LOCK, pid, seconds + 1, milliseconds=max(1, round(seconds * 1000)))

    def checkpoint(self, pid: int, seconds: float) -> None:
        """See ``Cuda``."""
        self._call(driver.CHECKPOINT, pid, seconds)

    def restore(self, pid: int, pairs: Sequence[tuple[str, str]], seconds: float) -> None:
        """See ``Cuda``."""
        self._call(driver.RESTORE, pid, seconds, pairs=list(pairs))

    def unlock(self, pid: int, seconds: float) -> None:
        """See ``Cuda``."""
        self._call(driver.UNLOCK, pid, seconds)

    def close(self) -> None:
        """End the helper."""
        with self._lock:
            if self._helper is not None:
                self._helper.close()
                self._helper = None

    def _call(self, what: str, pid: int, seconds: float, **fields: Any) -> Any:  # noqa: ANN401 - what the driver says
        try:
            return self._call_once(what, pid, seconds, **fields)
        except _EndedError as error:
            if error.was_sent and what not in _LOOKS:
                raise  # what became of it the process's state says
        return self._call_once(what, pid, seconds, **fields)

    def _call_once(self, what: str, pid: int, seconds: float, **fields: Any) -> Any:  # noqa: ANN401 - as above
        helper = self._running()
        if helper is None:
            raise CudaError(AgentReason.GPU_MISSING, "the node has no CUDA driver")
        try:
            return _result(helper.send(what, pid, **fields), what, pid, seconds)
        except _RefusedError as error:
            raise error.translated() from error

    def _running(self) -> "_Helper | None":
        with self._lock:
            if self._helper is not None and self._helper.alive:
                return self._helper
            self._helper = None
            if time.monotonic() < self._absent_until:
                return None
            helper = _Helper(self._find_library())
            if helper.driver is None:
                if helper.absent != self._absent:
                    logger.info("no CUDA driver: %s", helper.absent)
                self._absent = helper.absent
                self._absent_until = time.monotonic() + ABSENT_SECONDS
                return None
            logger.info("CUDA driver found", extra={"driver": helper.driver.version, "cuda": helper.driver.cuda})
            self._helper = helper
            return helper


class _RefusedError(Exception):
    """The driver's own error, by name."""

    def __init__(self, what: str, pid: int, name: str) -> None:
        super().__init__(f"CUDA {what} of process {pid}: {name}")
        self.name = name

    def translated(self) -> CudaError:
        return CudaError(REASONS.get(self.name, AgentReason.GPU_FAILED), str(self))


class _EndedError(CudaError):
    """The helper ended before it answered."""

    def __init__(self, what: str, pid: int, *, was_sent: bool) -> None:
        super().__init__(AgentReason.GPU_FAILED, f"CUDA {what} of process {pid}: {_ENDED}")
        self.was_sent = was_sent
        """Whether it may have made the call."""


def _result(call: "Future[Any]", what: str, pid: int, seconds: float) -> Any:  # noqa: ANN401 - what the driver says
    try:
        return call.result(seconds)
    except FutureTimeoutError as error:
        words = f"CUDA {what} of process {pid} did not return within {seconds:.0f} s"
        raise CudaError(AgentReason.GPU_BUSY, words) from error


class _Helper:
    """One helper process, and the thread that reads what it writes.

    That thread also starts it: the kernel ends the helper with the thread that started it.
    """

    def __init__(self, library: str) -> None:
        self.driver: DriverVersion | None = None
        self.absent = "the helper did not start"
        """Why there is no driver; empty once the helper has named it."""
        self.alive = True
        self._pending: dict[int, tuple[Future[Any], str, int]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        ready = threading.Event()
        threading.Thread(target=self._serve, args=(library, ready), name="cuda-helper", daemon=True).start()
        if not ready.wait(START_SECONDS):
            self.close()

    def send(self, what: str, pid: int, **fields: Any) -> "Future[Any]":  # noqa: ANN401 - whatever JSON carries
        """Have the driver called; the answer comes later."""
        call: Future[Any] = Future()
        number = next(self._numbers)
        with self._lock:
            if self._write({"id": number, "do": what, "pid": pid, **fields}):
                self._pending[number] = (call, what, pid)
            else:
                call.set_exception(_EndedError(what, pid, was_sent=False))
        return call

    def _write(self, request: Mapping[str, Any]) -> bool:
        """Write a request whole, or say that nothing reads it any more."""
        if not self.alive or self._process is None or self._process.stdin is None:
            return False
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # ValueError: the thread that reads has closed it
            self.alive = False
        return self.alive

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def _serve(self, library: str, ready: threading.Event) -> None:
        """Run the helper until it ends; whatever ends it, callers that wait are answered."""
        try:
            self._run(library, ready)
        except (OSError, ValueError) as error:
            logger.warning("CUDA helper: %s", error)
            self.close()
        finally:
            with self._lock:
                self.alive = False
                self._fail_all()
            ready.set()

    def _run(self, library: str, ready: threading.Event) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-m", "agent.gpu.helper", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"PYTHONPATH": str(_ROOMS), "PATH": os.environ.get("PATH", "")},
            cwd="/",
        )
        with self._process as process:
            if process.stdout is None:
                return
            first = json.loads(process.stdout.readline() or "{}")
            if "version" in first:
                self.driver, self.absent = DriverVersion(first["version"], first["cuda"]), ""
            else:
                self.absent = first.get("absent", self.absent)
            ready.set()
            for line in process.stdout:
                self._answer(json.loads(line))

    def _answer(self, answer: Mapping[str, Any]) -> None:
        with self._lock:
            call, what, pid = self._pending.pop(answer["id"])
        if answer["error"]:
            call.set_exception(_RefusedError(what, pid, str(answer["error"])))
        else:
            call.set_result(answer["value"])

    def _fail_all(self) -> None:
        for call, what, pid in self._pending.values():
            call.set_exception(_EndedError(what, pid, was_sent=True))
        self._pending.clear()
