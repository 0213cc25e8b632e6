"""Asking the controller to take an artifact over, and waiting for its answer.

The annotation is the question and disappears when it is answered; the answer is the condition ``Adopted``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from contract.api import keys
from contract.api.checkpoint import annotations_of, artifact_version
from contract.api.conditions import condition
from contract.api.states import ConditionType, Phase
from contract.config.storage import BadIdError, check_version
from kube.api import KubeClient
from kube.errors import NotFoundError
from kube.resources import CHECKPOINTS
from snapshotctl.errors import UserError
from snapshotctl.live.errors import not_installed
from snapshotctl.live.suggestions import not_found
from snapshotctl.live.waiting import Ended, until


async def adopt(
    kube: KubeClient, namespace: str, name: str, version: str | None, patience: float, tell: Callable[[str], None]
) -> Ended:
    """Ask, and wait for the answer.

    Raises:
        KubeError: the cluster refuses or does not answer.
        UserError: no such checkpoint, or no such version is possible.
    """
    try:
        found = await kube.get(CHECKPOINTS, name, namespace)
        wanted = check_version(version) if version else artifact_version(found)
        body = {"metadata": {"annotations": {keys.ANN_ADOPT: wanted}}}
        asked = await kube.patch(CHECKPOINTS, name, body, namespace)
    except BadIdError as error:
        raise UserError(f"--version: {error}") from error
    except NotFoundError as error:
        if not_installed(error):
            raise
        words = await not_found(kube, CHECKPOINTS, name, namespace)
        raise UserError(f"{words}; create it first, its identity or id label says which artifact it is") from error
    tell(f"asked the controller to take over version {wanted} of {namespace}/{name}")
    done = await until(kube, asked, patience, lambda now: judged(now, wanted), _progress, tell)
    if isinstance(done, Ended):
        return done
    return Ended(ok=False, facts=facts_of(done, wanted, "pending"), message=_late(done, patience))


def _progress(checkpoint: Mapping[str, Any]) -> str:
    return str(_condition(checkpoint).get("message") or "")


def judged(checkpoint: Mapping[str, Any], wanted: str) -> Ended | None:
    """Read the controller's answer about version *wanted*; None while the question is open."""
    if annotations_of(checkpoint).get(keys.ANN_ADOPT) == wanted:
        return None
    entry, status = _condition(checkpoint), checkpoint.get("status") or {}
    has = any(each.get("version") == wanted for each in status.get("versions") or ())
    if status.get("phase") == Phase.READY and has and entry.get("status") != "False":
        return Ended(ok=True, facts=facts_of(checkpoint, wanted, "completed"))
    message = str(entry.get("message") or status.get("message") or "the controller does not say why")
    return Ended(ok=False, facts=facts_of(checkpoint, wanted, "failed"), message=message)


def facts_of(checkpoint: Mapping[str, Any], wanted: str, status: str) -> dict[str, str]:
    """Return what is printed, in order."""
    found: Mapping[str, Any] = checkpoint.get("status") or {}
    entry: Mapping[str, Any] = next((each for each in found.get("versions") or () if each.get("version") == wanted), {})
    facts = {
        "status": status,
        "namespace": checkpoint["metadata"].get("namespace", ""),
        "name": checkpoint["metadata"]["name"],
        "checkpoint_id": found.get("checkpointID", ""),
        "version": wanted,
    }
    if status == "completed":
        facts |= {
            "checkpoint_location": found.get("location", ""),
            "manifest_digest": entry.get("manifestDigest", ""),
            "size": entry.get("size", ""),
        }
    return {key: str(value) for key, value in facts.items()}


def _condition(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    return condition(checkpoint, ConditionType.ADOPTED) or {}


def _late(checkpoint: Mapping[str, Any], patience: float) -> str:
    said = _condition(checkpoint).get("message") or "the controller has not started: is it running?"
    return f"no answer in {patience:.0f} s: {said}; the question stays, `snapshotctl describe` shows how it goes on"
