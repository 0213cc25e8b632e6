"""Holes, attributes and times go through a tar and come out as they were."""

import io
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linux import filetree, tar_content
from linux.filetree import FileTreeError
from tests.unit.linux.test_filetree import entry, packed, tar_of, tree  # noqa: F401 - a fixture

MIB = 1 << 20


def moved(source_fd, target_fd):
    archive = packed(source_fd)
    size = len(archive.getvalue())
    filetree.apply(target_fd, archive, (), ())
    return size


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        pytest.param(64 * MIB, {}, id="all-hole"),
        pytest.param(64 * MIB, {0: b"first"}, id="hole-at-the-end"),
        pytest.param(64 * MIB, {64 * MIB - 4: b"last"}, id="hole-at-the-start"),
        pytest.param(64 * MIB + 1, {MIB: b"one", 9 * MIB: b"two" * 5000}, id="several"),
    ],
)
def test_holes_stay_holes(tree, size, parts):  # noqa: F811
    source, source_fd = tree("source")
    with (source / "sparse").open("wb") as file:
        file.truncate(size)
        for offset, data in parts.items():
            file.seek(offset)
            file.write(data)
    target, target_fd = tree("target")
    assert moved(source_fd, target_fd) < MIB
    found = (target / "sparse").stat()
    assert (size, True) == (found.st_size, found.st_blocks * 512 < MIB)
    assert (source / "sparse").read_bytes() == (target / "sparse").read_bytes()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=9000)), max_size=6))
def test_any_sparse_file_comes_out_as_it_went_in(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("sparse")
    with (folder / "in").open("wb") as file:
        file.truncate(50 * 4096)
        for page, data in parts:
            file.seek(page * 4096)
            file.write(data)
    fd = os.open(folder, os.O_RDONLY)
    out = folder / "out"
    out.mkdir()
    to = os.open(out, os.O_RDONLY)
    archive = io.BytesIO()
    filetree.pack(fd, archive, ["in"])
    archive.seek(0)
    filetree.apply(to, archive, (), ())
    os.close(fd)
    os.close(to)
    assert (folder / "in").read_bytes() == (out / "in").read_bytes()


def test_other_tools_read_it_too(tree):  # noqa: F811
    """The form is GNU tar's: an agent of an earlier release fills the holes, and loses nothing."""
    source, source_fd = tree("source")
    with (source / "sparse").open("wb") as file:
        file.truncate(9 * MIB)
        file.seek(5 * MIB)
        file.write(b"middle")
    with tarfile.open(fileobj=packed(source_fd), mode="r|") as archive:
        member = archive.next()
        assert (source / "sparse").read_bytes() == archive.extractfile(member).read()


@pytest.mark.parametrize(
    "records",
    [
        pytest.param({"GNU.sparse.map": "5,2,0,5"}, id="backwards"),
        pytest.param({"GNU.sparse.map": "0,5,3,2"}, id="overlapping"),
        pytest.param({"GNU.sparse.map": "0,-5"}, id="negative"),
        pytest.param({"GNU.sparse.map": "0,5,9"}, id="odd"),
        pytest.param({"GNU.sparse.map": "99,5"}, id="beyond-the-end"),
        pytest.param({"GNU.sparse.map": "0,99999", "GNU.sparse.realsize": "99999"}, id="more-than-there-is"),
        pytest.param({"GNU.sparse.map": "0,5", "GNU.sparse.realsize": "x"}, id="no-size"),
    ],
)
def test_a_map_that_lies(tree, records):  # noqa: F811
    _, target_fd = tree("target")
    member = entry("file")
    member.size = 5
    member.pax_headers = {"GNU.sparse.size": "10", "GNU.sparse.realsize": "10", **records}
    with pytest.raises((FileTreeError, ValueError, tarfile.TarError)):
        filetree.apply(target_fd, tar_of(member, contents=b"12345"), (), ())


def test_attributes_of_the_user_travel_and_rights_do_not(tree):  # noqa: F811
    source, source_fd = tree("source", {"folder/file": "x"})
    value = b"\x00\xff=\n bytes"
    try:
        os.setxattr(source / "folder/file", "user.origin", value)
    except OSError:
        pytest.skip("no user attributes on this file system")
    target, target_fd = tree("target", {"folder/file": "old"})
    os.setxattr(target / "folder", "user.of-the-target", b"x")
    moved(source_fd, target_fd)
    assert value == os.getxattr(target / "folder/file", "user.origin")
    assert [] == [name for name in os.listxattr(target / "folder") if name.startswith("user.")]


def test_capabilities_are_not_taken_from_an_artifact():
    member = entry("file")
    member.pax_headers = {
        "SCHILY.xattr.security.capability": "x",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.user.mine": "m",
        "SCHILY.xattr.system.posix_acl_access": "a",
    }
    assert {"user.mine": b"m", "system.posix_acl_access": b"a"} == tar_content.attributes_in(member)


@pytest.mark.parametrize("moment", [0, 1, 999_999_999, 1_600_000_000_123_456_789])
def test_times_are_exact(tree, moment):  # noqa: F811
    source, source_fd = tree("source", {"file": "x"})
    (source / "link").symlink_to("/nowhere")
    for name in ("file", "link"):
        os.utime(source / name, ns=(0, moment), follow_symlinks=False)
    target, target_fd = tree("target")
    moved(source_fd, target_fd)
    assert {moment} == {(target / name).lstat().st_mtime_ns for name in ("file", "link")}


@pytest.mark.parametrize("sizes", [(1, 1, 1), (4, 100), (1000,), (-1,)])
def test_segments_are_one_stream(tmp_path, sizes):
    (tmp_path / "file").write_bytes(b"abcdefgh")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        stream = tar_content.Segments(fd, [(1, 2), (5, 2)])
        said = b"".join(stream.read(size) for size in sizes)
    finally:
        os.close(fd)
    assert b"bcfg"[: sum(sizes) if min(sizes) > 0 else None] == said


def test_a_file_that_others_change_meanwhile_fails_nothing(tree, monkeypatch):  # noqa: F811
    """Of an emptyDir that a sidecar uses: one file is removed, and one becomes shorter once its size is known."""
    source, source_fd = tree("source", {"longer": "x" * 9000, "stays": "y"})
    data_of = tar_content.Segments

    def shortened(fd, segments):
        os.truncate(source / "longer", 10)
        return data_of(fd, segments)

    monkeypatch.setattr(tar_content, "Segments", shortened)
    archive = io.BytesIO()
    filetree.pack(source_fd, archive, ["longer", "removed", "removed/below", "stays"])
    archive.seek(0)
    target, target_fd = tree("target")
    filetree.apply(target_fd, archive, (), ())
    assert ["longer", "stays"] == sorted(path.name for path in target.iterdir())
    assert "x" * 10 + "\0" * 8990 == (target / "longer").read_text()
