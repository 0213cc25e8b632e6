"""The surface for tests and the demo."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cluster import embedded
from cluster.builder.cache import Cache
from cluster.control_plane import ControlPlane
from cluster.embedded import Cluster, Options
from cluster.errors import ClusterError, StateError
from cluster.kubectl import Kubectl
from cluster.nodes.node import Mount
from cluster.progress import Progress, Silent, for_terminal

__all__ = [
    "Cluster",
    "ClusterError",
    "ControlPlane",
    "Mount",
    "Options",
    "Target",
    "find",
    "for_terminal",
    "resolve",
    "up",
]

DEFAULT_NAME = "dev"


@dataclass(frozen=True)
class Target:
    """The cluster to work with: the user's own, or an embedded one."""

    kubeconfig: str
    """As in $KUBECONFIG."""
    kind: Literal["own", "embedded"]
    why: str
    """One sentence for the user."""
    kubectl: Kubectl
    cluster: Cluster | None = None
    """The embedded cluster, whose nodes can be entered and given images."""


def up(
    name: str = DEFAULT_NAME,
    *,
    options: Options | None = None,
    progress: Progress | None = None,
    home: Cache | None = None,
) -> Cluster:
    """Start the embedded cluster *name*, or give the one that runs already."""
    return embedded.up(home or Cache.from_env(os.environ), name, options or Options(), progress or Silent())


def find(name: str = DEFAULT_NAME, *, home: Cache | None = None) -> Cluster | None:
    """Return the embedded cluster *name* if it runs."""
    return embedded.find(home or Cache.from_env(os.environ), name)


def resolve(env: Mapping[str, str], name: str = DEFAULT_NAME) -> Target:
    """Return the cluster that $KUBECONFIG names, else the embedded one; StateError if that does not run either."""
    home = Cache.from_env(env)
    running = embedded.find(home, name)
    chosen = env.get("KUBECONFIG", "")
    embedded_ones = {str(cluster.kubeconfig): cluster for cluster in embedded.running(home)}
    if chosen and chosen not in embedded_ones:
        return _own(chosen)
    running = embedded_ones.get(chosen, running)
    if running is None:
        raise StateError(
            f"no cluster: set KUBECONFIG to one of yours, or start one: python -m cluster up --name {name}"
        )
    why = f"the embedded cluster {running.name!r}, because KUBECONFIG names no cluster of yours"
    return Target(str(running.kubeconfig), "embedded", why, running.kubectl, running)


def _own(chosen: str) -> Target:
    program = shutil.which("kubectl")
    if program is None:
        raise StateError(
            "KUBECONFIG names a cluster of yours, but kubectl is not on PATH; install it, or unset KUBECONFIG"
        )
    return Target(chosen, "own", f"your own cluster, because KUBECONFIG is {chosen}", Kubectl(Path(program), chosen))
