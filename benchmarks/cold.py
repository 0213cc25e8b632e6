"""Restore with nothing in page cache: how much of what the storage gives is used.

    python -m benchmarks.cold --gib 4 --folder /var/tmp

As root, on a bare container, its artifact in a folder on a disk. Before each restore the artifact leaves the page cache
and the agent knows none of its files, as on a node that has never seen it. Beside the whole restore, in turns: the disk
by itself, read past the page cache and through it, and the files' sums, as they are taken where only agents write
(agentMount), and where others do (podMount).
"""

import asyncio
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from agent.executor.engine import NodeEngine
from artifact.digest import sum_of, sum_of_others
from artifact.verified import VerifiedFiles
from benchmarks.memory import THREADS, WORKER, captured_worker, container, restored
from benchmarks.support.report import Report, finish, parser
from tests.support.fixtures.bare_container import PYTHON, node_folder
from tests.support.fixtures.engine import Node
from tests.support.fixtures.tools import unpack_tools

DIRECT, CACHED = "the disk by itself, directly", "the disk by itself, through page cache"
MAPPED, OTHERS, RESTORED = "sums, mapped", "sums, not mapped", "restored"
HEADER = ("arm", "runs", "files read GB/s", "slowest", "first answer s", "all memory read s")
PATIENCE = 60.0
BLOCK, READERS = 8 << 20, 8
"""What the disk by itself is read with."""


def main() -> None:
    """Capture one worker, restore it in turns with nothing cached, report."""
    made = parser("restore with nothing in page cache, beside the disk by itself")
    made.add_argument("--gib", type=float, default=4, help="memory of the worker")
    made.add_argument("--rounds", type=int, default=3, choices=range(1, 51), metavar="1..50")
    made.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="on the disk")
    arguments = made.parse_args()
    report = Report("cold", f"python -m benchmarks.cold --gib {arguments.gib:g} --rounds {arguments.rounds}", HEADER)
    command = ("--", PYTHON, "-c", WORKER, str(round(arguments.gib * 1024)), str(THREADS), "0")
    with node_folder() as folder, tempfile.TemporaryDirectory(dir=arguments.folder) as store:
        node = Node(folder, unpack_tools(folder))
        node.store = Path(store)
        with node.as_agent():
            figures = asyncio.run(_measure(node, command, arguments.rounds))
    _describe(report, figures)
    finish(report, arguments)


async def _measure(node: Node, command: tuple[str, ...], rounds: int) -> dict[str, list[tuple[float, ...]]]:
    digest, expected = await captured_worker(node, command)
    files = [path for path in node.store.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e9
    readers: dict[str, Callable[[int], object]] = {
        DIRECT: partial(_read, os.O_DIRECT),
        CACHED: partial(_read, 0),
        MAPPED: sum_of,
        OTHERS: sum_of_others,
    }
    figures: dict[str, list[tuple[float, ...]]] = {arm: [] for arm in (*readers, RESTORED)}
    for turn in range(rounds):
        for arm in list(figures) if turn % 2 else list(reversed(figures)):
            _drop(files)
            if arm == RESTORED:
                node.engine = NodeEngine(replace(node.environment, verified=VerifiedFiles()))
                with container(node, command) as target:
                    times = await restored(node, target, digest, expected)
                found: tuple[float, ...] = (size / times.verify, times.first, times.everything)
            else:
                found = (size / _seconds(readers[arm], files),)
            print(f"round {turn}: {arm}: {', '.join(f'{one:.2f}' for one in found)}", file=sys.stderr)
            figures[arm].append(found)
    return figures


def _seconds(read: Callable[[int], object], files: list[Path]) -> float:
    begin = time.monotonic()
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        try:
            read(fd)
        finally:
            os.close(fd)
    return time.monotonic() - begin


def _read(flags: int, file: int) -> None:
    """Read a file by several large reads at once."""
    size, name = os.fstat(file).st_size, f"/proc/self/fd/{file}"

    def read(first: int) -> None:
        opened = os.open(name, os.O_RDONLY | flags)
        with mmap.mmap(-1, BLOCK) as buffer:
            for at in range(first * BLOCK, size, BLOCK * READERS):
                os.preadv(opened, [buffer], at)
        os.close(opened)

    with ThreadPoolExecutor(READERS) as threads:
        for done in [threads.submit(read, first) for first in range(READERS)]:
            done.result()


def _drop(files: list[Path]) -> None:
    """Have the page cache let go of files, and of no others: other work goes on on this machine.

    Pages that a process has mapped stay, and the server of the restore before may be about to end.
    """
    end = time.monotonic() + PATIENCE
    while any(_cached(path) for path in files):
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if time.monotonic() > end:
            sys.exit("the page cache keeps the artifact")


def _cached(path: Path) -> int:
    """Return how many bytes of a file are in page cache, as util-linux says."""
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout or 0)


def _describe(report: Report, figures: dict[str, list[tuple[float, ...]]]) -> None:
    medians = {arm: [statistics.median(each) for each in zip(*runs, strict=True)] for arm, runs in figures.items()}
    disk = max(medians[DIRECT][0], medians[CACHED][0])
    for arm, runs in figures.items():
        speed, *answers = medians[arm]
        report.rows.append((arm, len(runs), speed, min(run[0] for run in runs), *(answers or ("", ""))))
        if arm not in (DIRECT, CACHED):
            report.conclusions.append(f"{arm}: {speed / disk:.2f} of what the disk gives by itself at its best")
    report.data |= {arm: [[round(one, 3) for one in run] for run in runs] for arm, runs in figures.items()}


if __name__ == "__main__":
    main()
