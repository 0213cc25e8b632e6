"""POSIX message queues of a worker: a file that the manifest names.

Nothing of it is believed: names, sizes and counts are bounded here.
"""

import os
from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from artifact.errors import ArtifactError
from artifact.parts.base import Part
from artifact.read import Artifact
from contract.api.states import AgentReason
from contract.config.errors import describe

MOST_QUEUES: Final = 256
MOST_OPEN_QUEUES: Final = 128
"""Open files of them: each is an argument of criu's command."""
MOST_QUEUE_BYTES: Final = 8 << 20
"""Of all messages together."""
MOST_MESSAGES: Final = 65_536
"""Of all queues together, and of one by the kernel's own limit (HARD_MSGMAX)."""
_MAX_FILE: Final = 16 << 20
"""Bytes of the file: messages take four thirds of theirs, and some 40 each."""
_SHOWN: Final = 3
Name = Annotated[str, Field(pattern=r"^[^/\x00]{1,255}$")]
User = Annotated[int, Field(ge=0, lt=(1 << 32) - 1)]


class QueuedMessage(Part):
    """One message."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    priority: Annotated[int, Field(ge=0, lt=32_768)]
    text: bytes


class PosixQueue(Part):
    """One queue."""

    name: Name
    mode: Annotated[int, Field(ge=0, le=0o7777)]
    """Nothing can be executed there, so a set-user-id bit gives no rights."""
    uid: User
    gid: User
    most: Annotated[int, Field(ge=1, le=MOST_MESSAGES)]
    """Messages that fit."""
    size: Annotated[int, Field(ge=1, le=16 << 20)]
    """Bytes that one may have."""
    messages: Annotated[list[QueuedMessage], Field(max_length=MOST_MESSAGES)]


class OpenQueue(Part):
    """An open file of a queue."""

    number: Annotated[int, Field(gt=0, lt=1 << 32)]
    """Among the open files of the images."""
    name: Name
    flags: Annotated[int, Field(ge=0, lt=1 << 31)]


class PosixQueues(Part):
    """All of a worker."""

    queues: Annotated[list[PosixQueue], Field(max_length=MOST_QUEUES)]
    opened: Annotated[list[OpenQueue], Field(max_length=MOST_OPEN_QUEUES)]

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if sum(len(message.text) for queue in self.queues for message in queue.messages) > MOST_QUEUE_BYTES:
            raise ValueError(f"messages have more than {MOST_QUEUE_BYTES} bytes")
        if sum(len(queue.messages) for queue in self.queues) > MOST_MESSAGES:
            raise ValueError(f"there are more than {MOST_MESSAGES} messages")
        names = [queue.name for queue in self.queues]
        if len(set(names)) != len(names) or not {each.name for each in self.opened} <= set(names):
            raise ValueError("queues are not what is open")
        return self


def write_queues(found: PosixQueues, file: int) -> None:
    """Write what was found into a file, which is closed."""
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write(found.model_dump_json(by_alias=True))


def read_queues(artifact: Artifact) -> PosixQueues | None:
    """Read the file of an artifact; None if it has none.

    Raises:
        ArtifactError: ``manifest-unreadable``: it is not what a capture writes.
    """
    if (name := artifact.manifest.posix_queues) is None:
        return None
    with os.fdopen(artifact.open(name), "rb") as file:
        text = file.read(_MAX_FILE + 1)
    try:
        if len(text) > _MAX_FILE:
            raise ArtifactError(AgentReason.MANIFEST_UNREADABLE, f"{name} is larger than {_MAX_FILE >> 20} MiB")
        return PosixQueues.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(describe(error, PosixQueues)[:_SHOWN])
        words = f"{name} does not describe POSIX message queues: {problems}"
        raise ArtifactError(AgentReason.MANIFEST_UNREADABLE, words) from error
