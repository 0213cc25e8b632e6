"""Which names criu gave to deleted files."""

import os
import struct

import pytest

from agent import protobuf
from agent.criu.images.mended import FILES
from agent.criu.images.remaps import REMAPS, GivenName, given_names
from agent.errors import CriuError

MAGIC = struct.pack("<II", 0x54564319, 0x56303138)
LINKED, GHOST = 0, 1


def encoded(*fields) -> bytes:
    return protobuf.encode(
        [protobuf.Field(number, 2 if isinstance(value, bytes) else 0, value) for number, value in fields]
    )


def regular(number, path) -> bytes:
    return encoded((1, 1), (2, number), (3, encoded((1, number), (6, path))))


def remap(original, given, kind) -> bytes:
    return encoded((1, original), (2, given), (3, kind))


@pytest.fixture
def directory(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


FILE = regular(1, b"dev/shm/sem.x")
NAMED = regular(2, b"dev/shm/link_remap.1")
ODD = b"tmp/\xff"


@pytest.mark.parametrize(
    ("expected", "files", "remaps"),
    [
        pytest.param([], [FILE, NAMED], None, id="no-image"),
        pytest.param([], [FILE, regular(2, b"tmp/ghost")], [remap(1, 2, GHOST)], id="of-another-kind"),
        # A ghost has a number among ghosts, which may be that of a file.
        pytest.param([], [FILE, NAMED], [remap(1, 2, GHOST)], id="ghost-with-the-number-of-a-file"),
        pytest.param(
            [GivenName("/dev/shm/sem.x", "/dev/shm/link_remap.1")], [FILE, NAMED], [remap(1, 2, LINKED)], id="one"
        ),
        pytest.param(
            [GivenName("/dev/shm/sem.x", "/dev/shm/link_remap.1")],
            [FILE, NAMED],
            [remap(1, 2, LINKED), remap(1, 2, LINKED)],
            id="twice",
        ),
        pytest.param(
            [GivenName("/tmp/\udcff", "/link_remap.9")],
            [regular(1, ODD), regular(2, b"/link_remap.9")],
            [remap(1, 2, LINKED)],
            id="no-text",
        ),
    ],
)
def test_given_names(directory, tmp_path, expected, files, remaps):
    (tmp_path / FILES).write_bytes(MAGIC + b"".join(map(protobuf.framed, files)))
    if remaps is not None:
        (tmp_path / REMAPS).write_bytes(MAGIC + b"".join(map(protobuf.framed, remaps)))
    assert expected == given_names(directory)


def test_what_is_cut_off_is_an_error(directory, tmp_path):
    (tmp_path / FILES).write_bytes(MAGIC + protobuf.framed(FILE)[:-1])
    (tmp_path / REMAPS).write_bytes(MAGIC)
    with pytest.raises(CriuError, match="cannot be read"):
        given_names(directory)
