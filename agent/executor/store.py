"""Opens checkpoint storage for a capture or restore."""

from pathlib import PurePosixPath

from agent.container.files.pod_storage import open_pod_mount
from agent.executor.environment import NodeEnvironment
from artifact.backends.base import Backend
from artifact.backends.directory import DirectoryBackend
from artifact.beneath import open_agent_mount
from artifact.digest import SumOf, sum_of, sum_of_others


def open_store(path: PurePosixPath, init_pid: int, environment: NodeEnvironment, *, through_pod: bool) -> Backend:
    """Open checkpoint storage, the agent's or the container's."""
    root = open_pod_mount(str(path), init_pid, environment.proc) if through_pod else open_agent_mount(str(path))
    return DirectoryBackend(root, sums(through_pod=through_pod))


def sums(*, through_pod: bool) -> SumOf:
    """Return how files of that storage are read for their sums: through a pod, workers can write there too."""
    return sum_of_others if through_pod else sum_of
