"""Which shared memory is left out of criu's images, and how it is copied."""

import os

import pytest

from agent import protobuf
from agent.criu.shared_fill import fill, is_shared_out
from agent.criu.shared_memory import Place, Segment, empty, find_segments, maps_memfds_privately
from agent.errors import CriuError
from agent.protobuf import BYTES, VARINT, Field

PAGE = 4096
MAGIC = bytes(8)
REGULAR, FILE_PRIVATE, FILE_SHARED, ANONYMOUS_SHARED, SYSV, MEMFD = 1, 1 << 6, 1 << 7, 1 << 8, 1 << 10, 1 << 14
HUGE_PAGES = 0x40000


def message(**fields: int | bytes) -> bytes:
    """Encode fields that are named by their number: ``f3=1``."""
    values = ((int(name[1:]), value) for name, value in fields.items())
    return protobuf.encode(Field(n, VARINT if isinstance(value, int) else BYTES, value) for n, value in values)


def image(*messages: bytes) -> bytes:
    return MAGIC + b"".join(map(protobuf.framed, messages))


def mapping(status: int, *, number: int = 5, start: int = 0x10000, flags: int = 0) -> bytes:
    return message(f1=start, f2=start + 2 * PAGE, f4=number, f6=flags, f7=REGULAR | status)


def entry(*, start: int = 0, pages: int = 1, **more: int) -> bytes:
    return message(**{"f1": start, "f2": pages, "f4": 4} | more)


ENTRIES = (entry(), entry(start=3 * PAGE, pages=2))
FOUND = Segment(5, Place(7, 0x10000), 9, ((0, 0, PAGE), (PAGE, 3 * PAGE, 2 * PAGE)))


@pytest.fixture
def images(tmp_path):
    """Write images of one process; return a descriptor of their directory."""
    opened = []

    def write(*mappings: bytes, entries=ENTRIES, seals: int = 0, huge: int = 0) -> int:
        (tmp_path / "mm-7.img").write_bytes(image(message(f1=1) + b"".join(message(f14=each) for each in mappings)))
        (tmp_path / "pagemap-shmem-5.img").write_bytes(image(message(f1=9), *entries))
        inode = message(f1=b"x", f4=1, f5=5, f6=seals, f7=33, **({"f8": huge} if huge else {}))
        (tmp_path / "memfd.img").write_bytes(image(inode))
        (tmp_path / "files.img").write_bytes(image(message(f1=18, f2=44, f20=message(f1=44, f5=33))))
        opened.append(os.open(tmp_path, os.O_RDONLY))
        return opened[-1]

    yield write
    for fd in opened:
        os.close(fd)


@pytest.mark.parametrize(
    ("expected", "mappings", "more"),
    [
        pytest.param((FOUND,), [mapping(ANONYMOUS_SHARED)], {}, id="anonymous"),
        pytest.param((FOUND,), [mapping(FILE_SHARED | MEMFD, number=44)], {}, id="memfd"),
        pytest.param((FOUND,), [mapping(ANONYMOUS_SHARED), mapping(ANONYMOUS_SHARED, start=0x90000)], {}, id="twice"),
        pytest.param((), [], {}, id="not-mapped"),
        pytest.param((), [mapping(ANONYMOUS_SHARED, number=6)], {}, id="without-pages"),
        pytest.param((), [mapping(ANONYMOUS_SHARED | SYSV)], {}, id="system-v"),
        pytest.param((), [mapping(ANONYMOUS_SHARED, flags=HUGE_PAGES)], {}, id="huge-pages"),
        pytest.param((), [mapping(FILE_SHARED, number=44)], {}, id="file"),
        pytest.param((), [mapping(FILE_SHARED | MEMFD, number=44)], {"seals": 0x8}, id="sealed"),
        pytest.param((), [mapping(FILE_SHARED | MEMFD, number=44)], {"seals": 0x10}, id="sealed-for-later"),
        pytest.param((), [mapping(FILE_SHARED | MEMFD, number=44)], {"huge": 4}, id="huge-memfd"),
        pytest.param((), [mapping(ANONYMOUS_SHARED)], {"entries": [entry(f4=5)]}, id="in-a-parent-image"),
        pytest.param((), [mapping(ANONYMOUS_SHARED)], {"entries": [entry(f9=1)]}, id="field-that-is-not-known"),
    ],
)
def test_what_is_left_out(images, expected, mappings, more):
    assert expected == find_segments(images(*mappings, **more))


@pytest.mark.parametrize(
    ("expected", "mappings"),
    [
        pytest.param(True, [mapping(ANONYMOUS_SHARED), mapping(FILE_PRIVATE | MEMFD, number=44)], id="private"),
        pytest.param(False, [mapping(FILE_SHARED | MEMFD, number=44)], id="shared"),
        pytest.param(False, [mapping(FILE_PRIVATE, number=44)], id="of-a-file"),
        pytest.param(False, [], id="none"),
    ],
)
def test_private_mappings_of_memfds(images, expected, mappings):
    assert expected == maps_memfds_privately(images(*mappings))


def test_without_memfds_no_process_is_looked_at_for_them(images, tmp_path):
    directory = images()
    for name in ("memfd.img", "mm-7.img"):
        (tmp_path / name).unlink()
    (tmp_path / "mm-7.img").mkdir()
    assert not maps_memfds_privately(directory)


@pytest.mark.parametrize(
    ("at_least", "expected"), [pytest.param(3 * PAGE, (FOUND,), id="enough"), pytest.param(3 * PAGE + 1, (), id="less")]
)
def test_less_than_is_asked_for_is_left_to_criu(images, at_least, expected):
    assert expected == find_segments(images(mapping(ANONYMOUS_SHARED)), at_least)


def test_no_process_is_looked_at_for_less_than_is_asked_for(images, tmp_path):
    """It would cost every restore the time of reading all mappings."""
    directory = images(mapping(ANONYMOUS_SHARED))
    (tmp_path / "mm-7.img").unlink()
    (tmp_path / "mm-7.img").mkdir()
    assert () == find_segments(directory, 3 * PAGE + 1)


def test_an_image_that_is_not_whole_is_refused(images, tmp_path):
    directory = images(mapping(ANONYMOUS_SHARED))
    (tmp_path / "pagemap-shmem-5.img").write_bytes(image(message(f1=9), entry())[:-1])
    with pytest.raises(CriuError, match="criu's images of shared memory: cut off"):
        find_segments(directory)


def test_its_image_is_left_without_pages(images, tmp_path):
    directory = images(mapping(ANONYMOUS_SHARED))
    empty(directory, [FOUND])
    assert image(message(f1=9)) == (tmp_path / FOUND.image).read_bytes()


@pytest.mark.parametrize(
    ("expected", "sizes", "threads"),
    [
        pytest.param(False, [100], 2, id="one-on-two-processors"),
        pytest.param(True, [100], 16, id="one-on-sixteen"),
        pytest.param(False, [100] * 8, 16, id="as-many-as-can-be-written-at-once"),
        pytest.param(True, [100, 1, 1, 1], 16, id="one-is-nearly-all"),
    ],
)
def test_how_threads_are_shared_out(expected, sizes, threads):
    assert expected == is_shared_out([(0, 0, [(0, 0, size)]) for size in sizes], threads)


class TestCopy:
    """Both ways: one thread writes, and several read into a mapping."""

    BOTH = pytest.mark.parametrize("threads", [pytest.param(1, id="written"), pytest.param(8, id="mapped")])

    def copied(self, tmp_path, threads: int, *, runs, size: int) -> bytes:
        content = os.urandom(3 * PAGE)
        (tmp_path / "pages").write_bytes(content)
        self.content = content
        with (tmp_path / "pages").open("rb") as source, os.fdopen(os.memfd_create("x"), "w+b") as target:
            target.truncate(size)
            fill([(source.fileno(), target.fileno(), runs)], threads)
            target.seek(0)
            return target.read()

    @BOTH
    def test_runs_and_holes(self, tmp_path, threads):
        runs = [(0, PAGE, PAGE), (PAGE, 3 * PAGE, 2 * PAGE)]
        found = self.copied(tmp_path, threads, runs=runs, size=5 * PAGE - 100)
        first, rest = self.content[:PAGE], self.content[PAGE:-100]
        assert bytes(PAGE) + first + bytes(PAGE) + rest == found

    @BOTH
    @pytest.mark.parametrize(
        ("words", "run"),
        [
            pytest.param("cut short", (2 * PAGE, 0, 2 * PAGE), id="image"),
            pytest.param("names 20480 bytes, and it has 16384", (0, 3 * PAGE, 2 * PAGE), id="segment"),
        ],
    )
    def test_what_is_beyond_the_end_is_refused(self, tmp_path, threads, words, run):
        with pytest.raises(ValueError, match=words):
            self.copied(tmp_path, threads, runs=[run], size=4 * PAGE)
