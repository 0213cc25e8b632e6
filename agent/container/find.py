"""Finds a pod's container and its worker in /proc: no runtime API, any runtime, cgroup v1 and v2."""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.container.pod_groups import POD, PodGroups
from contract.api import control_files, keys
from linux.proc import PROC, Status, mounts, pids, status

_CONTAINER: Final = re.compile(r"(?:^|[-/])([0-9a-f]{64})(?:\.scope)?(?=/|$)")


@dataclass(frozen=True)
class ContainerCgroup:
    """Which container a process belongs to."""

    pod_uid: str
    container_id: str


def container_of(cgroups: str) -> ContainerCgroup | None:
    """Return the pod and container that the text of /proc/PID/cgroup names; None for a process outside of pods."""
    for line in cgroups.splitlines():
        path = line.split(":", 2)[-1]
        pod, container = POD.search(path), _CONTAINER.findall(path)
        if pod and container:
            return ContainerCgroup(pod[1].replace("_", "-"), container[-1])
    return None


def worker_of(init: int, mates: Mapping[int, Status]) -> Status | None:
    """Return the process that standby started: its child that leads a session, and of orphans that do so none.

    Standby gives its worker the first number beyond those of probes. What was executed in the container and is an
    orphan now has a later one, or one of those of probes: if it came before a restore, or since numbers began again.
    """
    leaders = [m for m in mates.values() if m.parent == init and m.inner_pid == m.inner_session]
    beyond = [mate for mate in leaders if mate.inner_pid > control_files.FIRST_WORKER_PID]
    return min(beyond or leaders, key=lambda mate: mate.inner_pid, default=None)


@dataclass(frozen=True)
class RunningContainer:
    """A running container of a pod."""

    init_pid: int
    """Host pid of its first process."""
    container_id: str
    program: str
    """Name of the file that its first process runs."""


def find_container(pod_uid: str, container: str, groups: PodGroups, proc: Path = PROC) -> RunningContainer | None:
    """Return the running container of that name, known by its control directory; None if none runs.

    A status may speak of the container before this one, and lags by a second; mounts do neither.
    """
    control = f"/{pod_uid}/volumes/kubernetes.io~empty-dir/{keys.CONTROL_VOLUME}/{container}"

    def is_it(found: RunningContainer) -> bool:
        return any(mount.root.endswith(control) for mount in mounts(found.init_pid, proc))

    return _find(pod_uid, is_it, groups, proc)


def find_by_id(pod_uid: str, container_id: str, groups: PodGroups, proc: Path = PROC) -> RunningContainer | None:
    """Return the running container with that id, standby in it or not; None if none runs."""
    return _find(pod_uid, lambda found: found.container_id == container_id, groups, proc)


Matches = Callable[[RunningContainer], bool]


def _find(pod_uid: str, is_it: Matches, groups: PodGroups, proc: Path) -> RunningContainer | None:
    """Look in the pod's group, and if the container is not there, or the group is not known, everywhere."""
    if (found := _find_among(groups.known_pids(pod_uid), pod_uid, is_it, proc)) is not None:
        return found
    found = _find_among(pids(proc), pod_uid, is_it, proc)
    if found is not None:
        with suppress(OSError):  # it has ended
            groups.learn((proc / str(found.init_pid) / "cgroup").read_text(errors="surrogateescape"))
    return found


def _find_among(processes: Iterable[int], pod_uid: str, is_it: Matches, proc: Path) -> RunningContainer | None:
    """Look through the first processes of a pod's containers.

    A worker's own pid namespace has a first process too, further in. Its number is lower if those of the node have
    started over.
    """
    found: dict[int, RunningContainer] = {}
    for pid in processes:
        try:
            owner = container_of((proc / str(pid) / "cgroup").read_text(errors="surrogateescape"))
            if owner is None or owner.pod_uid != pod_uid or (about := status(pid, proc)).inner_pid != 1:
                continue
            running = RunningContainer(pid, owner.container_id, (proc / str(pid) / "exe").readlink().name)
            if is_it(running):
                found.setdefault(about.depth, running)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found[min(found)] if found else None
