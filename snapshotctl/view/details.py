"""The page of one checkpoint: gathered from the cluster, then laid out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from contract.api import control_files, keys
from contract.api.checkpoint import (
    annotations_of,
    artifact_version,
    captured_container,
    captured_version,
    is_automatic,
    job_target,
    labels_of,
    ready_signal,
    source_pod,
)
from contract.api.reports import ReportPhase, Step, read_report
from contract.api.states import CheckpointReason, Phase, ReadySignal
from contract.config.storage import BadIdError
from contract.remedies.checkpoints import CHECKPOINT
from contract.remedies.registry import ANOTHER_VERSION, NOTHING
from kube.api import KubeClient, Object
from kube.errors import ForbiddenError, NotFoundError
from kube.resources import EVENTS, JOBS, PODS
from kube.store import key_of
from snapshotctl.explain.answers import hindrance, state_of
from snapshotctl.view import table
from snapshotctl.view.inventory import answer_for, checkpoint_facts, pod_facts, take, versions, why
from snapshotctl.view.time_line import bars

_INDENT: Final = 14
STUCK_PAGE: Final = "docs/operating.md#a-checkpoint-that-does-not-go"
LAST_EVENTS: Final = 10
_AWAITED: Final = {
    ReadySignal.FILE: (
        f"It is captured when its worker writes the file {control_files.READY_FOR_SNAPSHOT}, as snapshot_sdk.quiesce "
        "does (spec.job.readySignal: File). A worker that never does needs a new checkpoint with "
        "spec.job.readySignal: Probe."
    ),
    ReadySignal.PROBE: "It is captured when the probes of its container have passed (spec.job.readySignal: Probe).",
}


async def page_of(kube: KubeClient, checkpoint: Object) -> Object:
    """Everything about *checkpoint*, for programs.

    Raises:
        KubeError: pods or checkpoints cannot be read.
    """
    namespace, name = key_of(checkpoint)
    source = f"{keys.LABEL_IS_SOURCE}=true,{keys.LABEL_CHECKPOINT_ID}"
    events, steps, inventory, sources = await asyncio.gather(
        _events(kube, namespace, name),
        _capture_steps(kube, checkpoint),
        take(kube, namespace, fields=f"metadata.name={name}"),
        kube.list(PODS, namespace, labels=source),
    )
    facts = checkpoint_facts(checkpoint, inventory)
    captures = [pod["metadata"]["name"] for pod in sources.items if _id(pod) == facts["id"]]
    state = state_of(checkpoint)
    return {
        **facts,
        "identity": (checkpoint.get("spec") or {}).get("identity") or {},
        "automatic": is_automatic(checkpoint),
        "container": job_target(checkpoint),
        "image": _image(checkpoint),
        "source": (checkpoint.get("status") or {}).get("source") or {},
        "location": (checkpoint.get("status") or {}).get("location", ""),
        "deletedAt": checkpoint["metadata"].get("deletionTimestamp") or "",
        "conditions": (checkpoint.get("status") or {}).get("conditions") or [],
        "capture": [asdict(step) for step in steps],
        "capturePods": captures if facts["phase"] != Phase.READY else [],
        "pods": [pod_facts(pod, inventory) | {"why": _why(pod, inventory)} for pod in inventory.members(checkpoint)],
        "events": events,
        # While all goes well, the remedy leads to this very page.
        "next": next_steps(checkpoint, "" if state.code == Phase.CREATING else state.remedy),
        "read": state.link,
    }


def _id(pod: Object) -> str:
    return labels_of(pod).get(keys.LABEL_CHECKPOINT_ID, "")


def _why(pod: Object, inventory: Any) -> str:  # noqa: ANN401 - an Inventory
    answer = answer_for(pod, inventory)
    return next((found.meaning for found in answer.findings if found.code == answer.code), "")


def _image(checkpoint: Object) -> str:
    noted = ((checkpoint.get("status") or {}).get("image") or {}).get("reference")
    return str(noted or (captured_container(checkpoint) or {}).get("image") or "")


async def _capture_steps(kube: KubeClient, checkpoint: Object) -> tuple[Step, ...]:
    """Return the time line of the last capture by a Job; empty once the Job is deleted, or if it may not be read."""
    namespace, _ = key_of(checkpoint)
    job = (checkpoint.get("status") or {}).get("jobName")
    if not job or source_pod(checkpoint):
        return ()
    try:
        found = await kube.get(JOBS, job, namespace)
    except (ForbiddenError, NotFoundError):
        return ()
    report = read_report(annotations_of(found).get(keys.ANN_CAPTURE_REPORT, ""))
    return report.steps if report is not None else ()


async def _events(kube: KubeClient, namespace: str, name: str) -> list[Object]:
    fields = f"involvedObject.kind={keys.CHECKPOINT_KIND},involvedObject.name={name}"
    try:
        found = (await kube.list(EVENTS, namespace, fields=fields)).items
    except ForbiddenError:
        return []
    newest = sorted(found, key=_when)[-LAST_EVENTS:]
    return [
        {
            "at": _when(event),
            "type": event.get("type", ""),
            "reason": event.get("reason", ""),
            "message": event.get("message", ""),
            "count": (event.get("series") or {}).get("count") or event.get("count") or 1,
        }
        for event in newest
    ]


def _when(event: Object) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(series or event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def next_steps(checkpoint: Object, remedy: str) -> list[str]:
    """Say what a person does now, in sentences with commands."""
    namespace, name = key_of(checkpoint)
    if checkpoint["metadata"].get("deletionTimestamp"):
        return _until_gone(checkpoint)
    status = checkpoint.get("status") or {}
    phase = status.get("phase") or Phase.PENDING
    hindered = hindrance(checkpoint)
    if phase == Phase.READY and hindered is None:
        return [_use(checkpoint)]
    another = f"={_another(checkpoint)} --overwrite`"
    steps = [] if remedy in ("", NOTHING) else [remedy.replace(ANOTHER_VERSION, another)]
    if source_pod(checkpoint):
        # There is no Job, and another version alone would not have the pod ask again.
        return steps
    again = phase == Phase.FAILED or (hindered is not None and hindered.get("reason") != CheckpointReason.NO_NODES)
    if again and ANOTHER_VERSION not in remedy:
        command = f"kubectl annotate dckpt {name} -n {namespace} {keys.ANN_ARTIFACT_VERSION}{another}"
        steps.append(f"Capture again: `{command}")
    if phase == Phase.CREATING:
        steps.append(_overtaken(checkpoint) or _AWAITED[ready_signal(checkpoint)])
    if phase not in (Phase.FAILED, Phase.READY) and status.get("jobName"):
        steps.append(f"Follow its Job: `kubectl describe job {status['jobName']} -n {namespace}`")
    return steps


def _use(checkpoint: Object) -> str:
    if is_automatic(checkpoint):
        return "Pods of its workload restore from it by themselves."
    return (
        f"Pods restore from it with label {keys.LABEL_RESTORE}: {keys.RESTORE_BY_NAME} and annotation "
        f"{keys.ANN_CHECKPOINT_NAME}: {checkpoint['metadata']['name']} in their template."
    )


def _overtaken(checkpoint: Object) -> str:
    """Say what becomes of a version that was asked for while another is captured; empty if none was."""
    namespace, name = key_of(checkpoint)
    status = checkpoint.get("status") or {}
    try:
        wanted, captured = artifact_version(checkpoint), captured_version(checkpoint, status.get("checkpointID"))
    except BadIdError:
        return ""
    if wanted == captured:
        return ""
    return (
        f"Version {captured} is being captured; version {wanted}, as {keys.ANN_ARTIFACT_VERSION} of {name} asks, "
        f"begins once that has ended, or at once: `kubectl delete job {status['jobName']} -n {namespace}`"
    )


def _until_gone(checkpoint: Object) -> list[str]:
    """Say what holds an object that was deleted."""
    namespace, name = key_of(checkpoint)
    finalizers = checkpoint["metadata"].get("finalizers") or ()
    if keys.FINALIZER not in finalizers:
        return [f"It waits for the owners of its finalizers: {', '.join(map(str, finalizers)) or 'none is left'}."]
    return [
        (
            "Its artifacts are removed first, by a Job; a minute is usual. "
            "If there is an Event CleanupBlocked or CleanupFailed above, do what its message says."
        ),
        (
            "To let it go without its artifacts, which then stay in storage: "
            f'`kubectl patch dckpt {name} -n {namespace} --type=merge -p \'{{"metadata":{{"finalizers":null}}}}\'`'
        ),
        f"See {STUCK_PAGE}",
    ]


def _another(checkpoint: Object) -> str:
    """Choose a version that is not in use: the next number, if versions are numbers."""
    try:
        wanted = artifact_version(checkpoint)
    except BadIdError:
        wanted = ""
    taken = [str(each.get("version")) for each in versions(checkpoint)] + [wanted]
    numbers = [int(each) for each in taken if each.isascii() and each.isdecimal()]
    return str(max(numbers, default=0) + 1)


def as_text(page: Object) -> str:
    """Write the page for people."""
    return "".join(f"{line}\n" for line in _lines(page, datetime.now(UTC)))


def _lines(page: Object, now: datetime) -> Iterator[str]:
    yield from _head(page, now)
    yield ""
    yield from _section("Conditions", _condition_rows(page["conditions"], now), "none yet")
    yield from _section("Versions", _version_rows(page["versions"], now), "none in storage")
    yield from _capture(page["capture"])
    yield from _section("Pods", _pod_rows(page["pods"], now), "none names it")
    yield from _section("Events", _event_rows(page["events"], now), "none (the API server keeps them for an hour)")
    yield "What to do next"
    yield from (f"  {step}" for step in page["next"] or [NOTHING])
    if page["read"] and (page["phase"] != Phase.READY or page["hindered"]):
        yield f"  See {page['read']}"


def _head(page: Object, now: datetime) -> Iterator[str]:
    reason = why(page)
    identity = ", ".join(f"{key}={value}" for key, value in page["identity"].items() if not isinstance(value, dict))
    rows = {
        "Name": f"{page['namespace']}/{page['name']}",
        "Phase": table.coloured(page["phase"]) + (f" ({reason})" if reason else ""),
        "Deleted": f"{table.age(page['deletedAt'], now)} ago, and still there" if page["deletedAt"] else "",
        "Message": page["message"],
        "Id": page["id"],
        "Identity": identity,
        "Made for": page["workload"],
        "Container": f"{page['container']} of {page['image']}" if page["image"] else page["container"],
        "Taken on": _source(page["source"]),
        "Location": page["location"],
        "Size": table.size(page["size"]),
        "Age": table.age(page["createdAt"], now),
        "Last used": f"{table.age(page['lastUsedAt'], now)} ago" if page["lastUsedAt"] else "",
        "Capture pods": ", ".join(page["capturePods"]),
    }
    yield from (f"{key + ':':<{_INDENT}}{value}" for key, value in rows.items() if value)


def _source(source: Object) -> str:
    """Write ``status.source`` as one line, without the flags of its processor."""
    where = " ".join(str(source[field]) for field in ("node", "architecture", "cpuModel") if source.get(field))
    versions_of = {"kernel": "kernel", "criu": "criu", "driver": "gpuDriver"}
    software = [f"{name} {source[field]}" for name, field in versions_of.items() if source.get(field)]
    gpus = [f"{count} x {model}" for model, count in Counter(source.get("gpuModels") or ()).items()]
    return ", ".join(part for part in (where, *gpus, *software) if part)


def _section(title: str, rows: Iterable[list[str]], otherwise: str) -> Iterator[str]:
    found = list(rows)
    if not found:
        yield f"{title}: {otherwise}"
        yield ""
        return
    yield title
    yield from (f"  {row}" for row in table.columns(found[0], found[1:]))
    yield ""


def _capture(steps: Iterable[Object]) -> Iterator[str]:
    if found := [Step(ReportPhase(each["phase"]), each["start"], each["seconds"]) for each in steps]:
        yield "Capture"
        yield from (f"  {bar}" for bar in bars(found))
        yield ""


def _with_headers(headers: list[str], rows: list[list[str]]) -> list[list[str]]:
    return [headers, *rows] if rows else []


def _condition_rows(conditions: Iterable[Object], now: datetime) -> list[list[str]]:
    rows = []
    for entry in conditions:
        reason = str(entry.get("reason", ""))
        words = str(entry.get("message") or "") or (CHECKPOINT[reason].meaning if reason in CHECKPOINT else "")
        since = table.age(entry.get("lastTransitionTime"), now)
        rows.append([str(entry.get("type")), str(entry.get("status")), reason, since, words])
    return _with_headers(["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], rows)


def _version_rows(found: Iterable[Object], now: datetime) -> list[list[str]]:
    rows = [
        [
            str(each.get("version", "")),
            table.size(each.get("size")),
            table.age(each.get("createdAt"), now),
            str(each.get("manifestDigest", "")),
        ]
        for each in found
    ]
    return _with_headers(["VERSION", "SIZE", "AGE", "MANIFEST"], rows)


def _pod_rows(pods: Iterable[Object], now: datetime) -> list[list[str]]:
    rows = [
        [pod["name"], pod["outcome"], pod["version"], table.age(pod["createdAt"], now), pod["code"], pod["why"]]
        for pod in pods
    ]
    return _with_headers(["NAME", "START", "VERSION", "AGE", "CODE", "WHY"], rows)


def _event_rows(events: Iterable[Object], now: datetime) -> list[list[str]]:
    rows = [
        [
            table.age(event["at"], now),
            event["type"],
            event["reason"],
            event["message"] + (f" (x{event['count']})" if event["count"] > 1 else ""),
        ]
        for event in events
    ]
    return _with_headers(["AGE", "TYPE", "REASON", "MESSAGE"], rows)
