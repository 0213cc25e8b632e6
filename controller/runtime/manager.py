"""What a controller gets from the process that it runs in, and what it adds to it.

The process wires controllers that do not know each other: each answers its informers and the work of a leader.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry

from contract.config.values import Values
from daemon.settings import Settings
from daemon.tasks import Task
from kube.api import KubeClient
from kube.informer import Informer
from kube.queue import WorkQueue
from kube.recorder import Recorder
from kube.volume_claims import VolumeClaimInformer


@dataclass(frozen=True, kw_only=True)
class ManagerContext:
    """What all controllers of one process share."""

    kube: KubeClient
    settings: Settings
    values: Values
    recorder: Recorder
    registry: CollectorRegistry
    checkpoints: Informer
    """DynamoCheckpoints of the namespaces served."""
    now: Callable[[], datetime]
    led_until: Callable[[], datetime | None] = lambda: None
    """When the leader before this one last renewed its Lease, by its own clock."""
    claims: VolumeClaimInformer | None = None
    """With podMount: the claims that mutated pods mount."""


@dataclass(frozen=True)
class ControllerSetup:
    """What one controller adds to the process."""

    informers: Mapping[str, Informer] = field(default_factory=dict)
    """Informers by name; they run in every replica, and readiness waits for them."""
    work: Mapping[str, Task] = field(default_factory=dict)
    """Runs only while this process leads; each waits for its informers itself (``kube.informer.synced``)."""
    queues: Mapping[str, WorkQueue[Any]] = field(default_factory=dict)
    """The queues that the work draws from, by name: how far each is behind is a metric."""
