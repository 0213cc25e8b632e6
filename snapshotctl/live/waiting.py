"""Looking at a checkpoint again and again until a question about it is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from contract.api.states import Phase
from contract.api.trigger import IN_PROGRESS, TriggerStatus
from kube.api import KubeClient, Object
from kube.errors import NotFoundError, ServerUnavailableError
from kube.resources import CHECKPOINTS

LOOK_SECONDS: Final = 0.5
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """How it ended."""

    ok: bool
    facts: Mapping[str, str]
    """What is printed, in order."""
    message: str = ""


async def until(
    kube: KubeClient,
    checkpoint: Object,
    patience: float,
    judge: Callable[[Object], Ended | None],
    words_of: Callable[[Object], str],
    tell: Tell,
) -> Ended | Object:
    """Wait for the answer; after *patience* seconds return the checkpoint as it is then.

    An answer takes seconds to minutes, and one small object is cheap to read: nothing has to be kept open.

    Raises:
        KubeError: the cluster refuses.
    """
    end, said = time.monotonic() + patience, ""
    namespace, name = checkpoint["metadata"]["namespace"], checkpoint["metadata"]["name"]
    while True:
        if done := judge(checkpoint):
            return done
        words = words_of(checkpoint)
        if words not in ("", said):
            said = words
            tell(words)
        if time.monotonic() > end:
            return checkpoint
        await asyncio.sleep(LOOK_SECONDS)
        try:
            checkpoint = await kube.get(CHECKPOINTS, name, namespace)
        except NotFoundError:
            return Ended(ok=False, facts={}, message=f"DynamoCheckpoint {name} was deleted meanwhile")
        except ServerUnavailableError as error:
            tell(str(error))


async def until_captured(kube: KubeClient, checkpoint: Object, patience: float, tell: Tell) -> Ended:
    """Wait for Ready or Failed.

    Raises:
        KubeError: the cluster refuses.
    """
    found = await until(kube, checkpoint, patience, captured, _progress, tell)
    return found if isinstance(found, Ended) else unfinished(found, patience)


def unfinished(checkpoint: Mapping[str, Any], patience: float) -> Ended:
    """Say where to look at a capture that is not waited for any longer; without a status no controller knows of it."""
    name, namespace = checkpoint["metadata"]["name"], checkpoint["metadata"]["namespace"]
    if (checkpoint.get("status") or {}).get("phase"):
        message = f"not done in {patience:.0f} s, it goes on: `snapshotctl describe {name} -n {namespace}`"
    else:
        message = (
            f"no controller has taken it up in {patience:.0f} s: "
            "`kubectl get pods -A -l app.kubernetes.io/component=controller`; is there a release that serves namespace "
            f"{namespace}?"
        )
    return Ended(ok=False, facts=_facts(checkpoint, "pending"), message=message)


def submitted(checkpoint: Mapping[str, Any]) -> Ended:
    """Say that a capture was asked for."""
    return Ended(ok=True, facts=_facts(checkpoint, "submitted"))


def skipped(checkpoint: Mapping[str, Any], message: str) -> Ended:
    """Say that a capture is in progress already: with a message if it is not the one that was asked for."""
    facts = _facts(checkpoint, TriggerStatus.SKIPPED.value)
    return Ended(not message, {"status": facts.pop("status"), "reason": IN_PROGRESS} | facts, message)


def captured(checkpoint: Mapping[str, Any]) -> Ended | None:
    """Judge how a capture ended; None while it goes on."""
    status = checkpoint.get("status") or {}
    if status.get("phase") == Phase.READY:
        return Ended(ok=True, facts=_facts(checkpoint, "completed"))
    if status.get("phase") == Phase.FAILED:
        return Ended(ok=False, facts=_facts(checkpoint, "failed"), message=str(status.get("message") or "no message"))
    return None


def _progress(checkpoint: Mapping[str, Any]) -> str:
    status = checkpoint.get("status") or {}
    return f"{status['phase']}: {status.get('message') or status.get('jobName', '')}" if status.get("phase") else ""


def _facts(checkpoint: Mapping[str, Any], status: str) -> dict[str, str]:
    found: Mapping[str, Any] = checkpoint.get("status") or {}
    return {
        "status": status,
        "namespace": str(checkpoint["metadata"].get("namespace", "")),
        "name": str(checkpoint["metadata"]["name"]),
        "checkpoint_job": str(found.get("jobName", "")),
        "checkpoint_id": str(found.get("checkpointID", "")),
        "checkpoint_location": str(found.get("location", "")),
    }
