"""Restore of a worker with much memory: copied by criu, filled by criu's own server, filled by ours.

    python -m benchmarks.memory --gib 6 --next

With ``--part`` the first answer is one for which the worker touches so many MiB, in blocks far apart from one another.
With ``--next`` the next criu's ways are measured in the same turns: its buffered copy, its direct one, its own server.

As root, on a bare container: no Kubernetes in the way. One worker is captured once, and asked that in the proof; the
arms take turns restoring that artifact, one of them without its hot set. Measured are the agent's whole restore to the
first answer, and to an answer for which the worker has read all of its memory. The first round is not counted: it reads
the artifact for its checksums, and warms the page cache.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.criu.driver import Criu, CriuRestore, EnteringCriu
from agent.criu.page_server import SOCKET, PageServer
from agent.criu.runner import NamespaceRun
from agent.executor.engine import NodeEngine
from agent.executor.environment import NodeEnvironment
from artifact.hot_set import HOT_SET
from benchmarks.support.report import Report, finish, parser
from contract.api import control_files
from contract.api.reports import ReportPhase
from contract.pods.probe import Probe
from images.debian import EXPERIMENTAL
from tests.support.fixtures.bare_container import PYTHON, BareContainer, node_folder, wait_for
from tests.support.fixtures.engine import Node
from tests.support.fixtures.tools import make_criu, unpack_tools

COPIED, CRIU_LAZY, FILLED = "copied by criu", "criu lazy-pages", "page server"
NO_HOT_SET = "page server, no hot set"
NEXT_COPIED, NEXT_DIRECT, NEXT_LAZY = "copied by next criu", "copied directly by next criu", "next criu lazy-pages"
"""The criu after the one that we ship, which reads images past the page cache if asked to (``--image-io-mode``)."""
HEADER = ("arm", "runs", "first answer s", "fastest", "slowest", "all memory read s", "slowest read")
THREADS = 100
READ_SECONDS = 300.0
WORKER = """
import hashlib, http.server, os, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk
seed = os.urandom(1 << 20)
blocks = [i.to_bytes(8, "little") + seed[8:] for i in range(int(sys.argv[1]))]
for _ in range(int(sys.argv[2])):
    threading.Thread(target=threading.Event().wait, daemon=True).start()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        part = int(sys.argv[3])
        chosen = blocks if self.path == "/all" else blocks[:: max(1, len(blocks) // (part or 3))]
        sum_of = hashlib.blake2b(digest_size=16)
        for block in chosen:
            sum_of.update(block if self.path == "/all" else block[::4096] if part else block[:4096])
        body = sum_of.hexdigest().encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("warm", flush=True)
snapshot_sdk.quiesce()
threading.Event().wait()
"""


class CriuServer(PageServer):
    """``criu lazy-pages`` in place of ours; standby knows nothing of it, so a benchmark is all that it is for."""

    def is_guarded(self, seconds: float) -> bool:
        """Let the worker run at once, as criu does."""
        return seconds > 0

    def await_filled(self, seconds: float) -> str:
        """Wait for its end."""
        self.process.wait(seconds)
        return ""


@dataclass(frozen=True)
class LazyCriu(EnteringCriu):
    """The real criu with its own server."""

    def _page_server(self, request: CriuRestore, run: NamespaceRun) -> tuple[PageServer | None, str]:
        library = self.tree / "lib"
        loader = [str(library / "ld.so"), "--library-path", str(library), str(self.tree / "bin/criu")]
        work = Path(f"/proc/self/fd/{run.work_fd}").readlink()
        process = subprocess.Popen(
            [*loader, "lazy-pages", "-D", f"/proc/self/fd/{request.images}", "-W", str(work), "-o", "lazy.log"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[request.images],
        )
        wait_for((work / SOCKET).exists, "criu's lazy-pages socket", 10)
        return CriuServer(process, os.dup(run.work_fd)), ""


@dataclass(frozen=True)
class DirectCriu(EnteringCriu):
    """A criu that reads images past the page cache."""

    def _restore_argv(self, request: CriuRestore, run: NamespaceRun, *, lazy: bool) -> list[str]:
        return [*super()._restore_argv(request, run, lazy=lazy), "--image-io-mode", "direct"]


def main() -> None:
    """Capture one worker, restore it in turns, report."""
    made = parser("restore to first answer: copied by criu, filled by criu's own server, filled by ours")
    made.add_argument("--gib", type=float, default=4, help="memory of the worker")
    made.add_argument(
        "--rounds", type=int, default=4, choices=range(1, 51), metavar="1..50", help="restores of each arm"
    )
    made.add_argument("--part", type=int, default=0, help="MiB that it touches for its first answer; 0: three pages")
    made.add_argument("--next", action="store_true", help="measure the next criu too, from Debian's experimental suite")
    arguments = made.parse_args()
    options = f"--gib {arguments.gib:g} --rounds {arguments.rounds}"
    options += f"{f' --part {arguments.part}' if arguments.part else ''}{' --next' if arguments.next else ''}"
    report = Report("memory-part" if arguments.part else "memory", f"python -m benchmarks.memory {options}", HEADER)
    with node_folder() as folder:
        node = Node(folder, unpack_tools(folder))
        newer = replace(_criu(node), tree=make_criu(folder / "next", EXPERIMENTAL)) if arguments.next else None
        report.data["criu"] = [one.version() for one in (_criu(node), newer) if one is not None]
        with node.as_agent():
            arms = _arms(node.environment, newer)
            command = ("--", PYTHON, "-c", WORKER, str(round(arguments.gib * 1024)), str(THREADS), str(arguments.part))
            figures = asyncio.run(_measure(node, arms, command, arguments.rounds))
    _describe(report, figures)
    finish(report, arguments)


def _criu(node: Node) -> EnteringCriu:
    criu = node.environment.criu
    assert isinstance(criu, EnteringCriu)
    return criu


def _arms(usual: NodeEnvironment, newer: EnteringCriu | None) -> dict[str, NodeEnvironment]:
    """Return what each way of restoring works with."""
    copying = replace(usual, lazy_pages=False)
    arms = {COPIED: copying, CRIU_LAZY: replace(usual, criu=_as(LazyCriu, usual.criu))}
    arms |= {NO_HOT_SET: usual, FILLED: usual}
    if newer is not None:
        arms |= {
            NEXT_COPIED: replace(copying, criu=newer),
            NEXT_DIRECT: replace(copying, criu=_as(DirectCriu, newer)),
            NEXT_LAZY: replace(usual, criu=_as(LazyCriu, newer)),
        }
    return arms


def _as(kind: type[EnteringCriu], criu: Criu) -> EnteringCriu:
    assert isinstance(criu, EnteringCriu)
    return kind(criu.tree, criu.work, criu.options)


async def _measure(
    node: Node, arms: dict[str, NodeEnvironment], command: tuple[str, ...], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    digest, expected = await captured_worker(node, command)
    figures: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    for turn in range(rounds + 1):
        for arm in list(arms) if turn % 2 else list(reversed(arms)):
            node.engine = NodeEngine(arms[arm])
            _show_hot_set(node, shown=arm != NO_HOT_SET)
            with container(node, command) as target:
                found = await restored(node, target, digest, expected)
            print(f"round {turn}: {arm}: {found.first:.3f} s, {found.everything:.3f} s", file=sys.stderr)
            if turn:
                figures[arm].append((found.first, found.everything))
    return figures


async def captured_worker(node: Node, command: tuple[str, ...]) -> tuple[str, tuple[str, str]]:
    """Capture a worker; return the artifact's digest and the two answers of the source."""
    source = node.start_as(BareContainer, "--capture", *command)
    wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, "the worker", 300)
    expected = source.get(), _all(source)
    captured = await node.capture(source, "memory", probe=Probe("HTTP", "127.0.0.1", 8000, timeout=READ_SECONDS))
    if not captured.ok:
        sys.exit(captured.message)
    return captured.manifest_digest, expected


def _show_hot_set(node: Node, *, shown: bool) -> None:
    (file,) = node.store.rglob(f"{HOT_SET}*")
    file.rename(file.with_name(HOT_SET if shown else f"{HOT_SET}-away"))


@contextmanager
def container(node: Node, command: tuple[str, ...]) -> Iterator[BareContainer]:
    """Have a container that waits for its restore."""
    target = node.start_as(BareContainer, *command)
    target.init()
    yield target
    target.close()
    node.containers.remove(target)


@dataclass(frozen=True)
class Times:
    """Of one restore, in seconds from its start; of *verify*, how long it took."""

    first: float
    everything: float
    verify: float


async def restored(node: Node, target: BareContainer, digest: str, expected: tuple[str, str]) -> Times:
    """Restore a worker and ask it for both answers, which must be those of the source."""
    begin = time.monotonic()
    outcome = await node.restore(target, "memory", digest)
    if not outcome.ok:
        sys.exit(f"{outcome.reason}: {outcome.message}")
    first = wait_for(target.get, "the first answer")
    answered = time.monotonic() - begin
    everything = _all(target)
    if (first, everything) != expected:
        sys.exit("a restored worker answers otherwise than its source")
    verified = max(step.seconds for step in outcome.steps if step.phase is ReportPhase.VERIFY)
    return Times(answered, time.monotonic() - begin, verified)


def _all(container: BareContainer) -> str:
    """Ask for a sum over all of the worker's memory."""
    return str(container.post("/all", seconds=READ_SECONDS))


def _describe(report: Report, figures: dict[str, list[tuple[float, float]]]) -> None:
    for arm, measured in figures.items():
        first, everything = zip(*measured, strict=True)
        median = statistics.median(first)
        report.rows.append(
            (arm, len(first), median, min(first), max(first), statistics.median(everything), max(everything))
        )
        report.data[arm] = {"first": [round(one, 3) for one in first], "all": [round(one, 3) for one in everything]}
    report.conclusions += [_against(arm, report.data[arm], report.data[FILLED]) for arm in figures if arm != FILLED]
    report.conclusions.append("every answer equals the source's")


def _against(arm: str, peer: dict[str, list[float]], ours: dict[str, list[float]]) -> str:
    first, everything = (statistics.median(peer[what]) / statistics.median(ours[what]) for what in ("first", "all"))
    worst = min(peer["first"]) / max(ours["first"])
    return (
        f"page server against {arm}: first answer {first:.1f} times as fast by medians (slowest against fastest: "
        f"{worst:.1f} times); all memory read {everything:.1f} times"
    )


if __name__ == "__main__":
    main()
