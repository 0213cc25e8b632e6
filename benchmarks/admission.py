"""What our webhook adds to the creation of a pod, through a real API server.

    python -m benchmarks.admission

Four arms in one run, in turns: no webhook installed; installed, but the pod does not opt in (the API server then never
calls it); installed, and the pod is shaped for restore; the same by the peer, a defaulter of controller-runtime.
Dry-run and real creates, one and eight at a time.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.support import machine, our_process, peer, review, testbed
from benchmarks.support.report import Report, finish, parser, percentile
from cluster.api import ControlPlane
from cluster.builder.cache import Cache
from contract.api import keys
from kube.api import KubeClient
from kube.resources import MUTATING_WEBHOOK_CONFIGURATIONS, PODS

Json = dict[str, Any]
Mode = tuple[str, int]
"""``dry run`` or ``real``, and how many creates are under way at once."""

ABSENT, UNMATCHED, SHAPED, PEER = "no webhook", "installed, not opted in", "installed, shaped", "controller-runtime"
ARMS = (ABSENT, UNMATCHED, SHAPED, PEER)
MODES: tuple[Mode, ...] = (("dry run", 1), ("dry run", 8), ("real", 1), ("real", 8))
CONFIGURATION = "benchmark"
HEADER = ("creates", "at once", "arm", "samples", "p50 ms", "p99 ms", "added p50 ms", "added p99 ms")
Samples = dict[tuple[Mode, str], list[list[float]]]
"""Milliseconds, by turn."""


def main() -> None:
    """Start everything, measure, report."""
    made = parser("latency that admission adds to pod creation")
    made.add_argument(
        "--rounds", type=int, default=6, choices=range(1, 101), metavar="1..100", help="turns of each arm"
    )
    made.add_argument(
        "--block", type=int, default=100, choices=range(8, 1001), metavar="8..1000", help="creates a turn"
    )
    arguments = made.parse_args()
    program = peer.build(Cache.from_env(os.environ))["defaulter"]
    with ControlPlane.start() as plane:
        report = asyncio.run(_run(plane, program, arguments))
    finish(report, arguments)


async def _run(plane: ControlPlane, program: Path, arguments: argparse.Namespace) -> Report:
    async with await testbed.client(plane) as kube:
        testbed.prepare_review(plane)
        with our_process.webhook(plane) as ours, tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            peer.inputs(Path(folder), [review.checkpoint()])
            with peer.serve(PEER, program, Path(folder)) as other:
                samples = await measure(kube, ours, other, arguments.rounds, arguments.block)
            report = _report(samples, arguments)
            report.conclusions.append(_where_it_goes(plane, ours))
            report.data["webhook_rss_mib"] = round(machine.rss_bytes(ours.pid) / 2**20, 1)
    return report


def _where_it_goes(plane: ControlPlane, ours: our_process.Webhook) -> str:
    """Say how long the API server waited for the webhook, and what the webhook itself needed, on average."""
    server = plane.kubectl("get", "--raw", "/metrics")
    waited = testbed.mean(server, "apiserver_admission_webhook_admission_duration_seconds", our_process.WEBHOOK)
    needed = testbed.mean(ours.metrics(), "snapshot_admission_decision_seconds")
    return (
        f"on average the API server waited {waited * 1e3:.2f} ms for a call, of which the webhook computed for "
        f"{needed * 1e3:.2f} ms; the rest of what is added is the API server's own work on review and patch"
    )


async def measure(
    kube: KubeClient,
    ours: our_process.Webhook,
    other: peer.Peer,
    rounds: int,
    block: int,
    modes: Sequence[Mode] = MODES,
) -> Samples:
    """Measure the milliseconds of *block* creates for each arm and mode in each of *rounds* turns."""
    samples: Samples = defaultdict(list)
    for turn in range(rounds):
        print(f"round {turn + 1} of {rounds}", file=sys.stderr)
        # Each turn the other way round, so that a drift of the machine hits all arms alike.
        for arms, server in _order(turn, ours, other):
            async with _configuration(kube, server) if server else _nothing():
                for arm in arms:
                    for mode in modes:
                        samples[mode, arm].append(await _block(kube, arm, mode, block))
    return samples


def _order(
    turn: int, ours: our_process.Webhook, other: peer.Peer
) -> list[tuple[tuple[str, ...], our_process.Webhook | peer.Peer | None]]:
    order = [((ABSENT,), None), ((UNMATCHED, SHAPED), ours), ((PEER,), other)]
    return order if turn % 2 == 0 else order[::-1]


@asynccontextmanager
async def _configuration(kube: KubeClient, server: our_process.Webhook | peer.Peer) -> AsyncIterator[None]:
    """Keep a webhook's configuration in force, from the first create in the block to the last."""
    body = our_process.configuration(CONFIGURATION, server.url, server.authority)
    await kube.create(MUTATING_WEBHOOK_CONFIGURATIONS, body)
    await in_force(kube, wanted=True)
    yield
    await kube.delete(MUTATING_WEBHOOK_CONFIGURATIONS, CONFIGURATION)
    await in_force(kube, wanted=False)


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def in_force(kube: KubeClient, *, wanted: bool) -> None:
    """Wait until pods are shaped, or are not.

    Several creates in a row must agree: the server learns of the change by a watch of its own.
    """
    agreed = 0
    for _ in range(1000):
        made = await kube.create(PODS, _pod(opted_in=True), review.NAMESPACE, dry_run=True)
        agreed = agreed + 1 if is_shaped(made) == wanted else 0
        if agreed == 5:
            return
        await asyncio.sleep(0.01)
    sys.exit(f"the webhook is {'not ' if wanted else 'still '}called 10 s after its configuration changed")


async def _block(kube: KubeClient, arm: str, mode: Mode, count: int) -> list[float]:
    """Measure the milliseconds of each create."""
    pod = _pod(opted_in=arm != UNMATCHED)
    dry = mode[0] == "dry run"

    async def create(_: int) -> float:
        start = time.perf_counter()
        made = await kube.create(PODS, pod, review.NAMESPACE, dry_run=dry)
        elapsed = time.perf_counter() - start
        if is_shaped(made) != (arm in (SHAPED, PEER)):
            sys.exit(f"arm {arm!r}: the pod is {'' if is_shaped(made) else 'not '}shaped")
        return elapsed * 1e3

    return await testbed.in_parallel(mode[1], count, create)


def _pod(*, opted_in: bool) -> Json:
    pod = review.pod_to_create()
    if not opted_in:
        del pod["metadata"]["labels"][keys.LABEL_RESTORE]
    return pod


def is_shaped(pod: Json) -> bool:
    """Say whether admission made a restoring pod of it."""
    annotations = pod["metadata"].get("annotations") or {}
    return annotations.get(keys.ANN_ADMISSION) == "restore-shaped"


def typical(turns: list[list[float]], share: float) -> float:
    """Return the median over the turns of each turn's percentile: one disturbed turn does not decide."""
    return statistics.median(percentile(turn, share) for turn in turns)


def _report(samples: Samples, arguments: argparse.Namespace) -> Report:
    report = Report("admission", f"python -m benchmarks.admission --rounds {arguments.rounds}", HEADER)
    for mode in MODES:
        base = samples[mode, ABSENT]
        for arm in ARMS:
            own = samples[mode, arm]
            figures = [typical(own, share) for share in (0.5, 0.99)]
            added = [mine - typical(base, share) for mine, share in zip(figures, (0.5, 0.99), strict=True)]
            report.rows.append((mode[0], mode[1], arm, sum(map(len, own)), *figures, *added))
            report.data[f"{mode[0]}, {mode[1]} at once, {arm}"] = [[round(one, 3) for one in turn] for turn in own]
        report.conclusions.append(compared(samples, mode))
    report.conclusions.append("every pod of the last two arms came back shaped, none of the others did")
    return report


def compared(samples: Samples, mode: Mode) -> str:
    """Compare ours with no webhook and with the peer, in words."""
    ours, none, other = (
        {share: typical(samples[mode, arm], share) for share in (0.5, 0.99)} for arm in (SHAPED, ABSENT, PEER)
    )
    middle, tail = (f"x{ours[share] / none[share]:.2f}" for share in (0.5, 0.99))
    beside, tails = (f"x{ours[share] / other[share]:.2f}" for share in (0.5, 0.99))
    return (
        f"{mode[0]}, {mode[1]} at once: a shaped pod takes {middle} the time of none at the median, {tail} at p99; "
        f"against the peer {beside} and {tails}"
    )


if __name__ == "__main__":
    main()
