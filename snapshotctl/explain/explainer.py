"""The questions behind ``snapshotctl why``: the webhook's own decision, with the checkpoints that the cluster has now.

The decision looks checkpoints and claims up in memory, so it is asked again until it has met all that it wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from contract.api import keys
from contract.api.checkpoint import TargetError, annotations_of, labels_of, target_containers
from contract.api.states import Admission, RestoreStatus
from contract.api.volume_claims import Claims, ClaimState, unknown
from contract.config.values import Values
from controller.graphs.objects import label_value
from controller.workloads.pods import checkpoint_name
from kube.api import KubeClient, Object
from kube.errors import ForbiddenError, KubeError, NotFoundError
from kube.resources import (
    CHECKPOINTS,
    DAEMON_SETS,
    DEPLOYMENTS,
    GRAPHS,
    JOBS,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
    Resource,
)
from snapshotctl.errors import UserError
from snapshotctl.explain.answers import NOT_ASKED_FOR, SHAPED, Answer, Facts, Ruling, graph_findings, lived, predicted
from snapshotctl.explain.claimed_devices import ClaimedDevices
from snapshotctl.explain.exec_probes import exec_probe_notes
from snapshotctl.explain.original_pod import original_pod
from snapshotctl.explain.release import Release
from snapshotctl.explain.volume_claims import KnownClaims
from snapshotctl.explain.worker_secrets import secret_notes
from snapshotctl.live.errors import not_installed
from snapshotctl.live.suggestions import not_found
from snapshotctl.offline.objects import is_checkpoint, namespace_of
from snapshotctl.offline.workload_pods import Candidate, candidates, name_of
from webhook.candidate import Lookup, opted_in
from webhook.checks import Refusal
from webhook.decide import Decision, decide, refusals
from webhook.pod_schema import malformed

if TYPE_CHECKING:
    from kube.client import Client

WORKLOADS: Final[Mapping[str, Resource]] = {
    each.kind: each for each in (DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS, JOBS)
}
LOG_HEAD: Final = 4096
"""Bytes read of a container's log: standby's line is the first."""
_CAPTURED: Final = (
    Admission.RESTORE_SHAPED,
    Admission.HELD,
    Admission.CHECKPOINT_REQUESTED,
    Admission.CHECKPOINT_NOT_READY,
)
"""Decisions about a pod whose like was captured, or will be."""
_GRAPHS_VALUE: Final = "graphDeployments.enabled=true"
MANY: Final = 16
"""Pods from which on all checkpoints of their namespaces are read at once."""
Key = tuple[str, str]
T = TypeVar("T")


class Explainer:
    """Decides as the webhook would."""

    def __init__(
        self, kube: KubeClient | None, release: Release, stored: Iterable[Object] = (), claims: Claims = unknown
    ) -> None:
        """Start from what is known.

        Args:
            kube: the cluster that is asked; None: no cluster is.
            release: with which values is decided.
            stored: objects of a file in place of a cluster's.
            claims: what that file says of volume claims.
        """
        stored = tuple(stored)
        self._kube = kube
        self.release = release
        self._whole: set[str] = set()
        self._known: dict[Key, Object | None] = {
            (str(obj["metadata"]["namespace"]), str(obj["metadata"]["name"])): obj
            for obj in filter(is_checkpoint, stored)
        }
        self._claims = KnownClaims(kube, release.values.storage.pvc.claim_name, claims)
        self._devices = ClaimedDevices(kube, stored)

    async def ask(self, pod: Mapping[str, Any], namespace: str) -> Ruling:
        """Decide about a pod that is created in *namespace*; a manifest has to be ``as_sent``."""
        request: Object = {"operation": "CREATE", "namespace": namespace, "object": pod}
        decision, wanted, looked = await self._settled(decide, request)
        name, checkpoint = (wanted[-1][1], self._known[wanted[-1]]) if wanted else ("", None)
        notes = (*filter(None, map(self._claims.note, looked)), *await self._devices.notes(pod, namespace))
        if decision.code in SHAPED:
            notes += tuple(exec_probe_notes(pod))
        if decision.code in _CAPTURED:
            notes += tuple(secret_notes(pod))
        return Ruling(decision, name, checkpoint, notes, await self._refusals(request, decision))

    async def _refusals(self, request: Object, decision: Decision) -> tuple[Refusal, ...]:
        """Return all that keeps a refused pod from being mutated, what decided first."""
        if decision.code in SHAPED:
            return ()
        try:
            found, _, _ = await self._settled(refusals, request)
        except KubeError:
            # The decision itself did not need what may not be read.
            return (Refusal(decision.code, decision.message),)
        return tuple(found)

    async def _settled(
        self, question: Callable[[Object, Lookup, Values, Claims], T], request: Object
    ) -> tuple[T, list[Key], list[str]]:
        """Ask until all is known that was looked up; return the answer, the checkpoints and the claims' namespaces."""
        while True:
            wanted: list[Key] = []
            looked: list[str] = []

            def look_up(where: str, name: str, wanted: list[Key] = wanted) -> Object | None:
                wanted.append((where, name))
                return self._known.get((where, name))

            def look_at(where: str, looked: list[str] = looked) -> ClaimState:
                looked.append(where)
                return self._claims.of(where)

            answer = question(request, look_up, self.release.values, look_at)
            if not await self._learn_of(wanted, looked):
                return answer, wanted, looked

    async def _learn_of(self, wanted: Sequence[Key], looked: Sequence[str]) -> bool:
        """Read what the decision asked for and was not known; return whether there was any."""
        missing = [key for key in wanted if key not in self._known]
        unseen = [where for where in looked if not self._claims.seen(where)]
        for key in missing:
            self._known[key] = await self.checkpoint(*key)
        for where in unseen:
            await self._claims.look(where)
        return bool(missing or unseen)

    async def learn(self, namespace: str) -> None:
        """Read all checkpoints of a namespace at once, if that is allowed: one call in place of hundreds."""
        if self._kube is None:
            return
        try:
            found = (await self._kube.list(CHECKPOINTS, namespace)).items
        except ForbiddenError:
            return
        self._known |= {(namespace, str(obj["metadata"]["name"])): obj for obj in found}
        self._whole.add(namespace)

    async def checkpoint(self, namespace: str, name: str) -> Object | None:
        """Read a checkpoint as it is now.

        Raises:
            KubeError: the cluster does not say whether it exists.
        """
        if self._kube is None or namespace in self._whole:
            return self._known.get((namespace, name))
        try:
            return await self._kube.get(CHECKPOINTS, name, namespace)
        except NotFoundError as error:
            if not_installed(error):
                raise
            return None


def as_sent(pod: Mapping[str, Any]) -> Object:
    """Add the API server's note on who wrote the pod's annotations: the client, all of them."""
    metadata = pod.get("metadata") or {}
    written: Object = {f"f:{key}": {} for key in metadata.get("annotations") or ()}
    fields = [{"fieldsV1": {"f:metadata": {"f:annotations": written}}}]
    return {**pod, "metadata": {**metadata, "managedFields": fields}}


async def about_manifests(
    explainer: Explainer, objects: Sequence[Object], namespace: str | None, usual: str
) -> list[Answer]:
    """Answer for each pod that the objects would make.

    Args:
        explainer: decides.
        objects: manifests of any kind.
        namespace: the namespace that the caller insists on.
        usual: the namespace of manifests without one.

    Raises:
        UserError: no pod would be made, or one that cannot be read.
    """
    found: list[tuple[Candidate, str]] = []
    for obj in objects:
        where = namespace_of(obj, namespace, usual)
        found += [(candidate, where) for candidate in candidates(obj)]
    if not found:
        raise UserError(_no_pods(objects))
    if len(found) > MANY:
        await asyncio.gather(*(explainer.learn(where) for where in {where for _, where in found}))
    return list(await asyncio.gather(*(_about(explainer, candidate, where) for candidate, where in found)))


def _no_pods(objects: Sequence[Object]) -> str:
    graph = next((obj for obj in objects if obj.get("kind") == keys.GRAPH_KIND), None)
    if graph is not None:
        return (
            f"the pods of a {keys.GRAPH_KIND} follow from its state in the cluster: apply it, then "
            f"`snapshotctl why {keys.GRAPH_SHORT_NAME}/{name_of(graph)}`"
        )
    return "no pod would be made of this: a Pod, or a workload with a pod template, is needed"


async def _about(explainer: Explainer, candidate: Candidate, namespace: str) -> Answer:
    pod = candidate.pod
    problem = malformed(pod)
    if problem is not None:
        raise UserError(f"{candidate.origin}: the pod cannot be read: {problem}")
    pod["metadata"]["namespace"] = namespace
    try:
        decided = await explainer.ask(as_sent(pod), namespace)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # As the webhook: what the API server would have refused need not be understood.
        raise UserError(f"{candidate.origin}: the pod cannot be read: {error}") from error
    ruling = _as_asked(explainer.release, decided, pod, namespace)
    policy = explainer.release.values.policy
    required = policy.require.enabled and annotations_of(pod).get(keys.ANN_POLICY) == keys.POLICY_REQUIRE
    notes = ruling.notes
    if policy.restore_verb.enabled and ruling.name:
        notes += (_verb_note(pod, ruling.name, namespace),)
    return predicted(candidate.origin, namespace, ruling, required=required, notes=notes)


def _verb_note(pod: Object, checkpoint: str, namespace: str) -> str:
    account = (pod.get("spec") or {}).get("serviceAccountName") or "default"
    return (
        f"service account {account} needs the verb restore (policy.restoreVerb): `kubectl auth can-i restore "
        f"{CHECKPOINTS.plural}.{CHECKPOINTS.group}/{checkpoint} -n {namespace} "
        f"--as system:serviceaccount:{namespace}:{account}`"
    )


def _as_asked(release: Release, ruling: Ruling, pod: Mapping[str, Any], namespace: str) -> Ruling:
    """Return the decision, or why it is never made: the API server sends on only what opted in where we serve."""
    if not opted_in(pod):
        return Ruling(Decision(Admission.NOT_OPTED_IN, NOT_ASKED_FOR))
    words = release.unasked(namespace, labels_of(pod))
    if words is None:
        return ruling
    first = Refusal(Admission.NAMESPACE_EXCLUDED, words)
    others = (each for each in ruling.refusals if each.code != first.code)
    return Ruling(Decision(*first), refusals=(first, *others))


async def about_workload(kube: Client, explainer: Explainer, kind: str, name: str, namespace: str) -> list[Answer]:
    """Answer for the next pod of a live workload; of a graph deployment, for each of its services.

    Raises:
        UserError: no such kind or object.
    """
    resource = _spelled(kind)
    if resource is None:
        kinds = ", ".join(sorted(f"{each.kind.lower()}/NAME" for each in (*WORKLOADS.values(), GRAPHS)))
        raise UserError(f"{kind}/{name}: name a pod, or one of: {kinds}")
    try:
        found = await kube.get(resource, name, namespace)
    except NotFoundError as error:
        if not_installed(error):
            raise UserError(f"the cluster does not know {resource.kind}; the chart value is {_GRAPHS_VALUE}") from error
        raise UserError(await not_found(kube, resource, name, namespace)) from error
    if resource != GRAPHS:
        return await about_manifests(explainer, [found], namespace, namespace)
    services = await kube.list(DEPLOYMENTS, namespace, labels=f"{keys.LABEL_GRAPH}={label_value(name)}")
    if not services.items:
        raise UserError(
            f"{keys.GRAPH_KIND} {name} has no Deployments yet; `kubectl describe dgd {name} -n {namespace}`"
        )
    conditions = graph_findings(found)
    answers = await about_manifests(explainer, services.items, namespace, namespace)
    return [replace(answer, findings=(*answer.findings, *conditions)) for answer in _that_ask(answers)]


def _that_ask(answers: list[Answer]) -> list[Answer]:
    """Leave out services that ask for nothing, such as a frontend, where others do: they are no cold start."""
    others = [answer.object for answer in answers if answer.code == Admission.NOT_OPTED_IN]
    asking = [answer for answer in answers if answer.code != Admission.NOT_OPTED_IN]
    if not asking or not others:
        return answers
    note = f"no checkpoint block, so not asked about: {', '.join(others)}"
    return [*asking[:-1], replace(asking[-1], notes=(*asking[-1].notes, note))]


def _spelled(kind: str) -> Resource | None:
    """Find the resource that a person means: by kind, plural or short name, in any case."""
    known = {word: each for each in (*WORKLOADS.values(), GRAPHS) for word in (each.kind.lower(), each.plural)}
    short = {"deploy": DEPLOYMENTS, "rs": REPLICA_SETS, "sts": STATEFUL_SETS, "ds": DAEMON_SETS}
    return (known | short | {keys.GRAPH_SHORT_NAME: GRAPHS}).get(kind.lower())


async def about_pod(kube: Client, explainer: Explainer, name: str, namespace: str) -> Answer:
    """Answer for a live pod.

    Raises:
        UserError: there is no such pod.
    """
    try:
        pod = await kube.get(PODS, name, namespace)
    except NotFoundError as error:
        raise UserError(await not_found(kube, PODS, name, namespace)) from error
    template, origin = await _template(kube, pod)
    template["metadata"]["namespace"] = namespace
    ruling = await explainer.ask(template, namespace)
    named = checkpoint_name(pod)
    checkpoint = ruling.checkpoint if named in ("", ruling.name) else await explainer.checkpoint(namespace, named)
    logs, notes = await _logs(kube, pod)
    unasked = explainer.release.unasked(namespace, labels_of(pod))
    return lived(
        Facts(pod, checkpoint, ruling.decision, origin, unasked, logs, (*notes, *ruling.notes), ruling.refusals)
    )


async def _template(kube: KubeClient, pod: Object) -> tuple[Object, str]:
    """Build the pod as its owner would make it today; if the owner cannot be read, the pod without what we added."""
    owners = pod["metadata"].get("ownerReferences") or ()
    owner = next((each for each in owners if each.get("controller")), None)
    resource = WORKLOADS.get(str((owner or {}).get("kind", "")))
    if owner is not None and resource is not None:
        try:
            found = await kube.get(resource, owner["name"], pod["metadata"]["namespace"])
        except (ForbiddenError, NotFoundError):
            found = {}
        if made := candidates(found):
            return as_sent(made[0].pod), f"{owner['kind']}/{owner['name']}"
    return original_pod(pod), f"Pod/{pod['metadata']['name']}"


async def _logs(kube: Client, pod: Object) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read the first log lines of the targets whose restore was not reported as completed."""
    annotations = annotations_of(pod)
    try:
        targets = target_containers(pod)
    except TargetError:
        return {}, ()
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    started = {each["name"] for each in statuses if {"running", "terminated"} & (each.get("state") or {}).keys()}
    shaped = annotations.get(keys.ANN_ADMISSION) in SHAPED
    wanted = [
        target
        for target in targets
        if shaped
        and target in started
        and annotations.get(keys.ANN_RESTORE_STATUS_PREFIX + target) != RestoreStatus.COMPLETED
    ]
    heads = await asyncio.gather(*(_log(kube, pod, target) for target in wanted))
    read = {target: head for target, head in zip(wanted, heads, strict=True) if head is not None}
    unread = [target for target in wanted if target not in read]
    return read, tuple(f"the log of container {target} may not be read" for target in unread)


async def _log(kube: Client, pod: Object, container: str) -> str | None:
    metadata = pod["metadata"]
    try:
        return await kube.log_head(metadata["name"], metadata["namespace"], container, LOG_HEAD)
    except KubeError:
        return None
