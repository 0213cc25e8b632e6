"""Restore of a GPU worker beside one that runs: its device memory from page cache, and from that worker's GPU.

    python -m benchmarks.gpu.neighbours --mebibytes 40960

As root, on a machine with two cards that reach each other, PyTorch and ``build/gpu-kit`` (``make gpu-kit``), whose path
is in SNAPSHOT_TEST_KIT. One worker is captured on the first card, and restored on one of them, where it stays and
answers all the time. Then it is restored on the other card, over and over: the two ways take turns, page cache is
registered for both. The first 33 answers, each of which depends on all before it, must be equal between all restores.
"""

import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from agent.executor.engine import NodeEngine
from agent.executor.gpu.neighbours import Neighbours
from benchmarks.gpu.restore import card_node
from benchmarks.support.report import Report, finish, parser
from contract.api.engine import Way
from contract.api.reports import ReportPhase
from tests.gpu.containers import CARDS, CONTROL, OUTSIDE, PROBE, ready, start
from tests.gpu.containers import words as in_words
from tests.support.fixtures.bare_container import BareContainer, wait_for
from tests.support.fixtures.engine import Node
from tests.support.fixtures.runc_container import RuncContainer

HEADER = ("way", "runs", "first answer s, median", "fastest", "slowest", "GB/s onto the card, median")
HOST, NEIGHBOUR = "page cache", "neighbour"
ANSWERS = 33
NAME = "neighbours"


@dataclass
class Worker:
    """What is restored."""

    digest: str
    mebibytes: int
    answers: str = ""
    """Of the first restore."""

    def compare(self, answers: str, way: str) -> None:
        """End the run if a restore has other answers."""
        self.answers = self.answers or answers
        if answers != self.answers:
            sys.exit(f"{way}: answers differ")


@dataclass(frozen=True)
class Restored:
    """What came of one restore."""

    seconds: float
    """To the first answer."""
    rate: float
    """Bytes a second, onto the card."""
    init_pid: int


@dataclass
class Figures:
    """Of one way."""

    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    """Bytes a second, from the order until the last part was on the card."""


def main() -> None:
    """Capture, restore in turns, report."""
    made = parser("restores of a GPU worker beside one that runs on another card")
    made.add_argument("--mebibytes", type=int, default=40960, help="of device memory")
    made.add_argument("--rounds", type=int, default=3, choices=range(1, 21), metavar="1..20", help="restores of a way")
    arguments = made.parse_args()
    command = f"python -m benchmarks.gpu.neighbours --mebibytes {arguments.mebibytes} --rounds {arguments.rounds}"
    report = Report("gpu-neighbours", command, HEADER)
    with card_node(None, sums=True) as node:
        report.data["driver"] = str(node.environment.gpus.driver())
        asyncio.run(_measure_all(node, arguments.mebibytes, arguments.rounds, report))
    finish(report, arguments)


async def _measure_all(node: Node, mebibytes: int, rounds: int, report: Report) -> None:
    source = ready(node, user=1000, mebibytes=mebibytes, env=OUTSIDE)
    source.get()
    captured = await node.capture(source, NAME, probe=PROBE)
    if not captured.ok:
        sys.exit(f"{captured.message}\n{source.text()[-2000:]}")
    source.close()
    node.containers.remove(source)
    worker = Worker(captured.manifest_digest, mebibytes)
    for where, target in (("card of the capture", CARDS[0]), ("another card", CARDS[1])):
        found = await _measure(node, worker, target, rounds, report)
        for way, figures in found.items():
            seconds = figures.seconds
            rate = round(statistics.median(figures.rates) / 1e9, 1)
            row = (f"{way}, {where}", len(seconds), statistics.median(seconds), min(seconds), max(seconds), rate)
            report.rows.append(row)
            report.data[f"{way}, {where}"] = {"seconds": seconds, "bytes_per_second": figures.rates}
        faster = statistics.median(found[HOST].seconds) / statistics.median(found[NEIGHBOUR].seconds)
        rate = statistics.median(found[NEIGHBOUR].rates) / statistics.median(found[HOST].rates)
        words = f"{rate:.1f} times the rate of page cache, first answer {faster:.2f} times as fast"
        report.conclusions.append(f"{where}, beside a running worker: {words}")


async def _measure(node: Node, worker: Worker, card: str, rounds: int, report: Report) -> dict[str, Figures]:
    """Restore on a card over and over, beside a worker on the other one."""
    beside, figures = node.engine, {HOST: Figures(), NEIGHBOUR: Figures()}
    alone = NodeEngine(replace(node.environment, neighbours=Neighbours(are_asked=False)))
    (other,) = set(CARDS[:2]) - {card}
    lender, outcome = await _restored(node, worker, other)
    wait_for(lambda: node.environment.prefetcher.summed, "sums, that are taken when no restore reads")
    with _asked_all_the_time(lender) as asked:
        for turn in range(rounds + 1):
            for way in (HOST, NEIGHBOUR) if turn % 2 else (NEIGHBOUR, HOST):
                node.engine = beside if way == NEIGHBOUR else alone
                print(f"{card}, round {turn}: {way}: ", end="", file=sys.stderr)
                target, came = await _restored(node, worker, card)
                worker.compare("".join(target.get() for _ in range(ANSWERS)), way)
                if turn:
                    figures[way].seconds.append(came.seconds)
                    figures[way].rates.append(came.rate)
                _end(node, target, came.init_pid)
    node.engine = beside
    _end(node, lender, outcome.init_pid)
    slowest, usual = max(asked), statistics.median(asked)
    report.data[f"lender on {other}"] = {"answers": len(asked), "seconds, median": usual, "slowest": slowest}
    words = f"gave {len(asked)} answers meanwhile, in {usual:.3f} s, at most {slowest:.3f} s"
    report.conclusions.append(f"who lends from {other} {words}")
    return figures


def _end(node: Node, worker: BareContainer, init_pid: int) -> None:
    node.environment.neighbours.forget(init_pid)
    worker.close()
    node.containers.remove(worker)


async def _restored(node: Node, worker: Worker, card: str) -> tuple[BareContainer, Restored]:
    """Restore into a new container."""
    target = start(node, RuncContainer, user=1000, mebibytes=worker.mebibytes, devices=" ".join([*CONTROL, card]))
    init_pid = target.init()
    begin = time.monotonic()
    restored = await node.restore(target, NAME, worker.digest)
    if not restored.ok:
        sys.exit(f"{restored.reason}: {restored.message}\n{target.text()[-2000:]}")
    wait_for(target.get, "an answer")
    seconds = time.monotonic() - begin
    print(f"{seconds:.2f} s ({in_words(restored.seconds)}); {restored.engine}", file=sys.stderr, flush=True)
    ahead = sum(step.seconds for step in restored.steps if step.phase == ReportPhase.GPU_AHEAD)
    size = sum(each.bytes for each in restored.engine.came if each.way in (Way.AHEAD, Way.LENT))
    if not size:
        sys.exit("nothing was on the card ahead")
    return target, Restored(seconds, size / ahead, init_pid)


@contextmanager
def _asked_all_the_time(worker: BareContainer) -> Iterator[list[float]]:
    """Have a worker answer all the time; yield the seconds that each answer took."""
    taken: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            since = time.monotonic()
            worker.get()
            taken.append(time.monotonic() - since)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield taken
    finally:
        is_over.set()
        thread.join()


if __name__ == "__main__":
    main()
