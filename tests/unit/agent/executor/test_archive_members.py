"""What is in an archive of a worker's files is kept between restores only if its file is certain."""

import io
import os
import tarfile

import pytest

from agent.executor.restore import files
from agent.executor.restore.files import archive_members
from artifact.known import Known
from artifact.verified import VerifiedFiles

SUM = "0" * 64


def archive(*names: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return made.getvalue()


@pytest.fixture
def stored(tmp_path):
    """Write a file that was changed long ago; return a descriptor of it."""
    opened = []

    def write(*names: str) -> int:
        path = tmp_path / f"{len(opened)}.tar"
        path.write_bytes(archive(*names))
        opened.append(os.open(path, os.O_RDONLY))
        return opened[-1]

    yield write
    for fd in opened:
        os.close(fd)


class Knowing(VerifiedFiles):
    """Has found these descriptors right."""

    def __init__(self, *right: int):
        super().__init__()
        self._right = right

    def knows(self, fd: int, blake3: str) -> bool:
        return fd in self._right and blake3 == SUM


def names(known, tar, verified):
    return [each.name for each in archive_members(known, "digest/rootfs.tar", tar, SUM, verified)]


def test_a_verified_archive_is_read_once(stored):
    known, tar, other = Known(), stored("one"), stored("another")
    assert ["one"] == names(known, tar, Knowing(tar))
    assert ["one"] == names(known, other, Knowing(other))


@pytest.mark.parametrize("verified", [Knowing(), None], ids=["changed-since", "read-for-every-restore"])
def test_what_was_put_in_its_place_is_not_kept(stored, verified):
    known, false, right = Known(), stored("false"), stored("right")
    assert ["false"] == names(known, false, verified)  # the restore itself fails: its files are not those any more
    assert ["right"] == names(known, right, Knowing(right))


def test_one_with_many_members_is_read_again(stored, monkeypatch):
    monkeypatch.setattr(files, "KEPT_MEMBERS", 1)
    known, tar, other = Known(), stored("one", "two"), stored("another")
    assert ["one", "two"] == names(known, tar, Knowing(tar))
    assert ["another"] == names(known, other, Knowing(other))
