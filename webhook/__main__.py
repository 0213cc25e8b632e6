"""Wiring of the webhook process: settings, live copies, certificate, server, health."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import resource
import sys
from functools import partial
from pathlib import Path
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry

from certs.expiry import SERVING, Expiry
from certs.serve import ServingContext
from contract.config.values import load_values
from daemon import logs
from daemon.health import Check, HealthServer
from daemon.settings import Settings, read_config, read_settings
from daemon.tasks import Task, main, run_together
from kube.client import connect
from kube.metrics import InformerCollector
from webhook.informers import Informers
from webhook.metrics import Metrics
from webhook.reachable import Reachable, Reader
from webhook.server import PORT, Edge, serve

COMPONENT: Final = "snapshot-webhook"
HEALTH_PORT: Final = 8081
CERTIFICATES: Final = Path("/etc/snapshot-tls")
"""Where the chart mounts the serving Secret."""
POLL_SECONDS: Final = 0.1
GC_THRESHOLD: Final = 50_000
"""Objects between collections: a review makes hundreds that die with it, and a collection would be a slow request."""


async def process(options: argparse.Namespace) -> None:
    """Run until a signal comes."""
    settings = read_settings(required=("pod_namespace", "pod_name"))
    logs.configure(settings.log_level)
    values = read_config(settings.config_path, load_values)
    registry = CollectorRegistry()
    expiry = Expiry()
    registry.register(expiry)
    certificate = ServingContext(options.certificates, partial(expiry.see, SERVING))
    async with await connect(user_agent=f"dynamo-snapshot/{COMPONENT}") as kube:
        informers = Informers(kube, settings.watched_namespace, values)
        edge = Edge(informers.checkpoints.store.get, values, Metrics(registry), informers.claims)
        registry.register(InformerCollector(informers.informers))
        reachable = _reachable(kube, options, settings)
        checks: dict[str, Check] = {
            "certificate": lambda: None if certificate.loaded else f"none in {options.certificates} yet",
            "server": lambda: None if edge.listening and not edge.draining else "not listening, or stopping",
            "reached": lambda: reachable.problem if reachable else None,
        } | {name: partial(informers.missing, name) for name in informers.informers}
        tasks: dict[str, Task] = {
            "certificate": certificate.follow,
            "admission": partial(_serve_when_ready, edge, certificate, informers, options.port),
            "reachability": partial(_reach, reachable, edge),
            "health": HealthServer(options.health_port, checks, registry).run,
        }
        tasks |= {f"copy of {name}": informer.run for name, informer in informers.informers.items()}
        await run_together(tasks)


async def _serve_when_ready(edge: Edge, certificate: ServingContext, informers: Informers, port: int) -> None:
    while not (certificate.loaded and informers.whole):  # noqa: ASYNC110 - the files are polled anyway
        await asyncio.sleep(POLL_SECONDS)
    _allow_all_connections()
    informers.warn()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    await serve(edge, certificate.context, port=port)


def _reachable(kube: Reader, options: argparse.Namespace, settings: Settings) -> Reachable | None:
    if not (options.service and options.configuration):
        return None
    return Reachable(
        kube,
        namespace=settings.pod_namespace,
        service=options.service,
        configuration=options.configuration,
        pod=settings.pod_name,
    )


async def _reach(reachable: Reachable | None, edge: Edge) -> None:
    while not edge.listening:  # noqa: ASYNC110 - as above
        await asyncio.sleep(POLL_SECONDS)
    if reachable is not None:
        await reachable.run()
    await asyncio.Event().wait()


def _allow_all_connections() -> None:
    """Container runtimes start a process with 1,024 files; connections that others hold would leave none for pods."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Refused where fs.nr_open was lowered since; what there is serves then.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m webhook", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--health-port", type=int, default=HEALTH_PORT)
    parser.add_argument("--certificates", type=Path, default=CERTIFICATES, help="folder of tls.crt and tls.key")
    parser.add_argument("--service", default="", help="name of its Service; empty: whether it is reached is not asked")
    parser.add_argument("--configuration", default="", help="name of its MutatingWebhookConfiguration")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.install()
    sys.exit(main(partial(process, _options())))
