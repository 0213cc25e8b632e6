"""The processes of a pod by its control group: a node has thousands of processes, a pod a few.

Kubelet names the group of a pod by its UID, in one folder for each class of service; where these folders are depends on
kubelet, its cgroup driver and the runtime. They are learned from the first pod that is found by looking at all
processes of the node.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from linux.cgroup import cgroup_files, pids_below
from linux.proc import PROC, pids

# kubepods/burstable/pod<uid>/ (cgroupfs) or kubepods-burstable-pod<uid_>.slice/ (systemd).
POD: Final = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(\.slice)?/")


@dataclass(frozen=True)
class _Naming:
    """How the groups of pods in one folder are named."""

    before: str
    separator: str
    after: str

    def of(self, pod_uid: str) -> Path:
        return Path(self.before + pod_uid.replace("-", self.separator) + self.after)


class PodGroups:
    """Where pods of this node have their control groups, as far as it was seen.

    Args:
        root: where control groups are mounted.
    """

    def __init__(self, root: Path = Path("/sys/fs/cgroup")) -> None:
        self._root = root
        self._seen: dict[_Naming, None] = {}

    def learn(self, cgroups: str) -> None:
        """Remember where the pod of a process has its group.

        Args:
            cgroups: text of /proc/PID/cgroup.
        """
        for file in cgroup_files(cgroups, self._root):
            if pod := POD.search(file):
                separator = "_" if "_" in pod[1] else "-"
                self._seen[_Naming(file[: pod.start(1)], separator, pod[2] or "")] = None

    def known_pids(self, pod_uid: str) -> list[int]:
        """Return the processes of a pod; none if its group is not where those of other pods were seen."""
        for naming in list(self._seen):
            if found := list(pids_below(naming.of(pod_uid))):
                return found
        return []

    def pids(self, pod_uid: str, proc: Path = PROC) -> Iterable[int]:
        """Return processes among which are all of a pod: those of its group, or all of the node if it is not known."""
        return self.known_pids(pod_uid) or pids(proc)
