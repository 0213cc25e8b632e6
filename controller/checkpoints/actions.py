"""Everything the controller can do to the cluster, besides writing a status: a closed set."""

from dataclasses import dataclass

from kube.api import Object


@dataclass(frozen=True, slots=True)
class SetLabel:
    """Put one label on the checkpoint."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class SetAnnotations:
    """Change annotations of the checkpoint, unless it changed meanwhile; None takes one away."""

    values: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    """Add our finalizer to the checkpoint, or take it away."""

    present: bool


@dataclass(frozen=True, slots=True)
class CreateClaim:
    """Create the storage's PersistentVolumeClaim; one that is there already is as good."""

    claim: Object


@dataclass(frozen=True, slots=True)
class CheckJob:
    """Have the API server check a Job without storing it."""

    job: Object


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create a Job; one of that name that is ours is as good."""

    job: Object


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a Job and its pods; one that is deleted already is as good."""

    job: Object


@dataclass(frozen=True, slots=True)
class SetDeadline:
    """Give a running Job another ``activeDeadlineSeconds``."""

    job: Object
    seconds: int


Action = SetLabel | SetAnnotations | SetFinalizer | CreateClaim | CheckJob | CreateJob | DeleteJob | SetDeadline
