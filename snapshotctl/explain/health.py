"""Whether a release is well: its processes, its claim, its webhook's configuration, its checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from contract.api.conditions import is_true
from contract.api.rights import AGENT, ROLES, Right, in_words, is_allowed
from contract.api.states import ConditionType, Phase
from contract.config.quantities import readable
from contract.config.values import Values
from kube.api import KubeClient, Object
from kube.errors import ForbiddenError, NotFoundError
from kube.resources import (
    CHECKPOINTS,
    DAEMON_SETS,
    DEPLOYMENTS,
    MUTATING_WEBHOOK_CONFIGURATIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SUBJECT_ACCESS_REVIEWS,
    Resource,
)
from snapshotctl.explain.release import RELEASE_LABEL, Release
from snapshotctl.explain.stuck import start_problems

_OURS: Final = "app.kubernetes.io/part-of=dynamo-snapshot"
_COMPONENT: Final = "app.kubernetes.io/component"
_CONTROLLER, _WEBHOOK, _AGENT = "manager", "webhook", "snapshot-agent"
_COLD: Final = "pods start cold meanwhile"
_MOST_SHOWN: Final = 3
"""Problems of pods that are shown: those of one cause sound alike."""


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    FAILING = "failing"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    words: str
    advice: str = ""
    """What to do next; empty if nothing is to be done."""


@dataclass(frozen=True)
class Installed:
    """The objects of a release; None: they may not be read."""

    release: Release
    deployments: Sequence[Object] | None
    daemon_sets: Sequence[Object] | None
    pods: Sequence[Object] | None
    claims: Sequence[Object] | None
    configurations: Sequence[Object] | None
    checkpoints: Sequence[Object] | None
    """Of all namespaces that the caller may read."""
    lacking: Sequence[Right] | None = None
    """Rights that the agents' account should have and has not; None: the caller may not ask."""
    has_definition: bool = True
    """Whether the cluster knows DynamoCheckpoint."""


async def observe(kube: KubeClient, release: Release, scope: str | None) -> Installed:
    """Read what belongs to a release.

    Args:
        kube: the connection.
        release: the installation.
        scope: the namespace whose checkpoints count; None for all.

    Raises:
        KubeError: the API server does not answer.
    """
    labels = f"{_OURS},{RELEASE_LABEL}={release.name}"

    async def found(resource: Resource, namespace: str | None, labels: str = labels) -> Sequence[Object] | None:
        try:
            return (await kube.list(resource, namespace, labels=labels)).items
        except (ForbiddenError, NotFoundError):
            return None

    has_definition = True
    try:
        checkpoints: Sequence[Object] | None = (await kube.list(CHECKPOINTS, scope)).items
    except ForbiddenError:
        checkpoints = None
    except NotFoundError:
        checkpoints, has_definition = None, False
    daemon_sets = await found(DAEMON_SETS, release.namespace)
    return Installed(
        release,
        deployments=await found(DEPLOYMENTS, release.namespace),
        daemon_sets=daemon_sets,
        pods=await found(PODS, release.namespace),
        claims=await found(PERSISTENT_VOLUME_CLAIMS, release.namespace, ""),
        configurations=await found(MUTATING_WEBHOOK_CONFIGURATIONS, None),
        checkpoints=checkpoints,
        lacking=await _lacking(kube, release, daemon_sets),
        has_definition=has_definition,
    )


async def _lacking(kube: KubeClient, release: Release, owners: Sequence[Object] | None) -> Sequence[Right] | None:
    """Ask the API server which of its rights the agents' account has not."""
    agents = next((each for each in owners or () if _labels(each).get(_COMPONENT) == _AGENT), None)
    if agents is None:
        return None
    account, where = _account(agents), release.namespace if release.values.rbac.namespace_restricted else None

    async def has(right: Right) -> bool:
        body: Object = {
            "apiVersion": SUBJECT_ACCESS_REVIEWS.api_version,
            "kind": SUBJECT_ACCESS_REVIEWS.kind,
            "spec": account | {"resourceAttributes": right.attributes(where)},
        }
        return is_allowed(await kube.create(SUBJECT_ACCESS_REVIEWS, body))

    try:
        allowed = await asyncio.gather(*map(has, AGENT))
    except ForbiddenError:
        return None
    return [right for right, is_there in zip(AGENT, allowed, strict=True) if not is_there]


def _account(daemon_set: Object) -> dict[str, Any]:
    """Return the user and the groups that the pods of a DaemonSet are to the API server."""
    spec = ((daemon_set.get("spec") or {}).get("template") or {}).get("spec") or {}
    namespace, kind = daemon_set["metadata"]["namespace"], "system:serviceaccounts"
    return {
        "user": f"system:serviceaccount:{namespace}:{spec.get('serviceAccountName') or 'default'}",
        "groups": [kind, f"{kind}:{namespace}", "system:authenticated"],
    }


def checks(found: Installed) -> list[Check]:
    """Judge a release; pure."""
    values, namespace = found.release.values, found.release.namespace
    judged = [_definition(found)]
    if values.coexist != "agentOnly":
        judged += [
            _processes("controller", found.deployments, _CONTROLLER, found.pods, "nothing is captured meanwhile"),
            _processes("webhook", found.deployments, _WEBHOOK, found.pods, _COLD),
            _configuration(found.configurations),
        ]
    judged.append(
        _processes("agents", found.daemon_sets, _AGENT, found.pods, "pods on the other nodes start cold meanwhile")
    )
    judged.append(_rights(found.lacking))
    if values.storage.access_mode == "agentMount":
        judged.append(_claim(found.claims, values, namespace))
    return [*judged, *_checkpoints(found.checkpoints), *_page_cache(found.checkpoints, values)]


def _definition(found: Installed) -> Check:
    if found.has_definition:
        return Check("definition", Verdict.OK, "the cluster knows DynamoCheckpoint")
    advice = "kubectl apply --server-side -f charts/snapshot/crds/ (helm upgrade leaves definitions alone)"
    return Check("definition", Verdict.FAILING, "the cluster does not know DynamoCheckpoint", advice)


def _processes(
    name: str, owners: Sequence[Object] | None, component: str, pods: Sequence[Object] | None, harm: str
) -> Check:
    """Judge a Deployment or the DaemonSets of agents."""
    if owners is None:
        return _unreadable(name)
    ours = [each for each in owners if _labels(each).get(_COMPONENT) == component]
    if not ours:
        return Check(name, Verdict.FAILING, f"the release has none; {harm}", "helm status, then helm upgrade")
    ready, wanted = (sum(numbers) for numbers in zip(*map(_replicas, ours), strict=True))
    kind, namespace = ours[0]["kind"].lower(), ours[0]["metadata"]["namespace"]
    describe = f"kubectl describe {kind} {ours[0]['metadata']['name']} -n {namespace}"
    if not wanted:
        words = "none is wanted: no node fits" if component == _AGENT else "scaled to none"
        return Check(name, Verdict.FAILING, f"{words}; {harm}", describe)
    words = f"{ready} of {wanted} ready"
    if ready >= wanted:
        return Check(name, Verdict.OK, words)
    problems = list(_problems(ours[0], pods or ()))
    verdict = Verdict.WARNING if ready and component != _AGENT else Verdict.FAILING
    parts = [words, *problems[:_MOST_SHOWN], *([] if verdict is Verdict.WARNING else [harm])]
    return Check(name, verdict, "; ".join(parts), describe)


def _replicas(owner: Object) -> tuple[int, int]:
    """Return how many pods of a Deployment or DaemonSet are ready, and how many there shall be."""
    status = owner.get("status") or {}
    if "desiredNumberScheduled" in status:
        return int(status.get("numberReady") or 0), int(status["desiredNumberScheduled"])
    return int(status.get("readyReplicas") or 0), int((owner.get("spec") or {}).get("replicas", 1))


def _problems(owner: Object, pods: Sequence[Object]) -> Iterator[str]:
    wanted = ((owner.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    for pod in pods:
        if wanted.items() <= _labels(pod).items() and not is_true(pod, "Ready"):
            where = (pod.get("spec") or {}).get("nodeName")
            words = "; ".join(start_problems(pod)) or "is not ready"
            yield f"{pod['metadata']['name']}{f' on node {where}' if where else ''}: {words}"


def _configuration(configurations: Sequence[Object] | None) -> Check:
    name = "admission"
    if configurations is None:
        return _unreadable(name)
    entries = [entry for each in configurations for entry in each.get("webhooks") or ()]
    if not entries:
        words = f"no MutatingWebhookConfiguration of the release; {_COLD}"
        return Check(name, Verdict.FAILING, words, "helm upgrade makes it again")
    if not all((entry.get("clientConfig") or {}).get("caBundle") for entry in entries):
        words = f"the API server has no certificate to trust the webhook by; {_COLD}"
        return Check(name, Verdict.FAILING, words, "the controller writes it: see `controller` and its log")
    return Check(name, Verdict.OK, "the API server knows the webhook and its certificate")


def _rights(lacking: Sequence[Right] | None) -> Check:
    name = "rights"
    if lacking is None:
        advice = "ask with an account that may create subjectaccessreviews, or read the agents' log"
        return Check(name, Verdict.UNKNOWN, "you may not ask what the agents' account may do", advice)
    if not lacking:
        return Check(name, Verdict.OK, "the agents' account may do what their work needs")
    words = f"the agents' account may not: {in_words(lacking)}; agents stay Ready, and pods start cold meanwhile"
    return Check(name, Verdict.FAILING, words, ROLES)


def _claim(claims: Sequence[Object] | None, values: Values, namespace: str) -> Check:
    name, wanted = "storage", values.storage.pvc.claim_name
    if claims is None:
        return _unreadable(name)
    claim = next((each for each in claims if each["metadata"]["name"] == wanted), None)
    if claim is None:
        words = f"claim {namespace}/{wanted} does not exist; agents do not start"
        return Check(name, Verdict.FAILING, words, "create it, or set storage.pvc.create=true")
    phase = (claim.get("status") or {}).get("phase")
    if phase == "Bound":
        return Check(name, Verdict.OK, f"claim {namespace}/{wanted} is bound")
    words = f"claim {namespace}/{wanted} is {phase or 'not bound'}"
    return Check(name, Verdict.FAILING, words, f"kubectl describe pvc {wanted} -n {namespace}")


def _checkpoints(checkpoints: Sequence[Object] | None) -> Iterator[Check]:
    name = "checkpoints"
    if checkpoints is None:
        return
    phases = [(each.get("status") or {}).get("phase") for each in checkpoints]
    failed = phases.count(Phase.FAILED)
    failing = sum(is_true(each, ConditionType.RESTORES_FAILING) for each in checkpoints)
    counts = {"Ready": phases.count(Phase.READY), "Failed": failed, "whose restores fail": failing}
    words = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none yet"
    bad = failed or failing
    yield Check(name, Verdict.WARNING if bad else Verdict.OK, words, "snapshotctl get -A" if bad else "")


def _page_cache(checkpoints: Sequence[Object] | None, values: Values) -> Iterator[Check]:
    """Compare what is Ready with what a node keeps of it."""
    most = values.daemonset.page_cache
    if checkpoints is None or most is None:
        return
    statuses = [each.get("status") or {} for each in checkpoints]
    sizes = [status.get("size") or 0 for status in statuses if status.get("phase") == Phase.READY]
    larger = [size for size in sizes if size > most]
    name, keeps = "page cache", f"a node keeps {readable(most)} of artifacts in page cache"
    if not larger:
        yield Check(name, Verdict.OK, keeps)
        return
    words = f"{keeps}, and {len(larger)} of {len(sizes)} Ready checkpoints are larger, up to {readable(max(larger))}"
    limit = "daemonset.resources.limits.memory"
    advice = f"every restore of them reads storage: raise {limit}, or take it away (docs/operating.md)"
    yield Check(name, Verdict.WARNING, words, advice)


def _unreadable(name: str) -> Check:
    return Check(name, Verdict.UNKNOWN, "you may not read this", "ask with an account that may list it")


def _labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
    return labels
