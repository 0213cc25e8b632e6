"""Takes System V memory out of the images of processes, and has them restored in a namespace that is there.

criu would make the whole namespace again, or fail at memory of a segment that it has not made. What is taken out here
is given back to the restored processes by us. Numbers of fields are those of criu's ``images/mm.proto``,
``vma.proto``, ``core.proto`` and ``inventory.proto``.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Final

from agent import protobuf
from agent.criu.images.files import read_image, replace_image
from agent.protobuf import Field
from artifact.ipc import Attachment
from artifact.ipc import Mapping as Piece

_MM: Final = re.compile(r"mm-([0-9]{1,9})\.img")
_IDS: Final = re.compile(r"ids-[0-9]{1,9}\.img")
_INVENTORY: Final = "inventory.img"
_INVENTORY_AT: Final = 4
"""Bytes in front of its message: it has one magic number, other images have two."""
_ROOT_IDS, _IPC_NAMESPACE = 3, 7
_MM_VMAS: Final = 14
_START, _END, _OFFSET, _ID, _PROTECTION, _FLAGS, _STATUS, _ADVICE, _OPENED = 1, 2, 3, 4, 5, 6, 7, 9, 10
_SYSV: Final = 1 << 10
_OTHER_SHARED: Final = 1 << 8
"""Anonymous shared memory; System V memory is that too, and has been taken out before."""
_MEMFDS, _MEMFD_SEGMENT = "memfd.img", 5
_LOCKED: Final = 0x2000
"""MAP_LOCKED."""


def take_attachments(directory: int) -> list[Attachment]:
    """Take all mappings of System V memory out of the images of a directory, and return what they were.

    Raises:
        ValueError, OSError: the images are not what criu writes.
    """
    found = list[Attachment]()
    for name in sorted(os.listdir(directory)):
        if match := _MM.fullmatch(name):
            image = read_image(directory, name)
            text, end = protobuf.message(image)
            fields = protobuf.parse(text)
            taken = [values for field in fields if (values := _system_v(field)) is not None]
            if taken:
                found += _attachments(int(match[1]), taken)
                kept = protobuf.encode(field for field in fields if _system_v(field) is None)
                replace_image(directory, name, image[: protobuf.MAGIC] + protobuf.framed(kept) + image[end:])
    return found


def _system_v(field: Field) -> Mapping[int, int] | None:
    if field.number != _MM_VMAS or isinstance(field.value, int):
        return None
    values = protobuf.values(field.value)
    return values if values.get(_STATUS, 0) & _SYSV else None


def _attachments(process: int, taken: list[Mapping[int, int]]) -> Iterator[Attachment]:
    """Join the mappings of a process, which protections may have cut a segment into; pure."""
    pieces = list[Mapping[int, int]]()
    for values in sorted(taken, key=lambda each: each[_START]):
        if pieces and values.get(_OFFSET, 0) == 0:
            yield _attachment(process, pieces)
            pieces = []
        pieces.append(values)
    yield _attachment(process, pieces)


def _attachment(process: int, pieces: list[Mapping[int, int]]) -> Attachment:
    first = pieces[0]
    if any(each.get(_ID, 0) != first.get(_ID, 0) for each in pieces):
        raise ValueError(f"process {process} has parts of several segments side by side")
    is_read_only = first.get(_OPENED, os.O_RDWR) & os.O_ACCMODE == os.O_RDONLY
    return Attachment(
        process=process, id=first.get(_ID, 0), read_only=is_read_only, mappings=[_piece(each) for each in pieces]
    )


def _piece(values: Mapping[int, int]) -> Piece:
    return Piece(
        start=values[_START],
        size=values[_END] - values[_START],
        protection=values.get(_PROTECTION, 0),
        advice=values.get(_ADVICE, 0),
        locked=bool(values.get(_FLAGS, 0) & _LOCKED),
    )


def other_segments(directory: int) -> set[int]:
    """Return the numbers that criu has given to other shared memory: it names images by them alone.

    Raises:
        ValueError, OSError: the images are not what criu writes.
    """
    found = set[int]()
    for name in os.listdir(directory):
        if _MM.fullmatch(name):
            fields = protobuf.parse(protobuf.message(read_image(directory, name))[0])
            mappings = map(protobuf.values, protobuf.embedded(fields, _MM_VMAS))
            found |= {each.get(_ID, 0) for each in mappings if each.get(_STATUS, 0) & _OTHER_SHARED}
        elif name == _MEMFDS:
            found |= {
                protobuf.values(each).get(_MEMFD_SEGMENT, 0) for each in protobuf.messages(read_image(directory, name))
            }
    return found


def stay_in_namespace(directory: int) -> None:
    """Have the processes in the images restored in the IPC namespace that criu is in.

    Raises:
        ValueError, OSError: the images are not what criu writes.
    """
    inventory = protobuf.parse(protobuf.message(read_image(directory, _INVENTORY), _INVENTORY_AT)[0])
    (root,) = protobuf.embedded(inventory, _ROOT_IDS)
    number = protobuf.values(root)[_IPC_NAMESPACE]
    for name in os.listdir(directory):
        if _IDS.fullmatch(name):
            image = read_image(directory, name)
            text, end = protobuf.message(image)
            changed = protobuf.encode(protobuf.replaced(protobuf.parse(text), {_IPC_NAMESPACE: number}))
            replace_image(directory, name, image[: protobuf.MAGIC] + protobuf.framed(changed) + image[end:])
