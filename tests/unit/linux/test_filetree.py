"""Files are put back, taken back, and never outside of the root they belong to."""

import io
import os
import stat
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linux import filetree
from linux.filetree import FileTreeError


@pytest.fixture
def tree(tmp_path):
    """Open folders of the test's own; return (path, descriptor)."""
    opened = []

    def make(name, files=()):
        path = tmp_path / name
        path.mkdir()
        for file, content in dict(files).items():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            (path / file).write_text(content)
        opened.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        return path, opened[-1]

    yield make
    for fd in opened:
        os.close(fd)


def picture(path):
    """Everything below a path: type, mode, content."""
    found = {}
    for file in sorted(path.rglob("*")):
        status = file.lstat()
        content = str(file.readlink()) if file.is_symlink() else file.read_text() if file.is_file() else ""
        found[str(file.relative_to(path))] = (stat.filemode(status.st_mode), content)
    return found


def packed(fd):
    into = io.BytesIO()
    filetree.pack(fd, into, [name for name, _ in filetree.walk(fd)])
    into.seek(0)
    return into


def tar_of(*members, contents=b""):
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(contents) if member.isreg() else None)
    into.seek(0)
    return into


def entry(name, kind=tarfile.REGTYPE, linkname=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    member.uid, member.gid = os.getuid(), os.getgid()
    return member


def test_a_tree_comes_out_as_it_went_in(tree):
    source, source_fd = tree("source", {"a/b/c": "deep", "a/run.sh": "x"})
    (source / "a/run.sh").chmod(0o751)
    (source / "link").symlink_to("/nowhere")
    os.link(source / "a/b/c", source / "a/hard")
    os.mkfifo(source / "pipe")
    (source / "a").chmod(0o500)
    target, target_fd = tree("target", {"a/b/c": "old"})
    filetree.apply(target_fd, packed(source_fd), (), ())
    assert picture(source) == picture(target)
    assert (target / "a/b/c").stat().st_ino == (target / "a/hard").stat().st_ino
    assert (source / "a/run.sh").stat().st_mtime == pytest.approx((target / "a/run.sh").stat().st_mtime, abs=1e-5)
    (source / "a").chmod(0o700)
    (target / "a").chmod(0o700)


def test_gone_and_emptied(tree):
    target, fd = tree("target", {"gone/x": "1", "emptied/old": "2", "kept": "3"})
    filetree.apply(fd, tar_of(entry("emptied", tarfile.DIRTYPE)), ["gone", "never-there"], ["emptied"])
    assert {"emptied", "kept"} == set(picture(target))


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(entry("../out"), id="parent"),
        pytest.param(entry("/etc/out"), id="absolute"),
        pytest.param(entry("a/../../out"), id="parent-inside"),
        pytest.param(entry("link/out"), id="through-a-link"),
        pytest.param(entry("hard", tarfile.LNKTYPE, "../secret"), id="hard-link-out"),
        pytest.param(entry("hard", tarfile.LNKTYPE, "link/secret"), id="hard-link-through-a-link"),
        pytest.param(entry("null", tarfile.CHRTYPE), id="device"),
    ],
)
def test_nothing_outside_is_touched(tree, tmp_path, member):
    (tmp_path / "secret").write_text("secret")
    target, fd = tree("target")
    (target / "link").symlink_to(tmp_path)
    before = picture(tmp_path)
    with pytest.raises(FileTreeError):
        filetree.apply(fd, tar_of(member), (), ())
    assert before == picture(tmp_path)


def test_removal_does_not_follow_links(tree, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("kept")
    target, fd = tree("target")
    (target / "link").symlink_to(tmp_path / "outside")
    filetree.apply(fd, tar_of(), ["link"], ())
    assert [] == list(target.iterdir())
    assert "kept" == (tmp_path / "outside/file").read_text()


NAMES = st.sampled_from(["a", "b", "a/c", "a/d", "b/e", "a/c/f"])
CONTENTS = st.dictionaries(NAMES, st.text("xyz", max_size=4), max_size=5)


def fill(path, contents):
    for name, content in sorted(contents.items()):
        file = path / name
        if any(parent.is_file() for parent in file.parents) or file.is_dir():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


@settings(max_examples=30, deadline=None)
@given(before=CONTENTS, change=CONTENTS, gone=st.lists(NAMES, max_size=2), emptied=st.lists(NAMES, max_size=1))
def test_undo_brings_back_what_was(tmp_path_factory, before, change, gone, emptied):
    """Whatever a change does to a tree, its inverse takes back."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "target"))
    fill(source, change)
    fill(target, before)
    source_fd, target_fd = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target))
    try:
        expected, archive, saved = picture(target), packed(source_fd), io.BytesIO()
        created = filetree.inverse(target_fd, archive, gone, emptied, saved)
        archive.seek(0)
        filetree.apply(target_fd, archive, gone, emptied)
        saved.seek(0)
        filetree.apply(target_fd, saved, created, ())
        assert expected == picture(target)
    finally:
        os.close(source_fd)
        os.close(target_fd)


class TestPriority:
    """Members give way to what is there, but for those that are the worker's own."""

    CASES = (
        pytest.param({"a": "old"}, (), {"a": "old", "b/c": "new"}, id="there-is-one"),
        pytest.param({"a": "old"}, ("a",), {"a": "new", "b/c": "new"}, id="its-own"),
        pytest.param({"b": "a file"}, (), {"a": "new", "b": "a file"}, id="a-file-in-place-of-a-folder"),
        pytest.param({"a": "old"}, None, {"a": "new", "b/c": "new"}, id="no-order"),
    )

    @staticmethod
    def files(path):
        return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}

    @pytest.mark.parametrize(("there", "own", "wanted"), CASES)
    def test_and_back(self, tree, there, own, wanted):
        _, source_fd = tree("source", {"a": "new", "b/c": "new"})
        target, target_fd = tree("target", there)
        before, saved = picture(target), io.BytesIO()
        created = filetree.inverse(target_fd, packed(source_fd), (), (), saved, own)
        filetree.apply(target_fd, packed(source_fd), (), (), own)
        assert wanted == self.files(target)
        saved.seek(0)
        filetree.apply(target_fd, saved, created, ())
        assert before == picture(target)

    def test_a_folder_keeps_its_mode(self, tree):
        source, source_fd = tree("source", {"b/c": "new"})
        (source / "b").chmod(0o700)
        target, target_fd = tree("target", {"b/d": "old"})
        (target / "b").chmod(0o750)
        filetree.apply(target_fd, packed(source_fd), (), (), ())
        assert 0o750 == (target / "b").stat().st_mode & 0o777


def nested(path, levels):
    for _ in range(levels):
        path = path / "d"
        path.mkdir()


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda fd: list(filetree.walk(fd)), id="walk"),
        pytest.param(lambda fd: filetree.remove(fd, "d"), id="remove"),
        pytest.param(lambda fd: filetree.inverse(fd, tar_of(), ["d"], [], io.BytesIO()), id="inverse"),
    ],
)
def test_folders_without_end_are_refused(tree, act):
    """Each level costs a descriptor and a call: a container must not choose how many."""
    path, fd = tree("deep")
    nested(path, filetree.DEEPEST + 100)
    with pytest.raises(FileTreeError, match="more than 500 folders deep"):
        act(fd)


def test_a_folder_that_is_there_gets_its_time_back(tree):
    source, source_fd = tree("source", {"a/b": "x"})
    os.utime(source / "a", (5, 5))
    target, target_fd = tree("target", {"a/b": "x"})
    with io.BytesIO() as archive:
        filetree.pack(source_fd, archive, ["a", "a/b"])
        filetree.apply(target_fd, archive, (), ())
    assert 5 == (target / "a").stat().st_mtime


def test_deep_folders_are_walked(tree):
    path, fd = tree("deep")
    nested(path, filetree.DEEPEST)
    assert filetree.DEEPEST == len(list(filetree.walk(fd)))


def test_a_folder_in_the_place_of_a_link(tree):
    """A worker may replace a link of its image by a folder; the undo brings the link back."""
    _, source_fd = tree("source", {"made/file": "new"})
    target, target_fd = tree("target", {"elsewhere/file": "old"})
    (target / "made").symlink_to("elsewhere")
    before, undo, change = picture(target), io.BytesIO(), packed(source_fd)
    created = filetree.inverse(target_fd, change, (), (), undo)
    change.seek(0)
    filetree.apply(target_fd, change, (), ())
    assert "new" == (target / "made/file").read_text()
    assert "old" == (target / "elsewhere/file").read_text()
    assert not (target / "made").is_symlink()
    undo.seek(0)
    filetree.apply(target_fd, undo, created, ())
    assert before == picture(target)
