"""System V objects in the images of a dump that was made from outside of their namespace.

Numbers of fields are those of criu's ``images/ipc-desc.proto``, ``ipc-shm.proto``, ``ipc-sem.proto`` and
``ipc-msg.proto``. criu writes the values of semaphores and the texts of messages between its messages, in whole words.
"""

import os
import struct
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from agent import protobuf
from agent.criu.images.files import read_image
from agent.errors import RefusedError
from artifact.ipc import Attachment, Message, Queue, Segment, SemaphoreSet, SysvIpc
from contract.api.states import AgentReason

PREFIX: Final = "ipcns-"
_WORD: Final = 8
_DESC = 1
_FIELDS: Final = {"key": 1, "uid": 2, "gid": 3, "creator_uid": 4, "creator_gid": 5, "mode": 6, "id": 7}
_SHM_SIZE, _SHM_HUGE = 2, 4
_SEM_COUNT: Final = 2
_MSG_CAPACITY, _MSG_COUNT = 2, 3
_MESSAGE_KIND, _MESSAGE_SIZE = 1, 2
_REMOVED, _PERMISSIONS = 0o1000, 0o777


def read_objects(directory: int, used: Collection[int], attachments: Sequence[Attachment]) -> SysvIpc:
    """Return what is in the images of a directory.

    Args:
        directory: of the images.
        used: ids of semaphores that there was an operation on.
        attachments: of the processes in the images.

    Raises:
        RefusedError: ``sysv-ipc``: a segment has huge pages.
        ValueError, OSError: the images are not what criu writes.
    """
    return SysvIpc(
        segments=[_segment(text) for text in protobuf.messages(_image(directory, "shm"))],
        semaphores=list(_semaphores(_image(directory, "sem"), used)),
        queues=list(_queues(_image(directory, "msg"))),
        attachments=list(attachments),
    )


def image_names(directory: int) -> list[str]:
    """Return the names of the images that a restore into a namespace which is there must not find."""
    return [name for name in os.listdir(directory) if name.startswith(PREFIX)]


def _image(directory: int, kind: str) -> bytes:
    """Return the image of one kind; criu writes none if there is no object of it."""
    names = [name for name in image_names(directory) if name.startswith(f"{PREFIX}{kind}-")]
    if len(names) > 1:
        raise ValueError(f"{len(names)} namespaces")
    return read_image(directory, names[0]) if names else b""


def _described(text: bytes) -> dict[str, int]:
    (desc,) = protobuf.embedded(protobuf.parse(text), _DESC)
    found = protobuf.values(desc)
    return {name: found[number] for name, number in _FIELDS.items()} | {"mode": found[6] & _PERMISSIONS}


def _segment(text: bytes) -> Segment:
    entry = protobuf.values(text)
    (desc,) = protobuf.embedded(protobuf.parse(text), _DESC)
    mode, described = protobuf.values(desc)[6], _described(text)
    if _SHM_HUGE in entry:
        words = f"System V shared memory (id {described['id']}) has huge pages (SHM_HUGETLB)"
        raise RefusedError(AgentReason.SYSV_IPC, words)
    return Segment(**described, size=entry[_SHM_SIZE], ends_unattached=bool(mode & _REMOVED))


def _semaphores(image: bytes, used: Collection[int]) -> Iterator[SemaphoreSet]:
    at = protobuf.MAGIC
    while at < len(image):
        text, at = protobuf.message(image, at)
        entry = protobuf.values(text)
        values, at = _raw(image, at, 2 * entry[_SEM_COUNT])
        described = _described(text)
        numbers = list(struct.unpack(f"={entry[_SEM_COUNT]}H", values))
        yield SemaphoreSet(**described, values=numbers, used=described["id"] in used)


def _queues(image: bytes) -> Iterator[Queue]:
    at = protobuf.MAGIC
    while at < len(image):
        text, at = protobuf.message(image, at)
        entry, messages = protobuf.values(text), list[Message]()
        for _ in range(entry[_MSG_COUNT]):
            head, at = protobuf.message(image, at)
            about = protobuf.values(head)
            content, at = _raw(image, at, about[_MESSAGE_SIZE])
            messages.append(Message(kind=about[_MESSAGE_KIND], text=content))
        yield Queue(**_described(text), capacity=entry[_MSG_CAPACITY], messages=messages)


def _raw(image: bytes, at: int, size: int) -> tuple[bytes, int]:
    """Return bytes that follow a message, and where the next begins."""
    end = at + -(-size // _WORD) * _WORD
    if end > len(image):
        raise ValueError("cut off")
    return image[at : at + size], end
