"""The manifest: names every file of an artifact with size and checksum, and says what was captured, and where.

One model, one reader, one writer. Nothing in it grants rights: a restore compares it with the live container, and
refuses one that asks for more.
"""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from artifact.errors import ArtifactError
from contract.api.states import AgentReason
from contract.config.errors import describe
from contract.config.yaml import load_yaml
from contract.nodes.node_facts import NodeFacts, Source
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
"""Of an artifact with record locks of mapped files, or databases of SQLite: earlier releases would lose the first, and
the second could not be written any more."""
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
MAX_CPUS: Final = 8192
"""What a kernel can be built for at most (NR_CPUS)."""
MAX_KEYED: Final = 10_000
"""Mappings of a process, of which few are under keys."""
MOST_PROGRAMS: Final = 64
MOST_PROGRAM_BYTES: Final = 512 << 20
"""Of all programs of a worker that run from memfds: a restore makes them in memory of the agent's."""
MOST_EVENTFDS: Final = 128
"""That a restore makes and gives to criu: each is an argument of its command."""
MOST_PLACES: Final = 256
"""In a process's memory where it knows a database by its inode; SQLite has one for all connections."""
SHOWN_PROBLEMS: Final = 5
"""Problems of a manifest that are spelled out; each is a line of a pod's annotation."""

FileName = Annotated[str, Field(pattern=r"^[^/\x00]+$", max_length=255)]
"""A file of the artifact: directly in its directory."""
Path = Annotated[str, Field(pattern=r"^/")]
Pid = Annotated[int, Field(gt=0)]
Key = Annotated[int, Field(ge=1, le=15)]
"""A protection key (pkeys(7))."""


class Part(BaseModel):
    """A block of the manifest: immutable, strict, with keys in camelCase; keys of later releases are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, alias_generator=to_camel, populate_by_name=True)


class Machine(Part):
    """The node that the worker was captured on."""

    kernel: str
    architecture: str
    cpu_flags: list[str]
    criu: str
    """Version."""
    cpu_model: str = ""
    """Empty in artifacts of earlier releases."""

    @property
    def facts(self) -> NodeFacts:
        """The same, to be compared with another node."""
        return NodeFacts(
            architecture=self.architecture,
            kernel=self.kernel,
            criu=self.criu,
            cpu_flags=frozenset(self.cpu_flags),
            cpu_model=self.cpu_model,
        )


class Container(Part):
    """The container that the worker was captured in, and the rights that it had."""

    name: str
    image: str
    uid: int
    gid: int
    groups: list[int]
    capabilities: Annotated[str, Field(pattern=r"^[0-9a-f]{1,16}$")]
    """The bounding set, hexadecimal as in /proc."""
    no_new_privileges: bool
    seccomp: int
    """Mode as in /proc: 0 none, 1 strict, 2 filter."""
    image_id: str = ""
    """As the runtime knows it: ``name@sha256:...``; empty in artifacts of earlier releases."""
    cpu_limit: Annotated[float, Field(gt=0)] | None = None
    """CPUs; None without a limit."""

    @property
    def bounding_set(self) -> int:
        """Capabilities as a bit mask."""
        return int(self.capabilities, 16)


class ThreadSettings(Part):
    """What was set for a thread, if it differs from its container's first process; else None."""

    process: Pid
    """Its process, as numbered inside the container."""
    id: Pid
    cpus: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=MAX_CPUS)] | None = None
    """Processors that it might run on."""
    io_priority: Annotated[int, Field(ge=0, lt=1 << 16)] | None = None
    timer_slack: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    """Nanoseconds."""


class KeyedMemory(Part):
    """Memory under a protection key."""

    start: Annotated[int, Field(ge=0, lt=1 << 57)]
    end: Annotated[int, Field(ge=0, lt=1 << 57)]
    key: Key
    protection: Annotated[str, Field(pattern=r"^[r-][w-][x-]$")]
    """As /proc/PID/maps has it."""


class ProtectionKeys(Part):
    """Those of one process."""

    process: Pid
    """As numbered inside the container."""
    keys: list[Key]
    memory: Annotated[list[KeyedMemory], Field(max_length=MAX_KEYED)]


class Program(Part):
    """One that processes ran from a memfd."""

    file: Annotated[str, Field(pattern=r"^program-[0-9]{1,2}\.img$")]
    name: Annotated[str, Field(max_length=249, pattern=r"^[^\x00]*$")]
    """Of the memfd."""
    seals: Annotated[int, Field(ge=0, lt=64)]
    """As fcntl(F_GET_SEALS) gives them."""
    mode: Annotated[int, Field(ge=0, le=0o777)] = 0o777
    uid: Annotated[int, Field(ge=0, lt=(1 << 32) - 1)] = 0
    gid: Annotated[int, Field(ge=0, lt=(1 << 32) - 1)] = 0


class Eventfd(Part):
    """One that is a semaphore, or holds more than 32 bits."""

    number: Annotated[int, Field(gt=0, lt=1 << 32)]
    """Among the open files of the images."""
    count: Annotated[int, Field(ge=0, lt=(1 << 64) - 1)]
    semaphore: bool
    nonblocking: bool


class Database(Part):
    """A database of SQLite that a process has open."""

    process: Pid
    """As numbered inside the container."""
    descriptor: Annotated[int, Field(ge=0, lt=1 << 31)]
    device: Annotated[int, Field(ge=0, lt=1 << 64)]
    inode: Annotated[int, Field(ge=0, lt=1 << 64)]
    places: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 57)]], Field(max_length=MOST_PLACES)]
    """Addresses of the process at which it has both numbers, one behind the other."""


class Process(Part):
    """The captured tree."""

    pid: Pid
    """Its root, as numbered inside the container."""
    argv: list[str]
    ids: list[Pid]
    """Every process and thread id of the tree."""
    stdio: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], str]
    """Standby's descriptor -> what it was: ``pipe:[123]``."""
    stopped: list[Pid] = []
    """Processes that were stopped, as numbered inside the container: a restore does not wake them."""
    amx: list[Pid] = []
    """Processes that may use AMX, as numbered inside the container."""
    protection_keys: list[ProtectionKeys] = []
    settings: list[ThreadSettings] = []
    """Of threads; empty in artifacts of earlier releases."""
    programs: Annotated[list[Program], Field(max_length=MOST_PROGRAMS)] = []
    """That ran from memfds, in the order of their numbers in the images."""
    eventfds: Annotated[list[Eventfd], Field(max_length=MOST_EVENTFDS)] = []
    """That a restore gives to criu; all others are in the images."""
    lost_locks: bool = False
    """Whether they had record locks that a restore by criu alone loses."""
    databases: list[Database] = []
    shared: Annotated[int, Field(ge=0)] = 0
    """Bytes of private memory that its processes shared since a fork; 0 in artifacts of earlier releases."""
    huge: Annotated[int, Field(ge=0)] = 0
    """Bytes of huge pages, at least; 0 in artifacts of earlier releases."""


class Folder(Part):
    """The top folder of a file system, which an archive of its files does not name."""

    mode: Annotated[int, Field(ge=0, le=0o7777)]
    uid: Annotated[int, Field(ge=0)]
    gid: Annotated[int, Field(ge=0)]
    attributes: dict[str, Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]] = {}
    """Access lists and the user's own, hexadecimal."""


class RootFilesystem(Part):
    """What the container changed in its root file system."""

    files: Annotated[int, Field(ge=0)]
    deleted: Annotated[int, Field(ge=0)] = 0
    bytes: Annotated[int, Field(ge=0)] = 0
    top: Folder | None = None
    """None in artifacts of earlier releases: it is left as it is."""


class VolumeContent(Part):
    """One volume whose content is in the artifact."""

    point: Path
    """Where it is mounted."""
    file: FileName
    size: Annotated[int, Field(ge=0)] | None = None
    """Bytes that the tmpfs could hold; None for another file system."""
    sockets: list[str] = []
    """Paths of sockets in it, which criu makes itself."""
    bytes: Annotated[int, Field(ge=0)] = 0
    own: list[str] | None = None
    """Paths of files in it that the worker has open for writing: they replace what a new pod has there, all others give
    way to it. None, as earlier releases wrote: all replace it."""
    top: Folder | None = None
    """None in artifacts of earlier releases: it is left as it is."""


class HeldFile(Part):
    """A file of the pod that the worker has open to read, and that must be the same where it is restored."""

    point: Path
    """Where its volume is mounted."""
    name: str
    """Below that point."""
    size: Annotated[int, Field(ge=0)] | None = None
    """None for a folder."""
    blake3: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class GpuDevice(Part):
    """One GPU that the worker saw."""

    uuid: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    model: str
    used: Annotated[int, Field(ge=0)]
    """Bytes of its memory that the worker held."""


class DeviceMemory(Part):
    """Device memory of one process that is in files of its own."""

    process: Pid
    """As numbered inside the container."""
    files: Annotated[list[FileName], Field(min_length=1, max_length=64)]
    """In the order of the threads that wrote them."""
    bytes: Annotated[int, Field(ge=0)]
    """All of it; what is zeros is in no file."""
    devices: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=64)] = []
    """Of each file, which of the GPUs all of it comes from; empty: the only one, or not known."""
    imported: Annotated[int, Field(ge=0)] = 0
    """Pieces of memory that other processes of the worker share with this one; they are in those processes' files."""
    discarded: Annotated[int, Field(ge=0)] = 0
    """Bytes that the worker had allocated as discardable: they are in no file either, and zeros in a restored one."""
    ranges: FileName | None = None
    """The table of what is not in ``files`` but in files of the model; None if all is."""
    referenced: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=64)] = []
    """Bytes of each file that are in files of the model; empty: none."""

    @property
    def names(self) -> list[str]:
        """All its files of the artifact."""
        return [*self.files, *([self.ranges] if self.ranges is not None else [])]

    @model_validator(mode="after")
    def _has_all_of_it_or_a_table(self) -> Self:
        if bool(self.referenced) != (self.ranges is not None) or len(self.referenced) not in (0, len(self.files)):
            raise ValueError("ranges and referenced do not fit together")
        return self


class ModelWeights(Part):
    """A file of a model that device memory is in; a restore reads it through its own pod's mount."""

    point: Path
    """Where its volume is mounted."""
    name: str
    """Below that point."""
    size: Annotated[int, Field(ge=0)]
    blake3: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Gpu(Part):
    """The device state of the worker: in the memory of its processes, but for what ``outside`` names."""

    driver: str
    """Version of the kernel driver."""
    cuda: str
    devices: list[GpuDevice]
    """Ordered by their device nodes."""
    processes: list[Pid]
    """Those that the driver restores, as numbered inside the container."""
    driver_files: list[Path] = []
    """Libraries of the driver that are mapped into them."""
    outside: list[DeviceMemory] = []
    weights: list[ModelWeights] = []
    """Files of models that some of ``outside`` is in, in the order in which its tables number them."""

    @property
    def bytes(self) -> int:
        """Device memory of all of them."""
        return sum(device.used for device in self.devices)


class Connections(Part):
    """What became of the worker's TCP connections."""

    kept: Annotated[int, Field(ge=0)]
    """Those that a restore brings back: both ends are in the tree, or what the other one sent is yet to be read."""
    closed: Annotated[int, Field(ge=0)] = 0
    peers: Annotated[list[str], Field(max_length=16)] = []
    """Some of those that the closed ones led to."""
    addresses: list[str] = []
    """Those of the pod that sockets are bound to: a restore puts its own pod's in their place."""


class FileEntry(Part):
    """Size and checksum of one file."""

    size: Annotated[int, Field(ge=0)]
    blake3: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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
        DATABASES_FORMAT_VERSION: bool(process.lost_locks or process.databases),
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
