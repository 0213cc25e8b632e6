"""What the controller knows when it plans: the cluster around one checkpoint, at one moment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from contract.api.checkpoint import artifact_version, job_name, resolve_id
from contract.api.objects import JobView, PodView
from contract.api.states import Phase
from contract.config.storage import BadIdError, Storage
from contract.config.values import Values
from contract.nodes.gpus import ClaimTemplates
from contract.nodes.node_facts import NodeFacts
from kube.api import Object


class Refused(StrEnum):
    """How the API server refused something that was planned."""

    INVALID = "invalid"
    """It breaks the schema: no retry can help."""
    FORBIDDEN = "forbidden"
    """RBAC, quota or a policy says no: that may change."""
    NAMESPACE_ENDING = "namespace ending"
    """The namespace is being deleted, nothing new can be made in it."""
    NOT_OURS = "not ours"
    """The name is taken by an object of another owner."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a planned object that the server did not take."""

    kind: str
    """Kind of the refused object: Job or PersistentVolumeClaim."""
    how: Refused
    message: str
    """The server's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One checkpoint and everything that decides about it."""

    checkpoint: Object
    job: Object | None = None
    """The Job of ``job_to_look_at``."""
    source_pod: Object | None = None
    """The running pod that is to be captured, whatever its uid is; only looked for until that is done."""
    pods: tuple[Object, ...] = ()
    """Pods of that Job."""
    job_events: tuple[Object, ...] = ()
    """Warning Events about that Job, read only if it has no pod."""
    claim: Object | None = None
    """The storage's PersistentVolumeClaim in the checkpoint's namespace; only looked for in podMount."""
    siblings: tuple[Object, ...] = ()
    """Other checkpoints with the same id that share the volume: of the namespace, in agentMount of all namespaces."""
    lease: Object | None = None
    """The agent's Lease for a Job, read only if the agent's word is missing: it may be at work still."""
    cleanup_job: Object | None = None
    """The Job that removes the artifact of a checkpoint that is being deleted."""
    cleanup_events: tuple[Object, ...] = ()
    """Warning Events about that Job, read only if it has no pod."""
    adopt_job: Object | None = None
    """The Job that looks at an artifact which shall be taken over."""
    adopt_pods: tuple[Object, ...] = ()
    """Pods of that Job."""
    adopt_events: tuple[Object, ...] = ()
    """Warning Events about that Job, read only if it has no pod."""
    agents: tuple[Object, ...] | None = None
    """DaemonSets of the agent in the release's namespace; None with podMount, with which they mount nothing."""
    nodes: Mapping[NodeFacts, int] | None = None
    """How many nodes there are of each kind; None if that is not known."""
    release_namespace: str = ""
    """Namespace of the agent and, in agentMount, of the volume; empty: the checkpoint's namespace."""
    claim_templates: ClaimTemplates = field(default_factory=dict)
    """What the captured container's claims for devices are made from."""
    refusal: Refusal | None = None
    """What the server said to the plan made a moment ago; the same look, one fact richer."""


@dataclass(frozen=True)
class Pass:
    """All that one pass over one checkpoint is planned from: planners take it whole and look nowhere else.

    Its views are parsed once, when the first planner asks.
    """

    observed: Observed
    now: datetime
    values: Values
    storage: Storage

    @property
    def checkpoint(self) -> Object:
        """The checkpoint that is planned for."""
        return self.observed.checkpoint

    @cached_property
    def job(self) -> JobView | None:
        """The Job of ``job_to_look_at``."""
        return JobView(self.observed.job) if self.observed.job is not None else None

    @cached_property
    def pods(self) -> tuple[PodView, ...]:
        """Pods of that Job."""
        return tuple(map(PodView, self.observed.pods))

    @cached_property
    def pod(self) -> PodView | None:
        """The pod of that Job which was made last."""
        return newest(self.pods)

    @cached_property
    def adopt_job(self) -> JobView | None:
        """The Job that looks at an artifact which shall be taken over."""
        return JobView(self.observed.adopt_job) if self.observed.adopt_job is not None else None

    @cached_property
    def adopt_pod(self) -> PodView | None:
        """The pod of that Job which was made last."""
        return newest(map(PodView, self.observed.adopt_pods))

    @cached_property
    def cleanup_job(self) -> JobView | None:
        """The Job that removes the artifact of a checkpoint that is being deleted."""
        return JobView(self.observed.cleanup_job) if self.observed.cleanup_job is not None else None


def newest(pods: Iterable[PodView]) -> PodView | None:
    """Return the pod made last, None if there is none."""
    # As text: the API server writes all times alike, and a pod from a file may have none.
    return max(pods, key=lambda pod: str(pod.raw["metadata"].get("creationTimestamp", "")), default=None)


def wanted_job(checkpoint: Object) -> str:
    """Return the name of the Job that the checkpoint's id and version ask for; empty if they cannot be determined."""
    try:
        checkpoint_id = resolve_id(checkpoint)
        return job_name(checkpoint_id, artifact_version(checkpoint)) if checkpoint_id else ""
    except BadIdError:
        return ""


def job_to_look_at(checkpoint: Object) -> str:
    """Return the name of the Job that matters now: the one that runs, whatever the version says meanwhile."""
    status = checkpoint.get("status") or {}
    if status.get("phase") == Phase.CREATING and status.get("jobName"):
        return str(status["jobName"])
    return wanted_job(checkpoint)


def belongs_to(obj: Object, checkpoint: Object) -> bool:
    """Say whether no other controller owns *obj*; an object without any controller counts as ours by its name."""
    owners = obj["metadata"].get("ownerReferences") or ()
    controllers = [owner for owner in owners if owner.get("controller")]
    uid = checkpoint["metadata"].get("uid")
    return all(_same(owner, uid, checkpoint) for owner in controllers)


def owner_of(obj: Object) -> str:
    """Return the controller of *obj* in words: kind, name and uid."""
    owners = obj["metadata"].get("ownerReferences") or ()
    found: Object = next((owner for owner in owners if owner.get("controller")), {})
    return f"{found.get('kind', 'nobody')} {found.get('name', '')} ({found.get('uid', 'no uid')})"


def _same(owner: Mapping[str, object], uid: object, checkpoint: Object) -> bool:
    if uid and owner.get("uid"):
        return owner["uid"] == uid
    return owner.get("kind") == checkpoint.get("kind") and owner.get("name") == checkpoint["metadata"]["name"]
