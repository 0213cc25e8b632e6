"""The image of file locks says which record locks each process had."""

import os
from contextlib import contextmanager

import pytest

from agent import protobuf
from agent.criu.images.file_locks import record_locks
from agent.errors import CriuError
from agent.protobuf import VARINT, Field
from contract.api.states import AgentReason
from linux.ptrace.record_locks import RecordLock

MAGIC = bytes(protobuf.MAGIC)
POSIX, FLOCK = 1, 2
READ, WRITE = 0, 1


def lock(process, descriptor, start, length, *, kind=POSIX, mode=WRITE) -> bytes:
    numbers = (kind, mode, process, descriptor, start, length)
    return protobuf.framed(protobuf.encode(Field(number, VARINT, value) for number, value in enumerate(numbers, 1)))


@contextmanager
def directory(path, content: bytes | None):
    if content is not None:
        (path / "filelocks.img").write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("expected", "content"),
    [
        pytest.param({}, None, id="no-image"),
        pytest.param({}, MAGIC, id="no-locks"),
        pytest.param({7: [RecordLock(3, True, 5, 14)]}, MAGIC + lock(7, 3, 5, 10), id="a-range"),
        pytest.param({7: [RecordLock(3, True, 5, None)]}, MAGIC + lock(7, 3, 5, 0), id="to-the-end"),
        pytest.param({7: [RecordLock(3, False, 0, 0)]}, MAGIC + lock(7, 3, 0, 1, mode=READ), id="shared"),
        pytest.param({}, MAGIC + lock(7, 3, 0, 0, kind=FLOCK), id="of-the-open-file"),
        pytest.param(
            {7: [RecordLock(3, True, 0, 0), RecordLock(4, True, 2, 2)], 8: [RecordLock(3, True, 1, 1)]},
            MAGIC + lock(7, 3, 0, 1) + lock(8, 3, 1, 1) + lock(7, 4, 2, 1),
            id="of-two-processes",
        ),
    ],
)
def test_record_locks_by_process(tmp_path, expected, content):
    with directory(tmp_path, content) as images:
        assert expected == record_locks(images)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(MAGIC + lock(7, 3, 0, 1)[:-1], id="cut-off"),
        pytest.param(MAGIC + lock(7, 3, 1 << 63, 1), id="beyond-every-file"),
        pytest.param(MAGIC + lock(7, 3, 0, 1 << 63), id="longer-than-every-file"),
    ],
)
def test_an_image_that_cannot_be_fails_the_restore(tmp_path, content):
    with (
        directory(tmp_path, content) as images,
        pytest.raises(CriuError, match="criu's image of file locks") as failure,
    ):
        record_locks(images)
    assert AgentReason.RESTORE_FAILED == failure.value.code
