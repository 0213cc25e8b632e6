"""Makes the former name of kubelet's dated folder lead to the present one, while criu opens files by it.

The container has such a volume read-only, so the link is made where kubelet keeps the volume on the node, and is
removed as soon as criu has opened its files. One that stays behind is harmless: the next restore of the pod removes it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from agent.container.files.held_files import CURRENT, dated_folder
from agent.errors import ContainerError
from contract.api.states import AgentReason
from contract.config.storage import check_id
from linux import syscalls

_KINDS: Final = ("configmap", "secret", "projected", "downward-api")
_SAFE: Final = syscalls.BENEATH | syscalls.NO_SYMLINKS | syscalls.NO_MAGICLINKS
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY


class DatedLink(NamedTuple):
    """One link: the volume's folder beneath those of the pod, and the name in it."""

    volume: str
    name: str


@contextmanager
def _pod_volumes(kubelet_pods: Path, pod_uid: str) -> Iterator[int]:
    root = os.open(kubelet_pods, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        volumes = syscalls.openat2(root, f"{check_id(pod_uid)}/volumes", _FOLDER, resolve=_SAFE)
    finally:
        os.close(root)
    try:
        yield volumes
    finally:
        os.close(volumes)


def find_link(kubelet_pods: Path, pod_uid: str, mounted: os.stat_result, name: str) -> DatedLink:
    """Return the link for a volume of which the container has the root mounted.

    Raises:
        ContainerError: kubelet's folders have no such volume.
    """
    with _pod_volumes(kubelet_pods, pod_uid) as volumes:
        for kind in (f"kubernetes.io~{kind}" for kind in _KINDS):
            with suppress(FileNotFoundError):
                folder = syscalls.openat2(volumes, kind, _FOLDER, resolve=_SAFE)
                try:
                    for entry in os.listdir(folder):  # noqa: PTH208 - a descriptor
                        if os.path.samestat(os.stat(entry, dir_fd=folder, follow_symlinks=False), mounted):
                            return DatedLink(f"{kind}/{entry}", name)
                finally:
                    os.close(folder)
    raise ContainerError(AgentReason.FILES_FAILED, f"kubelet's folder of the volume that has {name} is not found")


def make(kubelet_pods: Path, pod_uid: str, link: DatedLink) -> None:
    """Make a link.

    Raises:
        OSError: it cannot be made.
    """
    with _opened(kubelet_pods, pod_uid, link) as volume, suppress(FileExistsError):
        os.symlink(CURRENT, link.name, dir_fd=volume)


def remove(kubelet_pods: Path, pod_uid: str, link: DatedLink) -> None:
    """Remove a link, and nothing else that may have its name; none there is fine.

    Raises:
        OSError: it cannot be removed.
    """
    if dated_folder(link.name) != link.name:
        return
    with suppress(FileNotFoundError), _opened(kubelet_pods, pod_uid, link) as volume:
        if _leads_to(volume, link.name) == CURRENT:
            os.unlink(link.name, dir_fd=volume)


def _leads_to(volume: int, name: str) -> str | None:
    with suppress(OSError):  # not there, or kubelet's folder itself
        return os.readlink(name, dir_fd=volume)
    return None


@contextmanager
def _opened(kubelet_pods: Path, pod_uid: str, link: DatedLink) -> Iterator[int]:
    with _pod_volumes(kubelet_pods, pod_uid) as volumes:
        volume = syscalls.openat2(volumes, link.volume, _FOLDER, resolve=_SAFE)
        try:
            yield volume
        finally:
            os.close(volume)
