"""What the benchmarks against a real API server share: our kinds in it or the whole chart, a client, its own counts."""

import argparse
import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.support import review
from cluster.api import ControlPlane
from cluster.builder.cache import Cache
from cluster.progress import for_terminal
from contract.api import keys
from demo.install import Helm, image_settings
from demo.kubectl import Kubectl
from demo.platform import embed
from kube.client import Client, connect

CRD = Path(__file__).parents[2] / "charts/snapshot/crds/nvidia.com_dynamocheckpoints.yaml"
CLUSTER = "benchmark"
CLAIM = "snapshot-pvc"
"""The chart's default ``storage.pvc.name``."""
_REQUESTS = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def add_cluster_options(made: argparse.ArgumentParser) -> None:
    """Let the caller of a benchmark name its embedded cluster, and keep it."""
    made.add_argument("--cluster", default=CLUSTER, help="name of the embedded cluster; started if it does not run")
    made.add_argument("--keep", action="store_true", help="leave the cluster running")


@contextmanager
def installed(arguments: argparse.Namespace, namespace: str) -> Iterator[Kubectl]:
    """Have the chart installed in a namespace of that cluster, which is ended unless it is to be kept."""
    progress = for_terminal()
    with ExitStack() as stack:
        platform = embed(Cache.from_env(os.environ), progress, arguments.cluster)
        if platform.embedded and not arguments.keep:
            stack.callback(platform.embedded.down, progress)
        settings = image_settings(platform.image_tag, platform.image_prefix)
        Helm(platform.helm, platform.kubeconfig, namespace).install(settings)
        yield Kubectl(platform.kubectl, platform.kubeconfig, namespace)


async def client(plane: ControlPlane) -> Client:
    """Connect our own client, as the plane's administrator."""
    return await connect(str(plane.kubeconfig), user_agent="benchmark")


def prepare(plane: ControlPlane, namespace: str) -> None:
    """Have our kinds and *namespace*."""
    plane.kubectl.apply([yaml.safe_load(CRD.read_text())])
    plane.kubectl("wait", "--for=condition=Established", "customresourcedefinition/dynamocheckpoints.nvidia.com")
    plane.kubectl("create", "namespace", namespace)


def prepare_agent(plane: ControlPlane, namespace: str) -> None:
    """Have the agent's DaemonSet there and ready: without it every checkpoint says what it misses."""
    labels = {keys.LABEL_AGENT: keys.LABEL_AGENT_VALUE}
    mounts = [{"name": "checkpoints", "mountPath": keys.DEFAULT_BASE_PATH}]
    spec = {
        "containers": [{"name": "agent", "image": "agent", "volumeMounts": mounts}],
        "volumes": [{"name": "checkpoints", "persistentVolumeClaim": {"claimName": CLAIM}}],
    }
    body = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}
    metadata = {"name": "agent", "namespace": namespace, "labels": labels}
    plane.kubectl.apply([{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": body}])
    counts = dict.fromkeys(("currentNumberScheduled", "desiredNumberScheduled", "numberReady"), 1)
    status = json.dumps({"status": counts | {"numberMisscheduled": 0}})
    plane.kubectl(
        *("patch", "daemonset/agent", "--namespace", namespace, "--subresource=status"),
        *("--type=merge", "--patch", status),
    )


def prepare_review(plane: ControlPlane) -> None:
    """Have what the review's pod refers to: its namespace, the storage's claim, and its checkpoint, Ready."""
    prepare(plane, review.NAMESPACE)
    # A controller that misses the claim says so on the checkpoint, and the webhook leaves pods alone then.
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": CLAIM, "namespace": review.NAMESPACE}
    plane.kubectl.apply([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim}])
    whole = review.checkpoint()
    status = json.dumps({"status": whole.pop("status")})
    whole["metadata"] = {key: whole["metadata"][key] for key in ("name", "namespace", "labels")}
    plane.kubectl.apply([whole])
    name = f"dynamocheckpoint/{review.CHECKPOINT}"
    plane.kubectl(
        *("patch", name, "--namespace", review.NAMESPACE, "--subresource=status", "--type=merge", "--patch", status)
    )


def request_counts(plane: ControlPlane) -> Counter[str]:
    """Count the requests that the API server has answered, by verb and resource; watches count when they end."""
    text = plane.kubectl("get", "--raw", "/metrics")
    counts: Counter[str] = Counter()
    for found in _REQUESTS.finditer(text):
        labels = dict(_LABEL.findall(found["labels"]))
        resource = "/".join(part for part in (labels["resource"], labels["subresource"]) if part)
        dry = " (dry run)" if labels.get("dry_run") else ""
        counts[f"{labels['verb']} {resource}{dry}"] += int(float(found["value"]))
    return counts


def mean(metrics: str, name: str, label: str = "") -> float:
    """Return the mean of a histogram over all its series whose labels hold *label*."""
    found = re.findall(rf"^{name}_(sum|count)({{[^}}]*}})? (\S+)$", metrics, re.MULTILINE)
    total = {"sum": 0.0, "count": 0.0}
    for part, labels, value in found:
        total[part] += float(value) if label in labels else 0.0
    return total["sum"] / total["count"]


def values(metrics: str, name: str, label: str) -> dict[str, float]:
    """Return the samples of one metric by one of its labels."""
    found = re.findall(rf'^{name}{{[^}}]*\b{label}="([^"]*)"[^}}]*}} (\S+)$', metrics, re.MULTILINE)
    return {key: float(value) for key, value in found}


def quantile(metrics: str, name: str, share: float) -> float:
    """Return the least bucket bound of a histogram below which *share* of its samples are."""
    found = re.findall(rf'^{name}_bucket{{[^}}]*\ble="([^"]*)"[^}}]*}} (\S+)$', metrics, re.MULTILINE)
    buckets = sorted((float(bound.replace("+Inf", "inf")), float(count)) for bound, count in found)
    return next(bound for bound, count in buckets if count >= share * buckets[-1][1])


async def until(what: str, check: Callable[[], bool], seconds: float) -> None:
    """Wait until *check* holds.

    Raises:
        TimeoutError: it did not within *seconds*; says *what*.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not check():
        if loop.time() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        await asyncio.sleep(0.02)


async def in_parallel(workers: int, count: int, act: Callable[[int], Any]) -> list[Any]:
    """Return the results of *count* calls of *act*, at most *workers* at a time."""
    numbers = iter(range(count))

    async def work() -> list[Any]:
        return [await act(number) for number in numbers]

    return [result for part in await asyncio.gather(*(work() for _ in range(workers))) for result in part]
