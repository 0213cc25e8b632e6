"""The demo's worker restored over and over: how many came back, how many did not, and how long it took.

    python -m benchmarks.soak --restores 1000 --at-once 4

As root, on bare containers: no Kubernetes in the way. One worker is captured once; each restore is a container of its
own, whose worker must answer as its source does: the same token, which is in no file, the same index, the same hits of
a search. A container must hold that worker's processes once. What is not restored must have started cold, with a
reason. The exit status is 0 only if enough were restored, and none was dead, wrong or doubled.
"""

import argparse
import asyncio
import http.client
import json
import re
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.executor.api import ExecutionResult
from benchmarks.support.report import Report, finish, parser, percentile
from benchmarks.support.testbed import in_parallel
from cluster.progress import for_terminal
from contract.api import control_files
from images.cache import Cache, default_root
from images.recipes import lock_file
from images.steps import Steps
from linux.proc import descendants, namespace_mates
from tests.support.fixtures.bare_container import BareContainer, node_folder, wait_for
from tests.support.fixtures.engine import Node
from tests.support.fixtures.tools import PROJECT, unpack_tools

RESTORED, COLD, DEAD, WRONG, DOUBLED = "restored", "cold", "dead", "wrong", "doubled"
WELL = 0.999
"""The share that must be restored; none may be dead, wrong or doubled."""
HEADER = ("restores", "at once", *(RESTORED, COLD, DEAD, WRONG, DOUBLED), "p50 s", "p90 s", "p99 s", "slowest s")
CHECKPOINT = "soak"
ROOT = "/tools/demo"
COMMAND = (
    *("/usr/bin/env", f"PYTHONHOME={ROOT}/usr", f"PYTHONPATH={ROOT}/app", "PYTHONUNBUFFERED=1"),
    *(f"{ROOT}/usr/lib64/ld-linux-x86-64.so.2", "--library-path", f"{ROOT}/usr/lib/x86_64-linux-gnu"),
    *(f"{ROOT}/usr/bin/python3", "-m", "worker"),
)
"""The worker's image is unpacked in a folder of the container, so its own loader starts its interpreter."""
QUESTION = {"query": "how are names bound", "k": 3}
CAPTURE_SECONDS = 300.0
ANSWER_SECONDS = 60.0
"""A worker that has not answered by then is dead."""


@dataclass(frozen=True)
class Seen:
    """What became of one container."""

    outcome: str
    seconds: float
    """From its start to the first answer."""
    reason: str = ""


@dataclass(frozen=True)
class Source:
    """The captured worker."""

    digest: str
    answers: tuple[str, str]
    processes: int


def main() -> None:
    """Capture the worker, restore it many times, report; the exit status says whether it held."""
    arguments = _arguments()
    report = Report(
        "soak", f"python -m benchmarks.soak --restores {arguments.restores} --at-once {arguments.at_once}", HEADER
    )
    with node_folder() as folder:
        node = Node(folder, unpack_tools(folder))
        unpack_worker(folder / "tools/demo")
        begun = time.monotonic()
        seen = asyncio.run(soak(node, arguments.restores, arguments.at_once))
    describe(report, seen, arguments.at_once, time.monotonic() - begun)
    finish(report, arguments)
    sys.exit(0 if held(seen) else 1)


def _arguments() -> argparse.Namespace:
    made = parser("many restores of the demo's worker: how many are restored, cold, dead, wrong, doubled")
    made.add_argument("--restores", type=int, default=1000, choices=range(1, 100_001), metavar="1..100000")
    made.add_argument("--at-once", type=int, default=4, choices=range(1, 65), metavar="1..64")
    return made.parse_args()


def unpack_worker(target: Path) -> None:
    """Put what the demo worker's image holds into a folder."""
    steps = Steps(PROJECT, Cache(default_root()), lambda text: print(text, file=sys.stderr))
    layers = (
        steps.python(),
        steps.wheels(lock_file(PROJECT, "worker")),
        steps.code(PROJECT / "sdk", ("snapshot_sdk",)),
        steps.code(PROJECT / "examples", ("worker",), at="app"),
    )
    for layer in layers:
        with tarfile.open(layer.path) as tar:
            tar.extractall(target, filter="fully_trusted")


async def soak(node: Node, restores: int, at_once: int) -> list[Seen]:
    """Capture one worker, and restore it so many times."""
    source = await _captured(node)
    seen: list[Seen] = []
    with for_terminal().step("restores") as advance:

        async def one(_: int) -> None:
            seen.append(await _restored(node, source))
            advance(len(seen), restores)

        await in_parallel(at_once, restores, one)
    return seen


async def _captured(node: Node) -> Source:
    with for_terminal().step("capture"), started(node, "--capture") as container:
        ready = container.control / control_files.READY_FOR_SNAPSHOT
        await asyncio.to_thread(wait_for, ready.exists, f"the worker; {container.text()}", CAPTURE_SECONDS)
        answers, processes = await asyncio.to_thread(answers_of, container), len(tree(container))
        outcome = await node.capture(container, CHECKPOINT)
        if not outcome.ok:
            sys.exit(f"the worker is not captured: {outcome.message}")
        return Source(outcome.manifest_digest, answers, processes)


async def _restored(node: Node, source: Source) -> Seen:
    begun = time.monotonic()
    with started(node) as container:
        outcome = await node.restore(container, CHECKPOINT, source.digest)
        answers = await asyncio.to_thread(_first_answers, container)
        seconds = time.monotonic() - begun
        live = len(tree(container)) if answers is not None else 0
        return replace(judge(source, outcome, answers, live, container.text()), seconds=seconds)


def judge(source: Source, outcome: ExecutionResult, answers: tuple[str, str] | None, live: int, said: str) -> Seen:
    """Say what a container is, by what its worker answers and what runs in it, not by what the agent says alone.

    Args:
        source: what was captured.
        outcome: what the agent says.
        answers: of the worker that runs there; None if none answers.
        live: how many processes it has.
        said: the container's log.
    """
    reason = f"{outcome.reason}: {outcome.message}; the log says: {said[-500:]}"
    if answers is None:
        return Seen(DEAD, 0, reason)
    if live > source.processes:
        return Seen(DOUBLED, 0, f"{live} processes, its source had {source.processes}")
    if outcome.ok:
        is_same = answers == source.answers and said.count("SNAPSHOT_RESTORED: ") == 1
        return Seen(RESTORED, 0) if is_same else Seen(WRONG, 0, f"{answers}, not {source.answers}; {reason}")
    is_own = json.loads(answers[0])["token"] != json.loads(source.answers[0])["token"]
    return Seen(COLD if is_own and "SNAPSHOT_COLD_START: " in said else WRONG, 0, reason)


def _first_answers(container: BareContainer) -> tuple[str, str] | None:
    with suppress(AssertionError):
        found: tuple[str, str] = wait_for(lambda: _answers_or_none(container), "an answer", ANSWER_SECONDS)
        return found
    return None


def _answers_or_none(container: BareContainer) -> tuple[str, str] | None:
    with suppress(OSError, http.client.HTTPException):
        return answers_of(container)
    return None


def answers_of(container: BareContainer) -> tuple[str, str]:
    """Return who the worker says it is, and what it finds.

    Raises:
        OSError: it does not answer.
    """
    info = container.ask(container.first_process(), "/info")
    if not info:
        raise ConnectionError("no answer to GET /info")
    return info, container.post("/search", QUESTION, ANSWER_SECONDS)


def tree(container: BareContainer) -> list[int]:
    """Return the processes of the worker: all but the container's first, unless that is the worker itself."""
    first = container.first_process()
    mates = namespace_mates(first)
    below = descendants(first, mates)
    is_standby = (Path("/proc") / str(first) / "exe").readlink().name == "snapshot-standby"
    return below if is_standby else [first, *below]


@contextmanager
def started(node: Node, *options: str) -> Iterator[BareContainer]:
    """Start a container for the worker, and take it away afterwards."""
    container = node.start_as(BareContainer, *options, "--", *COMMAND)
    try:
        yield container
    finally:
        node.containers.remove(container)
        container.close()


def held(seen: Sequence[Seen]) -> bool:
    """Say whether the product's promise held."""
    counts = Counter(each.outcome for each in seen)
    lost = counts[DEAD] + counts[WRONG] + counts[DOUBLED]
    return bool(seen) and not lost and counts[RESTORED] >= WELL * len(seen)


def describe(report: Report, seen: Sequence[Seen], at_once: int, seconds: float) -> None:
    """Fill the report."""
    counts = Counter(each.outcome for each in seen)
    taken = [each.seconds for each in seen if each.outcome == RESTORED] or [0.0]
    at: Callable[[float], float] = lambda share: percentile(taken, share)  # noqa: E731
    outcomes = [counts[what] for what in (RESTORED, COLD, DEAD, WRONG, DOUBLED)]
    report.rows.append((len(seen), at_once, *outcomes, at(0.5), at(0.9), at(0.99), max(taken)))
    report.data = {
        "seconds": [round(each.seconds, 3) for each in seen],
        "others": [{"outcome": each.outcome, "reason": each.reason} for each in seen if each.outcome != RESTORED],
        "took": round(seconds, 1),
    }
    report.conclusions.append(
        f"{'held' if held(seen) else 'did not hold'}: at least {WELL:.1%} restored, none dead, wrong or doubled; "
        f"{seconds:.0f} s in all, capture included"
    )
    reasons = Counter(re.sub(r"\s+", " ", each.reason)[:200] for each in seen if each.outcome != RESTORED)
    report.conclusions += [f"{number} x {reason}" for reason, number in reasons.most_common(10)]


if __name__ == "__main__":
    main()
