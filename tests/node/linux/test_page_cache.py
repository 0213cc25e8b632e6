"""The kernel gives up what it has of an artifact's files, but for what is mapped."""

import mmap
import os
from pathlib import PurePosixPath

from agent.executor.memory.page_cache import Version, drop_files
from tests.support.page_cache import cached_pages

MIB = 1 << 20


def artifact(folder, *names: str):
    made = folder / "abc/versions/1"
    made.mkdir(parents=True)
    for name in names:
        (made / name).write_bytes(os.urandom(4 * MIB))
    os.sync()
    return [made / name for name in names]


def test_its_files_leave_page_cache(on_disk):
    files = artifact(on_disk, "pages-1.img", "rootfs-diff.tar")
    assert [1024, 1024] == [cached_pages(file) for file in files]
    assert 8 * MIB == drop_files(Version(PurePosixPath(on_disk), "abc", "1"))
    assert [0, 0] == [cached_pages(file) for file in files]
    assert 4 * MIB == len(files[0].read_bytes())


def test_what_is_mapped_stays(on_disk):
    (file,) = artifact(on_disk, "pages-1.img")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as memory:
        assert MIB * 4 == len(bytes(memory))
        drop_files(Version(PurePosixPath(on_disk), "abc", "1"))
        assert 1024 == cached_pages(file)


def test_one_that_was_removed_is_no_error(on_disk):
    assert 0 == drop_files(Version(PurePosixPath(on_disk), "abc", "1"))
