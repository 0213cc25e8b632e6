"""Names that criu gives to deleted files which have other names, read from its images.

Numbers of fields are those of criu's ``images/fdinfo.proto``, ``regfile.proto`` and ``remap-file-path.proto``.
"""

import os
from typing import Final, NamedTuple

from agent import protobuf
from agent.criu.images.files import read_image
from agent.criu.images.mended import FILES
from agent.errors import CriuError
from contract.api.states import AgentReason

REMAPS: Final = "remap-fpath.img"
MARK: Final = "link_remap."
_REGULAR: Final = 3
"""The field of a file that describes a regular one."""
_ID: Final = 1
_PATH: Final = 6
_ORIGINAL: Final = 1
_GIVEN: Final = 2
_KIND: Final = 3
_LINKED: Final = 0
"""The kind of a deleted file that has other names; those of the others number something else than files."""


class GivenName(NamedTuple):
    """A deleted file."""

    original: str
    """Its path before it was deleted, as the container has it."""
    given: str
    """The path by which a restore opens it."""


def given_names(directory: int) -> list[GivenName]:
    """Return the names that criu gave.

    Raises:
        CriuError: the images cannot be read.
    """
    try:
        content = read_image(directory, REMAPS)
    except FileNotFoundError:
        return []
    try:
        paths = _paths(read_image(directory, FILES))
        pairs = [protobuf.parse(each) for each in protobuf.messages(content)]
        found = [
            GivenName(paths[original], given)
            for pair in pairs
            if protobuf.number(pair, _KIND) == _LINKED
            and MARK in (given := paths.get(protobuf.number(pair, _GIVEN), ""))
            and (original := protobuf.number(pair, _ORIGINAL)) in paths
        ]
    except ValueError as error:
        raise CriuError(AgentReason.DUMP_FAILED, f"criu's images of files cannot be read: {error}") from error
    return sorted(set(found))


def _paths(files: bytes) -> dict[int, str]:
    found = {}
    for entry in protobuf.messages(files):
        for regular in protobuf.embedded(protobuf.parse(entry), _REGULAR):
            fields = protobuf.parse(regular)
            name = protobuf.embedded(fields, _PATH)
            found[protobuf.number(fields, _ID)] = "/" + os.fsdecode(name[-1] if name else b"").lstrip("/")
    return found
