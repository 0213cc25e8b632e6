"""One new pod and the facts that its admission follows from: each is found or worked out once, when first asked for.

Nothing is refused here: a fact that cannot be had raises, and the check that refuses for it comes before all checks
that need it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.api.states import Admission, Phase, StartupPolicy
from contract.api.trigger import opts_in
from contract.api.volume_claims import Claims, ClaimState, claim_problem, said_of_claim, unknown
from contract.config.storage import BadIdError, Storage, StorageError, storage_from_values
from contract.pods import common
from contract.pods.injected_tools import EntrypointUnknownError, Tools, tools_for
from contract.pods.parking import parked_wanted
from contract.pods.restore_patch import Restore, restore_operations
from contract.pods.systems import only_architecture
from contract.pods.template_hash import automatic_id, automatic_name, only_target, worker_hash
from contract.pods.unshape import unshaped

if TYPE_CHECKING:
    from contract.config.values import Values

Json = dict[str, Any]
Lookup = Callable[[str, str], Json | None]
"""Namespace and name of a DynamoCheckpoint to the object, None if there is none."""

_STAMP: Final = re.compile(r"[0-9a-f]{32}")
_SHAPED: Final = frozenset({Admission.RESTORE_SHAPED, Admission.HELD, Admission.PLACEHOLDER})
_WANTED: Final = (keys.RESTORE_BY_NAME, keys.RESTORE_AUTO)
_POLICIES: Final = frozenset(policy.value for policy in StartupPolicy)
_LET_US_MAKE_IT: Final = ", or set the chart value storage.pvc.create=true"


_T = TypeVar("_T")


class lazy_property(Generic[_T]):  # noqa: N801 - a decorator, as property is
    """A property that is worked out once.

    As ``functools.cached_property``, without the lock that Python 3.11 takes each time: a candidate is one thread's.
    """

    def __init__(self, found: Callable[[Candidate], _T]) -> None:
        self._found = found
        self._name = found.__name__
        self.__doc__ = found.__doc__

    def __get__(self, candidate: Candidate, owner: type[Candidate]) -> _T:
        """Work it out; from then on the candidate's own attribute of that name goes first."""
        value = candidate.__dict__[self._name] = self._found(candidate)
        return value


class UnmetError(Exception):
    """A fact that cannot be had of this pod; an earlier check says why."""


UNMET: Final = (UnmetError, ckpt.TargetError, BadIdError, StorageError)
"""What a fact raises that cannot be had."""


def opted_in(pod: Mapping[str, Any]) -> bool:
    """Say whether a pod asks for anything: then the answer is written on it."""
    return _asks(ckpt.labels_of(pod), ckpt.annotations_of(pod))


def _asks(labels: Mapping[str, str], annotations: Mapping[str, str]) -> bool:
    if opts_in(labels, annotations):
        return True
    return labels.get(keys.LABEL_RESTORE) in _WANTED or _is_of_graph(annotations)


def _is_of_graph(annotations: Mapping[str, str]) -> bool:
    return annotations.get(keys.ANN_RESTORE_CANDIDATE) == "true"


@dataclass(frozen=True)
class Candidate:
    """A pod that is about to be created."""

    request: Mapping[str, Any]
    """``request`` of an AdmissionReview v1; its ``object`` is the pod."""
    lookup: Lookup
    values: Values
    claims: Claims = unknown
    """With podMount, the state of a namespace's volume claim."""

    pod: Json = field(init=False)
    spec: Json = field(init=False)
    labels: Mapping[str, str] = field(init=False)
    annotations: Mapping[str, str] = field(init=False)
    namespace: str = field(init=False)
    """The pod's own; one that a controller makes has only the request's."""
    by_trigger: bool = field(init=False)
    """Whether it opts in by the worker's own request alone: its labels here have the word that it lacks."""
    opted_in: bool = field(init=False)
    """Whether it asks for anything: then the answer is written on it."""
    of_graph: bool = field(init=False)
    """Whether it is marked as a worker of a graph deployment; those wait at zero replicas, never behind a gate."""
    automatic: bool = field(init=False)
    """Whether its checkpoint is made from its own template; else it restores by name."""

    def __post_init__(self) -> None:
        pod = self.request.get("object") or {}
        metadata = pod.get("metadata") or {}
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        if by_trigger := opts_in(labels, annotations):
            labels = {**labels, keys.LABEL_RESTORE: keys.RESTORE_AUTO}
            pod = {**pod, "metadata": {**metadata, "labels": labels}}
        of_graph = _is_of_graph(annotations)
        vars(self).update(
            pod=pod,
            spec=pod.get("spec") or {},
            labels=labels,
            annotations=annotations,
            namespace=metadata.get("namespace") or self.request.get("namespace") or "",
            by_trigger=by_trigger,
            opted_in=_asks(labels, annotations),
            of_graph=of_graph,
            automatic=not of_graph and labels.get(keys.LABEL_RESTORE) == keys.RESTORE_AUTO,
        )

    # What it asks for

    @lazy_property
    def says_when(self) -> bool:
        """Whether its worker says itself when it is captured; with podMount it could not write the volume."""
        if not self.automatic or self.labels.get(keys.LABEL_TRIGGER) != "true":
            return False
        try:
            return not self.storage.in_pod
        except StorageError:
            return False

    @lazy_property
    def may_wait(self) -> bool:
        """Whether it is to be held until its checkpoint is Ready."""
        said = self.annotations.get(keys.ANN_STARTUP_POLICY)
        policy = said if said in _POLICIES else self.values.startup_policy
        if policy != StartupPolicy.WAIT_FOR_CHECKPOINT or self.of_graph or self.says_when:
            return False
        # The API server refuses a gate on a pod that has its node.
        return not self.spec.get("nodeName")

    @lazy_property
    def waits(self) -> bool:
        """Whether it is a placeholder: what is restored into it is named later, on the pod."""
        return self.annotations.get(keys.ANN_STANDBY) == keys.STANDBY_WAITS

    @lazy_property
    def parks(self) -> bool:
        """Whether its worker, once it is restored, is stopped until it is woken."""
        return self.annotations.get(keys.ANN_STANDBY) == keys.STANDBY_PARKS or self.spare

    @lazy_property
    def spare(self) -> bool:
        """Whether that is so for its checkpoint, and not by its own template."""
        if keys.ANN_STANDBY in self.annotations:
            return False
        return parked_wanted(self.checkpoint or {}) > 0

    @property
    def says_shaped(self) -> bool:
        """Whether it carries the word of an earlier look that mutated it."""
        return self.annotations.get(keys.ANN_ADMISSION) in _SHAPED

    @property
    def shaped_before(self) -> bool:
        """Whether an earlier look of this very admission mutated it; another webhook has changed it since."""
        if not self.says_shaped or keys.LABEL_IS_RESTORE_TARGET not in self.labels:
            return False
        return bool(self.spec) and not _sent_by_client(self.pod, keys.ANN_ADMISSION)

    @property
    def as_it_came(self) -> Candidate:
        """The same pod without what the earlier look wrote."""
        return Candidate({**self.request, "object": unshaped(self.pod)}, self.lookup, self.values, self.claims)

    # Its target

    @lazy_property
    def found_targets(self) -> tuple[ckpt.Target, ...] | ckpt.TargetError:
        """The containers to restore, or why they cannot be determined."""
        try:
            found = ckpt.find_targets(self.pod)
            return (only_target(found),) if self.automatic else found
        except ckpt.TargetError as error:
            return error

    @lazy_property
    def targets(self) -> tuple[ckpt.Target, ...]:
        """The containers to restore.

        Raises:
            TargetError: if they cannot be determined.
        """
        found = self.found_targets
        if isinstance(found, ckpt.TargetError):
            raise found
        return found

    @lazy_property
    def target(self) -> Json:
        """The container that an automatic checkpoint captures."""
        return self.targets[0].container

    # Its checkpoint

    @property
    def name_said(self) -> str:
        """The name of the checkpoint that it restores from by name; empty if it names none."""
        return self.annotations.get(keys.ANN_CHECKPOINT_NAME) or self.annotations.get(keys.ANN_RESTORE_FROM) or ""

    @lazy_property
    def stamp(self) -> str:
        """Template hash of an automatic pod; empty: it restores by name."""
        if not self.automatic:
            return ""
        return self._earlier_stamp() or worker_hash(self.pod, self.target, self.values.automatic.hash_annotations)

    @lazy_property
    def name(self) -> str:
        """Name of the DynamoCheckpoint, whether it exists or not."""
        name = automatic_name(automatic_id(self.namespace, self.stamp)) if self.automatic else self.name_said
        if not name:
            raise UnmetError
        return name

    @property
    def notes(self) -> dict[str, str]:
        """Annotations from which the controller makes an automatic checkpoint, whatever becomes of this pod."""
        return {keys.ANN_TEMPLATE_HASH: self.stamp, keys.ANN_CHECKPOINT: self.name} if self.automatic else {}

    @lazy_property
    def checkpoint(self) -> Json | None:
        """The checkpoint as it is stored; None also for a placeholder that has the shape of none."""
        if self.waits and not self.name_said:
            return None
        return self.lookup(self.namespace, self.name)

    @property
    def status(self) -> Json:
        """The checkpoint's status, empty if there is none."""
        return (self.checkpoint or {}).get("status") or {}

    @lazy_property
    def phase(self) -> str:
        """The checkpoint's phase."""
        return self.status.get("phase") or Phase.PENDING

    @property
    def held(self) -> bool:
        """Whether a pod that is not refused waits: its checkpoint is not Ready yet."""
        return self.phase != Phase.READY

    @lazy_property
    def source(self) -> Json:
        """The checkpoint, or the one that will be made of an automatic pod, as far as the patch needs it.

        For a placeholder that names none: what a checkpoint of its own spec would say.
        """
        if self.checkpoint is not None:
            return self.checkpoint
        if self.waits and not self.name_said:
            return {"metadata": {}, "spec": {"job": self._own_job}}
        if not self.automatic:
            raise UnmetError
        labels = {keys.LABEL_CHECKPOINT_ID: automatic_id(self.namespace, self.stamp)}
        annotations = {keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_TEMPLATE_HASH: self.stamp}
        metadata = {"name": self.name, "labels": labels, "annotations": annotations}
        return {"metadata": metadata, "spec": {"job": self._own_job}}

    @property
    def _own_job(self) -> Json:
        return {"podTemplateSpec": {"spec": self.spec}, "targetContainerName": self.targets[0].name}

    @lazy_property
    def captured(self) -> Json:
        """The container that was captured, or is like it; empty if the checkpoint's template lacks it."""
        return (self.target if self.checkpoint is None else ckpt.captured_container(self.checkpoint)) or {}

    @lazy_property
    def captured_image(self) -> str:
        """The image that was captured, as the controller noted it; the template may have changed since."""
        noted = ((self.source.get("status") or {}).get("image") or {}).get("reference")
        written = str(self.captured.get("image") or "")
        return str(noted or self.values.placeholder.images.get(written, written))

    @property
    def captured_architecture(self) -> str:
        """The architecture that was captured, or that the template can be captured on only; empty if it may be any."""
        noted = ((self.source.get("status") or {}).get("image") or {}).get("architecture")
        return str(noted or "") or only_architecture(ckpt.template(self.source).get("spec") or {})

    @lazy_property
    def artifact(self) -> tuple[str | None, str]:
        """Id, if the checkpoint has one, and version of the artifact.

        Raises:
            BadIdError: if one of them is no such thing.
        """
        checkpoint_id = ckpt.resolve_id(self.source)
        return checkpoint_id, ckpt.captured_version(self.source, checkpoint_id)

    # How it is mutated

    @lazy_property
    def storage(self) -> Storage:
        """The checkpoint volume.

        Raises:
            StorageError: if the chart's values contradict each other.
        """
        return storage_from_values(self.values)

    @property
    def claim_problem(self) -> str:
        """What keeps the volume claim of the namespace from being mounted; empty if nothing does.

        The controller's word is a moment older than what the copy of claims knows, but says why it may not be made.
        """
        if not self.storage.in_pod:
            return ""
        claim, said = self.claims(self.namespace), said_of_claim(self.checkpoint)
        if claim == ClaimState.UNKNOWN:
            return said
        problem = claim_problem(claim, f"{self.namespace}/{self.storage.pvc_name}")
        if claim != ClaimState.MISSING or not self.held or (self.waits and self.checkpoint is None):
            return problem
        # The controller makes it together with the checkpoint, if it may.
        return said if self.storage.create else problem + _LET_US_MAKE_IT

    @lazy_property
    def tools(self) -> Tools | None:
        """What the targets' image lacks; None: it has standby built in."""
        return tools_for(self.source, self.captured_image or self.target.get("image", ""), self.values)

    @lazy_property
    def restore(self) -> Restore:
        """All that the patch takes from the checkpoint and the values."""
        checkpoint_id, version = self.artifact
        template = ckpt.template(self.source).get("spec") or {}
        seccomp = self.values.checkpoint.seccomp
        secrets = template.get("imagePullSecrets") or ()
        return Restore(
            checkpoint=self.name_said if self.waits else self.name,
            checkpoint_id=checkpoint_id or "",
            version=version,
            storage=self.storage,
            seccomp_profile=None if seccomp.disabled else seccomp.profile,
            node_affinity=self.values.admission.node_affinity,
            image=self.captured_image or None,
            pull_secrets=tuple(secret["name"] for secret in secrets if secret.get("name")),
            shared_memory=self._shared_memory(template),
            tools=self.tools,
            image_config=(self.source.get("status") or {}).get("image") or {},
            held=self.held and not self.waits,
            waits=self.waits,
            parks=self.parks,
            spare=self.spare,
            device_memory=self.values.capture.device_memory,
            stamp=self.stamp,
        )

    @lazy_property
    def patch(self) -> tuple[Json, ...] | common.MountTakenError | EntrypointUnknownError:
        """The JSON patch that mutates the pod, or why there is none."""
        try:
            return tuple(restore_operations(self.pod, self.restore, self.targets))
        except (common.MountTakenError, EntrypointUnknownError) as error:
            return error

    @property
    def serving_patch(self) -> tuple[Json, ...] | common.MountTakenError | EntrypointUnknownError:
        """The JSON patch that lets it be captured while it runs, or why there is none."""
        try:
            return tuple(restore_operations(self.pod, replace(self.restore, serves=True), self.targets))
        except (common.MountTakenError, EntrypointUnknownError) as error:
            return error

    def _shared_memory(self, template: Json) -> str | None:
        """Size of the memory volume at /dev/shm in the capture pod: the template's own, or the one we put there."""
        if common.mounted_at(self.captured, keys.SHARED_MEMORY_DIR):
            return common.memory_volume_size(template, self.captured)
        return ckpt.shared_memory_size(self.source)

    def _earlier_stamp(self) -> str:
        """Return the hash of an earlier look at this pod: what other webhooks changed since makes no other template."""
        stamp = self.annotations.get(keys.ANN_TEMPLATE_HASH, "")
        if self.annotations.get(keys.ANN_ADMISSION, Admission.WEBHOOK_UNREACHABLE) == Admission.WEBHOOK_UNREACHABLE:
            return ""
        if not _STAMP.fullmatch(stamp):
            return ""
        fitting = self.annotations.get(keys.ANN_CHECKPOINT) == automatic_name(automatic_id(self.namespace, stamp))
        return stamp if fitting and not _sent_by_client(self.pod, keys.ANN_TEMPLATE_HASH) else ""


def _sent_by_client(pod: Json, annotation: str) -> bool:
    """Say whether the annotation came with the request, in a manifest copied from another pod, and not from a webhook.

    The API server notes the owners of fields before it asks webhooks.
    """
    for entry in (pod.get("metadata") or {}).get("managedFields") or ():
        fields = (entry.get("fieldsV1") or {}).get("f:metadata") or {}
        if f"f:{annotation}" in (fields.get("f:annotations") or {}):
            return True
    return False
