"""A file that was read whole and found right is not read again; one that changed since, in whatever way, is."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from blake3 import blake3

from artifact.digest import sum_of
from artifact.verified import SETTLED_SECONDS, VerifiedFiles, identity_of

SUM = "ab" * 32
LONG_AGO = time.time() - 100


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pages-1.img"
    path.write_bytes(b"pages")
    return path


def settled(monkeypatch):
    """Let the clock say that every change so far was a while ago."""
    later = time.time() + 2 * SETTLED_SECONDS
    monkeypatch.setattr("artifact.verified.time.time", lambda: later)


def knows(verified, path, blake3=SUM):
    with path.open("rb") as opened:
        return verified.knows(opened.fileno(), blake3)


def remember(verified, path):
    with path.open("rb") as opened:
        verified.remember(identity_of(opened.fileno(), SUM), opened.fileno(), SUM)


def replaced(path):
    other = path.with_name("other")
    other.write_bytes(b"pages")
    other.rename(path)


def test_those_who_ask_at_once_read_it_once(file, monkeypatch):
    settled(monkeypatch)
    asked, reads = Barrier(8), []

    def read(fd):
        reads.append(fd)
        return blake3(os.pread(fd, 100, 0)).hexdigest()

    verified, wanted = VerifiedFiles(), blake3(b"pages").hexdigest()

    def ask(_):
        with file.open("rb") as opened:
            asked.wait()
            return verified.has(opened.fileno(), wanted, read)

    with ThreadPoolExecutor(8) as restores:
        assert [True] * 8 == list(restores.map(ask, range(8)))
    assert 1 == len(reads)


def test_what_has_another_sum_is_not_known(file, monkeypatch):
    settled(monkeypatch)
    verified = VerifiedFiles()
    with file.open("rb") as opened:
        assert [False, False] == [verified.has(opened.fileno(), SUM, sum_of) for _ in range(2)]
    assert not knows(verified, file)


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        pytest.param(True, lambda path: path.read_bytes(), id="read"),
        pytest.param(False, lambda path: path.write_bytes(b"other"), id="written"),
        pytest.param(False, lambda path: path.write_bytes(b"pages"), id="written-the-same"),
        pytest.param(False, lambda path: os.utime(path, (LONG_AGO, LONG_AGO)), id="with-another-time"),
        pytest.param(False, replaced, id="replaced"),
        pytest.param(False, lambda path: os.truncate(path, 4), id="cut-short"),
    ],
)
def test_what_counts_as_unchanged(expected, change, file, monkeypatch):
    settled(monkeypatch)
    verified = VerifiedFiles()
    remember(verified, file)
    assert knows(verified, file)
    change(file)
    assert expected == knows(verified, file)


def test_another_sum_is_not_what_was_found(file, monkeypatch):
    settled(monkeypatch)
    verified = VerifiedFiles()
    remember(verified, file)
    assert not knows(verified, file, "cd" * 32)


def test_what_was_just_written_is_read_again(file):
    verified = VerifiedFiles()
    remember(verified, file)
    assert not knows(verified, file)


def test_what_changes_while_it_is_read_is_not_remembered(file, monkeypatch):
    settled(monkeypatch)
    verified = VerifiedFiles()
    with file.open("rb") as opened:
        before = identity_of(opened.fileno(), SUM)
        os.utime(file, (LONG_AGO, LONG_AGO))
        verified.remember(before, opened.fileno(), SUM)
    assert not knows(verified, file)


def test_what_was_not_used_for_long_is_forgotten_first(tmp_path, monkeypatch):
    settled(monkeypatch)
    verified = VerifiedFiles(most=2)
    first, second, third = (tmp_path / name for name in "abc")
    for path in (first, second, third):
        path.write_bytes(b"x")
    remember(verified, first)
    remember(verified, second)
    assert knows(verified, first)
    remember(verified, third)
    assert [True, False, True] == [knows(verified, path) for path in (first, second, third)]
