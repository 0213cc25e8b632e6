"""Ask the agent of a pod's node what would be in the way of a capture, and print it."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import asdict
from typing import Final

import click

from contract.api import keys
from contract.api.checkpoint import TargetError, annotations_of, target_containers
from contract.api.preflight import PreflightReport, read_preflight
from kube.api import KubeClient, Object
from kube.errors import NotFoundError
from kube.resources import PODS
from snapshotctl.errors import EXIT_COLD, UserError
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.view.listing import as_document
from snapshotctl.view.preflight import as_text

LOOK_SECONDS: Final = 0.2


def look_at_pod(reach: Reach, name: str, container: str | None, output: str, timeout: float) -> int:
    """Ask, print, and return the exit status."""

    async def work(session: Session) -> PreflightReport:
        pod = await _pod(session.kube, name, session.namespace)
        return await _ask(session.kube, pod, container or _container_of(pod), timeout)

    report = on_cluster(reach, work)
    if report.error:
        raise UserError(f"the agent on node {report.node} cannot look at the container: {report.error}")
    shown = as_text(report, name) if output == "text" else as_document(asdict(report), output)
    click.echo(shown, nl=False)
    return EXIT_COLD if report.findings else 0


async def _pod(kube: KubeClient, name: str, namespace: str) -> Object:
    try:
        return await kube.get(PODS, name.rpartition("/")[2], namespace)
    except NotFoundError as error:
        raise UserError(
            f"no pod {name} in namespace {namespace}; `kubectl get pods -n {namespace}` lists them"
        ) from error


def _container_of(pod: Object) -> str:
    try:
        return target_containers(pod)[0]
    except TargetError:
        return str(pod["spec"]["containers"][0]["name"])


async def _ask(kube: KubeClient, pod: Object, container: str, timeout: float) -> PreflightReport:  # noqa: ASYNC109
    metadata = pod["metadata"]
    names = [str(each["name"]) for each in pod["spec"]["containers"]]
    if container not in names:
        raise UserError(f"pod {metadata['name']} has no container {container}; it has {', '.join(names)}")
    if (pod.get("status") or {}).get("phase") != "Running":
        raise UserError(f"pod {metadata['name']} does not run; only a running worker can be looked at")
    request = f"{container}@{secrets.token_hex(4)}"
    await _annotate(kube, pod, {keys.ANN_PREFLIGHT: request})
    try:
        return await _answer(kube, pod, request, timeout)
    finally:
        await _annotate(kube, pod, {keys.ANN_PREFLIGHT: None, keys.ANN_PREFLIGHT_REPORT: None})


async def _answer(kube: KubeClient, pod: Object, request: str, seconds: float) -> PreflightReport:
    end = time.monotonic() + seconds
    name, namespace, node = pod["metadata"]["name"], pod["metadata"]["namespace"], pod["spec"].get("nodeName", "")
    while time.monotonic() < end:
        await asyncio.sleep(LOOK_SECONDS)
        now = await _pod(kube, name, namespace)
        report = read_preflight(annotations_of(now).get(keys.ANN_PREFLIGHT_REPORT, ""))
        if report is not None and report.request == request:
            return report
    agents = f"kubectl get pods -A -o wide -l {keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}"
    raise UserError(
        f"no answer from a snapshot agent on node {node} within {seconds:.0f} s; see whether one runs there and serves "
        f"namespace {namespace}: `{agents}`"
    )


async def _annotate(kube: KubeClient, pod: Object, notes: dict[str, str | None]) -> None:
    metadata = pod["metadata"]
    await kube.patch(PODS, metadata["name"], {"metadata": {"annotations": notes}}, metadata["namespace"])
