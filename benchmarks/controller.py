"""From DynamoCheckpoints to Jobs on a real API server: time, calls and memory, and how they grow.

    python -m benchmarks.controller

Per size: that many checkpoints are there before the controller starts; the clock runs from its start to the moment when
every one of them has its Job and says so in its status. Nothing else writes to the API server meanwhile.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.support import machine, our_process, testbed
from benchmarks.support.report import Report, finish, parser
from cluster.api import ControlPlane
from cluster.ports import free_ports
from contract.api import keys
from contract.api.states import Phase
from kube.api import KubeClient
from kube.resources import CHECKPOINTS, JOBS, Resource

Json = dict[str, Any]

VALUES = "webhook: {certManager: {enabled: true}}"
"""Certificates have another owner, so that all calls counted are about checkpoints."""
LIMIT_SECONDS = 300
SETTLE_SECONDS = 3.0
"""After the last Job: Events are still on their way."""
IDLE_SECONDS = 10.0
COUNTED = ("dynamocheckpoints", "jobs", "pods", "events", "leases", "persistentvolumeclaims")
HEADER = (
    "checkpoints",
    "seconds",
    "of these start-up",
    "objects/s",
    "calls/object",
    "RSS MiB",
    "CPU s",
    "idle calls in 10 s",
)


@dataclass
class Progress:
    """What the benchmark's own watches have seen."""

    jobs: set[str] = field(default_factory=set)
    creating: set[str] = field(default_factory=set)
    again: int = 0
    """Jobs that appeared a second time."""


def main() -> None:
    """Run each size on a control plane of its own, report."""
    made = parser("DynamoCheckpoints to Jobs: seconds, API calls, memory, growth")
    made.add_argument("--sizes", type=int, nargs="+", default=[250, 500, 1000], help="numbers of checkpoints")
    arguments = made.parse_args()
    runs = []
    for size in sorted(arguments.sizes):
        # A fresh store each time: nothing of a former size is listed, watched or counted.
        with ControlPlane.start() as plane:
            runs.append(asyncio.run(_run(plane, size)))
    finish(_report(runs, arguments), arguments)


async def _run(plane: ControlPlane, size: int) -> Json:
    namespace = f"size-{size}"
    async with await testbed.client(plane) as kube:
        testbed.prepare(plane, namespace)
        testbed.prepare_agent(plane, namespace)
        print(f"creating {size} checkpoints", file=sys.stderr)
        await testbed.in_parallel(8, size, lambda number: kube.create(CHECKPOINTS, checkpoint(number), namespace))
        progress = Progress()
        watches = [asyncio.create_task(each) for each in await _watches(kube, namespace, progress)]
        try:
            return await _measure(plane, namespace, size, progress)
        finally:
            for watch in watches:
                watch.cancel()


async def _measure(plane: ControlPlane, namespace: str, size: int, progress: Progress) -> Json:
    (health,) = free_ports(1)
    variables = {"POD_NAMESPACE": namespace, "RESTRICTED_NAMESPACE": namespace, "SNAPSHOT_HEALTH_PORT": str(health)}
    before, start = testbed.request_counts(plane), time.perf_counter()
    with our_process.process(plane, "controller", (), health=health, values=VALUES, variables=variables) as pid:
        ready = time.perf_counter()
        await testbed.until("all Jobs", lambda: len(progress.jobs) >= size, LIMIT_SECONDS)
        await testbed.until("all phases", lambda: len(progress.creating) >= size, LIMIT_SECONDS)
        end, cpu, rss = time.perf_counter(), machine.cpu_seconds(pid), machine.rss_bytes(pid)
        await asyncio.sleep(SETTLE_SECONDS)
        calls = _counted(testbed.request_counts(plane) - before)
        idle = _counted(testbed.request_counts(plane))
        await asyncio.sleep(IDLE_SECONDS)
        idle = _counted(testbed.request_counts(plane)) - idle
    if progress.again or len(progress.jobs) != size:
        sys.exit(f"{len(progress.jobs)} Jobs for {size} checkpoints, {progress.again} of them made twice")
    return {
        "size": size,
        "seconds": end - start,
        "seconds_after_ready": end - ready,
        "calls": dict(calls.most_common()),
        "idle_calls": dict(idle),
        "rss_bytes": rss,
        "cpu_seconds": cpu,
    }


def _counted(counts: Counter[str]) -> Counter[str]:
    return Counter({key: n for key, n in counts.items() if n and key.split()[1].split("/")[0] in COUNTED})


async def _watches(kube: KubeClient, namespace: str, progress: Progress) -> list[Any]:
    jobs = (await kube.list(JOBS, namespace)).resource_version
    checkpoints = (await kube.list(CHECKPOINTS, namespace)).resource_version

    def job(kind: str, obj: Json) -> None:
        if kind == "ADDED":
            progress.again += obj["metadata"]["name"] in progress.jobs
            progress.jobs.add(obj["metadata"]["name"])

    def seen_checkpoint(_: str, obj: Json) -> None:
        if (obj.get("status") or {}).get("phase") == Phase.CREATING:
            progress.creating.add(obj["metadata"]["name"])

    return [
        _follow(kube, JOBS, namespace, jobs, job),
        _follow(kube, CHECKPOINTS, namespace, checkpoints, seen_checkpoint),
    ]


async def _follow(kube: KubeClient, resource: Resource, namespace: str, version: str, see: Any) -> None:
    async for event in kube.watch(resource, namespace, resource_version=version):
        see(event.type, event.object)


def checkpoint(number: int) -> Json:
    """Build one of many DynamoCheckpoints, each with an identity of its own."""
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    container = {
        "name": keys.DEFAULT_TARGET,
        "image": "registry.example.com/serving/worker-placeholder:1.4.2",
        "command": ["python3", "-m", "serving.worker", "--model", f"model-{number}"],
        "env": [{"name": f"SETTING_{n}", "value": str(n)} for n in range(10)],
        "resources": resources,
    }
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.CHECKPOINT_KIND,
        "metadata": {"name": f"checkpoint-{number:04}"},
        "spec": {
            "identity": {"model": f"model-{number}", "backendFramework": "vllm"},
            "job": {"podTemplateSpec": {"spec": {"containers": [container]}}},
        },
    }


def _report(runs: list[Json], arguments: argparse.Namespace) -> Report:
    sizes = " ".join(map(str, arguments.sizes))
    report = Report("controller", f"python -m benchmarks.controller --sizes {sizes}", HEADER)
    for run in runs:
        size, seconds = run["size"], run["seconds"]
        calls, idle = sum(run["calls"].values()), sum(run["idle_calls"].values())
        memory = run["rss_bytes"] / 2**20
        startup = seconds - run["seconds_after_ready"]
        report.rows.append((size, seconds, startup, size / seconds, calls / size, memory, run["cpu_seconds"], idle))
    first, last = runs[0], runs[-1]
    times, factor = last["size"] / first["size"], last["seconds_after_ready"] / first["seconds_after_ready"]
    growth = (
        f"{times:.1f} times the checkpoints took {factor:.2f} times the time, start-up left out: "
        f"growth x{factor / times:.2f} (1.00 is linear)"
    )
    report.conclusions = [
        growth,
        f"the controller's own CPU time per checkpoint, start-up included: {_cpu(first)} and {_cpu(last)} ms",
        "calls of the largest run: " + ", ".join(f"{key} {n:,}" for key, n in last["calls"].items()),
        "every checkpoint has exactly one Job",
    ]
    report.data["runs"] = runs
    return report


def _cpu(run: Json) -> str:
    return f"{run['cpu_seconds'] / run['size'] * 1e3:.1f} ({run['size']:,})"


if __name__ == "__main__":
    main()
