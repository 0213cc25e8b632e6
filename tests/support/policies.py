"""What the tests of the chart's policies share: pods as users write them, and a release that judges them."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cluster.errors import CommandError
from cluster.kubectl import Kubectl

T = TypeVar("T")
PATIENCE = 90.0
"""Seconds until the API server has compiled a new policy and seen a new role; mostly one or two."""


def a_pod(
    name: str = "p",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    account: str = "default",
) -> dict[str, Any]:
    """Return a pod of one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}},
        "spec": {"serviceAccountName": account, "containers": [{"name": "main", "image": "x"}]},
    }


def until(attempt: Callable[[], T]) -> T:
    """Return what *attempt* returns once it no longer fails; raise its last failure if it never succeeds."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except (AssertionError, CommandError):
            if time.monotonic() > end:
                raise


@dataclass(frozen=True)
class Release:
    """One release's namespace, by kubectl."""

    kubectl: Kubectl
    namespace: str

    def create(self, pod: dict[str, Any], *, dry_run: bool = True) -> Any:
        """Return the pod as the API server would store it, or stored it."""
        dry = ("--dry-run=server",) if dry_run else ()
        return json.loads(
            self.kubectl("create", "-n", self.namespace, *dry, "-o", "json", "-f", "-", stdin=json.dumps(pod))
        )

    def refused(self, pod: dict[str, Any]) -> str:
        """Return what the API server says when it refuses the pod."""
        return self.refusal("create", "-n", self.namespace, "--dry-run=server", "-f", "-", stdin=json.dumps(pod))

    def refusal(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what the API server says when it refuses this."""
        try:
            said = self.kubectl(*arguments, stdin=stdin)
        except CommandError as error:
            return str(error)
        raise AssertionError(f"accepted: {said}")
