"""Open files that a restore gives to criu, in its images."""

import os
from contextlib import nullcontext

import pytest

from agent import protobuf
from agent.criu.images.files import read_image
from agent.criu.images.given_files import (
    DumpedEventfd,
    DumpedQueue,
    file_name,
    name_eventfds,
    name_programs,
    name_queues,
    program_name,
)
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
        assert [program_name(number).encode()] == protobuf.embedded(regular, 6)


def test_one_that_was_not_known_fails_the_dump(images):
    with pytest.raises(CriuError, match="process 8 has started another program meanwhile") as failure:
        name_programs(images, {6: 0, 9: 0})
    assert AgentReason.DUMP_FAILED == failure.value.code


@pytest.mark.parametrize(("name", "fails"), [(b"/usr/bin/cat", True), (b"file[13:5]", False)])
def test_one_that_was_started_in_place_of_that_of_a_memfd_fails_the_dump(images, tmp_path, name, fails):
    dumped = protobuf.encode([Field(1, VARINT, 1), Field(6, BYTES, name)])
    entry = protobuf.encode([Field(1, VARINT, REGULAR), Field(2, VARINT, 1), Field(3, BYTES, dumped)])
    (tmp_path / "files.img").write_bytes(MAGIC + protobuf.framed(entry) + file(MEMFD, 2) + file(MEMFD, 7))
    with pytest.raises(CriuError, match="process 5 has started another") if fails else nullcontext():
        name_programs(images, {5: 0, 6: 0, 8: 1, 9: 0})


EVENTFD = 5
SHARED, OWN = 11, 12


def opened(number: int, kind: int, descriptor: int) -> bytes:
    fields = [Field(1, VARINT, number), Field(2, VARINT, 0), Field(3, VARINT, kind), Field(4, VARINT, descriptor)]
    return protobuf.framed(protobuf.encode(fields))


@pytest.fixture
def with_eventfds(tmp_path):
    def eventfd(number: int, count: int, flags: int) -> bytes:
        dumped = protobuf.encode([Field(1, VARINT, number), Field(2, VARINT, flags), Field(4, VARINT, count)])
        return protobuf.framed(
            protobuf.encode([Field(1, VARINT, EVENTFD), Field(2, VARINT, number), Field(8, BYTES, dumped)])
        )

    files = file(REGULAR, 1) + eventfd(SHARED, 3, os.O_RDWR) + eventfd(OWN, 1 << 40, os.O_NONBLOCK | os.O_RDWR)
    (tmp_path / "files.img").write_bytes(MAGIC + files + eventfd(13, 7, os.O_RDWR))
    for pid, table in ((5, 2), (6, 3)):
        (tmp_path / f"ids-{pid}.img").write_bytes(MAGIC + protobuf.framed(protobuf.encode([Field(2, VARINT, table)])))
    first = opened(1, REGULAR, 0) + opened(SHARED, EVENTFD, 4) + opened(OWN, EVENTFD, 5)
    (tmp_path / "fdinfo-2.img").write_bytes(MAGIC + first)
    (tmp_path / "fdinfo-3.img").write_bytes(MAGIC + opened(SHARED, EVENTFD, 9) + opened(13, EVENTFD, 10))
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_eventfds_are_given_to_every_process_that_has_them(with_eventfds):
    found = name_eventfds(with_eventfds, {(5, 4): True, (6, 9): True, (5, 5): False})
    assert [
        DumpedEventfd(SHARED, 3, is_semaphore=True, is_nonblocking=False),
        DumpedEventfd(OWN, 1 << 40, is_semaphore=False, is_nonblocking=True),
    ] == found
    kinds = {
        table: [
            protobuf.values(each)[3] for each in protobuf.messages(read_image(with_eventfds, f"fdinfo-{table}.img"))
        ]
        for table in (2, 3)
    }
    assert {2: [REGULAR, REGULAR, REGULAR], 3: [REGULAR, EVENTFD]} == kinds
    entries = [protobuf.parse(each) for each in protobuf.messages(read_image(with_eventfds, "files.img"))]
    assert [REGULAR, REGULAR, REGULAR, EVENTFD] == [protobuf.number(each, 1) for each in entries]
    names = [protobuf.embedded(protobuf.parse(protobuf.embedded(each, 3)[0]), 6) for each in entries[1:3]]
    assert [[f"/{file_name(number)}".encode()] for number in (SHARED, OWN)] == names


def test_a_descriptor_that_the_images_lack_fails_the_dump(with_eventfds):
    with pytest.raises(CriuError, match="an image that criu wrote of an open file cannot be read"):
        name_eventfds(with_eventfds, {(6, 4): True})


def with_a_queue(tmp_path, name):
    flags = os.O_WRONLY | os.O_NONBLOCK
    dumped = protobuf.encode([Field(1, VARINT, 4), Field(2, VARINT, flags), Field(6, BYTES, name)])
    queue = protobuf.encode([Field(1, VARINT, REGULAR), Field(2, VARINT, 4), Field(3, BYTES, dumped)])
    (tmp_path / "files.img").write_bytes(MAGIC + protobuf.framed(queue))
    (tmp_path / "ids-5.img").write_bytes(MAGIC + protobuf.framed(protobuf.encode([Field(2, VARINT, 2)])))
    (tmp_path / "fdinfo-2.img").write_bytes(MAGIC + opened(4, REGULAR, 9))
    return os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)


def test_a_file_that_has_a_queues_number_by_now_fails_the_dump(tmp_path):
    images = with_a_queue(tmp_path, b"/tmp/another")
    with pytest.raises(CriuError, match="another file in place of the message queue /jobs"):
        name_queues(images, {(5, 9): "jobs"})
    os.close(images)


def test_open_queues_keep_how_they_were_opened(tmp_path):
    images = with_a_queue(tmp_path, b"file[13:5]")
    assert [DumpedQueue(4, "jobs", os.O_WRONLY | os.O_NONBLOCK)] == name_queues(images, {(5, 9): "jobs"})
    (entry,) = protobuf.messages(read_image(images, "files.img"))
    (regular,) = protobuf.embedded(protobuf.parse(entry), 3)
    assert [f"/{file_name(4)}".encode()] == protobuf.embedded(protobuf.parse(regular), 6)
    os.close(images)
