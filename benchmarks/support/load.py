"""Thousands of objects at once on a real API server, our two processes at work on them, and what that took.

The order of things: a tenth of the checkpoints is Ready beforehand, so that pods can be shaped; then the others and
all pods are created together. Nine pods in ten name a Ready checkpoint, the tenth names one that is not.
"""

import asyncio
import itertools
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks import admission
from benchmarks.controller import checkpoint as one_of_many
from benchmarks.support import machine, our_process, review, testbed
from cluster.api import ControlPlane
from contract.api import keys
from contract.api.states import Admission, Phase
from controller.checkpoints.diagnose.pods import POD_PATIENCE
from kube.api import KubeClient
from kube.resources import CHECKPOINTS, MUTATING_WEBHOOK_CONFIGURATIONS, PODS

Json = dict[str, Any]

AT_ONCE = 16
"""Creates under way at a time: as many clients as would do that in one moment, and what two cores bear."""
READY_SHARE = 10
UNREADY_SHARE = 10
LIMIT_SECONDS = 900.0
LOOK_SECONDS = 1.0
REST_SECONDS = 10.0
QUIET_SECONDS = 300.0
"""Longest wait for the last Event to be written."""
NO_PODS_SECONDS = POD_PATIENCE + 5
"""Nothing makes pods of Jobs here, and the controller says so of each after a while: that is work, not rest."""
WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE")


class Sizes(NamedTuple):
    """How many of each."""

    checkpoints: int
    pods: int

    @property
    def ready(self) -> int:
        """Checkpoints that are Ready beforehand."""
        return self.checkpoints // READY_SHARE


@dataclass(frozen=True)
class Processes:
    """Ours, at work."""

    webhook: our_process.Webhook
    controller: int
    """Process number."""
    health: int
    """The controller's health port."""


async def prepare(plane: ControlPlane, kube: KubeClient, sizes: Sizes) -> None:
    """Create the Ready checkpoints."""
    testbed.prepare_review(plane)
    await testbed.in_parallel(AT_ONCE, sizes.ready, lambda number: _make_ready(kube, number))


async def _make_ready(kube: KubeClient, number: int) -> None:
    body = one_of_many(number)
    made = await kube.create(CHECKPOINTS, body, review.NAMESPACE)
    checkpoint_id = f"{number:016x}"
    status = review.checkpoint()["status"] | {"checkpointID": checkpoint_id, "identityHash": checkpoint_id}
    name = made["metadata"]["name"]
    labels = {"metadata": {"labels": {keys.LABEL_CHECKPOINT_ID: checkpoint_id}}}
    await kube.patch(CHECKPOINTS, name, labels, review.NAMESPACE)
    await kube.patch(CHECKPOINTS, name, {"status": status}, review.NAMESPACE, subresource="status")


async def run(plane: ControlPlane, kube: KubeClient, ours: Processes, sizes: Sizes) -> Json:
    """Create everything at once, wait until all is done, watch the rest; answer figures."""
    body = our_process.configuration("crowd", ours.webhook.url, ours.webhook.authority)
    await kube.create(MUTATING_WEBHOOK_CONFIGURATIONS, body)
    await admission.in_force(kube, wanted=True)
    before, cpu, start = testbed.request_counts(plane), _cpu(ours), time.perf_counter()
    print(f"creating {sizes.checkpoints - sizes.ready} checkpoints and {sizes.pods} pods", file=sys.stderr)
    codes = await _create_all(kube, sizes)
    created = time.perf_counter()
    await _drained(ours, sizes)
    drained, used = time.perf_counter(), [now - then for now, then in zip(_cpu(ours), cpu, strict=True)]
    settled = await _quiet(plane)
    calls = testbed.request_counts(plane) - before
    rest = testbed.request_counts(plane)
    await asyncio.sleep(REST_SECONDS)
    resting = testbed.request_counts(plane) - rest
    await kube.delete(MUTATING_WEBHOOK_CONFIGURATIONS, "crowd")
    _check(codes, sizes)
    return _figures(ours, sizes, codes) | {
        "create_seconds": created - start,
        "drain_seconds": drained - start,
        "settle_seconds": settled,
        "webhook_cpu_seconds": used[0],
        "controller_cpu_seconds": used[1],
        "calls": dict(calls.most_common(20)),
        "writes_at_rest": sum(_writes(resting).values()),
        "calls_at_rest": dict(resting),
    }


def _figures(ours: Processes, sizes: Sizes, codes: Counter[str]) -> Json:
    pids = {"webhook": ours.webhook.pid, "controller": ours.controller}
    return {
        "checkpoints": sizes.checkpoints,
        "pods": sizes.pods,
        "codes": dict(codes),
        **{f"{name}_rss_bytes": machine.rss_bytes(pid) for name, pid in pids.items()},
        **{f"{name}_peak_bytes": machine.peak_bytes(pid) for name, pid in pids.items()},
        "handler_mean_seconds": testbed.mean(ours.webhook.metrics(), "snapshot_admission_decision_seconds"),
        "handler_p99_below_seconds": testbed.quantile(
            ours.webhook.metrics(), "snapshot_admission_decision_seconds", 0.99
        ),
    }


async def _create_all(kube: KubeClient, sizes: Sizes) -> Counter[str]:
    """Create checkpoints and pods in turns, so that both are under way all the time; return the pods' codes."""
    codes: Counter[str] = Counter()

    async def pod(number: int) -> None:
        made = await kube.create(PODS, _pod(number, sizes), review.NAMESPACE)
        codes[(made["metadata"].get("annotations") or {}).get(keys.ANN_ADMISSION, "none")] += 1

    async def checkpoint(number: int) -> None:
        await kube.create(CHECKPOINTS, one_of_many(number), review.NAMESPACE)

    work = [
        *((number / sizes.pods, pod, number) for number in range(sizes.pods)),
        *((number / sizes.checkpoints, checkpoint, number) for number in range(sizes.ready, sizes.checkpoints)),
    ]
    work.sort(key=lambda each: each[0])
    await testbed.in_parallel(AT_ONCE, len(work), lambda index: work[index][1](work[index][2]))
    return codes


def _pod(number: int, sizes: Sizes) -> Json:
    pod = review.pod_to_create()
    wanted = number % sizes.ready if number % UNREADY_SHARE else sizes.checkpoints - 1 - number % sizes.ready
    pod["metadata"]["annotations"][keys.ANN_CHECKPOINT_NAME] = one_of_many(wanted)["metadata"]["name"]
    return pod


def _check(codes: Counter[str], sizes: Sizes) -> None:
    """Check that every eligible pod is shaped, and none of the others."""
    eligible = sizes.pods - len(range(0, sizes.pods, UNREADY_SHARE))
    others = codes[Admission.CHECKPOINT_NOT_READY] + codes[Admission.CHECKPOINT_NOT_FOUND]
    if (codes[Admission.RESTORE_SHAPED], others) != (eligible, sizes.pods - eligible):
        sys.exit(f"of {sizes.pods} pods {eligible} were to be shaped; their codes: {dict(codes)}")


async def _drained(ours: Processes, sizes: Sizes) -> None:
    """Wait until every checkpoint is at work, and no queue holds a key."""
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        text = await asyncio.to_thread(our_process.metrics, ours.health)
        phases = testbed.values(text, "snapshot_checkpoints", "phase")
        waiting = sum(testbed.values(text, "snapshot_queue_depth", "queue").values())
        # The review's own checkpoint is Ready too.
        wanted = (sizes.checkpoints - sizes.ready, sizes.ready + 1)
        if (phases[Phase.CREATING], phases[Phase.READY]) == wanted and not waiting:
            return
        await asyncio.sleep(LOOK_SECONDS)
    sys.exit(f"not drained within {LIMIT_SECONDS:.0f} s: {phases}, {waiting} keys waiting")


async def _quiet(plane: ControlPlane) -> float:
    """Wait until two seconds went by without a write; answers how long that took."""
    start = time.perf_counter()
    await asyncio.sleep(NO_PODS_SECONDS)
    counts = testbed.request_counts(plane)
    for _ in itertools.repeat(None, int(QUIET_SECONDS / 2)):
        await asyncio.sleep(2)
        now = testbed.request_counts(plane)
        if not _writes(now - counts):
            break
        counts = now
    return time.perf_counter() - start


def _writes(counts: Counter[str]) -> Counter[str]:
    """Select writes, but for Leases: a leader must renew its own, and the API server renews one of its identity."""
    return Counter(
        {
            what: count
            for what, count in counts.items()
            if what.split()[0] in WRITES and not what.split()[1].startswith("leases") and "(dry run)" not in what
        }
    )


def _cpu(ours: Processes) -> list[float]:
    return [machine.cpu_seconds(pid) for pid in (ours.webhook.pid, ours.controller)]
