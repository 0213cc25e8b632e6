"""A file that was read whole and found right is not read again; one that changed since, in whatever way, is."""

import os
import time

import pytest

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
