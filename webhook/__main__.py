"""Wiring of the webhook process: settings, the copy of checkpoints, certificate, server, health."""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from functools import partial
from pathlib import Path
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry

from certs.expiry import SERVING, Expiry
from certs.serve import ServingContext
from contract.values import load_values
from daemon import logs
from daemon.health import HealthServer
from daemon.settings import read_config, read_settings
from daemon.tasks import Task, main, run_together
from kube.client import connect
from kube.informer import Informer
from kube.metrics import InformerCollector
from kube.resources import CHECKPOINTS
from webhook.app import PORT, Edge, serve
from webhook.metrics import Metrics

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
        informer = Informer(kube, CHECKPOINTS, settings.watched_namespace)
        edge = Edge(informer.store.get, values, Metrics(registry))
        registry.register(InformerCollector({"checkpoints": informer}))
        checks = {
            "certificate": lambda: None if certificate.loaded else f"none in {options.certificates} yet",
            "checkpoints": lambda: None if informer.synced.is_set() else "not listed yet",
            "server": lambda: None if edge.listening and not edge.draining else "not listening, or stopping",
        }
        tasks: dict[str, Task] = {
            "copy of dynamocheckpoints": informer.run,
            "certificate": certificate.follow,
            "admission": partial(_serve_when_ready, edge, certificate, informer, options.port),
            "health": HealthServer(options.health_port, checks, registry).run,
        }
        await run_together(tasks)


async def _serve_when_ready(edge: Edge, certificate: ServingContext, informer: Informer, port: int) -> None:
    """Before it knows the checkpoints, the webhook would call every one of them missing."""
    await informer.synced.wait()
    while not certificate.loaded:  # noqa: ASYNC110 - the files are polled anyway
        await asyncio.sleep(POLL_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    await serve(edge, certificate.context, port=port)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m webhook", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--health-port", type=int, default=HEALTH_PORT)
    parser.add_argument("--certificates", type=Path, default=CERTIFICATES, help="folder of tls.crt and tls.key")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.install()
    sys.exit(main(partial(process, _options())))
