"""A descriptor that is handed to a worker cannot be made one for writing, whatever the file's mode lets its user."""

import os

import pytest

from linux.mounts import reopened_read_only

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a mount of its own")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "device-memory-7-0.img"
    path.write_bytes(b"content")
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_it_reads_the_same_file(file):
    other = reopened_read_only(file)
    assert b"content" == os.read(other, 100)
    assert os.fstat(file).st_ino == os.fstat(other).st_ino
    os.close(other)


def test_it_cannot_be_opened_again_to_write(file):
    """As the first one can, for who may write the file: root in a container, without any capability."""
    os.close(os.open(f"/proc/self/fd/{file}", os.O_RDWR))
    other = reopened_read_only(file)
    with pytest.raises(OSError, match="Read-only file system"):
        os.open(f"/proc/self/fd/{other}", os.O_RDWR)
    os.close(other)


def test_what_is_not_there_is_said():
    with pytest.raises(OSError, match="open_tree"):
        reopened_read_only(1 << 20)
