"""The images that criu restores from: in a folder of the agent's own, so that criu reads what was verified.

criu opens images by their names, again and again, with every right of the node. Storage is shared with others: between
the look at an image and criu's, one who can write there could put another in its place. So images are copied while
their sums are taken. The pages of memory are too large for that, and give a process no rights: the verified files are
mounted beside the copies, by descriptor, so that a file which takes their name is not seen.
"""

import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from agent.errors import ContainerError
from artifact.read import Artifact
from contract.api.states import AgentReason
from linux import mounts

_IMAGE: Final = re.compile(r"[^/]+\.img")
_PAGES: Final = re.compile(r"pages-[^/]+\.img")


def read_in_place(names: Iterable[str]) -> list[str]:
    """Return those files of an artifact that are not copied: what is in them is used from storage; pure."""
    return [name for name in names if not _is_copied(name)]


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
    names = [name for name in artifact.manifest.files if _IMAGE.fullmatch(name)]
    pages = [name for name in names if not _is_copied(name)]
    try:
        folder = resources.enter_context(tempfile.TemporaryDirectory(dir=work, prefix="run-"))
        with ExitStack() as during:
            directory = _opened(folder, during)
            for name in names:
                if _is_copied(name):
                    artifact.copy(name, directory)
            shown = _with_pages(artifact, pages, folder, namespace) if pages else os.dup(directory)
    except OSError as error:
        words = f"cannot make a folder of images in {work} of the agent: {error.strerror} ({error.filename})"
        raise ContainerError(AgentReason.WORK_UNWRITABLE, words) from error
    resources.callback(os.close, shown)
    return _opened(f"/proc/self/fd/{shown}", resources)


def _with_pages(artifact: Artifact, pages: list[str], folder: str, namespace: int | None) -> int:
    """Mount the files of pages in a folder; return a descriptor of both, of which no path is left."""
    with ExitStack() as during:
        files = [_owned(artifact.open(name), during) for name in pages]
        shown = _read_only_mounts(files, namespace, during)
        mounts.attach(_owned(mounts.cloned_mounts(_opened(folder, during)), during), folder)
        during.callback(mounts.detach, folder)
        top = _opened(folder, during)
        for name, mount in zip(pages, shown, strict=True):
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=top))
            mounts.attach(mount, name, top)
        return mounts.cloned_mounts(top)


def _read_only_mounts(files: list[int], namespace: int | None, during: ExitStack) -> list[int]:
    def make() -> list[int]:
        return [_owned(mounts.read_only_mount(file), during) for file in files]

    return make() if namespace is None else mounts.in_mount_namespace(namespace, make)


def _opened(folder: str, during: ExitStack) -> int:
    return _owned(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), during)


def _owned(fd: int, during: ExitStack) -> int:
    during.callback(os.close, fd)
    return fd


def _is_copied(name: str) -> bool:
    return _IMAGE.fullmatch(name) is not None and _PAGES.fullmatch(name) is None
