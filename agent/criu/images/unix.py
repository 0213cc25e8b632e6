"""Unix sockets in criu's images; numbers of fields are those of its ``images/fdinfo.proto`` and ``sk-unix.proto``."""

import os
from collections.abc import Mapping
from typing import Final

from agent import protobuf
from agent.criu.images.files import read_image, replace_image
from agent.criu.images.mended import FILES
from agent.errors import CriuError
from agent.protobuf import BYTES, Field
from contract.api.states import AgentReason

UNIX: Final = 16
"""The field of a file that describes a Unix socket."""
INODE, NAME, DELETED = 2, 11, 15


def bind_to(directory: int, names: Mapping[int, str]) -> None:
    """Have sockets bound to the names that their files have now, given by the inode of each.

    criu knows only where a socket was bound. If nothing is there any more it takes the file for deleted, and what else
    is there for that socket's.

    Raises:
        CriuError: the image cannot be read.
    """
    if not names:
        return
    found = read_image(directory, FILES)
    try:
        entries = [protobuf.framed(_bound(entry, names)) for entry in protobuf.messages(found)]
    except ValueError as error:
        raise CriuError(AgentReason.DUMP_FAILED, f"criu's image of files cannot be read: {error}") from error
    replace_image(directory, FILES, found[: protobuf.MAGIC] + b"".join(entries))


def _bound(entry: bytes, names: Mapping[int, str]) -> bytes:
    outer = protobuf.parse(entry)
    sockets = protobuf.embedded(outer, UNIX)
    if not sockets:
        return entry
    fields = protobuf.parse(sockets[-1])
    name = names.get(protobuf.number(fields, INODE))
    if name is None:
        return entry
    kept = [field for field in fields if field.number not in (NAME, DELETED)]
    bound = protobuf.encode([*kept, Field(NAME, BYTES, os.fsencode(name) + b"\0")])
    return protobuf.encode(protobuf.replaced(outer, {UNIX: bound}))
