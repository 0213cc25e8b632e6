"""Typed views of the Kubernetes objects that decisions are made from: parsed once, and whatever is absent is empty.

Objects travel as plain dicts, because typed models drop fields that they do not know. A view keeps the object beside
what it reads from it, so that an action can still be about the object itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from contract.api.times import parsed_time

Object = dict[str, Any]
"""A Kubernetes object exactly as the API server sends it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a status; *since* is None if no time was written, or none that can be read."""

    status: str
    reason: str
    message: str
    since: datetime | None

    @property
    def is_true(self) -> bool:
        """Whether it is met; ``Unknown`` is not."""
        return self.status == "True"


@dataclass(frozen=True)
class ObjectView:
    """What all kinds have in common."""

    raw: Object

    @cached_property
    def name(self) -> str:
        """``metadata.name``."""
        return str(self.raw["metadata"]["name"])

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Labels by key."""
        return self.raw["metadata"].get("labels") or {}

    @cached_property
    def annotations(self) -> Mapping[str, str]:
        """Annotations by key."""
        return self.raw["metadata"].get("annotations") or {}

    @cached_property
    def created(self) -> datetime | None:
        """When the API server stored it; None for an object that it never stored."""
        return parsed_time(self.raw["metadata"].get("creationTimestamp"))

    @cached_property
    def is_deleting(self) -> bool:
        """Whether it is on its way out, held by a finalizer or a grace period."""
        return bool(self.raw["metadata"].get("deletionTimestamp"))

    @cached_property
    def conditions(self) -> Mapping[str, Condition]:
        """Conditions of the status by type."""
        entries: Sequence[Object] = self._status.get("conditions") or ()
        return {
            str(entry.get("type")): Condition(
                status=str(entry.get("status") or ""),
                reason=str(entry.get("reason") or ""),
                message=str(entry.get("message") or ""),
                since=parsed_time(entry.get("lastTransitionTime")),
            )
            # From behind: of two with one type, which the API does not forbid for Jobs, the first counts.
            for entry in reversed(entries)
        }

    def is_true(self, kind: str) -> bool:
        """Say whether the condition of that type is there and ``True``."""
        found = self.conditions.get(kind)
        return found is not None and found.is_true

    @property
    def _status(self) -> Object:
        return self.raw.get("status") or {}

    @property
    def _spec(self) -> Object:
        return self.raw.get("spec") or {}


@dataclass(frozen=True)
class JobView(ObjectView):
    """A Job."""

    @cached_property
    def is_complete(self) -> bool:
        """Whether its pod succeeded."""
        return self.is_true("Complete")

    @cached_property
    def is_failed(self) -> bool:
        """Whether the Job controller gave it up."""
        return self.is_true("Failed")

    @property
    def is_finished(self) -> bool:
        """Whether no pod of it runs any more or will again."""
        return self.is_complete or self.is_failed

    @cached_property
    def had_pod(self) -> bool:
        """Whether the Job controller has made a pod, whatever became of it."""
        return any(self._status.get(count) for count in ("active", "succeeded", "failed"))

    @cached_property
    def started(self) -> datetime | None:
        """When the clock of its deadline began to run."""
        return parsed_time(self._status.get("startTime"))

    @cached_property
    def completed(self) -> datetime | None:
        """When its pod succeeded."""
        return parsed_time(self._status.get("completionTime"))

    @property
    def deadline(self) -> int | None:
        """``spec.activeDeadlineSeconds``."""
        return self._spec.get("activeDeadlineSeconds")

    @property
    def template_annotations(self) -> Mapping[str, str]:
        """Annotations that its pods get."""
        return ((self._spec.get("template") or {}).get("metadata") or {}).get("annotations") or {}


@dataclass(frozen=True, slots=True)
class ContainerState:
    """The waiting or terminated state of a container, in the runtime's words."""

    reason: str = ""
    message: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class ContainerView:
    """The status of one container; the state that it is not in is empty."""

    name: str
    image: str
    waiting: ContainerState
    terminated: ContainerState


@dataclass(frozen=True)
class PodView(ObjectView):
    """A pod."""

    @property
    def node(self) -> str:
        """The node that it was scheduled to; empty before that."""
        return str(self._spec.get("nodeName") or "")

    @property
    def affinity(self) -> Object:
        """``spec.affinity``."""
        return self._spec.get("affinity") or {}

    @cached_property
    def init_containers(self) -> tuple[ContainerView, ...]:
        """Status of the init containers, in their order."""
        return _containers(self._status.get("initContainerStatuses") or ())

    @cached_property
    def containers(self) -> tuple[ContainerView, ...]:
        """Status of the containers, in the order of kubelet."""
        return _containers(self._status.get("containerStatuses") or ())


def _containers(entries: Iterable[Object]) -> tuple[ContainerView, ...]:
    return tuple(
        ContainerView(
            name=str(entry.get("name") or ""),
            image=str(entry.get("image") or ""),
            waiting=_state(entry, "waiting"),
            terminated=_state(entry, "terminated"),
        )
        for entry in entries
    )


def _state(entry: Object, which: str) -> ContainerState:
    found = (entry.get("state") or {}).get(which) or {}
    return ContainerState(
        str(found.get("reason") or ""), str(found.get("message") or ""), int(found.get("exitCode") or 0)
    )
