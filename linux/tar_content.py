"""Content and attributes of one file as a tar member carries them.

Holes are written as GNU tar writes them (sparse format 0.1: one pax record maps what is data), attributes as star does.
Carried are the user's own attributes and access lists. Capabilities of programs (``security.capability``) are not:
nothing that grants rights is taken from an artifact.
Imports the standard library alone: this may run for a container, in the way of its restore.
"""

import os
import tarfile
from contextlib import suppress
from typing import IO, Final

ACCESS_LISTS: Final = ("system.posix_acl_access", "system.posix_acl_default")
_XATTR: Final = "SCHILY.xattr."
_MAP: Final = "GNU.sparse.map"
_REAL_SIZE: Final = "GNU.sparse.realsize"
_COPY: Final = 1 << 20


class Segments:
    """What a file holds between its holes, to be read as one stream."""

    def __init__(self, fd: int, segments: list[tuple[int, int]]) -> None:
        self._fd = fd
        self._left = list(reversed(segments))

    def read(self, size: int = -1) -> bytes:
        """Return at most *size* bytes, fewer at the end of a segment only if it is the last."""
        parts = []
        while self._left and size != 0:
            start, length = self._left.pop()
            part = os.pread(self._fd, length if size < 0 else min(length, size), start)
            part = part or bytes(length if size < 0 else min(length, size))  # the file became shorter
            parts.append(part)
            size = size - len(part) if size > 0 else size
            if len(part) < length:
                self._left.append((start + len(part), length - len(part)))
        return b"".join(parts)


def is_sparse(found: os.stat_result) -> bool:
    """Say whether a file takes less than it holds."""
    return found.st_blocks * 512 < found.st_size


def data_segments(fd: int) -> list[tuple[int, int]]:
    """Return offset and length of each part that is no hole."""
    segments, at, size = [], 0, os.fstat(fd).st_size
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: a hole up to the end
            break
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        segments.append((start, at - start))
    return segments


def add_regular(archive: tarfile.TarFile, fd: int, info: tarfile.TarInfo) -> None:
    """Append a regular file, without its holes."""
    found = os.fstat(fd)
    segments = data_segments(fd) if is_sparse(found) else [(0, found.st_size)]
    info.size = sum(length for _, length in segments)
    if info.size < found.st_size:
        numbers = [number for segment in [*segments, (found.st_size, 0)] for number in segment]
        info.pax_headers = {
            **info.pax_headers,
            "GNU.sparse.size": str(found.st_size),
            _REAL_SIZE: str(found.st_size),
            "GNU.sparse.numblocks": str(len(segments) + 1),
            _MAP: ",".join(map(str, numbers)),
        }
    archive.addfile(info, Segments(fd, segments))


def members_in(fd: int) -> list[tarfile.TarInfo]:
    """Return ``members_of`` the archive in a descriptor."""
    with os.fdopen(fd, "rb", closefd=False) as archive:
        return members_of(archive)


def members_of(archive: IO[bytes]) -> list[tarfile.TarInfo]:
    """Return all members of an archive, from its begin to its end.

    Read as a stream, since a header of an archive that can be sought in could send its reader back for ever.
    """
    archive.seek(0)
    with tarfile.open(fileobj=archive, mode="r|") as stream:
        return list(stream)


def write_regular(fd: int, archive: IO[bytes], member: tarfile.TarInfo) -> None:
    """Write a member's content into a new file; what was a hole stays one.

    Raises:
        ValueError: its map is not of that form.
    """
    size, segments = _map_of(member)
    archive.seek(member.offset_data)  # its data follow each other there, without the holes
    for start, length in segments:
        _copy(archive, fd, start, length)
    os.ftruncate(fd, size)


def _map_of(member: tarfile.TarInfo) -> tuple[int, list[tuple[int, int]]]:
    """Return the size of a file, and offset and length of its data."""
    if _MAP not in member.pax_headers:
        if member.issparse():
            raise ValueError("its holes are not in the form that is read here")
        return member.size, [(0, member.size)]
    size = int(member.pax_headers.get(_REAL_SIZE, ""))
    numbers = [int(number) for number in member.pax_headers[_MAP].split(",")]
    segments = list(zip(numbers[::2], numbers[1::2], strict=True))
    end = 0
    for start, length in segments:
        if start < end or length < 0 or start + length > size:
            raise ValueError("its map of holes is not in order")
        end = start + length
    return size, segments


def _copy(content: IO[bytes], fd: int, start: int, length: int) -> None:
    while length:
        part = content.read(min(length, _COPY))
        if not part:
            raise ValueError("it ends before its map says")
        os.pwrite(fd, part, start)
        start, length = start + len(part), length - len(part)


def attributes_of(path: str) -> dict[str, bytes]:
    """Return the attributes of a file that travel with it; of a link there are none."""
    with suppress(OSError):
        names = [name for name in os.listxattr(path, follow_symlinks=False) if _is_carried(name)]
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    return {}


def _is_carried(name: str) -> bool:
    return name in ACCESS_LISTS or (name.startswith("user.") and not name.startswith("user.overlay."))


def records_of(attributes: dict[str, bytes]) -> dict[str, str]:
    """Return attributes as records of a tar member."""
    return {f"{_XATTR}{name}": value.decode("utf-8", "surrogateescape") for name, value in attributes.items()}


def attributes_in(member: tarfile.TarInfo) -> dict[str, bytes]:
    """Return the attributes that a member brings, without those that are not taken from an artifact."""
    records = {key.removeprefix(_XATTR): value for key, value in member.pax_headers.items() if key.startswith(_XATTR)}
    return {name: text.encode("utf-8", "surrogateescape") for name, text in records.items() if _is_carried(name)}


def set_attributes(path: str, wanted: dict[str, bytes]) -> None:
    """Give a file these attributes and no others of their kinds.

    Raises:
        OSError: an access list cannot be set: without it, others could do more with the file.
    """
    there = attributes_of(path)
    for name in there.keys() - wanted.keys():
        os.removexattr(path, name, follow_symlinks=False)
    for name, value in wanted.items():
        if there.get(name) == value:
            continue
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError:
            if name in ACCESS_LISTS:
                raise  # a file system without the others loses nothing that a process holds open


def moment_of(member: tarfile.TarInfo) -> int:
    """Return the time of a member in ns: the number that tarfile makes of it is too coarse."""
    whole, _, part = member.pax_headers.get("mtime", str(member.mtime)).partition(".")
    try:
        return int(whole) * 1_000_000_000 + int(part[:9].ljust(9, "0"))
    except ValueError:
        return int(member.mtime * 1_000_000_000)


def as_moment(nanoseconds: int) -> str:
    """Return a time as a member's record has it; times before 1970 are cut to 1970."""
    seconds, rest = divmod(max(nanoseconds, 0), 1_000_000_000)
    return f"{seconds}.{rest:09d}"
