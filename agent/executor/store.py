"""Opens checkpoint storage for a capture or restore."""

from pathlib import PurePosixPath

from agent.container.files.pod_storage import open_pod_mount
from agent.executor.environment import NodeEnvironment
from artifact.backends.base import Backend
from artifact.backends.directory import DirectoryBackend
from artifact.beneath import open_agent_mount
from artifact.digest import sum_of_others


def open_store(path: PurePosixPath, init_pid: int, environment: NodeEnvironment, *, through_pod: bool) -> Backend:
    """Open checkpoint storage, the agent's or the container's."""
    if through_pod:
        # Workers can write there too.
        return DirectoryBackend(open_pod_mount(str(path), init_pid, environment.proc), sum_of_others)
    return DirectoryBackend(open_agent_mount(str(path)))
