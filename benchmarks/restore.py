"""Restore of the demo worker against its cold start, on the embedded cluster.

    python -m benchmarks.restore

Two Deployments of the same worker: one that opts in, one that does not. After the checkpoint is Ready they take turns
with one pod each, and the clock inside the pod measures from the start of the container to the first correct answer.
Both arms come after the same warm-up round, so the page cache is equally warm.
"""

import argparse
import statistics
import sys
from copy import deepcopy
from typing import Any

from benchmarks.support.report import Report, finish, parser
from benchmarks.support.testbed import add_cluster_options, installed
from contract.api import keys
from demo import manifests, story
from demo.kubectl import Kubectl, wait_for
from demo.timeline import Start

NAMESPACE = "restore-benchmark"
RESTORED, COLD = "restored", "cold"
GONE_SECONDS = 120
HEADER = ("start", "runs", "median s", "fastest s", "slowest s")


def main() -> None:
    """Start the cluster, make the checkpoint, measure in turns, report."""
    made = parser("container start to first correct answer: restored against cold")
    made.add_argument("--rounds", type=int, default=5, choices=range(1, 51), metavar="1..50", help="starts of each arm")
    add_cluster_options(made)
    arguments = made.parse_args()
    with installed(arguments, NAMESPACE) as kubectl:
        report = _measure(kubectl, arguments)
    finish(report, arguments)


def _measure(kubectl: Kubectl, arguments: argparse.Namespace) -> Report:
    deployments = _deploy(kubectl)
    story.request_checkpoint(kubectl)
    checkpoint = story.await_checkpoint(kubectl, lambda text: print(text, file=sys.stderr))
    starts: dict[str, list[Start]] = {RESTORED: [], COLD: []}
    for turn in range(arguments.rounds + 1):
        for arm in (COLD, RESTORED) if turn % 2 == 0 else (RESTORED, COLD):
            start = _one_start(kubectl, deployments[arm])
            print(f"round {turn}: {arm} {start.seconds:.2f} s ({start.reason})", file=sys.stderr)
            if turn:  # the first round warms the page cache for both
                starts[arm].append(start)
    return _report(starts, checkpoint, arguments)


def _deploy(kubectl: Kubectl) -> dict[str, str]:
    """Make both Deployments, at zero; return their names by arm."""
    restored = manifests.with_stopwatch(manifests.load(manifests.EXAMPLES / "deployment.yaml"))
    restored["spec"]["replicas"] = 0
    cold = deepcopy(restored)
    cold["metadata"]["name"] += f"-{COLD}"
    template = cold["spec"]["template"]["metadata"]
    template["labels"].pop(keys.LABEL_RESTORE)
    for labels in (template["labels"], cold["spec"]["selector"]["matchLabels"]):
        labels["app"] += f"-{COLD}"
    kubectl.apply(manifests.stopwatch_configmap(), restored, cold)
    return {RESTORED: restored["metadata"]["name"], COLD: cold["metadata"]["name"]}


def _one_start(kubectl: Kubectl, deployment: str) -> Start:
    """Measure one pod of the Deployment, and take it away again."""
    selector = f"app={deployment}"
    kubectl("scale", f"deployment/{deployment}", "--replicas=1")
    pod: dict[str, Any] = wait_for(
        lambda: next(iter(kubectl.pods(selector)), None), f"a pod of {deployment}", story.START_SECONDS
    )
    start = story.measure(kubectl, pod["metadata"]["name"])
    kubectl("scale", f"deployment/{deployment}", "--replicas=0")
    wait_for(lambda: not kubectl.items("pods", "-l", selector) or None, f"the end of {deployment}'s pod", GONE_SECONDS)
    return start


def _report(starts: dict[str, list[Start]], checkpoint: story.Checkpoint, arguments: argparse.Namespace) -> Report:
    _agree(starts, checkpoint)
    report = Report("restore", f"python -m benchmarks.restore --rounds {arguments.rounds}", HEADER)
    medians = {}
    for arm, measured in starts.items():
        seconds = [start.seconds for start in measured]
        medians[arm] = statistics.median(seconds)
        report.rows.append((arm, len(seconds), medians[arm], min(seconds), max(seconds)))
        report.data[arm] = [round(one, 3) for one in seconds]
    worst = min(report.data[COLD]) / max(report.data[RESTORED])
    report.data["artifact_bytes"] = checkpoint.size
    report.data["checkpoint_seconds"] = checkpoint.seconds
    report.conclusions = [
        _ratio(medians[COLD] / medians[RESTORED], worst),
        f"the checkpoint took {checkpoint.seconds:.1f} s and holds {checkpoint.size / 2**20:.0f} MiB",
        "all answers agree; every restored worker has its source's token, every cold one a token of its own",
    ]
    return report


def _ratio(medians: float, worst: float) -> str:
    return (
        f"a restored start is {medians:.1f} times as fast as a cold one (medians); "
        f"the slowest restored one against the fastest cold one: {worst:.1f} times"
    )


def _agree(starts: dict[str, list[Start]], checkpoint: story.Checkpoint) -> None:
    every = [start for measured in starts.values() for start in measured]
    if len({start.answer for start in every}) != 1:
        sys.exit("the workers' answers differ")
    if wrong := [start.reason for start in starts[RESTORED] if start.token != checkpoint.source_token]:
        sys.exit(f"a start that should restore did not continue the source: {wrong}")
    cold = [start.token for start in starts[COLD]]
    if len({*cold, checkpoint.source_token}) != len(cold) + 1:
        sys.exit("a cold worker has a token that is not its own")


if __name__ == "__main__":
    main()
