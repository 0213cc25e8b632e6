"""The manifest: names every file of an artifact with size and checksum, and says what was captured, and where.

One model, one reader, one writer. Nothing in it grants rights: a restore compares it with the live container, and
refuses one that asks for more.
"""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from artifact.errors import ArtifactError
from artifact.parts.base import FileName, Part, Path
from artifact.parts.files import FileEntry, HeldFile, RootFilesystem, VolumeContent
from artifact.parts.gpu import Gpu
from artifact.parts.origin import Container, Machine
from artifact.parts.process import Connections, Process
from contract.api.states import AgentReason
from contract.config.errors import describe
from contract.config.yaml import load_yaml
from contract.nodes.node_facts import Source
from contract.pods.systems import architecture_of

FORMAT_VERSION: Final = 1
GPU_FORMAT_VERSION: Final = 2
"""Of an artifact with device state: a release that cannot bring that back must not restore the rest."""
CONNECTIONS_FORMAT_VERSION: Final = 3
"""Of an artifact with connections that go on, or sockets that follow the pod's address: earlier releases would cut the
first, and say that all is well."""
DEVICE_MEMORY_FORMAT_VERSION: Final = 4
"""Of an artifact with device memory in files of its own: earlier releases would restore the worker without it."""
SHARED_FORMAT_VERSION: Final = 5
"""Of an artifact whose processes share device memory: earlier releases would leave each without the others' part."""
REFERENCES_FORMAT_VERSION: Final = 6
"""Of an artifact of which device memory is in files of a model: earlier releases would fill in other bytes for it."""
PROCESSOR_FORMAT_VERSION: Final = 7
"""Of an artifact whose processes may use AMX, or have protection keys: earlier releases would give them neither, and
the processes would end."""
IPC_FORMAT_VERSION: Final = 8
"""Of an artifact with System V objects: earlier releases would restore the worker without them."""
GIVEN_FORMAT_VERSION: Final = 9
"""Of an artifact with open files that a restore gives to criu: earlier releases do not."""
DATABASES_FORMAT_VERSION: Final = 10
"""Of an artifact with record locks, or databases of SQLite: earlier releases would lose locks of mapped files, and the
databases could not be written any more."""
_FORMATS: Final = (
    FORMAT_VERSION,
    GPU_FORMAT_VERSION,
    CONNECTIONS_FORMAT_VERSION,
    DEVICE_MEMORY_FORMAT_VERSION,
    SHARED_FORMAT_VERSION,
    REFERENCES_FORMAT_VERSION,
    PROCESSOR_FORMAT_VERSION,
    IPC_FORMAT_VERSION,
    GIVEN_FORMAT_VERSION,
    DATABASES_FORMAT_VERSION,
)
MANIFEST: Final = "manifest.yaml"
ROOTFS_TAR: Final = "rootfs-diff.tar"
DELETED_FILES: Final = "deleted-files.json"
IPC: Final = "sysv-ipc.json"
"""System V objects, if there are any."""
QUEUES: Final = "posix-queues.json"
"""POSIX message queues, if there are any."""
DEVICE_MEMORY: Final = "device-memory-"
"""How the names of files begin that hold device memory; none of them is an image of criu's."""
MAX_MANIFEST: Final = 16 << 20
"""Bytes; a manifest names some hundred files and some thousand threads."""
SHOWN_PROBLEMS: Final = 5
"""Problems of a manifest that are spelled out; each is a line of a pod's annotation."""


class Captured(Part):
    """What was captured; complete before the artifact's files are."""

    created_at: str
    taken_on: Machine
    container: Container
    process: Process
    used_mounts: list[Path]
    """Mount points on which the worker has files open or mapped."""
    rootfs: RootFilesystem | None = None
    volumes: list[VolumeContent] = []
    held: list[HeldFile] = []
    gpu: Gpu | None = None
    """None if the worker had no CUDA process."""
    canary: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """sha256 of what the worker answered to its owner's question before it was captured; None if it was not asked."""
    connections: Connections | None = None
    """None in artifacts of earlier releases: all are to be closed."""
    ipc: FileName | None = None
    """The file with System V objects; None if the worker had none."""
    posix_queues: FileName | None = None
    """The file with POSIX message queues; None if the worker had none."""

    @property
    def shares_device_memory(self) -> bool:
        """Whether a process has device memory of another one."""
        return self.gpu is not None and any(memory.imported for memory in self.gpu.outside)

    @property
    def refers_to_weights(self) -> bool:
        """Whether some of its device memory is in files of a model."""
        return self.gpu is not None and any(memory.ranges is not None for memory in self.gpu.outside)

    @property
    def source(self) -> Source:
        """What it was taken on, in the words of Kubernetes."""
        gpus = tuple(device.model for device in self.gpu.devices) if self.gpu is not None else ()
        facts = replace(
            self.taken_on.facts,
            architecture=architecture_of(self.taken_on.architecture),
            gpu_models=gpus,
            gpu_driver=self.gpu.driver if self.gpu is not None else "",
        )
        return Source(facts=facts, image_digest=image_digest(self.container.image_id))


class Manifest(Captured):
    """A whole artifact."""

    format_version: int
    checkpoint_id: str
    version: str
    files: dict[FileName, FileEntry]

    @model_validator(mode="after")
    def _names_files_that_are_there(self) -> Self:
        needed = [volume.file for volume in self.volumes]
        needed += [ROOTFS_TAR, DELETED_FILES] if self.rootfs is not None else []
        needed += [name for name in (self.ipc, self.posix_queues) if name is not None]
        needed += [program.file for program in self.process.programs]
        for memory in self.gpu.outside if self.gpu is not None else ():
            needed += memory.names
        if missing := [name for name in needed if name not in self.files]:
            raise ValueError(f"files lacks {', '.join(missing)}")
        return self

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(entry.size for entry in self.files.values())

    @property
    def elsewhere(self) -> int:
        """Bytes of files of models that a restore reads too."""
        return sum(each.size for each in self.gpu.weights) if self.gpu is not None else 0

    @property
    def pages(self) -> int:
        """Bytes of the memory of its processes."""
        return sum(entry.size for name, entry in self.files.items() if name.startswith("pages-"))

    @property
    def memory(self) -> int:
        """Bytes that a restore writes into the new container's memory: by criu, and into volumes in memory."""
        return self.pages + sum(volume.bytes for volume in self.volumes if volume.size is not None)


def image_digest(image: str) -> str:
    """Return the digest in an image's name; empty if it has none."""
    return image.rpartition("@")[2] if "@" in image else ""


def write_manifest(captured: Captured, checkpoint_id: str, version: str, files: dict[str, FileEntry]) -> bytes:
    """Return the text of a manifest, as it is stored."""
    identity = {"formatVersion": _format_of(captured), "checkpointId": checkpoint_id, "version": version}
    listed = {name: entry.model_dump(by_alias=True) for name, entry in files.items()}
    document = identity | captured.model_dump(by_alias=True) | {"files": listed}
    return json.dumps(document, indent=1).encode()


def _format_of(captured: Captured) -> int:
    """Return the first format whose releases know all that an artifact has: each knows those before it."""
    gpu, process, connections = captured.gpu, captured.process, captured.connections
    needed = {
        GPU_FORMAT_VERSION: gpu is not None,
        CONNECTIONS_FORMAT_VERSION: connections is not None and bool(connections.kept or connections.addresses),
        DEVICE_MEMORY_FORMAT_VERSION: gpu is not None and bool(gpu.outside),
        SHARED_FORMAT_VERSION: captured.shares_device_memory,
        REFERENCES_FORMAT_VERSION: captured.refers_to_weights,
        PROCESSOR_FORMAT_VERSION: bool(process.amx or process.protection_keys),
        IPC_FORMAT_VERSION: captured.ipc is not None,
        GIVEN_FORMAT_VERSION: bool(process.programs or process.eventfds or captured.posix_queues),
        DATABASES_FORMAT_VERSION: bool(process.record_locks or process.databases),
    }
    return max((version for version, is_so in needed.items() if is_so), default=FORMAT_VERSION)


def parse_manifest(text: bytes, checkpoint_id: str) -> Manifest:
    """Parse the manifest of that checkpoint's artifact.

    Raises:
        ArtifactError: ``manifest-unreadable`` with every problem, or ``manifest-format`` for another format.
    """
    try:
        document = _load(text)
    except yaml.YAMLError as error:
        raise _unreadable(f"is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or document.get("checkpointId") != checkpoint_id:
        raise _unreadable(f"is not that of checkpoint {checkpoint_id}")
    if document.get("formatVersion") not in _FORMATS:
        raise ArtifactError(
            AgentReason.MANIFEST_FORMAT,
            f"artifact format {document.get('formatVersion')!r} is none of {', '.join(map(str, _FORMATS))}; "
            "capture it with this release",
        )
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        problems = describe(error, Manifest)
        more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise _unreadable(f"does not describe an artifact: {'; '.join(problems[:SHOWN_PROBLEMS])}{more}") from error


def _load(text: bytes) -> Any:  # noqa: ANN401 - any YAML value
    """Read a manifest as JSON, as which it is written and which is YAML too: in a hundredth of the time.

    Earlier releases wrote what only a YAML parser reads.
    """
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if b"\\ud" in text.lower():
            json.dumps(found, ensure_ascii=False).encode()  # half a surrogate is no text
        return found
    return load_yaml(text)


def _unreadable(why: str) -> ArtifactError:
    return ArtifactError(AgentReason.MANIFEST_UNREADABLE, f"{MANIFEST} {why}")
