"""5,000 DynamoCheckpoints and 2,000 opted-in pods at once, on a real API server: how our two processes bear it.

    python -m benchmarks.scale

For each size a control plane of its own (etcd and API server, no kubelet), our webhook and our controller as processes:
every eligible pod must be shaped, the queues must drain, memory must stay within bounds, and afterwards nothing may be
written. At the largest size, with all objects there, come two comparisons in turns: the handler alone, and pod creation
through the API server, each with the controller-runtime peer, the latter also with no webhook.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import admission
from benchmarks.support import load, our_process, peer, plot, review, testbed
from benchmarks.support.load import Processes, Sizes
from benchmarks.support.report import Report, finish, median_of, parser
from benchmarks.webhook import FIGURES, Arm, inputs, one_run
from cluster.api import ControlPlane
from cluster.builder.cache import Cache
from cluster.ports import free_ports
from kube.api import KubeClient
from kube.resources import CHECKPOINTS

Json = dict[str, Any]

VALUES = "{storage: {accessMode: podMount}, webhook: {certManager: {enabled: true}}}"
"""As for the webhook; certificates have another owner, so that all calls counted are about checkpoints and pods."""
PODS_SHARE = 0.4
MEMORY_LIMIT = 300 * 2**20
PLOT = Path(__file__).parents[1] / "docs" / "scale.svg"
CONNECTIONS = 8
MODES: tuple[admission.Mode, ...] = (("dry run", 1), ("dry run", 8))
HEADER = (
    "checkpoints",
    "pods",
    "create s",
    "drained s",
    "objects/s",
    "objects/s per core",
    "controller MiB",
    "peak",
    "webhook MiB",
    "peak ",
    "handler mean us",
    "writes at rest",
)


def main() -> None:
    """Run each size, compare at the largest, report, draw."""
    arguments = _arguments()
    programs = peer.build(Cache.from_env(os.environ))
    runs: list[Json] = []
    for checkpoints in sorted(arguments.sizes):
        sizes = Sizes(checkpoints, int(checkpoints * PODS_SHARE))
        last = checkpoints == max(arguments.sizes)
        # A fresh store each time: nothing of a former size is listed, watched or counted.
        with ControlPlane.start() as plane:
            runs.append(asyncio.run(_run(plane, sizes, programs if last else None, arguments)))
    report = _report(runs, arguments)
    finish(report, arguments)
    if arguments.save:
        _draw(runs)


def _arguments() -> argparse.Namespace:
    made = parser("thousands of DynamoCheckpoints and pods at once: time, memory, calls, latency, growth")
    made.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2500, 5000], help="numbers of checkpoints")
    made.add_argument(
        "--rounds", type=int, default=6, choices=range(1, 101), metavar="1..100", help="turns of each arm"
    )
    made.add_argument(
        "--block", type=int, default=100, choices=range(8, 1001), metavar="8..1000", help="creates a turn"
    )
    made.add_argument("--seconds", type=float, default=1.0, help="length of one measurement of a handler")
    made.add_argument("--realtime", action="store_true", help="schedule handlers and generator before all else")
    return made.parse_args()


async def _run(
    plane: ControlPlane, sizes: Sizes, programs: dict[str, Path] | None, arguments: argparse.Namespace
) -> Json:
    async with await testbed.client(plane) as kube:
        await load.prepare(plane, kube, sizes)
        with _ours(plane) as ours:
            figures = await load.run(plane, kube, ours, sizes)
            if programs:
                figures |= await _compare(kube, ours, programs, arguments)
            return figures


@contextmanager
def _ours(plane: ControlPlane) -> Iterator[Processes]:
    (health,) = free_ports(1)
    variables = {"RESTRICTED_NAMESPACE": review.NAMESPACE, "SNAPSHOT_HEALTH_PORT": str(health)}
    with (
        our_process.webhook(plane) as webhook,
        our_process.process(plane, "controller", (), health=health, values=VALUES, variables=variables) as controller,
    ):
        yield Processes(webhook, controller, health)


async def _compare(kube: KubeClient, ours: Processes, programs: dict[str, Path], arguments: argparse.Namespace) -> Json:
    """Measure the peer too: it knows the very same checkpoints, from a file."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        place = Path(folder)
        inputs(place)
        peer.inputs(place, (await kube.list(CHECKPOINTS, review.NAMESPACE)).items)
        with peer.serve(admission.PEER, programs["defaulter"], place) as other:
            handlers = await asyncio.to_thread(_handlers, ours, other, programs["loadgen"], place, arguments)
            samples = await admission.measure(kube, ours.webhook, other, arguments.rounds, arguments.block, MODES)
    return {
        "handlers": handlers,
        "creates": {f"{mode}, {at_once} at once, {arm}": turns for ((mode, at_once), arm), turns in samples.items()},
        "compared": [*_handler_words(handlers), *(admission.compared(samples, mode) for mode in MODES)],
        "table": [
            (*mode, arm, admission.typical(samples[mode, arm], 0.5), admission.typical(samples[mode, arm], 0.99))
            for mode in MODES
            for arm in admission.ARMS
        ],
    }


def _handlers(
    ours: Processes, other: peer.Peer, loadgen: Path, place: Path, arguments: argparse.Namespace
) -> dict[str, list[Json]]:
    """Measure both handlers in turns, without the API server."""
    mine = Arm("ours", ours.webhook.url, ours.webhook.pid, ours.webhook.authority, ("h1",))
    its = Arm(other.name, other.url, other.pid, other.authority, ("h1", "h2"))
    runs: dict[str, list[Json]] = {}
    for turn in range(arguments.rounds):
        arms = [(mine, "h1"), (its, "h1"), (its, "h2")]
        for arm, protocol in arms if turn % 2 == 0 else arms[::-1]:
            run = one_run(arm, loadgen, place, protocol, CONNECTIONS, arguments)
            runs.setdefault(f"{arm.name}, {protocol}", []).append({key: run[key] for key in (*FIGURES, "requests")})
    return runs


def _handler_words(handlers: dict[str, list[Json]]) -> Iterator[str]:
    ours = handlers["ours, h1"]
    for name, runs in handlers.items():
        rate, p99 = median_of(runs, "requests_per_second"), median_of(runs, "p99_us")
        words = f"handler, {CONNECTIONS} connections, {name}: {rate:,.0f} requests/s, p99 {p99:,.0f} us"
        if runs is not ours:
            pairs = list(zip(ours, runs, strict=True))
            rates, tails = (
                statistics.median(mine[key] / its[key] for mine, its in pairs)
                for key in ("requests_per_second", "p99_us")
            )
            words += f"; ours is x{rates:.2f} in rate and x{tails:.2f} in p99"
        yield words


def _report(runs: list[Json], arguments: argparse.Namespace) -> Report:
    sizes = " ".join(map(str, arguments.sizes))
    report = Report("scale", f"python -m benchmarks.scale --sizes {sizes} --rounds {arguments.rounds}", HEADER)
    report.rows = [_row(run) for run in runs]
    first, last = runs[0], runs[-1]
    times = _objects(last) / _objects(first)
    clock, cpu = (last[key] / first[key] for key in ("drain_seconds", "controller_cpu_seconds"))
    report.conclusions = [
        f"{times:.1f} times the objects took {clock:.1f} times the time and {cpu:.1f} times the controller's CPU time",
        f"every eligible pod of each size is shaped: of the largest {json.dumps(last['codes'])}",
        "calls of the largest run: " + ", ".join(f"{key} {n:,}" for key, n in list(last["calls"].items())[:12]),
        f"calls in {load.REST_SECONDS:.0f} s at rest: {json.dumps(last['calls_at_rest'])}",
        *_broken_promises(runs),
        *last.get("compared", ()),
    ]
    report.data["runs"] = runs
    return report


def _row(run: Json) -> tuple[object, ...]:
    mib = [run[f"{name}_{kind}_bytes"] / 2**20 for name in ("controller", "webhook") for kind in ("rss", "peak")]
    objects = _objects(run)
    return (
        run["checkpoints"],
        run["pods"],
        run["create_seconds"],
        run["drain_seconds"],
        objects / run["drain_seconds"],
        objects / (run["controller_cpu_seconds"] + run["webhook_cpu_seconds"]),
        *mib,
        run["handler_mean_seconds"] * 1e6,
        run["writes_at_rest"],
    )


def _objects(run: Json) -> int:
    return int(run["checkpoints"] + run["pods"])


def _broken_promises(runs: list[Json]) -> Iterator[str]:
    broken = [
        f"NOT KEPT: {name} had {run[f'{name}_peak_bytes'] / 2**20:.0f} MiB at {run['checkpoints']:,} checkpoints"
        for run in runs
        for name in ("controller", "webhook")
        if run[f"{name}_peak_bytes"] > MEMORY_LIMIT
    ]
    broken += [
        f"NOT KEPT: {run['writes_at_rest']} writes at rest at {run['checkpoints']:,} checkpoints"
        for run in runs
        if run["writes_at_rest"]
    ]
    limit = f"{MEMORY_LIMIT / 2**20:.0f} MiB"
    yield from broken or [f"both processes stayed below {limit}, and nothing was written at rest but the Lease"]


def _draw(runs: list[Json]) -> None:
    xs = [run["checkpoints"] for run in runs]
    label = "DynamoCheckpoints, with 2 pods for 5 of them"
    memory = {name: [run[f"{name}_peak_bytes"] / 2**20 for run in runs] for name in ("controller", "webhook")}
    cpu = {
        name: [run[f"{name}_cpu_seconds"] / _objects(run) * 1e3 for run in runs] for name in ("controller", "webhook")
    }
    charts = [
        plot.Chart("Seconds until all is done", label, xs, {"drained": [run["drain_seconds"] for run in runs]}),
        plot.Chart("CPU milliseconds an object", label, xs, cpu),
        plot.Chart("Peak memory, MiB", label, xs, memory, limit=300, limit_label="promised: 300"),
    ]
    plot.write(charts, PLOT)
    print(f"drawn: {PLOT}", file=sys.stderr)


if __name__ == "__main__":
    main()
