"""Restore of GPU workers to the first correct answer: ours, ours without a library, and the strongest stock criu.

    python -m benchmarks.gpu.restore --worker transformers --next /path/to/another/criu

As root, on a machine with a card, PyTorch, transformers and ``build/gpu-kit`` (``make gpu-kit``), whose path is in
SNAPSHOT_TEST_KIT; ``--next`` names the folder ``criu`` of a kit that was made of Debian's experimental suite.

Each worker is started twice in a runc container, as uid 1000, and captured: once with its device memory outside of the
image, once with all of it in criu's image, as the driver's checkpoint leaves it. The arms take turns restoring these
into new containers. Stock is criu's own copy of all memory and the driver's restore after that, by the agent's code,
with nothing read ahead; page cache is warm for every arm. Every answer depends on all before it, and the first 33 must
be equal between all arms. vLLM answers nothing that depends on what it was asked before: it gives one token and then
32, equal to those before the capture. It needs ``build/vllm-kit``, unpacked, and that folder in SNAPSHOT_TEST_VLLM.
"""

import asyncio
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.criu.driver import EnteringCriu
from agent.executor.engine import NodeEngine
from agent.executor.environment import NodeEnvironment
from agent.gpu.ahead.prefetch import NoPrefetcher
from agent.gpu.ahead.resident import ResidentPrefetcher
from agent.gpu.client import CudaHelper
from benchmarks.gpu.workers import ONE_CARD, TWO_CARDS, WORKERS_OF, Engine, Worker
from benchmarks.memory import DirectCriu
from benchmarks.support.report import Report, finish, parser
from tests.gpu.containers import OUTSIDE, WORKERS, until_ready, words
from tests.support.fixtures.bare_container import node_folder
from tests.support.fixtures.engine import Node
from tests.support.fixtures.tools import unpack_tools

HEADER = ("worker", "arm", "MiB stored", "runs", "first answer s, median", "fastest", "slowest", "times ours")
OURS, NO_LIBRARY, STOCK = "ours", "ours, no library", "stock criu"
NEXT_COPIED, NEXT_DIRECT = "next criu", "next criu, direct"
ARMS = (OURS, NO_LIBRARY, STOCK, NEXT_COPIED, NEXT_DIRECT)


@dataclass(frozen=True)
class Arm:
    """One way of restoring, and which of a worker's two artifacts it restores."""

    environment: NodeEnvironment
    outside: bool = False


@dataclass(frozen=True)
class Artifact:
    """One capture of a worker."""

    name: str
    digest: str
    mebibytes: int
    expected: tuple[str, ...]
    """What its worker answered before the capture, if it answers the same each time."""


def main() -> None:
    """Capture and restore each chosen worker, report."""
    made = parser("restores of GPU workers to the first correct answer")
    made.add_argument("--worker", action="append", choices=WORKERS_OF, help="once or more; all without it")
    made.add_argument("--arm", action="append", choices=ARMS, help="beside ours, once or more; all without it")
    made.add_argument("--rounds", type=int, default=2, choices=range(1, 21), metavar="1..20", help="restores of an arm")
    made.add_argument("--next", type=Path, metavar="FOLDER", help="the criu of another release, unpacked")
    made.add_argument("--folder", type=Path, help="where artifacts go; a file system with much room")
    arguments = made.parse_args()
    chosen = arguments.worker or list(WORKERS_OF)
    options = f"{' '.join(f'--worker {name}' for name in chosen)} --rounds {arguments.rounds}"
    options += "".join(f" --arm '{arm}'" for arm in arguments.arm or ())
    options += " --next FOLDER" if arguments.next else ""
    report = Report("gpu-restore", f"python -m benchmarks.gpu.restore {options}", HEADER)
    with card_node(arguments.folder) as node:
        arms = _arms(node.environment, arguments.next)
        arms = {name: arm for name, arm in arms.items() if name in {OURS, *(arguments.arm or ARMS)}}
        report.data["criu"] = {name: arm.environment.criu.version() for name, arm in arms.items()}
        report.data["driver"] = str(node.environment.gpus.driver())
        for name in chosen:
            asyncio.run(_measure(node, name, arms, arguments.rounds, report))
    if {ONE_CARD, TWO_CARDS} <= set(chosen):
        one, two = (statistics.median(report.data[name][OURS]) for name in (ONE_CARD, TWO_CARDS))
        report.conclusions.append(f"two cards take {two / one:.2f} times as long as one with as many bytes a card")
    report.conclusions.append("every answer equals that of the worker before its capture, or the others' of all arms")
    finish(report, arguments)


@contextmanager
def card_node(room: Path | None, *, sums: bool = False) -> Iterator[Node]:
    """Have a node with the real driver and what reads artifacts ahead, as an agent has them."""
    helper, prefetcher = CudaHelper(), ResidentPrefetcher(budget=80 << 30, sums=sums)
    prefetcher.prepare()
    with node_folder() as folder:
        tools = unpack_tools(folder)
        for script in WORKERS.glob("*.py"):
            shutil.copy(script, folder / "tools")
        node = Node(folder, tools, gpus=helper, prefetcher=prefetcher)
        if room is not None:
            node.store = room / f"store-{os.getpid()}"
            node.store.mkdir()
        try:
            with node.as_agent():
                yield node
        finally:
            prefetcher.close()
            helper.close()
            shutil.rmtree(node.store, ignore_errors=True)


def _arms(usual: NodeEnvironment, newer: Path | None) -> dict[str, Arm]:
    stock = replace(usual, lazy_pages=False, prefetcher=NoPrefetcher())
    arms = {OURS: Arm(usual, outside=True), NO_LIBRARY: Arm(usual), STOCK: Arm(stock)}
    if newer is not None:
        assert isinstance(usual.criu, EnteringCriu)
        criu = replace(usual.criu, tree=newer)
        direct = DirectCriu(criu.tree, criu.work, criu.options)
        arms |= {NEXT_COPIED: Arm(replace(stock, criu=criu)), NEXT_DIRECT: Arm(replace(stock, criu=direct))}
    return arms


async def _measure(node: Node, name: str, arms: dict[str, Arm], rounds: int, report: Report) -> None:
    worker = WORKERS_OF[name]
    worker.prepare()
    taken = {arm: made for arm, made in arms.items() if worker.stock or arm == OURS}
    artifacts = {
        outside: await _captured(node, name, worker, outside=outside)
        for outside in sorted({arm.outside for arm in taken.values()})
    }
    figures: dict[str, list[float]] = {arm: [] for arm in taken}
    common: tuple[str, ...] = ()
    for turn in range(rounds + 1):
        for arm in list(taken) if turn % 2 else list(reversed(taken)):
            node.engine = NodeEngine(taken[arm].environment)
            print(f"{name}: round {turn}: {arm}: ", end="", file=sys.stderr)
            artifact = artifacts[taken[arm].outside]
            seconds, found = await _restored(node, worker, artifact)
            common = common or found
            if (expected := artifact.expected or common) != found:
                sys.exit(f"{name}: {arm}: answers differ:\n{expected}\n{found}")
            if turn or rounds == 1:
                figures[arm].append(seconds)
    _describe(report, name, taken, artifacts, figures)
    for artifact in artifacts.values():
        shutil.rmtree(node.store / artifact.name)


async def _captured(node: Node, name: str, worker: Worker | Engine, *, outside: bool) -> Artifact:
    node.engine = NodeEngine(node.environment)
    source = until_ready(worker.start(node, "--capture", env=OUTSIDE if outside else {}), worker.start_seconds)
    expected = worker.warm(source)
    checkpoint = f"{name}-{'outside' if outside else 'image'}"
    began = time.monotonic()
    captured = await node.capture(source, checkpoint, probe=worker.probe)
    if not captured.ok:
        sys.exit(f"{checkpoint}: {captured.message}\n{source.text()[-2000:]}")
    print(f"{checkpoint}: captured in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    source.close()
    node.containers.remove(source)
    return Artifact(checkpoint, captured.manifest_digest, captured.size >> 20, expected)


async def _restored(node: Node, worker: Worker | Engine, artifact: Artifact) -> tuple[float, tuple[str, ...]]:
    """Restore into a new container; return the seconds to its first answer, and all answers."""
    target = worker.start(node)
    target.init()
    begin = time.monotonic()
    restored = await node.restore(target, artifact.name, artifact.digest)
    if not restored.ok:
        sys.exit(f"{artifact.name}: {restored.reason}: {restored.message}\n{target.text()[-2000:]}")
    answers = [worker.first(target)]
    seconds = time.monotonic() - begin
    answers += worker.others(target)
    others = time.monotonic() - begin - seconds
    line = " ".join(f"{step.phase}@{step.start:.3f}+{step.seconds:.3f}" for step in restored.steps)
    print(f"{seconds:.2f} s ({words(restored.seconds)}; others {others:.2f}); {restored.engine}", file=sys.stderr)
    print(line, file=sys.stderr, flush=True)
    target.close()
    node.containers.remove(target)
    return seconds, tuple(answers)


def _describe(
    report: Report, name: str, arms: dict[str, Arm], artifacts: dict[bool, Artifact], figures: dict[str, list[float]]
) -> None:
    ours = statistics.median(figures[OURS])
    for arm, seconds in figures.items():
        median, stored = statistics.median(seconds), artifacts[arms[arm].outside].mebibytes
        report.rows.append((name, arm, stored, len(seconds), median, min(seconds), max(seconds), median / ours))
    report.data[name] = {arm: [round(one, 3) for one in seconds] for arm, seconds in figures.items()}
    stock = {arm: statistics.median(seconds) for arm, seconds in figures.items() if arm not in (OURS, NO_LIBRARY)}
    if stock:
        best = min(stock, key=stock.__getitem__)
        report.conclusions.append(f"{name}: {stock[best] / ours:.1f} times as fast as the best stock arm ({best})")


if __name__ == "__main__":
    main()
