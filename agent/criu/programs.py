"""Programs that run from a memfd: criu dumps such a process, and cannot restore it.

It takes the program for the memfd that the process has mapped, and looks for it among regular files. So the images get
an entry there, of a file that a restore is given by its name (criu's ``--inherit-fd``). Numbers of fields are those of
criu's ``images/mm.proto``, ``fdinfo.proto``, ``regfile.proto`` and ``fown.proto``.
"""

import os
import re
from collections.abc import Mapping
from typing import Final

from agent import protobuf
from agent.criu.image_files import read_image, replace_image
from agent.criu.images import FILES
from agent.errors import CriuError
from agent.protobuf import BYTES, VARINT, Field
from contract.api.states import AgentReason

_MM: Final = re.compile(r"mm-([0-9]{1,9})\.img")
_PROGRAM: Final = 12
"""The field of a process's memory that names its program by the number of a file."""
_TYPE, _ID, _REGULAR = 1, 2, 3
_REGULAR_TYPE: Final = 1
_FILE_ID, _FILE_FLAGS, _FILE_POSITION, _FILE_OWNER, _FILE_NAME, _FILE_IS_GIVEN = 1, 2, 3, 5, 6, 9
_NO_OWNER: Final = protobuf.encode(Field(number, VARINT, 0) for number in range(1, 6))


def given_name(program: int) -> str:
    """Return the name by which a restore is given a program, of those of an artifact."""
    return f"snapshot-program-{program}"


def name_programs(directory: int, programs: Mapping[int, int]) -> None:
    """Have processes in the images of a directory get their programs by name.

    Args:
        directory: of the images.
        programs: pid inside the container -> which program it runs.

    Raises:
        CriuError: the images cannot be read, or another process runs a program from a memfd too.
    """
    try:
        _name_programs(directory, programs)
    except (OSError, ValueError, KeyError) as error:
        words = f"an image that criu wrote of a program cannot be read: {error}"
        raise CriuError(AgentReason.DUMP_FAILED, words) from error


def _name_programs(directory: int, programs: Mapping[int, int]) -> None:
    files = read_image(directory, FILES)
    entries = [protobuf.parse(each) for each in protobuf.messages(files)]
    regular = {protobuf.number(each, _ID) for each in entries if protobuf.number(each, _TYPE) == _REGULAR_TYPE}
    first = 1 + max((protobuf.number(each, _ID) for each in entries), default=0)
    for name in os.listdir(directory):
        if match := _MM.fullmatch(name):
            image = read_image(directory, name)
            text, end = protobuf.message(image)
            fields = protobuf.parse(text)
            pid = int(match[1])
            if pid not in programs and protobuf.number(fields, _PROGRAM) in regular:
                continue
            if pid not in programs:
                words = f"process {pid} has started a program from a memfd meanwhile: capture the worker again"
                raise CriuError(AgentReason.DUMP_FAILED, words)
            changed = protobuf.encode(protobuf.replaced(fields, {_PROGRAM: first + programs[pid]}))
            replace_image(directory, name, image[: protobuf.MAGIC] + protobuf.framed(changed) + image[end:])
    given = (protobuf.framed(_entry(first + program, program)) for program in sorted(set(programs.values())))
    replace_image(directory, FILES, files + b"".join(given))


def _entry(number: int, program: int) -> bytes:
    """Return the entry of a file that a restore is given."""
    file = [
        Field(_FILE_ID, VARINT, number),
        Field(_FILE_FLAGS, VARINT, os.O_RDONLY),
        Field(_FILE_POSITION, VARINT, 0),
        Field(_FILE_OWNER, BYTES, _NO_OWNER),
        Field(_FILE_NAME, BYTES, given_name(program).encode()),
        Field(_FILE_IS_GIVEN, VARINT, 1),
    ]
    entry = [
        Field(_TYPE, VARINT, _REGULAR_TYPE),
        Field(_ID, VARINT, number),
        Field(_REGULAR, BYTES, protobuf.encode(file)),
    ]
    return protobuf.encode(entry)
