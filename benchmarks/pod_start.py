"""From the creation of a pod to its first correct answer, beside kubelet's own minimum, on the embedded cluster.

    python -m benchmarks.pod_start

Three kinds of pod take turns: one that is restored, and two of the very same shape (what admission made of it: image,
volumes, affinity, profile). One of them does nothing and has no probe: it is Ready as soon as kubelet can say so. The
other has the restored pod's probe and answers it from the moment that its container starts: what the probe costs is
kubelet's own as well. Each is created at a random moment, since kubelet looks once a second.
"""

import argparse
import asyncio
import hashlib
import json
import random
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from benchmarks.support import plot
from benchmarks.support.report import Report, finish, parser, percentile
from benchmarks.support.testbed import add_cluster_options, installed
from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.api.reports import MemoryRestore, ReportPhase, Step, read_report, with_fill
from demo import manifests, story
from demo.stopwatch import QUESTION
from kube.api import Object
from kube.client import Client
from kube.login import Login, login
from kube.resources import PODS

NAMESPACE = "pod-start-benchmark"
RESTORED, MINIMUM, PROBED = "restored", "minimum", "minimum with the probe"
SECONDS = 120.0
IDLE = ["python3", "-S", "-c", "import signal; signal.pause()"]
ANSWERING = """
import socket
server = socket.create_server(("", 8000))
while True:
    client, _ = server.accept()
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    client.close()
"""
"""The least that answers a probe: it listens some 20 ms after its container has started."""
HEADER = ("pod", "until", "runs", "median s", "fastest s", "p90 s", "slowest s")
PLOT = Path(__file__).parents[1] / "docs" / "pod-start.svg"
SHOWN_SECONDS = 0.001
"""Shorter steps are left out of the picture."""
LEGS = ("scheduled", "claimed", "verdict", "ready", "answer")
"""Moments of a restored pod, in their order."""


@dataclass
class Start:
    """One start of a pod: seconds since its creation was asked for, by moment."""

    arm: str
    at: dict[str, float] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    """The time line of its restore."""


def main() -> None:
    """Start the cluster, make the checkpoint, measure in turns, report."""
    made = parser("creation of a pod to its first correct answer, beside a pod of the same shape that does nothing")
    made.add_argument("--rounds", type=int, default=30, choices=range(2, 501), metavar="2..500", help="starts of each")
    add_cluster_options(made)
    arguments = made.parse_args()
    with installed(arguments, NAMESPACE) as kubectl:
        story.request_checkpoint(kubectl)
        checkpoint = story.await_checkpoint(kubectl, lambda text: print(text, file=sys.stderr))
        starts = asyncio.run(_measure(str(kubectl.kubeconfig), checkpoint.source_token, arguments.rounds))
    finish(_report(starts, arguments), arguments)
    if arguments.save:
        _plot(starts)


async def _measure(kubeconfig: str, token: str, rounds: int) -> list[Start]:
    found = await login(kubeconfig)
    async with Client(found) as kube, Asker(found, token) as asker:
        restored = _pod()
        admitted = await kube.create(PODS, restored, NAMESPACE, dry_run=True)
        probed = _same_shape(admitted, ["python3", "-S", "-c", ANSWERING], ("startupProbe",))
        idle = _same_shape(admitted, IDLE, ("startupProbe", "readinessProbe"))
        pods = {RESTORED: restored, PROBED: probed, MINIMUM: idle}
        starts = []
        for turn in range(rounds + 1):
            for arm in list(pods) if turn % 2 else list(reversed(pods)):
                await asyncio.sleep(random.random())
                start = await _start(kube, asker, arm, pods[arm])
                print(f"round {turn}: {arm} {start.at}", file=sys.stderr)
                if turn:  # the first round warms the page cache
                    starts.append(start)
    return starts


def _pod() -> Object:
    """Return a pod as the demo's Deployment makes it."""
    template = manifests.load(manifests.EXAMPLES / "deployment.yaml")["spec"]["template"]
    metadata = template["metadata"] | {"generateName": f"{RESTORED}-", "namespace": NAMESPACE}
    spec = template["spec"] | {"terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _same_shape(admitted: Object, command: Sequence[str], without: Sequence[str]) -> Object:
    """Return a pod of the same shape with another command and without some probes; no agent looks at it."""
    spec = deepcopy(admitted["spec"])
    for container in spec["containers"]:
        container["command"] = list(command)
        for kind in without:
            container.pop(kind, None)
    metadata = {"generateName": "minimum-", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def _start(kube: Client, asker: "Asker", arm: str, pod: Object) -> Start:
    """Measure one start, and take the pod away again."""
    version = (await kube.list(PODS, NAMESPACE)).resource_version
    start, since = Start(arm), time.time()
    name = (await kube.create(PODS, pod, NAMESPACE))["metadata"]["name"]
    ready = asyncio.Event()
    watching = asyncio.create_task(_watch(kube, name, version, start, since, ready))
    try:
        async with asyncio.timeout(SECONDS):
            await ready.wait()
            if arm == RESTORED:
                await asker.ask(name)
                start.at["answer"] = time.time() - since
                await asker.is_restored(name)
                _note_restore(start, await _filled(kube, name), since)
            await kube.delete(PODS, name, NAMESPACE)
            await watching
    finally:
        watching.cancel()
    return start


async def _watch(kube: Client, name: str, version: str, start: Start, since: float, ready: asyncio.Event) -> None:
    """Note when each thing was first seen of a pod, until it is deleted."""
    async with aclosing(kube.watch(PODS, NAMESPACE, resource_version=version)) as events:
        async for event in events:
            now, pod = time.time() - since, event.object
            if pod["metadata"].get("name") != name:
                continue
            for moment in _moments(pod):
                start.at.setdefault(moment, now)
            if "ready" in start.at:
                ready.set()
            if event.type == "DELETED":
                return


def _moments(pod: Mapping[str, Any]) -> Iterable[str]:
    names = {"PodScheduled": "scheduled", "PodReadyToStartContainers": "sandbox", "Ready": "ready"}
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["status"] == "True" and condition["type"] in names:
            yield names[condition["type"]]
    if any("running" in each["state"] for each in status.get("containerStatuses") or ()):
        yield "running"


async def _filled(kube: Client, name: str) -> Object:
    """Return a restored pod as it is when its memory is all there: that is on its time line too."""
    while True:
        pod = await kube.get(PODS, name, NAMESPACE)
        report = read_report(annotations_of(pod).get(keys.ANN_RESTORE_REPORT, ""))
        runs_meanwhile = report is not None and report.memory == MemoryRestore.WHILE_RUNNING
        if not runs_meanwhile or keys.ANN_RESTORE_FILL in annotations_of(pod):
            return pod
        await asyncio.sleep(0.1)


def _note_restore(start: Start, pod: Object, since: float) -> None:
    report = read_report(annotations_of(pod).get(keys.ANN_RESTORE_REPORT, ""))
    if report is None or not report.ok or report.at is None:
        sys.exit(f"pod {pod['metadata']['name']} was not restored")
    start.at["verdict"] = report.at.timestamp() - since
    start.at["claimed"] = start.at["verdict"] - report.seconds[ReportPhase.TOTAL]
    start.steps = with_fill(report, annotations_of(pod).get(keys.ANN_RESTORE_FILL, "")).steps


class Asker:
    """Asks the worker of a pod, through the API server."""

    def __init__(self, found: Login, token: str) -> None:
        self._login = found
        self._token = token
        self._answers: set[str] = set()
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=found.ssl_context()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, pod: str) -> None:
        """Have the worker answer; a pod that is Ready answers at once, and all answer the same."""
        body = await self._call("POST", pod, "embed", QUESTION)
        self._answers.add(hashlib.sha256(body).hexdigest())
        if len(self._answers) != 1:
            sys.exit("the workers' answers differ")

    async def is_restored(self, pod: str) -> None:
        """Refuse a worker that is not the captured one."""
        if json.loads(await self._call("GET", pod, "info"))["token"] != self._token:
            sys.exit(f"pod {pod} did not continue the captured worker")

    async def _call(self, method: str, pod: str, path: str, body: str | None = None) -> bytes:
        url = f"{self._login.server}/api/v1/namespaces/{NAMESPACE}/pods/{pod}:{manifests.WORKER_PORT}/proxy/{path}"
        headers = await self._login.headers() | {"Content-Type": "application/json"}
        async with self._session.request(method, url, data=body, headers=headers) as answer:
            if answer.status != 200:
                sys.exit(f"pod {pod} was Ready and answered {answer.status}: {(await answer.text())[:200]}")
            return await answer.read()


def _report(starts: list[Start], arguments: argparse.Namespace) -> Report:
    report = Report("pod-start", f"python -m benchmarks.pod_start --rounds {arguments.rounds}", HEADER)
    rows = ((MINIMUM, "ready"), (PROBED, "ready"), (RESTORED, "verdict"), (RESTORED, "ready"), (RESTORED, "answer"))
    medians = {}
    for arm, moment in rows:
        seconds = [start.at[moment] for start in starts if start.arm == arm]
        medians[arm, moment] = statistics.median(seconds)
        figures = medians[arm, moment], min(seconds), percentile(seconds, 0.9), max(seconds)
        report.rows.append((arm, moment, len(seconds), *figures))
    report.data["starts"] = [
        {"arm": start.arm}
        | {moment: round(at, 4) for moment, at in start.at.items()}
        | {"steps": [asdict(step) for step in start.steps]}
        for start in starts
    ]
    restored = medians[RESTORED, "verdict"] - medians[MINIMUM, "ready"]
    answered = medians[RESTORED, "answer"] - medians[PROBED, "ready"]
    report.data |= {"restored_seconds": round(restored, 3), "answered_seconds": round(answered, 3)}
    report.conclusions = [
        f"a worker is restored and awake {restored:+.2f} s after a pod that does nothing is Ready",
        f"its first correct answer comes {answered:+.2f} s after a pod that answers the same probe at once is Ready",
        "medians of a restored pod, in seconds since its creation: "
        + ", ".join(f"{leg} {_median(starts, leg):.3f}" for leg in LEGS),
        "every answer is the same, and every restored worker has its source's token",
    ]
    return report


def _plot(starts: list[Start]) -> None:
    """Draw the restored start whose answer came at the median: what kubelet, the agent and the worker did when."""
    restored = sorted((start for start in starts if start.arm == RESTORED), key=lambda start: start.at["answer"])
    at = (middle := restored[len(restored) // 2]).at
    legs = (
        ("scheduling", 0.0, at["scheduled"]),
        ("volumes, sandbox", at["scheduled"], at["sandbox"]),
        ("container, standby", at["sandbox"], at["claimed"]),
    )
    bars = [plot.Bar(name, start, end - start, "Kubernetes") for name, start, end in legs]
    bars += [
        plot.Bar(step.phase, at["claimed"] + step.start, step.seconds, "agent")
        for step in middle.steps
        if step.seconds >= SHOWN_SECONDS
    ]
    bars.append(plot.Bar("until Ready", at["verdict"], at["ready"] - at["verdict"], "Kubernetes"))
    bars.append(plot.Bar("first answer", at["ready"], at["answer"] - at["ready"], "worker"))
    marks = {f"{arm}, Ready": _median(starts, "ready", arm) for arm in (MINIMUM, PROBED)}
    plot.write_bars("From the creation of a pod to its first answer", bars, marks, PLOT)


def _median(starts: list[Start], moment: str, arm: str = RESTORED) -> float:
    return statistics.median(start.at[moment] for start in starts if start.arm == arm)


if __name__ == "__main__":
    main()
