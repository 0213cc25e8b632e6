"""Captures and restores workers with the engine of one checkout: ``python rounds.py`` with that one in PYTHONPATH.

Reads JSON, one object a line: ``{"id", "worker"}``, the program. Answers one for each: ``{"preflight_ms", "capture",
"restore"}``, the last two in seconds, or ``{"failed": why}``. It imports what checkouts from before the preflight have
too, so that they can be measured beside this one; ``preflight_ms`` is null there.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout

from contract.api import control_files
from tests.support.fixtures import bare_container
from tests.support.fixtures.bare_container import BareContainer, node_folder, wait_for
from tests.support.fixtures.engine import Node
from tests.support.fixtures.tools import unpack_tools

LOOKS = 5
PATIENCE = 120


def main() -> None:
    """Serve until there are no more lines."""
    with node_folder() as folder:
        with redirect_stdout(sys.stderr):  # what is built says so; an answer is a line of its own
            tools = unpack_tools(folder)
        node = Node(folder, tools)
        _say({})
        for line in sys.stdin:
            order = json.loads(line)
            try:
                _say(asyncio.run(_measure(node, order["worker"], order["id"])))
            except AssertionError as error:
                _say({"failed": str(error)})
            finally:
                while node.containers:
                    node.containers.pop().close()


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


async def _measure(node: Node, worker: str, checkpoint_id: str) -> dict[str, object]:
    command = ("--", getattr(bare_container, "PYTHON", sys.executable), "-c", worker)
    source = node.start_as(BareContainer, "--capture", *command, shm="512m")
    wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, f"a snapshot; {source.text()}", PATIENCE)
    preflight_ms = _preflight_ms(source)
    captured = await node.capture(source, checkpoint_id)
    assert captured.ok, f"capture: {captured.message}"
    since = time.monotonic()
    target = node.start_as(BareContainer, *command, shm="512m")
    restored = await node.restore(target, checkpoint_id, captured.manifest_digest)
    assert restored.ok, f"restore: {restored.message}"
    target.says("kept")
    restore = time.monotonic() - since
    return {"preflight_ms": preflight_ms, "capture": captured.seconds["total"], "restore": restore}


def _preflight_ms(source: BareContainer) -> float | None:
    look = _preflight_of(source.init())
    if look is None:
        return None
    times = []
    for _ in range(LOOKS):
        since = time.process_time()
        found = look()
        times.append((time.process_time() - since) * 1000)
        assert not found, f"the preflight finds {found}"
    return min(times)


def _preflight_of(init_pid: int) -> Callable[[], object] | None:
    """Return what looks at a worker as the agent does before it touches one; None if this checkout has no such."""
    try:
        from agent.preflight.checks import findings  # noqa: PLC0415 - see above
        from agent.preflight.facts import read_tree  # noqa: PLC0415
        from linux.proc import descendants, namespace_mates  # noqa: PLC0415
    except ImportError:
        return None
    return lambda: findings(read_tree(init_pid, descendants(init_pid, namespace_mates(init_pid))))


if __name__ == "__main__":
    main()
