"""What our webhook adds to the creation of a pod, through a real API server.

    python -m benchmarks.admission

Three arms in one run, in turns: no webhook installed; installed, but the pod does not opt in (the API server then
never calls it); installed, and the pod is shaped for restore. Dry-run and real creates, one and eight at a time.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks import machine, our_process, review, testbed
from benchmarks.report import Report, finish, parser, percentile
from cluster.api import ControlPlane
from contract import keys
from kube.resources import MUTATING_WEBHOOK_CONFIGURATIONS, PODS
from kube.seam import Kube

Json = dict[str, Any]
Mode = tuple[str, int]
"""``dry run`` or ``real``, and how many creates are under way at once."""

ABSENT, UNMATCHED, SHAPED = "no webhook", "installed, not opted in", "installed, shaped"
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
    with ControlPlane.start() as plane:
        report = asyncio.run(_run(plane, arguments))
    finish(report, arguments)


async def _run(plane: ControlPlane, arguments: argparse.Namespace) -> Report:
    async with await testbed.client(plane) as kube:
        testbed.prepare_review(plane)
        with our_process.webhook(plane) as ours:
            samples = await _measure(kube, ours, arguments)
            report = _report(samples, arguments)
            report.conclusions.append(_where_it_goes(plane, ours))
            report.data["webhook_rss_mib"] = round(machine.rss_bytes(ours.pid) / 2**20, 1)
    return report


def _where_it_goes(plane: ControlPlane, ours: our_process.Webhook) -> str:
    """What the API server waited for the webhook, and what the webhook itself needed, on average."""
    server = plane.kubectl("get", "--raw", "/metrics")
    waited = testbed.mean(server, "apiserver_admission_webhook_admission_duration_seconds", our_process.WEBHOOK)
    needed = testbed.mean(ours.metrics(), "snapshot_admission_decision_seconds")
    return (
        f"on average the API server waited {waited * 1e3:.2f} ms for a call, of which the webhook computed for "
        f"{needed * 1e3:.2f} ms; the rest of what is added is the API server's own work on review and patch"
    )


async def _measure(kube: Kube, ours: our_process.Webhook, arguments: argparse.Namespace) -> Samples:
    samples: Samples = defaultdict(list)
    for turn in range(arguments.rounds):
        print(f"round {turn + 1} of {arguments.rounds}", file=sys.stderr)
        # First without, then with; and the other way round in the next turn.
        for installed in (False, True) if turn % 2 == 0 else (True, False):
            arms = (UNMATCHED, SHAPED) if installed else (ABSENT,)
            async with _configuration(kube, ours) if installed else _nothing():
                for arm in arms:
                    for mode in MODES:
                        samples[mode, arm].append(await _block(kube, arm, mode, arguments.block))
    return samples


@asynccontextmanager
async def _configuration(kube: Kube, ours: our_process.Webhook) -> AsyncIterator[None]:
    """The webhook's configuration in force, from the first create in the block to the last."""
    await kube.create(MUTATING_WEBHOOK_CONFIGURATIONS, ours.configuration(CONFIGURATION))
    await _in_force(kube, wanted=True)
    yield
    await kube.delete(MUTATING_WEBHOOK_CONFIGURATIONS, CONFIGURATION)
    await _in_force(kube, wanted=False)


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def _in_force(kube: Kube, *, wanted: bool) -> None:
    """Several creates in a row must agree: the server learns of the change by a watch of its own."""
    agreed = 0
    for _ in range(1000):
        made = await kube.create(PODS, _pod(opted_in=True), review.NAMESPACE, dry_run=True)
        agreed = agreed + 1 if _is_shaped(made) == wanted else 0
        if agreed == 5:
            return
        await asyncio.sleep(0.01)
    sys.exit(f"the webhook is {'not ' if wanted else 'still '}called 10 s after its configuration changed")


async def _block(kube: Kube, arm: str, mode: Mode, count: int) -> list[float]:
    """Milliseconds of each create."""
    pod = _pod(opted_in=arm != UNMATCHED)
    dry = mode[0] == "dry run"

    async def create(_: int) -> float:
        start = time.perf_counter()
        made = await kube.create(PODS, pod, review.NAMESPACE, dry_run=dry)
        elapsed = time.perf_counter() - start
        if _is_shaped(made) != (arm == SHAPED):
            sys.exit(f"arm {arm!r}: the pod is {'' if _is_shaped(made) else 'not '}shaped")
        return elapsed * 1e3

    return await testbed.in_parallel(mode[1], count, create)


def _pod(*, opted_in: bool) -> Json:
    """The review's pod as a client sends it: without what the server adds."""
    pod = review.pod()
    labels = pod["metadata"]["labels"]
    if not opted_in:
        del labels[keys.LABEL_RESTORE]
    annotations = pod["metadata"]["annotations"]
    pod["metadata"] = {"generateName": "worker-", "labels": labels, "annotations": annotations}
    return pod


def _is_shaped(pod: Json) -> bool:
    annotations = pod["metadata"].get("annotations") or {}
    return annotations.get(keys.ANN_ADMISSION) == "restore-shaped"


def _typical(turns: list[list[float]], share: float) -> float:
    """The median over the turns of each turn's percentile: one disturbed turn does not decide."""
    return statistics.median(percentile(turn, share) for turn in turns)


def _report(samples: Samples, arguments: argparse.Namespace) -> Report:
    report = Report("admission", f"python -m benchmarks.admission --rounds {arguments.rounds}", HEADER)
    for mode in MODES:
        base = samples[mode, ABSENT]
        for arm in (ABSENT, UNMATCHED, SHAPED):
            own = samples[mode, arm]
            figures = [_typical(own, share) for share in (0.5, 0.99)]
            added = [mine - _typical(base, share) for mine, share in zip(figures, (0.5, 0.99), strict=True)]
            report.rows.append((mode[0], mode[1], arm, sum(map(len, own)), *figures, *added))
            report.data[f"{mode[0]}, {mode[1]} at once, {arm}"] = [[round(one, 3) for one in turn] for turn in own]
        ratio = _typical(samples[mode, SHAPED], 0.5) / _typical(base, 0.5)
        report.conclusions.append(
            f"{mode[0]}, {mode[1]} at once: a shaped pod takes x{ratio:.2f} the time at the median"
        )
    report.conclusions.append("every pod of the third arm came back shaped, none of the others did")
    return report


if __name__ == "__main__":
    main()
