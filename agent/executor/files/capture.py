"""What of a container's files travels: measured before the worker is touched, saved once it has stopped."""

import logging
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from agent.container.files import held_files, rootfs, volumes
from agent.container.files.model_caches import read_model_caches
from agent.container.files.protected_files import protected, refuse_protected
from agent.container.files.rootfs import Changes
from agent.container.files.volumes import Content, Volume
from agent.container.inspection import Inspection, Worker, open_in_container
from agent.errors import ContainerError, RefusedError
from agent.executor.capture.plan import CapturePlan
from agent.executor.environment import NodeEnvironment
from agent.executor.lock import ControlDir
from artifact.manifest import DELETED_FILES, ROOTFS_TAR
from artifact.parts.files import Folder, HeldFile, RootFilesystem, VolumeContent
from artifact.publish import Staging
from contract.api import control_files, keys
from contract.api.states import AgentReason
from linux import filetree, folder
from linux.filetree import FileTreeError
from linux.proc import mount_of

logger = logging.getLogger(__name__)
_LINUX_IMMUTABLE: Final = 9
"""Number of the capability without which no process makes a file immutable."""


def start_of(control: ControlDir) -> int | None:
    """Return when a container started, nanoseconds; None if that cannot be compared with the times of its files."""
    ahead = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    said = control.read(control_files.STARTED)
    return rootfs.trusted_start(control.time_of(control_files.STARTED), said, ahead)


@contextmanager
def _too_deep(reason: AgentReason) -> Iterator[None]:
    """Refuse by that name what a walk does not go through."""
    try:
        yield
    except FileTreeError as error:
        raise RefusedError(reason, f"the worker's files: {error}") from error


@dataclass(frozen=True)
class SavedFiles:
    """What the manifest says of them."""

    rootfs: RootFilesystem | None
    volumes: list[VolumeContent]
    held: list[HeldFile]


@dataclass(frozen=True)
class WorkerFiles:
    """The files of one worker that is about to be captured."""

    init_pid: int
    seen: Inspection
    worker: Worker
    plan: CapturePlan
    environment: NodeEnvironment
    written: frozenset[str]
    """Paths that the worker has open for writing."""
    empty_dirs: Collection[str]
    """Mount points that the pod says are emptyDirs."""
    started: int | None = None
    """When the container's first process did, nanoseconds; None if that is not known, or no measure."""

    @cached_property
    def _exclusions(self) -> list[str]:
        caches = read_model_caches(self.worker.pids, self.environment.proc)
        if caches:
            logger.info("caches of models are left out", extra={"paths": caches})
        return [*self.environment.exclusions, *caches]

    def refuse(self) -> None:
        """Refuse what is too large, or only in the worker's hands.

        The names themselves are read again once the worker has stopped.

        Raises:
            RefusedError: with the numbers, and what to do.
        """
        with self._upper() as upper, _too_deep(AgentReason.ROOTFS_TOO_LARGE):
            if upper is not None:
                refuse_protected("", self._changes(upper).protected)
        for volume in self.plan.volumes:
            with self._folder(volume.point) as root, _too_deep(AgentReason.VOLUME_TOO_LARGE):
                names = self._content(root, volume).names
                refuse_protected(volume.point, protected(root, names) if self._may_protect else ())
        self._held(is_final=False)

    @property
    def _may_protect(self) -> bool:
        return bool(self.seen.init.capabilities["CapBnd"] >> _LINUX_IMMUTABLE & 1)

    def save(self, staged: Staging) -> SavedFiles:
        """Write changes to the root file system, shared memory and emptyDirs into the artifact."""
        saved = [self._save_volume(staged, volume, number) for number, volume in enumerate(self.plan.volumes)]
        image = self._save_rootfs(staged)
        sizes = {"/": image.bytes if image else 0} | {volume.point: volume.bytes for volume in saved}
        logger.info("files saved", extra={"bytes": sizes})
        return SavedFiles(image, saved, self._held())

    def _held(self, *, is_final: bool = True) -> list[HeldFile]:
        mounts, proc = self.seen.mounts, self.environment.proc
        scratch = [mount.point for mount in mounts if volumes.is_scratch(mount, self.empty_dirs)]
        paths = held_files.held_paths(self.worker.in_use, self.written, mounts, scratch)
        found = [held_files.describe(self.init_pid, point, name, proc, is_final=is_final) for point, name in paths]
        return [each for each in found if each is not None]

    def _own(self, volume: Volume) -> list[str]:
        """Name the files of a volume that are the worker's own."""
        mounts, start = list(self.seen.mounts), f"{volume.point}/"
        mine = [path for path in self.written if (mount := mount_of(path, mounts)) and mount.point == volume.point]
        return sorted(path.removeprefix(start) for path in mine if held_files.is_text(path))

    @contextmanager
    def _folder(self, point: str) -> Iterator[int]:
        root = open_in_container(self.init_pid, point, proc=self.environment.proc)
        try:
            yield root
        finally:
            os.close(root)

    def _content(self, root: int, volume: Volume) -> Content:
        """Exclude of emptyDirs what is excluded of the image: caches are mounted at the same paths.

        Another volume that is mounted in it may be on the same disk, and is not its content.
        """
        is_memory, others = volume.point == keys.SHARED_MEMORY_DIR, frozenset(self.plan.mount_points) - {volume.point}
        skip = rootfs.skipper(() if is_memory else self._exclusions, others, self.plan.in_use)
        return volumes.content(root, volume.point, skip, self.environment.empty_dir_limit)

    def _save_volume(self, staged: Staging, volume: Volume, number: int) -> VolumeContent:
        file_name = f"volume-{number}.tar"
        with self._folder(volume.point) as root:
            content = self._content(root, volume)
            with os.fdopen(staged.file(file_name), "wb") as into:
                filetree.pack(root, into, content.names)
            top = Folder(**folder.describe(root))
        return VolumeContent(
            point=volume.point,
            file=file_name,
            size=volume.size,
            sockets=content.sockets,
            bytes=content.bytes,
            own=self._own(volume),
            top=top,
        )

    @contextmanager
    def _upper(self) -> Iterator[int | None]:
        path = rootfs.upper_directory(self.seen.mounts, self.environment.host_root)
        if path is None:
            yield None
            return
        try:
            upper = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ContainerError(
                AgentReason.ROOTFS_UNREADABLE, f"the container's upper layer {path}: {error.strerror}"
            ) from error
        try:
            yield upper
        finally:
            os.close(upper)

    def _changes(self, upper: int) -> Changes:
        plan, limit = self.plan, self.environment.rootfs_limit
        skip = rootfs.skipper(self._exclusions, plan.mount_points, plan.in_use)
        changes = rootfs.collect(upper, skip, self.started, plan.in_use)
        if changes.bytes > limit:
            name, size = changes.largest
            raise RefusedError(
                AgentReason.ROOTFS_TOO_LARGE,
                f"the worker changed {changes.bytes} bytes of its image's files, more than {limit} "
                f"(capture.rootfsLimit); the largest is /{name} ({size}): keep such data on a persistent volume or in "
                "the image",
            )
        return changes

    def _save_rootfs(self, staged: Staging) -> RootFilesystem | None:
        with self._upper() as upper:
            if upper is None:
                return None
            changes = self._changes(upper)
            with os.fdopen(staged.file(ROOTFS_TAR), "wb") as into:
                size = filetree.pack(upper, into, changes.files)
        with os.fdopen(staged.file(DELETED_FILES), "w") as file:
            file.write(changes.deleted_json())
        with self._folder("/") as root:
            top = Folder(**folder.describe(root))
        return RootFilesystem(files=len(changes.files), deleted=len(changes.gone), bytes=size, top=top)
