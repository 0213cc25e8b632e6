"""Ending whatever runs in a cluster's folder, and removing it, in whatever state it was left."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from cluster.nodes import cgroups, network
from cluster.nodes.node import Node
from cluster.processes import Process, held, wait_until

END_SECONDS = 20
"""The kernel was seen to take under a second; a loaded machine is given more."""


def clear(folder: Path) -> None:
    """End all processes of *folder*'s cluster and remove its link, control groups and files."""
    if not folder.exists():
        return
    end_control_plane(folder)
    network.disconnect(network.link_name(network.identity(str(folder))))
    hierarchies = cgroups.hierarchies(Path("/proc/self/mountinfo").read_text())
    for node in nodes_in(folder):
        node.kill()
        cgroups.remove(hierarchies, node.group)
    shutil.rmtree(folder)


def nodes_in(folder: Path) -> list[Node]:
    """Return the nodes that have a folder there, started or not."""
    found = folder.glob("nodes/*")
    return [node_of(folder, int(path.name)) for path in found if path.name.isdigit()]


def node_of(folder: Path, index: int) -> Node:
    """Return the *index*-th node of the cluster in *folder*."""
    return Node(index, f"{folder.name}-{index}", network.identity(str(folder)), folder / "nodes" / str(index))


def end_control_plane(folder: Path) -> None:
    """End a control plane that runs without nodes, by its supervisor."""
    supervisor = Process.noted(folder / "pid", str(folder / "supervisor.json"))
    if supervisor:
        # Not killed: it ends when its programs have, so that nothing writes in the folder any more.
        supervisor.send(signal.SIGTERM)
    wait_until("the end of the control plane", lambda: not held(folder / "lock"), seconds=END_SECONDS)
