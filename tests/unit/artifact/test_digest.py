"""Sums of files: the same for those that others may change, which are not mapped."""

import os

import pytest
from blake3 import blake3

from artifact import digest
from artifact.digest import sum_of, sum_of_others


@pytest.mark.parametrize("size", [pytest.param(size, id=str(size)) for size in (0, 1, 31, 32, 33, 64, 1000)])
def test_files_of_others_have_the_same_sum(tmp_path, monkeypatch, size):
    monkeypatch.setattr(digest, "_BLOCK", 4)
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        expected = blake3(content).hexdigest()
        assert [expected, expected] == [sum_of(file.fileno()), sum_of_others(file.fileno())]


def test_a_file_that_becomes_shorter_has_none(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"content")
    real = os.fstat
    with (tmp_path / "file").open("rb+") as file, monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lambda fd: (real(fd), os.ftruncate(fd, 3))[0])
        with pytest.raises(OSError, match="became shorter"):
            sum_of_others(file.fileno())
