"""Unix sockets are bound to the names that their files have."""

import os
import struct

import pytest

from agent import protobuf
from agent.criu.images.mended import FILES
from agent.criu.images.unix import DELETED, INODE, NAME, UNIX, bind_to
from agent.errors import CriuError

MAGIC = struct.pack("<II", 0x54564319, 0x56303138)
OTHER = b"\x08\x01\x10\x05\x1a\x03abc"


def socket(inode: int, name: bytes, *, deleted: bool = False) -> bytes:
    fields = [(1, 9), (INODE, inode), (7, 5), (NAME, name), *([(DELETED, 1)] if deleted else [])]
    fields.sort(key=lambda field: (field[0] in (NAME, DELETED), field[0]))
    inner = protobuf.encode(protobuf.replaced([], dict(fields)))
    return protobuf.encode(protobuf.replaced([], {1: 5, 2: 9, UNIX: inner}))


def image(*entries: bytes) -> bytes:
    return MAGIC + b"".join(struct.pack("<I", len(entry)) + entry for entry in entries)


@pytest.fixture
def directory(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("expected", "dumped", "names"),
    [
        pytest.param(socket(7, b"/a\0"), socket(7, b"/a\0"), {8: "/b"}, id="another"),
        pytest.param(socket(7, b"/b\0"), socket(7, b"/a\0", deleted=True), {7: "/b"}, id="renamed"),
        pytest.param(socket(7, b"/b\xff\0"), socket(7, b"/a\0"), {7: "/b\udcff"}, id="another-has-its-former-name"),
        pytest.param(socket(7, b"/a\0", deleted=True), socket(7, b"/a\0", deleted=True), {8: "/b"}, id="deleted"),
    ],
)
def test_names(directory, tmp_path, expected, dumped, names):
    (tmp_path / FILES).write_bytes(image(OTHER, dumped, OTHER))
    bind_to(directory, names)
    assert image(OTHER, expected, OTHER) == (tmp_path / FILES).read_bytes()


def test_an_image_that_is_cut_off(directory, tmp_path):
    (tmp_path / FILES).write_bytes(image(socket(7, b"/a\0"))[:-3])
    with pytest.raises(CriuError, match="image of files cannot be read"):
        bind_to(directory, {7: "/b"})


def test_without_renamed_sockets_the_image_is_not_read(directory):
    bind_to(directory, {})
