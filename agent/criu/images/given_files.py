"""Open files that a restore gives to criu, as criu could not make them: programs in memfds, some eventfds, queues.

It takes such a program for the memfd that the process has mapped, and looks for it among regular files; an eventfd it
makes without EFD_SEMAPHORE, and with 32 bits of its count; POSIX message queues it does not know. So the images get an
entry of a regular file that a restore is given by its name (criu's ``--inherit-fd``). Numbers of fields are those of
criu's ``images/mm.proto``, ``fdinfo.proto``, ``regfile.proto``, ``fown.proto``, ``eventfd.proto`` and ``core.proto``.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from agent import protobuf
from agent.criu.images.files import read_image, replace_image
from agent.criu.images.mended import FILES
from agent.errors import CriuError
from agent.protobuf import BYTES, VARINT, Field
from contract.api.states import AgentReason

Said = TypeVar("Said")
_MM: Final = re.compile(r"mm-([0-9]{1,9})\.img")
_PROGRAM: Final = 12
"""The field of a process's memory that names its program by the number of a file."""
_TYPE, _ID, _REGULAR = 1, 2, 3
_REGULAR_TYPE: Final = 1
_FILE_ID, _FILE_FLAGS, _FILE_POSITION, _FILE_OWNER, _FILE_NAME, _FILE_IS_GIVEN = 1, 2, 3, 5, 6, 9
_EXTERNAL: Final = b"file["
"""How the name begins that criu gives a file which it was asked to leave out."""
_NO_POSITION: Final = (1 << 64) - 1
_FILES_ID: Final = 2
"""The field of a process's numbers that says which table of descriptors it has."""
_OPEN_ID, _OPEN_TYPE, _OPEN_NUMBER = 1, 3, 4
_EVENTFD, _EVENTFD_FLAGS, _EVENTFD_COUNT = 8, 2, 4
_NO_OWNER: Final = protobuf.encode(Field(number, VARINT, 0) for number in range(1, 6))


def program_name(program: int) -> str:
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
    others = {protobuf.number(each, _ID) for each in entries if _is_of_a_file_system(each)}
    first = 1 + max((protobuf.number(each, _ID) for each in entries), default=0)
    for name in os.listdir(directory):
        if match := _MM.fullmatch(name):
            image = read_image(directory, name)
            text, end = protobuf.message(image)
            fields = protobuf.parse(text)
            pid = int(match[1])
            if pid not in programs and protobuf.number(fields, _PROGRAM) in regular:
                continue
            if pid not in programs or protobuf.number(fields, _PROGRAM) in others:
                words = f"process {pid} has started another program meanwhile: capture the worker again"
                raise CriuError(AgentReason.DUMP_FAILED, words)
            changed = protobuf.encode(protobuf.replaced(fields, {_PROGRAM: first + programs[pid]}))
            replace_image(directory, name, image[: protobuf.MAGIC] + protobuf.framed(changed) + image[end:])
    given = (_program(first + program, program_name(program)) for program in sorted(set(programs.values())))
    replace_image(directory, FILES, files + b"".join(given))


def _is_of_a_file_system(entry: Sequence[Field]) -> bool:
    names = (protobuf.embedded(protobuf.parse(each), _FILE_NAME) for each in protobuf.embedded(entry, _REGULAR))
    return any(not name.startswith(_EXTERNAL) for found in names for name in found)


def _program(number: int, name: str) -> bytes:
    """Return the entry of a file that criu opens once more by what a restore is given."""
    return _entry(number, name, 0, [Field(_FILE_IS_GIVEN, VARINT, 1)])


def _file(number: int) -> bytes:
    """Return the entry of a file that is the very one that a restore is given.

    Of such a name criu leaves out the first letter, and it sets no position.
    """
    return _entry(number, f"/{file_name(number)}", _NO_POSITION, [])


def _entry(number: int, name: str, position: int, more: Sequence[Field]) -> bytes:
    file = [
        Field(_FILE_ID, VARINT, number),
        Field(_FILE_FLAGS, VARINT, os.O_RDONLY),
        Field(_FILE_POSITION, VARINT, position),
        Field(_FILE_OWNER, BYTES, _NO_OWNER),
        Field(_FILE_NAME, BYTES, name.encode()),
        *more,
    ]
    whole = [
        Field(_TYPE, VARINT, _REGULAR_TYPE),
        Field(_ID, VARINT, number),
        Field(_REGULAR, BYTES, protobuf.encode(file)),
    ]
    return protobuf.framed(protobuf.encode(whole))


class DumpedEventfd(NamedTuple):
    """An eventfd that a restore is given."""

    number: int
    """Among the open files of the images."""
    held: int
    is_semaphore: bool
    is_nonblocking: bool


def file_name(number: int) -> str:
    """Return the name by which a restore is given an open file of the images that is none of a program."""
    return f"snapshot-file-{number}"


def name_eventfds(directory: int, found: Mapping[tuple[int, int], bool]) -> list[DumpedEventfd]:
    """Have eventfds in the images of a directory given by name; return what they are.

    Args:
        directory: of the images.
        found: by which descriptors processes have them (pid inside the container, number), and whether they are
            semaphores, which criu does not note.

    Raises:
        CriuError: the images cannot be read, or have no such descriptor.
    """
    return [
        DumpedEventfd(
            number,
            protobuf.number(dumped, _EVENTFD_COUNT),
            is_semaphore,
            bool(protobuf.number(dumped, _EVENTFD_FLAGS) & os.O_NONBLOCK),
        )
        for number, is_semaphore, dumped in _given(directory, found, _EVENTFD)
    ]


class DumpedQueue(NamedTuple):
    """An open file of a message queue, which a restore is given."""

    number: int
    """Among the open files of the images."""
    name: str
    flags: int
    """Of open(2)."""


def name_queues(directory: int, found: Mapping[tuple[int, int], str]) -> list[DumpedQueue]:
    """Have open message queues in the images of a directory given by name; return what they are.

    Args:
        directory: of the images, of which criu has left the queues out.
        found: by which descriptors processes have them (pid inside the container, number), and their names.

    Raises:
        CriuError: the images cannot be read, or have no such descriptor.
    """
    opened = _given(directory, found, _REGULAR)
    for _, name, dumped in opened:
        if not protobuf.embedded(dumped, _FILE_NAME)[0].startswith(_EXTERNAL):
            words = f"a process has opened another file in place of the message queue /{name} meanwhile"
            raise CriuError(AgentReason.DUMP_FAILED, f"{words}: capture the worker again")
    return [DumpedQueue(number, name, protobuf.number(dumped, _FILE_FLAGS)) for number, name, dumped in opened]


def _given(
    directory: int, found: Mapping[tuple[int, int], Said], described: int
) -> list[tuple[int, Said, list[Field]]]:
    """Have open files given by name; return the number of each, what is said of it, and what criu has dumped of it."""
    try:
        wanted = dict(_numbers(directory, found))
        dumped = _replace_files(directory, wanted, described)
        _replace_types(directory, wanted)
    except (OSError, ValueError, KeyError) as error:
        words = f"an image that criu wrote of an open file cannot be read: {error}"
        raise CriuError(AgentReason.DUMP_FAILED, words) from error
    return [(number, wanted[number], fields) for number, fields in dumped.items()]


def _replace_files(directory: int, wanted: Collection[int], described: int) -> dict[int, list[Field]]:
    image, entries, dumped = read_image(directory, FILES), [], {}
    for text in protobuf.messages(image):
        fields = protobuf.parse(text)
        number = protobuf.number(fields, _ID)
        if number in wanted:
            (dumped[number],) = (protobuf.parse(each) for each in protobuf.embedded(fields, described))
        entries.append(_file(number) if number in wanted else protobuf.framed(text))
    replace_image(directory, FILES, image[: protobuf.MAGIC] + b"".join(entries))
    return dumped


def _replace_types(directory: int, wanted: Collection[int]) -> None:
    for name in os.listdir(directory):
        if name.startswith("fdinfo-"):
            image = read_image(directory, name)
            changed = (protobuf.framed(_of_given(text, wanted)) for text in protobuf.messages(image))
            replace_image(directory, name, image[: protobuf.MAGIC] + b"".join(changed))


def _numbers(directory: int, found: Mapping[tuple[int, int], Said]) -> Iterator[tuple[int, Said]]:
    """Yield the number of each descriptor's open file, with what is said of it."""
    for (pid, descriptor), said in found.items():
        ids = protobuf.parse(protobuf.message(read_image(directory, f"ids-{pid}.img"))[0])
        table = read_image(directory, f"fdinfo-{protobuf.number(ids, _FILES_ID)}.img")
        opened = {values[_OPEN_NUMBER]: values[_OPEN_ID] for values in map(protobuf.values, protobuf.messages(table))}
        yield opened[descriptor], said


def _of_given(text: bytes, given: Collection[int]) -> bytes:
    fields = protobuf.parse(text)
    is_given = protobuf.number(fields, _OPEN_ID) in given
    return protobuf.encode(protobuf.replaced(fields, {_OPEN_TYPE: _REGULAR_TYPE})) if is_given else text
