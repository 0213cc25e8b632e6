"""Puts captured files into a live directory tree, and can say beforehand how to take them out again.

A change is a tar stream plus two lists: paths to delete, and directories whose former content is to be deleted.
Its inverse has the same form, so undoing is applying.
Everything is resolved beneath the root by descriptor, without following links or crossing mounts: the names come from
an artifact, the tree belongs to a container, and neither is to be trusted.
Imports the standard library alone: this may run inside the container's mount namespace.
"""

import errno
import json
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Final

from linux import folder, syscalls, tar_content

_RESOLVE: Final = syscalls.BENEATH | syscalls.NO_SYMLINKS | syscalls.NO_MAGICLINKS | syscalls.NO_XDEV


_LINKED: Final = (stat.S_IFREG, stat.S_IFIFO, stat.S_IFLNK)
"""Kinds of files that are written, and may have several names."""
DEEPEST: Final = 500
"""Folders within each other. Each costs a walk one descriptor and some calls, and Python ends at 1000 of these."""
LONGEST: Final = 3800
"""Bytes of a folder's path: with the name of a file in it, and that of its mount, the kernel takes 4095."""


class FileTreeError(Exception):
    """A path cannot be changed; the message names it."""


def check_name(name: str) -> str:
    """Return ``name`` if it is a clean relative path.

    Raises:
        FileTreeError: it is absolute, empty, or holds ``.`` or ``..``.
    """
    if not name or name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise FileTreeError(f"{name!r} is not a clean relative path")
    return name


@contextmanager
def parent_of(root: int, name: str) -> Iterator[tuple[int, str]]:
    """Open the directory that holds ``name``; yields its descriptor and the last part of the name."""
    directory, _, last = check_name(name).rpartition("/")
    try:
        fd = syscalls.openat2(root, directory or ".", os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
    except OSError as error:
        raise FileTreeError(f"/{name}: {error.strerror} (a link or another mount is in the way)") from error
    try:
        yield fd, last
    except OSError as error:
        raise FileTreeError(f"/{name}: {error.strerror}") from error
    finally:
        os.close(fd)


def look(root: int, name: str) -> os.stat_result | None:
    """Return what is at ``name`` now; None if nothing is, and beneath a link, which is not followed."""
    try:
        with parent_of(root, name) as (directory, last):
            return os.lstat(last, dir_fd=directory)
    except FileTreeError as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError | NotADirectoryError) or getattr(cause, "errno", 0) == errno.ELOOP:
            return None
        raise


def remove(root: int, name: str) -> None:
    """Remove what is at ``name``, with everything below it but never into a mount; nothing there is fine."""
    found = look(root, name)
    if found is None:
        return
    is_directory = stat.S_ISDIR(found.st_mode)
    if is_directory:
        for child in children(root, name):
            remove(root, child)
    with parent_of(root, name) as (directory, last):
        os.rmdir(last, dir_fd=directory) if is_directory else os.unlink(last, dir_fd=directory)


def children(root: int, name: str) -> list[str]:
    """Return the names of the entries of directory ``name``; empty if it is none."""
    found = look(root, name)
    if found is None or not stat.S_ISDIR(found.st_mode):
        return []
    _check_depth(name)
    try:
        fd = syscalls.openat2(root, name, os.O_RDONLY | os.O_DIRECTORY, resolve=_RESOLVE)
    except OSError as error:
        raise FileTreeError(f"/{name}: {error.strerror} (a link or another mount is in the way)") from error
    try:
        return [f"{name}/{entry}" for entry in sorted(os.listdir(fd))]  # noqa: PTH208 - a descriptor
    finally:
        os.close(fd)


def _check_depth(name: str) -> None:
    if name.count("/") > DEEPEST:
        raise FileTreeError(f"/{name[:100]}... is more than {DEEPEST} folders deep")
    if len(os.fsencode(name)) > LONGEST:
        raise FileTreeError(f"/{name[:100]}... is longer than {LONGEST} bytes")


class Priority:
    """Which members give way to what is there: all but those named, and what would be beneath a file that stays.

    A hard link to a file that stayed becomes a link to that one: it is one file, whose newer content counts.
    """

    def __init__(self, root: int, own: Iterable[str] | None) -> None:
        self._root = root
        self._own = None if own is None else frozenset(own)
        self._in_the_way: set[str] = set()

    def gives_way(self, member: tarfile.TarInfo) -> bool:
        """Say whether a member is left out; asked once of each, parents first."""
        if self._own is None or member.name in self._own:
            return False
        found = look(self._root, member.name) if not self._is_beneath(member.name) else None
        if found is not None and member.isdir() and not stat.S_ISDIR(found.st_mode):
            self._in_the_way.add(member.name)
        return found is not None or self._is_beneath(member.name)

    def _is_beneath(self, name: str) -> bool:
        return any(name.startswith(f"{other}/") for other in self._in_the_way)


def apply(
    root: int,
    archive: IO[bytes],
    gone: Iterable[str],
    emptied: Iterable[str],
    own: Iterable[str] | None = None,
) -> int:
    """Make the change; returns the number of entries placed.

    Members in ``own`` replace what is there, while all others give way to it; None: all replace it.

    Raises:
        FileTreeError: at the first path that cannot be changed; what was done until then stays.
    """
    return _apply(root, archive, tar_content.members_of(archive), gone, emptied, own)


def _apply(
    root: int,
    archive: IO[bytes],
    members: Sequence[tarfile.TarInfo],
    gone: Iterable[str],
    emptied: Iterable[str],
    own: Iterable[str] | None,
) -> int:
    for name in emptied:
        for child in children(root, name):
            remove(root, child)
    for name in gone:
        remove(root, name)
    directories: list[tarfile.TarInfo] = []
    placed = 0
    priority = Priority(root, own)
    for member in members:
        if priority.gives_way(member):
            continue
        _place(root, archive, member)
        directories += [member] if member.isdir() else []
        placed += 1
    for member in reversed(directories):  # last: filling a directory changes its times, and may need its old mode
        with parent_of(root, member.name) as (directory, last):
            if not _dressed(directory, last, member):
                _dress(directory, last, member)
            elif os.lstat(last, dir_fd=directory).st_mtime_ns != (moment := tar_content.moment_of(member)):
                with suppress(OSError):  # of a read-only file system
                    os.utime(last, ns=(moment, moment), dir_fd=directory, follow_symlinks=False)
    return placed


def _place(root: int, archive: IO[bytes], member: tarfile.TarInfo) -> None:
    with parent_of(root, member.name) as (directory, last):
        found = None
        with suppress(FileNotFoundError):
            found = os.lstat(last, dir_fd=directory)
        if found is not None and not (member.isdir() and stat.S_ISDIR(found.st_mode)):
            remove(root, member.name)
            found = None
        if member.isdir():
            if found is None:
                os.mkdir(last, 0o700, dir_fd=directory)
        elif member.isreg():
            _write(directory, last, archive, member)
        elif member.issym():
            os.symlink(member.linkname, last, dir_fd=directory)
            _dress(directory, last, member)
        elif member.islnk():
            with parent_of(root, member.linkname) as (source, target):
                os.link(target, last, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        elif member.isfifo():
            os.mkfifo(last, member.mode, dir_fd=directory)
            _dress(directory, last, member)
        else:
            raise FileTreeError(f"/{member.name}: device files are not taken from an artifact")


def _write(directory: int, last: str, archive: IO[bytes], member: tarfile.TarInfo) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(last, flags, 0o600, dir_fd=directory)
    try:
        tar_content.write_regular(fd, archive, member)
    except ValueError as error:
        raise FileTreeError(f"/{member.name}: {error}") from error
    finally:
        os.close(fd)
    _dress(directory, last, member)


def _path(directory: int, last: str) -> str:
    """Return a path for the calls that take no descriptor of a directory."""
    return f"/proc/self/fd/{directory}/{last}"


def _dressed(directory: int, last: str, member: tarfile.TarInfo) -> bool:
    """Say whether mode, owner and attributes are right: then a read-only root file system is no obstacle."""
    found = os.lstat(last, dir_fd=directory)
    wanted = (member.mode & 0o7777, member.uid, member.gid)
    return wanted == (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) and (
        tar_content.attributes_in(member) == tar_content.attributes_of(_path(directory, last))
    )


def _dress(directory: int, last: str, member: tarfile.TarInfo) -> None:
    os.chown(last, member.uid, member.gid, dir_fd=directory, follow_symlinks=False)
    if not member.issym():
        os.chmod(last, member.mode & 0o7777, dir_fd=directory)  # after chown, which clears the set-id bits
        tar_content.set_attributes(_path(directory, last), tar_content.attributes_in(member))
    moment = tar_content.moment_of(member)
    os.utime(last, ns=(moment, moment), dir_fd=directory, follow_symlinks=False)


def entry_of(fd_name: str, found: os.stat_result) -> tarfile.TarInfo:
    """Return the tar header for a file, owner by number only: names would be looked up in the container's files."""
    info = tarfile.TarInfo(fd_name)
    info.mode = stat.S_IMODE(found.st_mode)
    info.uid, info.gid = found.st_uid, found.st_gid
    info.mtime = found.st_mtime
    info.pax_headers = {"mtime": tar_content.as_moment(found.st_mtime_ns)}
    return info


def add(archive: tarfile.TarFile, directory: int, last: str, name: str, found: os.stat_result) -> None:
    """Append one file, not its children; sockets are left out, since binding one makes it again."""
    info = entry_of(name, found)
    kind: dict[int, bytes] = {stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFIFO: tarfile.FIFOTYPE}
    if not stat.S_ISLNK(found.st_mode):
        attributes = tar_content.attributes_of(_path(directory, last))
        info.pax_headers = {**info.pax_headers, **tar_content.records_of(attributes)}
    if stat.S_ISREG(found.st_mode):
        # Another container of the pod may put something else in its place meanwhile: a pipe would be waited for.
        fd = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            if not os.path.samestat(os.fstat(fd), found):
                raise FileTreeError(f"{name} was replaced while it was read")
            tar_content.add_regular(archive, fd, info)
        finally:
            os.close(fd)
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(last, dir_fd=directory)
        archive.addfile(info)
    elif stat.S_IFMT(found.st_mode) in kind:
        info.type = kind[stat.S_IFMT(found.st_mode)]
        archive.addfile(info)


def change(root: int, step: Mapping[str, Any], members: Sequence[tarfile.TarInfo] | None = None) -> None:
    """Make the change that a step describes by descriptors; with an undo file, what undoes it is written first.

    Keys: ``tar``, ``gone``, ``emptied``, perhaps ``own``, perhaps ``top``, what becomes of the root itself, and perhaps
    ``root`` with ``undo_tar`` and ``undo_list``; then also ``made``, what others will make in the course of it, and
    ``durable``: whether what is changed outlives the node's next start, so that what undoes it must too.

    Args:
        root: the directory that is changed.
        step: the keys above.
        members: what is in the tar, if it is known.
    """
    with os.fdopen(step["tar"], "rb", closefd=False) as archive:
        members = members if members is not None else tar_content.members_of(archive)  # once: it takes long
        change = (step["gone"], step["emptied"], step.get("own"))
        if "undo_tar" in step:
            with os.fdopen(step["undo_tar"], "wb", closefd=False) as saved:
                created = _inverse(root, members, *change, saved)
            created += [name for name in step["made"] if look(root, name) is None]
            if step["durable"]:
                os.fsync(step["undo_tar"])
            undo = {"root": step["root"], "gone": created, "top": folder.describe(root)}
            os.write(step["undo_list"], json.dumps(undo).encode())
            if step["durable"]:
                os.fsync(step["undo_list"])
        _apply(root, archive, members, *change)
    if step.get("top") is not None:
        folder.dress(root, step["top"])


def inverse(
    root: int,
    archive: IO[bytes],
    gone: Iterable[str],
    emptied: Iterable[str],
    into: IO[bytes],
    own: Iterable[str] | None = None,
) -> list[str]:
    """Write to ``into`` the tar that brings back what the change would overwrite; returns what it would create.

    To undo: ``apply(root, into, created, ())``.
    """
    return _inverse(root, tar_content.members_of(archive), gone, emptied, own, into)


def _inverse(
    root: int,
    members: Sequence[tarfile.TarInfo],
    gone: Iterable[str],
    emptied: Iterable[str],
    own: Iterable[str] | None,
    into: IO[bytes],
) -> list[str]:
    created: list[str] = []
    doomed: set[str] = set()
    for name in (*emptied, *gone):
        doomed.update(_below(root, name))
    priority = Priority(root, own)
    for member in members:
        if priority.gives_way(member):
            continue
        found = look(root, member.name)
        if found is not None and member.isdir() and stat.S_ISDIR(found.st_mode):
            doomed.add(member.name)  # only its mode, owner and times
            continue
        created.append(member.name)
        if found is not None:
            doomed.update(_below(root, member.name))
    # Parents before children, whichever of the lists they came from.
    pack(root, into, sorted(doomed, key=lambda name: name.split("/")))
    return created


def _below(root: int, name: str) -> Iterator[str]:
    """Yield the name and all below it, if it exists."""
    if look(root, name) is not None:
        yield name
        for child in children(root, name):
            yield from _below(root, child)


def pack(root: int, into: IO[bytes], names: Iterable[str]) -> int:
    """Write a tar of the named files, hard links among them kept; returns the bytes of their content."""
    linked: dict[tuple[int, int], str] = {}
    total = 0
    with tarfile.open(fileobj=into, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            try:
                total += _pack(archive, root, name, linked)
            except FileTreeError as error:
                if not isinstance(error.__cause__, FileNotFoundError):  # others may use a volume meanwhile
                    raise
    return total


def _pack(archive: tarfile.TarFile, root: int, name: str, linked: dict[tuple[int, int], str]) -> int:
    """Append one file, or the link that it is to one before it; return the bytes of its content."""
    with parent_of(root, name) as (directory, last):
        found = os.lstat(last, dir_fd=directory)
        key = (found.st_dev, found.st_ino)
        if stat.S_IFMT(found.st_mode) in _LINKED and found.st_nlink > 1 and key in linked:
            archive.addfile(_link(name, linked[key], found))
            return 0
        add(archive, directory, last, name, found)
        linked[key] = name
        return content_bytes(found)


def content_bytes(found: os.stat_result) -> int:
    """Return the bytes that a file really holds: sparse files count by their blocks."""
    return min(found.st_size, found.st_blocks * 512) if stat.S_ISREG(found.st_mode) else 0


def _link(name: str, target: str, found: os.stat_result) -> tarfile.TarInfo:
    info = entry_of(name, found)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info


def walk(root: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every file below ``root`` with what it is, parents first, links not followed, mounts not crossed.

    Raises:
        FileTreeError: it is too deep.
    """
    device = os.fstat(root).st_dev
    top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    yield from _walk(top, "", device)


def _walk(fd: int, prefix: str, device: int) -> Iterator[tuple[str, os.stat_result]]:
    try:
        _check_depth(prefix)
        for entry in sorted(os.listdir(fd)):
            inner = None
            try:
                found = os.lstat(entry, dir_fd=fd)
                if found.st_dev != device:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    inner = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            except (FileNotFoundError, NotADirectoryError):  # others may use a volume meanwhile
                continue
            yield prefix + entry, found
            if inner is not None:
                yield from _walk(inner, f"{prefix}{entry}/", device)
    finally:
        os.close(fd)
