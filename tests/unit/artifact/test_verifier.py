"""Sums that are taken while a restore goes on: one that is wrong is heard of by all who wait for files."""

import os
from dataclasses import replace
from threading import Event

import pytest

from artifact.digest import sum_of
from artifact.errors import ArtifactError
from artifact.publish import publish, seal, staging
from artifact.read import open_artifact
from artifact.verified import VerifiedFiles
from artifact.verifier import Verifier
from contract.api.states import AgentReason
from tests.support.builders.manifests import captured

FILES = {"pages-1.img": b"p" * 5000, "device-memory-1-0.img": b"d" * 3000}
PAGES, DEVICE = FILES


@pytest.fixture
def artifact(tmp_path):
    base = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with staging(base, "abc") as staged:
        for name, content in FILES.items():
            with os.fdopen(staged.file(name), "wb") as file:
                file.write(content)
        sealed = seal(staged, "abc", "1", captured())
        publish(base, staged, "abc", "1")
    found = open_artifact(base, "abc", "1", sealed.digest)
    yield found
    found.close()
    os.close(base)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "abc/versions/1"


class Held:
    """Takes sums, and gives none before its turn."""

    def __init__(self) -> None:
        self.given: list[int] = []
        """Sizes of the files."""
        self.turns = {len(content): Event() for content in FILES.values()}

    def __call__(self, fd: int) -> str:
        size = os.fstat(fd).st_size
        assert self.turns[size].wait(10)
        self.given.append(size)
        return sum_of(fd)

    def let(self, name: str) -> None:
        self.turns[len(FILES[name])].set()


def flip(path) -> None:
    path.chmod(0o600)
    whole = bytearray(path.read_bytes())
    whole[100] ^= 1
    path.write_bytes(whole)


def test_files_that_are_right(artifact):
    verifier = Verifier(artifact, None, FILES)
    verifier.wait(FILES)

    assert verifier.error is None
    assert set(FILES) == set(artifact.verified)


def test_one_is_waited_for_and_not_those_behind_it(artifact):
    held = Held()
    verifier = Verifier(replace(artifact, by=held), None, FILES)
    held.let(PAGES)
    verifier.wait([PAGES])

    assert [len(FILES[PAGES])] == held.given
    held.let(DEVICE)
    verifier.wait(FILES)


@pytest.mark.parametrize("wrong", FILES)
def test_all_who_wait_hear_of_the_wrong_one(artifact, folder, wrong):
    flip(folder / wrong)
    verifier = Verifier(artifact, None, FILES)
    with pytest.raises(ArtifactError, match=wrong) as refused:
        verifier.wait([DEVICE])

    assert AgentReason.ARTIFACT_CORRUPT == refused.value.code
    assert refused.value is verifier.error


def test_a_file_that_cannot_be_read_is_heard_of_too(artifact):
    def by(_: int) -> str:
        raise RuntimeError("the disk")

    with pytest.raises(RuntimeError, match="the disk"):
        Verifier(replace(artifact, by=by), None, FILES).wait(FILES)


@pytest.mark.parametrize(
    "change", [lambda path: path.unlink(), lambda path: os.truncate(path, 10)], ids=("gone", "cut")
)
def test_what_is_missing_or_short_is_refused_at_once(artifact, folder, change):
    (folder / DEVICE).chmod(0o600)
    change(folder / DEVICE)

    with pytest.raises(ArtifactError, match=DEVICE):
        Verifier(artifact, None, FILES)


def test_a_file_that_takes_its_name_meanwhile_is_refused(artifact, folder):
    held = Held()
    verifier = Verifier(replace(artifact, by=held), None, FILES)
    (folder / DEVICE).rename(folder / "other")
    (folder / DEVICE).write_bytes(FILES[DEVICE])
    held.let(PAGES)
    held.let(DEVICE)

    with pytest.raises(ArtifactError, match="replaced in storage"):
        verifier.wait(FILES)


def test_files_that_are_known_need_no_thread(artifact, monkeypatch):
    monkeypatch.setattr("artifact.verified.SETTLED_SECONDS", -1.0)
    verified = VerifiedFiles()
    Verifier(artifact, verified, FILES).wait(FILES)

    Verifier(replace(artifact, by=None), verified, FILES).wait(FILES)


def test_it_goes_on_without_the_one_who_asked_and_stops_when_it_may(artifact):
    held = Held()
    own = artifact.again()
    verifier = Verifier(replace(own, by=held), None, FILES)
    own.close()
    verifier.stop()
    held.let(PAGES)
    verifier.wait([PAGES])
    held.let(DEVICE)

    assert [len(FILES[PAGES])] == held.given
