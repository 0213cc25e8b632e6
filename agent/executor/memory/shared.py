"""Shared memory of a restore: left out of what criu copies, and filled by all threads of the node once criu is done."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from agent.criu.page_server import MOST_THREADS
from agent.criu.runner import run_in_namespaces
from agent.criu.shared_fill import Job
from agent.criu.shared_memory import Segment, open_segment
from agent.errors import CriuError
from contract.api.states import AgentReason
from linux.proc import Status


@dataclass(frozen=True)
class Pod:
    """Where the memory belongs: to the pod, as if its worker had written it."""

    init_pid: int
    cgroup_files: Sequence[str]
    proc: Path


def fill_shared(segments: Sequence[Segment], images: int, tree: Mapping[int, Status], pod: Pod, timeout: float) -> None:
    """Fill the segments of a stopped tree, given by host pid.

    Raises:
        CriuError: ``restore-failed``.
    """
    with ExitStack() as opened:
        try:
            jobs = [_job(segment, images, tree, pod.proc, opened) for segment in segments]
        except (OSError, ValueError, KeyError) as error:
            raise CriuError(AgentReason.RESTORE_FAILED, f"shared memory is not there to be filled: {error}") from error
        shared = (jobs, min(MOST_THREADS, os.cpu_count() or 1))
        result = run_in_namespaces(pid=pod.init_pid, cgroups=pod.cgroup_files, shared=shared, timeout=timeout)
        if result.code != 0:
            words = result.error or f"the process that fills it ended with code {result.code}"
            raise CriuError(AgentReason.RESTORE_FAILED, f"shared memory cannot be filled: {words}")


def _job(segment: Segment, images: int, tree: Mapping[int, Status], proc: Path, opened: ExitStack) -> Job:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    source = os.open(f"pages-{segment.pages}.img", flags, dir_fd=images)
    opened.callback(os.close, source)
    target = open_segment(segment, {status.inner_pid: pid for pid, status in tree.items()}, proc)
    opened.callback(os.close, target)
    return source, target, segment.runs
