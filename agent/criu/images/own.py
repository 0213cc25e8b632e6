"""The images that criu restores from: in a folder of the agent's own, so that criu reads what was verified.

criu opens images by their names, again and again, with every right of the node. Storage is shared with others: between
the look at an image and criu's, one who can write there could put another in its place. So images are copied while
their sums are taken. The pages of memory are too large for that, and give a process no rights: the verified files are
mounted beside the copies, by descriptor, so that a file which takes their name is not seen.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from agent.errors import ContainerError
from artifact.manifest import DEVICE_MEMORY
from artifact.parts.files import FileEntry
from artifact.read import Artifact
from contract.api.states import AgentReason
from linux import mounts

_PAGES: Final = "pages-"
_TABLE: Final = "-ranges.img"
"""Of files of device memory: what of it is in a model's files. The agent goes by it."""
_SMALL: Final = 64 << 10
"""Bytes of pages that are copied sooner than mounted: shared memory has a file of pages for each of its mappings."""


def read_in_place(files: Mapping[str, FileEntry]) -> list[str]:
    """Return those files of an artifact that are not copied: what is in them is used from storage; pure."""
    return [name for name, entry in files.items() if not _is_copied(name, entry)]


def memory_in(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return files with nothing but memory of processes, by which the agent does not go; pure.

    Returns:
        Those of the host's memory, and those of device memory.
    """
    host = [name for name in names if name.startswith(_PAGES)]
    return host, [name for name in names if name.startswith(DEVICE_MEMORY) and not name.endswith(_TABLE)]


def own_images(artifact: Artifact, work: Path, namespace: int | None, resources: ExitStack) -> int:
    """Return a descriptor of a directory with all images of an artifact, for as long as *resources* is open.

    Args:
        artifact: verified.
        work: scratch folder of the agent, in which the directory is made.
        namespace: the mount namespace that the artifact was opened in; None if it is the agent's own.
        resources: removes the directory.

    Raises:
        ArtifactError: an image is not what the manifest says.
        ContainerError: the directory cannot be made on this node.
    """
    files = artifact.manifest.files
    pages = [name for name in read_in_place(files) if name.startswith(_PAGES)]
    try:
        folder = resources.enter_context(tempfile.TemporaryDirectory(dir=work, prefix="run-"))
        with ExitStack() as during:
            directory = _opened(folder, during)
            for name, entry in files.items():
                if _is_copied(name, entry):
                    artifact.copy(name, directory)
            shown = _with_pages(artifact, pages, folder, namespace) if pages else os.dup(directory)
    except OSError as error:
        words = f"cannot make a folder of images in {work} of the agent: {error.strerror} ({error.filename})"
        raise ContainerError(AgentReason.WORK_UNWRITABLE, words) from error
    resources.callback(os.close, shown)
    return _opened(f"/proc/self/fd/{shown}", resources)


def _is_copied(name: str, entry: FileEntry) -> bool:
    if name.startswith(DEVICE_MEMORY) or not name.endswith(".img"):
        return False  # nothing that criu reads
    return not name.startswith(_PAGES) or entry.size <= _SMALL


def _with_pages(artifact: Artifact, pages: Iterable[str], folder: str, namespace: int | None) -> int:
    """Mount the files of pages in a folder; return a descriptor of both, of which no path is left."""
    with ExitStack() as during:
        mounts.attach(_owned(mounts.cloned_mounts(_opened(folder, during)), during), folder)
        during.callback(mounts.detach, folder)
        top = _opened(folder, during)
        for name in pages:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=top))
            with ExitStack() as each:  # there may be more of them than an agent may have descriptors
                file = _owned(artifact.open(name), each)
                mounts.attach(_owned(_read_only_mount(file, namespace), each), name, top)
        return mounts.cloned_mounts(top)


def _read_only_mount(file: int, namespace: int | None) -> int:
    if namespace is None:
        return mounts.read_only_mount(file)
    return mounts.in_mount_namespace(namespace, lambda: mounts.read_only_mount(file))


def _opened(folder: str, during: ExitStack) -> int:
    return _owned(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), during)


def _owned(fd: int, during: ExitStack) -> int:
    during.callback(os.close, fd)
    return fd
