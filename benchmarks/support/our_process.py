"""Our own processes, started as the chart's pods start them, against a control plane on this machine."""

import base64
import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.support import review, tls
from cluster.api import ControlPlane
from cluster.ports import free_ports

READY_SECONDS = 30
STOP_SECONDS = 20
WEBHOOK = "pods.snapshot.nvidia.com"
ADMISSION_PATH = "/mutate-core-v1-pod-checkpoint-restore"
MATCH = (
    "(has(object.metadata.labels) && object.metadata.labels[?'nvidia.com/snapshot-restore'].orValue('')"
    " in ['enabled', 'auto'])"
    " || (has(object.metadata.annotations) && object.metadata.annotations"
    "[?'nvidia.com/dynamo-checkpoint-restore-candidate'].orValue('') == 'true')"
)
"""As in the chart: pods that do not opt in never cause a call."""


@dataclass(frozen=True)
class Webhook:
    """A webhook that is ready."""

    pid: int
    url: str
    health: int
    files: tls.Files

    def metrics(self) -> str:
        """Return what it reports to Prometheus."""
        return metrics(self.health)

    @property
    def authority(self) -> Path:
        """PEM file of the authority that signed its certificate."""
        return self.files.authority


def configuration(name: str, url: str, authority: Path) -> dict[str, Any]:
    """Return the configuration that makes the API server call *url*, otherwise as the chart's."""
    bundle = base64.b64encode(authority.read_bytes()).decode()
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": WEBHOOK,
                "clientConfig": {"url": url, "caBundle": bundle},
                "rules": [{**pods, "scope": "Namespaced"}],
                "matchConditions": [{"name": "opted-in", "expression": MATCH}],
                "failurePolicy": "Ignore",
                "reinvocationPolicy": "IfNeeded",
                "sideEffects": "None",
                "timeoutSeconds": 2,
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


def metrics(health: int) -> str:
    """Return what a process reports to Prometheus at its health port."""
    connection = http.client.HTTPConnection("127.0.0.1", health, timeout=30)
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


@contextlib.contextmanager
def webhook(plane: ControlPlane, *, prefix: Sequence[str] = ()) -> Iterator[Webhook]:
    """Run ``python -m webhook`` until ready; *prefix* is put before its command line, to pin it for example."""
    with tempfile.TemporaryDirectory(prefix="benchmark-webhook-") as folder:
        files = tls.write(Path(folder))
        port, health = free_ports(2)
        flags = ("--port", str(port), "--health-port", str(health), "--certificates", folder)
        with process(plane, "webhook", flags, health=health, values=review.VALUES, prefix=prefix) as pid:
            yield Webhook(pid, f"https://{tls.SERVER}:{port}{ADMISSION_PATH}", health, files)


@contextlib.contextmanager
def process(
    plane: ControlPlane,
    room: str,
    flags: Sequence[str],
    *,
    health: int,
    values: str,
    prefix: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run ``python -m <room>`` until the block ends; yield its number once it is ready."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config, tempfile.TemporaryFile("w+") as log:
        config.write(yaml.safe_dump(yaml.safe_load(values) or {}))
        config.flush()
        environment = os.environ | _variables(plane, config.name) | dict(variables or {})
        argv = [*prefix, sys.executable, "-m", room, *flags]
        with subprocess.Popen(argv, env=environment, stderr=log) as started:
            try:
                _await_ready(started, room, health, log)
                yield started.pid
            finally:
                started.terminate()
                _end(started)


def _variables(plane: ControlPlane, config: str) -> dict[str, str]:
    return {
        "KUBECONFIG": str(plane.kubeconfig),
        "SNAPSHOT_CONFIG": config,
        "SNAPSHOT_LOG_LEVEL": "warning",
        "POD_NAMESPACE": review.NAMESPACE,
        "POD_NAME": "benchmark-0",
        "RELEASE_NAME": "benchmark",
        "RELEASE_FULLNAME": "benchmark-snapshot",
    }


def _await_ready(started: "subprocess.Popen[bytes]", room: str, health: int, log: Any) -> None:
    end = time.monotonic() + READY_SECONDS
    while not _is_ready(health):
        if started.poll() is not None or time.monotonic() > end:
            log.seek(0)
            sys.exit(f"python -m {room} did not become ready: {log.read()[-4000:]}")
        time.sleep(0.02)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _end(started: "subprocess.Popen[bytes]") -> None:
    try:
        started.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        started.kill()
