"""Takes back what a restore did to a container: its processes, then its files."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.container.files import dated_links
from agent.criu.runner import run_in_namespaces
from agent.executor.api import ContainerRef
from agent.executor.environment import NodeEnvironment
from agent.executor.files.undo_journal import Journal
from agent.executor.lock import ContainerLock
from contract.api import control_files
from linux.cgroup import cgroup_files
from linux.proc import descendants, namespace_mates

PATIENCE: Final = 3.0
"""Seconds that killed processes are given to end."""
FILE_SECONDS: Final = 600.0


def undo_files(place: ContainerRef, lock: ContainerLock, init_pid: int, environment: NodeEnvironment) -> bool:
    """Put the container's files back as the journal says; True if they are as they were.

    The journal is kept while a restored process lives: it may still write to what was put back.
    """
    journal = Journal.find(environment.kubelet_pods, place.pod_uid, place.container)
    if journal is None:
        return not lock.control.has(control_files.DIRTY)
    with journal, suppress(OSError, ValueError):
        cgroups = cgroup_files((environment.proc / str(init_pid) / "cgroup").read_text(), environment.cgroup_root)
        for link in journal.links():
            dated_links.remove(environment.kubelet_pods, place.pod_uid, link)
        steps = journal.undo_steps()
        result = run_in_namespaces(pid=init_pid, cgroups=cgroups, file_changes=steps, timeout=FILE_SECONDS)
        if result.code == 0 and not _below(init_pid, environment.proc):
            journal.remove()
            lock.control.remove(control_files.DIRTY)
            return True
    return False


def end_leftovers(init_pid: int, proc: Path, patience: float = PATIENCE) -> bool:
    """Kill every process below standby; True if none is left."""
    end = time.monotonic() + patience
    with suppress(OSError):
        while left := _below(init_pid, proc):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
    return True


def _below(init_pid: int, proc: Path) -> list[int]:
    return descendants(init_pid, namespace_mates(init_pid, proc))
