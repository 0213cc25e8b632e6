"""Opens the files of a model that a restored worker's device memory is in: those of the capture, or none."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agent.container.files.model_files import as_worker, open_regular
from agent.container.inspection import open_in_container
from agent.errors import RefusedError
from agent.gpu.ranges import Elsewhere, Range, Ranges, RangesError, parse_ranges
from artifact.digest import sum_of_others
from artifact.parts.gpu import DeviceMemory, ModelWeights
from artifact.read import Artifact
from artifact.verified import Identity, VerifiedFiles, identity_of
from contract.api.states import AgentReason
from linux.proc import Status


@dataclass(frozen=True)
class Weights:
    """An open file of a model."""

    said: ModelWeights
    """By the artifact."""
    descriptor: int
    known: Identity
    """What it was when its sum was found right."""


@dataclass(frozen=True)
class OpenWeights:
    """Files of models that a restore reads device memory from, found to be those of the capture."""

    files: Sequence[Weights] = ()
    """Open as long as the restore's resources are."""
    tables: Mapping[int, Sequence[Range]] = field(default_factory=dict)
    """What is in them, by the process's number inside the container; those that have nothing there are left out."""

    def elsewhere(self, process: int) -> Elsewhere:
        """Return what of one process's saved files is in them."""
        return Elsewhere([each.descriptor for each in self.files], self.tables.get(process, ()))

    def refuse_changed(self) -> None:
        """Refuse files that have changed since they were opened: a worker may have been given some of each.

        Raises:
            RefusedError: naming the file.
        """
        for each in self.files:
            if identity_of(each.descriptor, each.said.blake3) != each.known:
                raise _changed(each.said, "was changed while it was read")


@dataclass(frozen=True)
class PodVolumes:
    """The volumes of the container that a worker is restored in."""

    init_pid: int
    user: Status
    """Its first process."""
    verified: VerifiedFiles | None
    """Files that need not be read again; None to read all of them."""
    proc: Path

    def open_weights(self, artifact: Artifact, resources: ExitStack) -> OpenWeights:
        """Open the files that device memory of a verified artifact is in, as the worker itself would.

        Raises:
            RefusedError: one is not there, or is another; or the artifact's table of them is wrong.
            ArtifactError: the table was changed in storage.
        """
        gpu = artifact.manifest.gpu
        if gpu is None or not artifact.manifest.refers_to_weights:
            return OpenWeights()
        files = [self._open(each, resources) for each in gpu.weights]
        sizes = [each.size for each in gpu.weights]
        tables = {memory.process: _table(artifact, memory, sizes) for memory in gpu.outside if memory.ranges}
        return OpenWeights(files, tables)

    def _open(self, said: ModelWeights, resources: ExitStack) -> Weights:
        try:
            with ExitStack() as during:
                root = open_in_container(self.init_pid, said.point, proc=self.proc)
                during.callback(os.close, root)
                descriptor = as_worker(self.user, partial(open_regular, root, said.name))
            resources.callback(os.close, descriptor)
            known = self._known(descriptor, said)
        except OSError as error:
            raise _changed(said, f"cannot be read in this pod ({error.strerror or error})") from error
        if known is None:
            raise _changed(said, "is another file in this pod")
        return Weights(said, descriptor, known)

    def _known(self, descriptor: int, said: ModelWeights) -> Identity | None:
        """Return what a file is if it is the one of the capture."""
        before = identity_of(descriptor, said.blake3)
        if before.size != said.size:
            return None
        if self.verified is None:
            return before if sum_of_others(descriptor) == said.blake3 else None
        return before if self.verified.has(descriptor, said.blake3, sum_of_others) else None


def _changed(said: ModelWeights, words: str) -> RefusedError:
    shown = f"{said.point}/{said.name}"
    return RefusedError(AgentReason.WEIGHTS_CHANGED, f"{shown}, which has weights of the captured worker, {words}")


def _table(artifact: Artifact, memory: DeviceMemory, sizes: Sequence[int]) -> list[Range]:
    name = memory.ranges or ""
    stored = [artifact.manifest.files[file].size for file in memory.files]
    descriptor = artifact.open(name)
    try:
        ranges = parse_ranges(os.pread(descriptor, artifact.manifest.files[name].size, 0))
        referenced = Ranges(ranges, stored, sizes).referenced
    except RangesError as error:
        raise RefusedError(AgentReason.ARTIFACT_CORRUPT, f"{name}: {error}; capture it again") from error
    finally:
        os.close(descriptor)
    if referenced != list(memory.referenced):
        words = f"{name} does not say what the manifest says; capture it again"
        raise RefusedError(AgentReason.ARTIFACT_CORRUPT, words)
    return ranges
