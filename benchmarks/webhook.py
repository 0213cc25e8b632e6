"""Our webhook against two in Go: the same review, the same pod in the end, one core each, over TLS keep-alive.

    python -m benchmarks.webhook

One peer is a defaulter of controller-runtime, as most projects write their webhooks; the other is as little Go as will
do, a net/http handler that builds its operations by hand. The servers take turns on the first core (A B C A B C ...),
so that a drift of the machine hits all alike; the load generator has the second core to itself. Figures are medians
over the rounds.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpatch

from benchmarks.support import machine, our_process, peer, review, testbed
from benchmarks.support.report import Report, finish, median_of, parser
from cluster.api import ControlPlane
from cluster.builder.cache import Cache

OURS, DEFAULTER, MINIMAL = "ours", "controller-runtime", "net/http"
QUERY = "?timeout=2s"
"""The API server adds its time-out to the address."""
SATURATED = 0.9
"""Share of its core above which the generator may be what limits the rate."""
FIGURES = ("requests_per_second", "p50_us", "p99_us", "server_cpu_us")
HEADER = ("server", "protocol", "connections", "requests/s", "p50 us", "p99 us", "CPU us/request", "generator CPU")


@dataclass
class Arm:
    """One server, and what was measured of it: runs by protocol and number of connections."""

    name: str
    url: str
    pid: int
    authority: Path
    protocols: tuple[str, ...]
    runs: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)


def main() -> None:
    """Build, start, measure, compare, report."""
    arguments = _arguments()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the server, one for the load generator")
    programs = peer.build(Cache.from_env(os.environ))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, ExitStack() as stack:
        place = Path(folder)
        inputs(place)
        plane = stack.enter_context(ControlPlane.start())
        prefix = pinned(cores()[0], realtime=arguments.realtime)
        arms = [
            stack.enter_context(_ours(plane, prefix)),
            stack.enter_context(_peer(DEFAULTER, programs["defaulter"], place, prefix)),
            stack.enter_context(_peer(MINIMAL, programs["webhook"], place, prefix, "-json", arguments.peer_json)),
        ]
        _measure(arms, programs["loadgen"], place, arguments)
    finish(_report(arms, arguments), arguments)


def _arguments() -> argparse.Namespace:
    made = parser("requests per second and latency of our webhook against two in Go, per core")
    made.add_argument("--rounds", type=int, default=9, choices=range(1, 51), metavar="1..50", help="turns of each arm")
    made.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    made.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32], help="numbers of connections")
    made.add_argument("--peer-json", choices=("std", "sigs"), default="std", help="the net/http peer's JSON library")
    made.add_argument("--realtime", action="store_true", help="schedule both arms before all else: for a busy machine")
    return made.parse_args()


def inputs(place: Path) -> None:
    """Write the files that generator and peers read."""
    (place / "review.json").write_bytes(review.review())
    peer.inputs(place, [review.checkpoint()])


def cores() -> tuple[str, str]:
    """Return the servers' core and the generator's."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    return str(first), str(second)


def pinned(core: str, *, realtime: bool) -> list[str]:
    """Return the words before a command line that keep a process on its core, and other work off it."""
    return ["taskset", "--cpu-list", core, *(["chrt", "--rr", "1"] if realtime else [])]


@contextmanager
def _ours(plane: ControlPlane, prefix: list[str]) -> Iterator[Arm]:
    """Run the real process, which watches its checkpoints on a real API server."""
    testbed.prepare_review(plane)
    with our_process.webhook(plane, prefix=prefix) as started:
        yield Arm(OURS, started.url, started.pid, started.files.authority, ("h1",))


@contextmanager
def _peer(name: str, program: Path, place: Path, prefix: list[str], *flags: str) -> Iterator[Arm]:
    with peer.serve(name, program, place, prefix=prefix, flags=flags) as started:
        yield Arm(name, started.url, started.pid, started.authority, ("h1", "h2"))


def _measure(arms: list[Arm], loadgen: Path, place: Path, arguments: argparse.Namespace) -> None:
    for turn in range(arguments.rounds):
        for connections in arguments.connections:
            for protocol in ("h1", "h2"):
                for arm in arms if turn % 2 == 0 else reversed(arms):
                    if protocol in arm.protocols:
                        print(f"round {turn + 1}: {arm.name}, {protocol}, {connections} connections", file=sys.stderr)
                        run = one_run(arm, loadgen, place, protocol, connections, arguments)
                        arm.runs.setdefault((protocol, connections), []).append(run)


def one_run(
    arm: Arm, loadgen: Path, place: Path, protocol: str, connections: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return what the generator measured of one arm; ``seconds`` and ``realtime`` come from *arguments*."""
    argv = [
        *pinned(cores()[1], realtime=arguments.realtime),
        str(loadgen),
        "-url",
        f"{arm.url}{QUERY}",
        "-ca",
        str(arm.authority),
    ]
    argv += ["-body", str(place / "review.json"), "-protocol", protocol, "-connections", str(connections)]
    before = machine.cpu_seconds(arm.pid)
    done = subprocess.run(
        [*argv, "-warmup", "300ms", "-duration", f"{arguments.seconds}s"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{arm.name}: {done.stderr}")
    run: dict[str, Any] = json.loads(done.stdout)
    run["server_cpu_us"] = (machine.cpu_seconds(arm.pid) - before) / run["sent"] * 1e6
    return run


def _report(arms: list[Arm], arguments: argparse.Namespace) -> Report:
    report = Report("webhook", _command(arguments), HEADER)
    for arm in arms:
        for (protocol, connections), runs in sorted(arm.runs.items()):
            figures = [median_of(runs, key) for key in FIGURES]
            report.rows.append(
                (arm.name, protocol, connections, *map(round, figures), median_of(runs, "generator_cpu"))
            )
    report.conclusions = [_agreement(arms), *_ratios(arms), *_limits(arms)]
    report.data = {arm.name: [_without_patch(run) for runs in arm.runs.values() for run in runs] for arm in arms}
    report.data["request_bytes"] = len(review.review())
    return report


def _command(arguments: argparse.Namespace) -> str:
    options = f"--rounds {arguments.rounds} --seconds {arguments.seconds:g}"
    return f"python -m benchmarks.webhook {options}{' --realtime' if arguments.realtime else ''}"


def _ratios(arms: list[Arm]) -> Iterator[str]:
    """Return ours over the peer's, as medians of the ratios of each round: what disturbs a round disturbs both arms."""
    ours, *others = arms
    for other in others:
        for (protocol, connections), runs in sorted(other.runs.items()):
            pairs = list(zip(ours.runs["h1", connections], runs, strict=True))
            rate, p50, p99, cpu = (statistics.median(mine[key] / its[key] for mine, its in pairs) for key in FIGURES)
            yield (
                f"{connections:>3} connections, ours over h1 against {other.name} over {protocol}: "
                f"rate x{rate:.2f}, p50 x{p50:.2f}, p99 x{p99:.2f}, CPU per request x{cpu:.2f}"
            )


def _limits(arms: list[Arm]) -> Iterator[str]:
    yield "ours speaks HTTP/1.1 only, so it has no h2 rows; the API server falls back to it by ALPN"
    for arm in arms:
        for (protocol, connections), runs in arm.runs.items():
            if median_of(runs, "generator_cpu") > SATURATED:
                yield f"the generator limits {arm.name}, {protocol}, {connections} connections: a lower bound"


def _agreement(arms: list[Arm]) -> str:
    """Say whether all arms' patches make the same pod of the one sent."""
    pods = {arm.name: {_patched(run["patch"]) for runs in arm.runs.values() for run in runs} for arm in arms}
    if len(set.union(*pods.values())) != 1:
        sys.exit(
            f"the arms disagree: {json.dumps({arm.name: json.loads(_any(arm)['patch']) for arm in arms}, indent=1)}"
        )
    made = ", ".join(f"{arm.name} by {_any(arm)['patch_operations']} operations" for arm in arms)
    return f"all answers of all arms make the very same pod, each with the uid that was asked: {made}"


def _any(arm: Arm) -> dict[str, Any]:
    return next(iter(arm.runs.values()))[0]


def _patched(patch: str) -> str:
    pod = jsonpatch.apply_patch(review.pod(), json.loads(patch))
    return hashlib.sha256(json.dumps(pod, sort_keys=True).encode()).hexdigest()


def _without_patch(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key != "patch"}


if __name__ == "__main__":
    main()
