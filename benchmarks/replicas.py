"""Several replicas restored from one artifact at once, beside one alone.

    python -m benchmarks.replicas --gib 0.5 --replicas 8

As root, on bare containers, with the worker of ``benchmarks.memory``. Measured is from the start of all restores to the
last first answer; every answer is compared with the source's. The page cache has the artifact once for all of them.
With ``--processes`` the node has that many others, as a large one has of its kernel's alone.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.memory import THREADS, WORKER
from benchmarks.support.report import Report, finish, parser
from contract.api import control_files
from tests.support.fixtures.bare_container import PYTHON, BareContainer, node_folder, wait_for
from tests.support.fixtures.engine import Node
from tests.support.fixtures.tools import unpack_tools

HEADER = ("replicas", "runs", "last first answer s", "fastest", "slowest")


def main() -> None:
    """Capture one worker, restore it alone and together in turns, report."""
    made = parser("restores of one artifact at once, beside one alone")
    made.add_argument("--gib", type=float, default=0.5, help="memory of the worker")
    made.add_argument("--replicas", type=int, default=8, choices=range(2, 33), metavar="2..32", help="at once")
    made.add_argument("--rounds", type=int, default=5, choices=range(1, 51), metavar="1..50", help="of each")
    made.add_argument("--processes", type=int, default=0, choices=range(10_001), metavar="0..10000", help="of others")
    arguments = made.parse_args()
    options = f"--gib {arguments.gib:g} --replicas {arguments.replicas} --rounds {arguments.rounds}"
    options += f" --processes {arguments.processes}" if arguments.processes else ""
    report = Report("replicas", f"python -m benchmarks.replicas {options}", HEADER)
    with node_folder() as folder, _others(arguments.processes):
        node = Node(folder, unpack_tools(folder), proof=False)
        with node.as_agent():
            figures = asyncio.run(_measure(node, round(arguments.gib * 1024), arguments.replicas, arguments.rounds))
    for count, seconds in figures.items():
        report.rows.append((str(count), len(seconds), statistics.median(seconds), min(seconds), max(seconds)))
        report.data[str(count)] = [round(one, 3) for one in seconds]
    alone, together = (statistics.median(seconds) for seconds in figures.values())
    report.conclusions = [
        f"{arguments.replicas} at once take {together / alone:.1f} times as long as one (medians)",
        "every answer equals the source's",
    ]
    finish(report, arguments)


@contextmanager
def _others(count: int) -> Iterator[None]:
    """Have idle processes on the node."""
    sleeping = [subprocess.Popen(["sleep", "infinity"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in sleeping:
            process.kill()
        for process in sleeping:
            process.wait()


async def _measure(node: Node, mib: int, replicas: int, rounds: int) -> dict[int, list[float]]:
    command = ("--", PYTHON, "-c", WORKER, str(mib), str(THREADS), "0")
    source = node.start_as(BareContainer, "--capture", *command)
    wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, "the worker", 300)
    expected = source.get()
    captured = await node.capture(source, "replicas")
    if not captured.ok:
        sys.exit(captured.message)
    figures: dict[int, list[float]] = {1: [], replicas: []}
    for turn in range(rounds + 1):
        for count, measured in figures.items():
            seconds = await _at_once(node, command, captured.manifest_digest, count, expected)
            print(f"round {turn}: {count}: {seconds:.3f} s", file=sys.stderr)
            if turn:  # the first reads the artifact for its checksums
                measured.append(seconds)
    return figures


async def _at_once(node: Node, command: tuple[str, ...], digest: str, count: int, expected: str) -> float:
    # All of them before any is looked at: standby waits five seconds for an agent.
    targets = [node.start_as(BareContainer, *command) for _ in range(count)]
    for target in targets:
        target.init()
    begin = time.monotonic()
    await asyncio.gather(*(_restored(node, target, digest, expected) for target in targets))
    seconds = time.monotonic() - begin
    for target in targets:
        target.close()
        node.containers.remove(target)
    return seconds


async def _restored(node: Node, target: BareContainer, digest: str, expected: str) -> None:
    outcome = await node.restore(target, "replicas", digest)
    if not outcome.ok:
        sys.exit(f"{outcome.reason}: {outcome.message}")
    if await asyncio.to_thread(wait_for, target.get, "the first answer") != expected:
        sys.exit("a restored worker answers otherwise than its source")


if __name__ == "__main__":
    main()
