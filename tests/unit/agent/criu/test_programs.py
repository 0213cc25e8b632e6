"""Programs that run from memfds, in criu's images."""

import os

import pytest

from agent import protobuf
from agent.criu.image_files import read_image
from agent.criu.programs import given_name, name_programs
from agent.errors import CriuError
from agent.protobuf import BYTES, VARINT, Field
from contract.api.states import AgentReason

MAGIC = bytes(protobuf.MAGIC)
REGULAR, MEMFD = 1, 18


def file(kind: int, number: int) -> bytes:
    return protobuf.framed(protobuf.encode([Field(1, VARINT, kind), Field(2, VARINT, number)]))


@pytest.fixture
def images(tmp_path):
    (tmp_path / "files.img").write_bytes(MAGIC + file(REGULAR, 1) + file(MEMFD, 2) + file(MEMFD, 7))
    for pid, program in ((5, 1), (6, 2), (8, 7), (9, 2)):
        memory = [Field(1, VARINT, 0x400000), Field(12, VARINT, program), Field(14, BYTES, b"")]
        (tmp_path / f"mm-{pid}.img").write_bytes(MAGIC + protobuf.framed(protobuf.encode(memory)))
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def program_of(images: int, pid: int) -> int:
    text, _ = protobuf.message(read_image(images, f"mm-{pid}.img"))
    return protobuf.number(protobuf.parse(text), 12)


def test_processes_get_their_programs_by_name(images):
    name_programs(images, {6: 0, 8: 1, 9: 0})
    assert [1, 8, 9, 8] == [program_of(images, pid) for pid in (5, 6, 8, 9)]
    files = [protobuf.parse(each) for each in protobuf.messages(read_image(images, "files.img"))]
    assert [1, 2, 7, 8, 9] == [protobuf.number(each, 2) for each in files]
    for number, added in enumerate(files[3:]):
        (regular,) = (protobuf.parse(each) for each in protobuf.embedded(added, 3))
        assert (8 + number, True) == (protobuf.number(regular, 1), bool(protobuf.number(regular, 9)))
        assert [given_name(number).encode()] == protobuf.embedded(regular, 6)


def test_one_that_was_not_known_fails_the_dump(images):
    with pytest.raises(CriuError, match="process 8 has started a program from a memfd meanwhile") as failure:
        name_programs(images, {6: 0, 9: 0})
    assert AgentReason.DUMP_FAILED == failure.value.code
