"""System V objects of a worker, and what of them its processes have mapped: a file that the manifest names.

The bytes of shared memory are in images, as those of other shared memory are; messages are here. Nothing of it is
believed: sizes, counts and ids are bounded here, and who may have made an object is compared with the live container.
"""

import os
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from artifact.errors import ArtifactError
from artifact.manifest import IPC
from artifact.parts.base import Part, Pid
from artifact.read import Artifact
from contract.api.states import AgentReason
from contract.config.errors import describe
from linux.ipc.calls import MSG, SEM, SHM, Wanted

MOST_OBJECTS: Final = 1024
MOST_SEMAPHORES: Final = 32_000
"""Of all sets together; the kernel's own limit for one."""
MOST_MESSAGES: Final = 8 << 20
"""Bytes of all messages together: a queue holds 16 KiB unless its owner says otherwise."""
MOST_COUNT: Final = 16_384
"""Messages of all queues; one without a text takes no bytes of a queue."""
MOST_MAPPINGS: Final = 65_536
MAX_IPC: Final = 32 << 20
"""Bytes of the file: messages take four thirds of theirs, mappings some 200 each."""
_PAGE: Final = 4096
_SHOWN: Final = 3
_TOP: Final = 1 << 57

Number = Annotated[int, Field(ge=0, lt=1 << 31)]
User = Annotated[int, Field(ge=0, lt=(1 << 32) - 1)]
"""A user or a group."""
Key = Annotated[int, Field(ge=0, lt=1 << 32)]


class Object(Part):
    """What all kinds have."""

    id: Number
    key: Key
    """0: none."""
    mode: Annotated[int, Field(ge=0, le=0o777)]
    uid: User
    gid: User
    creator_uid: User
    creator_gid: User

    def wanted(self, kind: str) -> Wanted:
        """Return the same in the words of the calls."""
        return Wanted(kind, self.key, self.id, self.mode, self.uid, self.gid, self.creator_uid, self.creator_gid)


class Segment(Object):
    """Shared memory."""

    size: Annotated[int, Field(gt=0, lt=_TOP)]
    ends_unattached: bool = False
    """It was removed (IPC_RMID), and goes with the last process that has it attached."""


class SemaphoreSet(Object):
    """Semaphores."""

    values: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 15)]], Field(min_length=1, max_length=MOST_SEMAPHORES)]
    used: bool = False
    """There was an operation on them."""


class Message(Part):
    """One message."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    kind: Annotated[int, Field(ge=1, lt=1 << 63)]
    text: bytes


class Queue(Object):
    """A message queue."""

    capacity: Annotated[int, Field(ge=0, lt=1 << 31)]
    """Bytes of messages that it may hold."""
    messages: Annotated[list[Message], Field(default_factory=list, max_length=MOST_COUNT)]

    @property
    def held(self) -> int:
        """Bytes of its messages."""
        return sum(len(message.text) for message in self.messages)


class Mapping(Part):
    """A piece of an attached segment, of one protection."""

    start: Annotated[int, Field(ge=0, lt=_TOP, multiple_of=_PAGE)]
    size: Annotated[int, Field(gt=0, lt=_TOP, multiple_of=_PAGE)]
    protection: Annotated[int, Field(ge=0, le=7)]
    """Bits as mprotect(2) takes them."""
    advice: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """A bit for each number of madvise(2)."""
    locked: bool = False
    """By mlock(2)."""


class Attachment(Part):
    """A segment in the memory of a process."""

    process: Pid
    """As numbered inside the container."""
    id: Number
    read_only: bool
    """It was attached so (SHM_RDONLY)."""
    mappings: Annotated[list[Mapping], Field(min_length=1, max_length=MOST_MAPPINGS)]

    @property
    def start(self) -> int:
        """Where it begins."""
        return self.mappings[0].start


class SysvIpc(Part):
    """All System V objects of a worker."""

    segments: Annotated[list[Segment], Field(default_factory=list, max_length=MOST_OBJECTS)]
    semaphores: Annotated[list[SemaphoreSet], Field(default_factory=list, max_length=MOST_OBJECTS)]
    queues: Annotated[list[Queue], Field(default_factory=list, max_length=MOST_OBJECTS)]
    attachments: Annotated[list[Attachment], Field(default_factory=list, max_length=MOST_MAPPINGS)]

    def objects(self) -> Iterator[tuple[str, Object]]:
        """Yield each object, with its kind in the words of the calls."""
        for kind, found in ((SHM, self.segments), (SEM, self.semaphores), (MSG, self.queues)):
            for each in found:
                yield kind, each

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if sum(len(each.values) for each in self.semaphores) > MOST_SEMAPHORES:
            raise ValueError(f"more than {MOST_SEMAPHORES} semaphores")
        messages = [message for each in self.queues for message in each.messages]
        if len(messages) > MOST_COUNT or sum(len(each.text) for each in messages) > MOST_MESSAGES:
            raise ValueError(f"more than {MOST_COUNT} messages or {MOST_MESSAGES} bytes of them")
        return self

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        ids = [(kind, each.id) for kind, each in self.objects()]
        keys = [(kind, each.key) for kind, each in self.objects() if each.key]
        if len(set(ids)) < len(ids) or len(set(keys)) < len(keys):
            raise ValueError("two objects have one id or one key")
        return self

    @model_validator(mode="after")
    def _attaches_its_own(self) -> Self:
        sizes = {each.id: -(-each.size // _PAGE) * _PAGE for each in self.segments}
        for each in self.attachments:
            if sum(piece.size for piece in each.mappings) != sizes.get(each.id):
                raise ValueError(f"process {each.process} attaches what is no segment of it, or a part of one")
            if any(one.start + one.size != other.start for one, other in pairwise(each.mappings)):
                raise ValueError(f"process {each.process} attaches a segment in pieces that are apart")
        return self


def write_ipc(found: SysvIpc, file: int) -> None:
    """Write what was found into a file, which is closed."""
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write(found.model_dump_json(by_alias=True))


def read_ipc(artifact: Artifact) -> SysvIpc | None:
    """Read the file of an artifact; None if it has none.

    Raises:
        ArtifactError: it is not what a capture writes.
    """
    if (name := artifact.manifest.ipc) is None:
        return None
    with os.fdopen(artifact.open(name), "rb") as file:
        return parse_ipc(file.read(MAX_IPC + 1))


def parse_ipc(text: bytes) -> SysvIpc:
    """Parse the content of such a file.

    Raises:
        ArtifactError: ``manifest-unreadable``.
    """
    if len(text) > MAX_IPC:
        raise ArtifactError(AgentReason.MANIFEST_UNREADABLE, f"{IPC} has more than {MAX_IPC} bytes")
    try:
        return SysvIpc.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(describe(error, SysvIpc)[:_SHOWN])
        words = f"{IPC} does not describe System V IPC: {problems}"
        raise ArtifactError(AgentReason.MANIFEST_UNREADABLE, words) from error
