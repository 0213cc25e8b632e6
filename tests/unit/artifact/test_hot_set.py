"""The hot set is a hint beside the manifest: only one that was made for this very artifact, and is whole, is used."""

import os
import struct

import pytest

from artifact.hot_set import HOT_SET, MOST_RANGES, BadHotSetError, hot_bytes, pack, read_hot_set, unpack, write_hot_set
from artifact.publish import publish, seal, staging
from artifact.read import open_artifact, verify
from tests.support.builders.manifests import captured

RANGES = struct.pack("<IIQIIQ", 1001, 3, 4096, 1002, 1, 0)
MINE, ANOTHERS = "blake3:" + "ab" * 32, "blake3:" + "cd" * 32
WHOLE = pack(RANGES, MINE)


def test_what_was_packed_is_read():
    assert RANGES == unpack(WHOLE, MINE)
    assert 4 * 4096 == hot_bytes(RANGES)
    assert 0 == hot_bytes(b"")


@pytest.mark.parametrize(
    ("expected", "content"),
    [
        pytest.param("begins otherwise", b"", id="empty"),
        pytest.param("begins otherwise", b"\0" * len(WHOLE), id="zeros"),
        pytest.param("begins otherwise", WHOLE.replace(b"1", b"2", 1), id="another-format"),
        pytest.param("damaged", WHOLE[:16], id="without-a-sum"),
        pytest.param("damaged", WHOLE[:-16], id="a-range-less"),
        pytest.param("31 bytes", WHOLE[:-1], id="cut"),
        pytest.param("damaged", WHOLE + RANGES, id="longer"),
        pytest.param("damaged", WHOLE[:-1] + b"\1", id="a-byte"),
        pytest.param("of another artifact", pack(RANGES, ANOTHERS), id="foreign"),
        pytest.param("bytes of ranges", pack(bytes(16) * (MOST_RANGES + 1), MINE), id="huge"),
    ],
)
def test_what_is_not_used(expected, content):
    with pytest.raises(BadHotSetError, match=expected):
        unpack(content, MINE)


@pytest.fixture
def base(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def make(base):
    """Publish an artifact, with a hot set or without, and open it."""
    opened = []

    def made(ranges=b""):
        with staging(base, "abc") as staged:
            os.close(staged.file("pages-1.img"))
            sealed = seal(staged, "abc", "1", captured())
            if ranges:
                write_hot_set(staged, ranges, sealed.digest)
            publish(base, staged, "abc", "1")
        opened.append(open_artifact(base, "abc", "1", sealed.digest))
        return opened[-1]

    yield made
    for each in opened:
        each.close()


def test_an_artifact_has_one_that_its_manifest_does_not_name(make):
    found = make(RANGES)
    verify(found)
    assert RANGES == read_hot_set(found)
    assert {"pages-1.img"} == found.manifest.files.keys()


def test_an_artifact_of_an_earlier_release_has_none(make):
    assert b"" == read_hot_set(make())


@pytest.mark.parametrize("what", ["link", "folder", "pipe", "huge"])
def test_what_another_put_there_is_not_read(make, tmp_path, what):
    found, path = make(), tmp_path / "abc/versions/1" / HOT_SET
    match what:
        case "link":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "huge":
            path.touch()
            os.truncate(path, 1 << 40)
    with pytest.raises(BadHotSetError):
        read_hot_set(found)
