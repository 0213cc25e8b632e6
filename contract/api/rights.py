"""What the agent's service account must be allowed: what the chart's roles grant it, for a look whether it still is.

tests/chart/test_rbac_table.py compares the list with the chart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from contract.api import keys


@dataclass(frozen=True)
class Right:
    """One verb on one kind of object."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespaced: bool = True

    @property
    def qualified(self) -> str:
        """The resource as RBAC's tools write it: ``jobs.batch``, ``pods/status``."""
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{kind}/{self.subresource}" if self.subresource else kind

    def attributes(self, namespace: str | None) -> dict[str, Any]:
        """Return the ``resourceAttributes`` of an access review.

        Args:
            namespace: None: in all of them.
        """
        found = {"verb": self.verb, "group": self.group, "resource": self.resource, "subresource": self.subresource}
        return found | ({"namespace": namespace} if namespace and self.namespaced else {})


def _each(verbs: str, resource: str, group: str = "") -> tuple[Right, ...]:
    return tuple(Right(verb, resource, group) for verb in verbs.split())


AGENT: Final = (
    *_each("get list watch patch", "pods"),
    Right("patch", "pods", subresource="status"),
    *_each("get patch", "jobs", "batch"),
    Right("get", keys.CHECKPOINT_PLURAL, keys.GROUP),
    *_each("get create patch delete", "leases", "coordination.k8s.io"),
    *_each("create patch", "events"),
    Right("get", "nodes", namespaced=False),
    Right("patch", "nodes", namespaced=False),
)


ROLES: Final = (
    "helm upgrade makes the chart's roles again; with rbac.create=false grant what docs/security.md lists for "
    "snapshot-agent"
)
"""What to do if the agent lacks one."""


def in_words(rights: Iterable[Right]) -> str:
    """Write rights with the verbs of each resource together: ``get, patch jobs.batch; list pods``."""
    verbs: dict[str, list[str]] = {}
    for right in rights:
        verbs.setdefault(right.qualified, []).append(right.verb)
    return "; ".join(f"{', '.join(of)} {resource}" for resource, of in verbs.items())


def is_allowed(review: Mapping[str, Any]) -> bool:
    """Say what an access review that the API server has answered says."""
    return bool((review.get("status") or {}).get("allowed"))
