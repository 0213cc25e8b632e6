"""An artifact is published whole or not at all, and only what its digest names is ever opened."""

import contextlib
import errno
import os
import time
from dataclasses import replace

import pytest

from artifact.backends.directory import DirectoryBackend
from artifact.digest import sum_of_others
from artifact.errors import ArtifactError
from artifact.manifest import MANIFEST, MAX_MANIFEST
from artifact.publish import publish, refuse_existing, seal, staging
from artifact.read import open_artifact, open_sealed, verify
from artifact.verified import VerifiedFiles
from contract.config.storage import BadIdError
from tests.support.builders.manifests import captured


@pytest.fixture
def base(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def make(base, files=(("pages-1.img", b"p" * 5000), ("empty.img", b"")), checkpoint_id="abc", version="1"):
    with staging(base, checkpoint_id) as staged:
        for name, content in files:
            with os.fdopen(staged.file(name), "wb") as file:
                file.write(content)
        sealed = seal(staged, checkpoint_id, version, captured())
        publish(base, staged, checkpoint_id, version)
        return sealed


@pytest.fixture
def opened(base):
    """Open artifacts; close them."""
    found = []

    def look(*arguments):
        found.append(open_artifact(base, *arguments))
        return found[-1]

    yield look
    for each in found:
        each.close()


def test_round_trip(base, opened, tmp_path):
    published = make(base)
    found = opened("abc", "1", published.digest)
    verify(found)
    assert (published.digest, 5000, 1001) == (found.digest, found.size, found.manifest.process.pid)
    assert published.size == 5000 + (tmp_path / "abc/versions/1" / MANIFEST).stat().st_size
    assert [] == list((tmp_path / "abc/tmp").iterdir())


def test_a_store_that_others_write_in_is_read_its_own_way(base):
    """A file that is mapped, and cut short meanwhile, would end the agent."""
    read = []

    def by(fd):
        read.append(os.fstat(fd).st_size)
        return sum_of_others(fd)

    store = DirectoryBackend(os.dup(base), by)
    with store.stage("abc") as staged:
        with os.fdopen(staged.file("pages-1.img"), "wb") as file:
            file.write(b"p" * 5000)
        sealed = store.seal(staged, "abc", "1", captured())
        store.publish(staged, "abc", "1")
    found = store.open("abc", "1", sealed.digest)
    verify(found, VerifiedFiles())
    found.close()
    store.close()
    assert [5000, 5000] == read


def test_a_file_that_cannot_be_read_is_named(base, opened):
    make(base)
    found = opened("abc", "1", None)

    def fails(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(ArtifactError, match=r"empty\.img in checkpoint storage: Input/output error"):
        verify(replace(found, by=fails), names=["empty.img"])


def test_a_failed_attempt_leaves_nothing(base, tmp_path):
    with contextlib.suppress(RuntimeError), staging(base, "abc") as staged:
        os.close(staged.file("x"))
        raise RuntimeError
    assert [] == list((tmp_path / "abc/tmp").iterdir())
    assert not (tmp_path / "abc/versions").exists()


def test_a_sealed_artifact_has_no_name_before_it_is_published(base, tmp_path):
    with staging(base, "abc") as staged:
        os.close(staged.file("x"))
        sealed = seal(staged, "abc", "1", captured())
        found = open_sealed(staged.directory, "abc", sealed.digest)
        verify(found)
        found.close()
        with pytest.raises(ArtifactError, match="manifest is"):
            open_sealed(staged.directory, "abc", "blake3:" + "0" * 64)
    assert not (tmp_path / "abc/versions").exists()


def test_what_a_killed_agent_left_is_swept_after_a_day(base, tmp_path):
    for name, age in (("old", 90_000), ("young", 3_000)):
        (tmp_path / "abc/tmp" / name).mkdir(parents=True)
        moment = time.time() - age
        os.utime(tmp_path / "abc/tmp" / name, (moment, moment))
    make(base)
    assert ["young"] == [path.name for path in (tmp_path / "abc/tmp").iterdir()]


def test_never_overwritten(base, opened):
    first = make(base)
    with pytest.raises(ArtifactError, match="never overwritten"):
        make(base, files=[("other.img", b"x")])
    with pytest.raises(ArtifactError, match="never overwritten"):
        refuse_existing(base, "abc", "1")
    refuse_existing(base, "abc", "2")
    verify(opened("abc", "1", first.digest))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(lambda v: (v / "pages-1.img").write_bytes(b"p" * 4999 + b"q"), "artifact-corrupt", id="changed"),
        pytest.param(lambda v: (v / "pages-1.img").write_bytes(b"p" * 4999), "artifact-corrupt", id="shorter"),
        pytest.param(lambda v: (v / "empty.img").unlink(), "artifact-missing", id="missing"),
        pytest.param(
            lambda v: [(v / "empty.img").unlink(), (v / "empty.img").symlink_to("/dev/null")],
            "artifact-unreadable",
            id="link",
        ),
    ],
)
def test_changed_files_are_found(base, opened, tmp_path, spoil, code):
    published = make(base)
    found = opened("abc", "1", published.digest)
    spoil(tmp_path / "abc/versions/1")
    with pytest.raises(ArtifactError) as refused:
        verify(found)
    assert code == refused.value.code


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        pytest.param("{", "manifest-unreadable", id="not-yaml"),
        pytest.param("[]", "manifest-unreadable", id="not-a-mapping"),
        pytest.param("{checkpointId: other, formatVersion: 1, files: {}}", "manifest-unreadable", id="other-id"),
        pytest.param("{checkpointId: abc, formatVersion: 99, files: {}}", "manifest-format", id="other-format"),
        pytest.param("{checkpointId: abc, formatVersion: 1}", "manifest-unreadable", id="no-files"),
        pytest.param("[" * 100_000, "manifest-unreadable", id="nested-without-end"),
        pytest.param("2026-99-99", "manifest-unreadable", id="no-date"),
        pytest.param("x" * (MAX_MANIFEST + 1), "manifest-unreadable", id="huge"),
    ],
)
def test_bad_manifests(base, tmp_path, manifest, code):
    make(base)
    (tmp_path / "abc/versions/1" / MANIFEST).write_text(manifest)
    with pytest.raises(ArtifactError) as refused:
        open_artifact(base, "abc", "1", None)
    assert code == refused.value.code


def test_another_digest_is_refused(base):
    make(base)
    with pytest.raises(ArtifactError, match="its DynamoCheckpoint names blake3:00"):
        open_artifact(base, "abc", "1", "blake3:" + "0" * 64)


def test_a_link_in_the_store_is_not_followed(base, tmp_path):
    make(base)
    (tmp_path / "def").symlink_to(tmp_path / "abc")
    with pytest.raises(ArtifactError):
        open_artifact(base, "def", "1", None)


@pytest.mark.parametrize(("checkpoint_id", "version"), [("../abc", "1"), ("abc", "../1"), ("", "1"), ("abc", "a/b")])
def test_hostile_names(base, checkpoint_id, version):
    with pytest.raises(BadIdError):
        open_artifact(base, checkpoint_id, version, None)


class TestAfterItWasVerified:
    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda path: path.write_bytes(b"q" * 5000), id="written"),
            pytest.param(lambda path: os.truncate(path, 4999), id="shorter"),
            pytest.param(lambda path: (path.unlink(), path.write_bytes(b"p" * 5000)), id="another-of-its-name"),
            pytest.param(lambda path: (path.write_bytes(b"q" * 5000), os.utime(path, (0, 0))), id="times-set-back"),
        ],
    )
    def test_another_file_is_not_opened(self, base, opened, tmp_path, spoil):
        found = opened("abc", "1", make(base).digest)
        verify(found)
        spoil(tmp_path / "abc/versions/1/pages-1.img")
        with pytest.raises(ArtifactError, match=r"pages-1\.img has been changed or replaced in storage"):
            found.open("pages-1.img")

    def test_the_same_files_are(self, base, opened):
        found = opened("abc", "1", make(base).digest)
        verify(found)
        found.refuse_changed(found.manifest.files)


class TestCopy:
    def test_what_the_manifest_says(self, base, opened, tmp_path):
        found = opened("abc", "1", make(base).digest)
        found.copy("pages-1.img", base)
        assert b"p" * 5000 == (tmp_path / "pages-1.img").read_bytes()

    @pytest.mark.parametrize("content", [b"p" * 4999, b"p" * 4999 + b"q", b"p" * 5001], ids=["less", "other", "more"])
    def test_anything_else_is_refused(self, base, opened, tmp_path, content):
        found = opened("abc", "1", make(base).digest)
        (tmp_path / "abc/versions/1/pages-1.img").write_bytes(content)
        with pytest.raises(ArtifactError, match=r"pages-1\.img is not what the manifest says"):
            found.copy("pages-1.img", base)
