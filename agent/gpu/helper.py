"""``python -m agent.gpu.helper LIBRARY``: holds the CUDA driver open, and makes its calls, each in a thread of its own.

One JSON object a line: ``{"id", "do", "pid", ...}`` in, ``{"id", "error", "value"}`` out, in whatever order they end.
The first line out says what the driver is: ``{"version", "cuda"}``, or ``{"absent": why}``.
A call on a stopped process does not return; it keeps its thread and nothing else. The helper ends with its agent.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import PurePath

from agent.gpu import driver, nvml
from linux import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(library: str) -> int:
    """Serve until standard input ends; 1 if there is no driver."""
    syscalls.die_with_parent(signal.SIGKILL)
    try:
        cuda = driver.Driver(library)
        # The same folder, if one was named: they are one driver.
        gpus = nvml.Nvml(str(PurePath(library).with_name(nvml.LIBRARY)))
        facts = {"version": gpus.driver_version(), "cuda": cuda.cuda_version()}
    except (OSError, driver.DriverError, nvml.NvmlError) as error:
        _write({"absent": str(error)})
        return 1
    _write(facts)
    for line in sys.stdin:
        threading.Thread(target=_serve, args=(cuda, gpus, json.loads(line)), daemon=True).start()
    return 0


def _serve(cuda: driver.Driver, gpus: nvml.Nvml, request: dict[str, Any]) -> None:
    answer: dict[str, Any] = {"id": request["id"], "error": "", "value": None}
    try:
        match request["do"]:
            case nvml.DEVICES:
                answer["value"] = gpus.devices()
            case nvml.USED:
                answer["value"] = list(gpus.used().items())
            case _:
                answer["value"] = _call(cuda, request)
    except Exception as error:  # noqa: BLE001 - the answer is the only way out
        answer["error"] = str(error) or type(error).__name__
    _write(answer)


def _call(cuda: driver.Driver, request: dict[str, Any]) -> Any:  # noqa: ANN401 - what the driver says
    pid = int(request["pid"])
    match request["do"]:
        case driver.RESTORE_THREAD:
            return cuda.restore_thread(pid)
        case driver.STATE:
            return cuda.state(pid)
        case driver.LOCK:
            return cuda.lock(pid, int(request["milliseconds"]))
        case driver.CHECKPOINT:
            return cuda.checkpoint(pid)
        case driver.RESTORE:
            return cuda.restore(pid, [(old, new) for old, new in request["pairs"]])
        case driver.UNLOCK:
            return cuda.unlock(pid)
    raise ValueError(f"unknown operation {request['do']!r}")


_writing = threading.Lock()


def _write(answer: dict[str, Any]) -> None:
    with _writing:
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
