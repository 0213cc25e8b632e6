"""Everything that is done to the cluster for graphs, besides writing a status: a closed set."""

from dataclasses import dataclass

from kube.api import Object


@dataclass(frozen=True, slots=True)
class CreateCheckpoint:
    """Create a DynamoCheckpoint; one of that name is as good."""

    body: Object


@dataclass(frozen=True, slots=True)
class PatchCheckpoint:
    """Change metadata of a DynamoCheckpoint, as it was seen."""

    checkpoint: Object
    metadata: Object


@dataclass(frozen=True, slots=True)
class DeleteCheckpoint:
    """Delete a DynamoCheckpoint, and with it its artifacts."""

    checkpoint: Object


@dataclass(frozen=True, slots=True)
class ApplyDeployment:
    """Make a Deployment be as it is said here, as far as it is said."""

    body: Object


@dataclass(frozen=True, slots=True)
class DeleteDeployment:
    """Delete the Deployment of a service that the graph no longer has."""

    deployment: Object


Action = CreateCheckpoint | PatchCheckpoint | DeleteCheckpoint | ApplyDeployment | DeleteDeployment
