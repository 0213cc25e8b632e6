"""Authorities and certificates change under load: two replicas of our webhook, thousands of requests, none may fail.

    chrt --rr 1 python -m benchmarks.rotation

Everything is real but the clock's scale: the authority is replaced every few seconds, by the controller's own code on a
real API server; kubelet is a task that copies the Secret's files late, to each replica at a time of its own; the load
generator takes the place of the API server, and trusts what the webhook configuration says, a moment later.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.support import our_process, peer, review, testbed
from benchmarks.support.report import Report, finish, parser
from certs.policy import Lifetimes, certificates
from certs.reconcile import WEBHOOK_ENTRY, Targets, reconcile
from certs.store import read_bundle, read_leaf
from cluster.api import ControlPlane
from cluster.builder.cache import Cache
from cluster.ports import free_ports
from kube.api import KubeClient
from kube.errors import ConflictError
from kube.resources import MUTATING_WEBHOOK_CONFIGURATIONS, SECRETS

SECOND = timedelta(seconds=1)
LIVES = Lifetimes(authority=46 * SECOND, leaf=18 * SECOND, leaf_renewal=10 * SECOND, propagation=3 * SECOND)
KUBELET_SECONDS = 1.5
"""How late files may be; the webhook looks once a second, so a leaf is served within 2.5 s of its issue."""
API_SERVER_SECONDS = 0.5
"""How late the bundle may be."""
REPLICAS = 2
HEADER = ("requests", "sent", "failed", "not mutated", "requests/s", "p50 ms", "p99 ms", "max ms")


class LocalTargets(Targets):
    """The webhook listens on this machine."""

    @property
    def dns_names(self) -> tuple[str, ...]:
        """What the generator calls it."""
        return ("localhost",)


@dataclass
class Seen:
    """What was served and trusted so far."""

    leaves: set[int] = field(default_factory=set)
    issuers: set[str] = field(default_factory=set)


def main() -> None:
    """Start, load, rotate, report."""
    arguments = _arguments()
    programs = peer.build(Cache.from_env(os.environ))
    with ControlPlane.start() as plane:
        testbed.prepare_review(plane)
        run = asyncio.run(_run(plane, programs["steady"], arguments))
    report = _report(run, arguments)
    finish(report, arguments)
    if run["kept"]["failed"] or run["fresh"]["failed"]:
        sys.exit("requests failed")


def _arguments() -> argparse.Namespace:
    made = parser("requests that fail while the authority and the certificates of two replicas change again and again")
    made.add_argument("--seconds", type=int, default=180, help="length of the load")
    made.add_argument("--kept", type=int, default=500, help="requests a second over kept connections")
    made.add_argument("--fresh", type=int, default=50, help="requests a second with a TLS handshake each")
    return made.parse_args()


async def _run(plane: ControlPlane, generator: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    targets, seen = LocalTargets(review.NAMESPACE, "snap", LIVES), Seen()
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        (place / "review.json").write_bytes(review.review())
        kube = await stack.enter_async_context(await testbed.client(plane))
        await _chart(kube, targets)
        folders = [place / f"replica-{number}" for number in range(REPLICAS)]
        works = [_controller(kube, targets), _api_server(kube, targets, place / "ca.crt")]
        works += [_kubelet(kube, targets, folder, seen) for folder in folders]
        await stack.enter_async_context(_background(works))
        await testbed.until("certificates", lambda: all((f / "tls.crt").exists() for f in folders), 30)
        # Not in this thread: the controller and kubelet must go on meanwhile, or certificates would end.
        urls = [await asyncio.to_thread(stack.enter_context, _replica(plane, folder)) for folder in folders]
        before = len(seen.leaves), len(seen.issuers)
        run = await _load(generator, urls, place, arguments)
    return run | {"leaves": len(seen.leaves) - before[0], "authorities": len(seen.issuers) - before[1]}


async def _chart(kube: KubeClient, targets: Targets) -> None:
    """Create what the chart makes: two empty Secrets, a configuration without a bundle."""
    for name in (targets.serving_secret, targets.authority_secret):
        await kube.create(SECRETS, {"metadata": {"name": name}, "type": "Opaque"}, targets.namespace)
    entry = {
        "name": WEBHOOK_ENTRY,
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://localhost:1/"},
        "failurePolicy": "Ignore",
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
        "sideEffects": "None",
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    body = kind | {"metadata": {"name": targets.configuration}, "webhooks": [entry]}
    await kube.create(MUTATING_WEBHOOK_CONFIGURATIONS, body)


@contextmanager
def _replica(plane: ControlPlane, folder: Path) -> Iterator[str]:
    port, health = free_ports(2)
    flags = ("--port", str(port), "--health-port", str(health), "--certificates", str(folder))
    with our_process.process(plane, "webhook", flags, health=health, values=review.VALUES):
        yield f"https://localhost:{port}{our_process.ADMISSION_PATH}?timeout=2s"


async def _controller(kube: KubeClient, targets: Targets) -> None:
    while True:
        with contextlib.suppress(ConflictError):
            await reconcile(kube, targets, lambda: datetime.now(UTC))
        await asyncio.sleep(0.1)


async def _kubelet(kube: KubeClient, targets: Targets, folder: Path, seen: Seen) -> None:
    """Bring the files, late, and both at once: a symbolic link is swapped."""
    (folder / "0").mkdir(parents=True)
    for number in range(1_000_000):
        secret = await kube.get(SECRETS, targets.serving_secret, targets.namespace)
        await asyncio.sleep(random.uniform(0, KUBELET_SECONDS))
        leaf = read_leaf(secret.get("data") or {})
        if leaf.certificate:
            _swap(folder, number, leaf.certificate, leaf.key)
            for each in certificates(leaf.certificate):
                seen.leaves.add(each.serial_number)
                seen.issuers.add(each.issuer.rfc4514_string())


def _swap(folder: Path, number: int, certificate: str, key: str) -> None:
    version = folder / f"v{number}"
    version.mkdir()
    (version / "tls.crt").write_text(certificate)
    (version / "tls.key").write_text(key)
    (folder / "new").symlink_to(version.name)
    (folder / "new").rename(folder / "data")
    for name in ("tls.crt", "tls.key"):
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(f"data/{name}")


async def _api_server(kube: KubeClient, targets: Targets, bundle: Path) -> None:
    """Trust what the configuration says, a moment later."""
    while True:
        seen = await kube.get(MUTATING_WEBHOOK_CONFIGURATIONS, targets.configuration)
        await asyncio.sleep(random.uniform(0, API_SERVER_SECONDS))
        if text := read_bundle(seen, WEBHOOK_ENTRY):
            bundle.with_suffix(".new").write_text(text)
            bundle.with_suffix(".new").rename(bundle)


@asynccontextmanager
async def _background(works: list[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
        if ended := [task for task in tasks if task.done()]:
            ended[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _load(generator: Path, urls: list[str], place: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    flags = {
        "-urls": ",".join(urls),
        "-ca": place / "ca.crt",
        "-body": place / "review.json",
        "-kept": arguments.kept,
        "-fresh": arguments.fresh,
        "-duration": f"{arguments.seconds}s",
    }
    argv = [str(generator), *(str(word) for pair in flags.items() for word in pair)]
    started = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    told, _ = await started.communicate()
    if started.returncode:
        sys.exit("the load generator failed")
    result: dict[str, Any] = json.loads(told)
    return result


def _report(run: dict[str, Any], arguments: argparse.Namespace) -> Report:
    report = Report("rotation", f"python -m benchmarks.rotation --seconds {arguments.seconds}", HEADER, data=run)
    for name in ("kept", "fresh"):
        found = run[name]
        counts = (found["requests"], found["failed"], found["not_mutated"])
        report.rows.append((name, *counts, *(found[f"{key}"] for key in _FIGURES)))
        report.conclusions += [f"{name}: {each}" for each in found["failures"] or ()]
    report.conclusions.append(
        f"{run['authorities']} new authorities and {run['leaves']} new certificates in {arguments.seconds} s, "
        f"{run['bundles']} changes of the bundle, {REPLICAS} replicas"
    )
    return report


_FIGURES = ("requests_per_second", "p50_ms", "p99_ms", "max_ms")

if __name__ == "__main__":
    main()
