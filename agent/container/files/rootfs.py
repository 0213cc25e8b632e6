"""What a container changed in its root file system: the upper layer of its overlay, and what was deleted."""

import fnmatch
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.errors import RefusedError
from contract.api.states import AgentReason
from linux import filetree
from linux.filetree import content_bytes
from linux.proc import Mount

OVERLAY_ATTRIBUTES: Final = ("trusted.overlay.", "user.overlay.")
_MERGED_ELSEWHERE: Final = ("redirect", "metacopy")


@dataclass
class Changes:
    """The names of a change, relative to the root."""

    files: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    """Directories whose content in the image is hidden."""
    sockets: list[str] = field(default_factory=list)
    """Left out of the tar: criu binds them again, and a restore that fails then must remove them."""
    protected: list[str] = field(default_factory=list)
    """Made immutable, or such that they can only grow."""
    bytes: int = 0
    """That the files hold."""
    largest: tuple[str, int] = ("", 0)

    def deleted_json(self) -> str:
        """Return the content of ``deleted-files.json``."""
        return json.dumps({"deleted": self.gone, "opaque": self.emptied, "sockets": self.sockets}, indent=1)


def parse_deleted(text: bytes) -> Changes:
    """Parse ``deleted-files.json``; names are checked where they are used.

    Raises:
        RefusedError: if it is not of that form.
    """
    try:
        content = json.loads(text)
        gone, emptied, sockets = ([str(name) for name in content[key]] for key in ("deleted", "opaque", "sockets"))
        return Changes(gone=gone, emptied=emptied, sockets=sockets)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RefusedError(AgentReason.ARTIFACT_CORRUPT, "deleted-files.json is not of its form") from error


def upper_directory(mounts: Sequence[Mount], host_root: Path) -> Path | None:
    """Return the node's path of the container's upper layer; None if its root is no overlay.

    ``host_root`` is where the node's own root is visible, for example ``/proc/1/root``.
    """
    root = next((mount for mount in reversed(mounts) if mount.point == "/"), None)
    upper = root.option("upperdir") if root and root.fstype == "overlay" else None
    return host_root / upper.lstrip("/") if upper else None


_READING_NS: Final = 1_000_000
"""Between reading one clock and the other; a clock that is set right is rarely set by less."""


def collect(
    upper: int, skip: Callable[[str], bool], started: int | None = None, in_use: Collection[str] = ()
) -> Changes:
    """Walk an upper layer.

    Args:
        upper: its descriptor.
        skip: says of a path in the container that it is not captured, nor anything beneath.
        started: when the container's first process did, nanoseconds: what was changed last before that was changed by
            the runtime or its hooks, which the next container's do by themselves, maybe with other names (as those of
            NVIDIA's container toolkit do with links to the driver of the node); None: not known.
        in_use: paths that are captured even so.

    Raises:
        RefusedError: it refers to other layers in a way that only a mount of it could follow.
    """
    changes = Changes()
    skipped: list[str] = []
    for name, found in filetree.walk(upper):
        if any(name.startswith(prefix) for prefix in skipped):
            continue
        if skip("/" + name):
            skipped += [name + "/"] if stat.S_ISDIR(found.st_mode) else []
        elif _is_of_runtime(found, started) and "/" + name not in in_use:
            continue
        elif stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            changes.gone.append(name)
        else:
            _sort(upper, name, found, changes)
    return changes


def trusted_start(started: int | None, said: bytes | None, ahead: int) -> int | None:
    """Return when a container started, if the times of its files can be compared with that.

    Args:
        started: nanoseconds, by the node's clock as it was then.
        said: what standby wrote of that clock: nanoseconds that it was ahead of the node's uptime.
        ahead: the same now. If it is less, the clock was set back, and a file that the worker changed since may look
            older than the container.
    """
    try:
        return started if said is not None and ahead >= int(said) - _READING_NS else None
    except ValueError:
        return None


def _is_of_runtime(found: os.stat_result, started: int | None) -> bool:
    """Say whether a file is as it was before the container started; of what was deleted there is no time."""
    is_file = stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)
    return is_file and started is not None and found.st_ctime_ns < started


def _sort(upper: int, name: str, found: os.stat_result, changes: Changes) -> None:
    if stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode):
        marks = _overlay_marks(upper, name)
        if any(mark in marks for mark in _MERGED_ELSEWHERE):
            raise RefusedError(
                AgentReason.OVERLAY_UNSUPPORTED,
                f"/{name}: the overlay uses redirect_dir or metacopy; turn both off for the container runtime",
            )
        if marks.get("protattr"):
            changes.protected.append(name)
        if marks.get("opaque") in (b"y", b"x"):
            changes.emptied.append(name)
    if stat.S_ISSOCK(found.st_mode):
        changes.sockets.append(name)
    elif not stat.S_ISBLK(found.st_mode) and not stat.S_ISCHR(found.st_mode):
        changes.files.append(name)
        size = content_bytes(found)
        changes.bytes += size
        changes.largest = max(changes.largest, (name, size), key=lambda entry: entry[1])


def _overlay_marks(upper: int, name: str) -> dict[str, bytes]:
    path = f"/proc/self/fd/{upper}/{name}"
    marks = {}
    with suppress(OSError):
        for attribute in os.listxattr(path, follow_symlinks=False):
            for prefix in OVERLAY_ATTRIBUTES:
                if attribute.startswith(prefix):
                    marks[attribute.removeprefix(prefix)] = os.getxattr(path, attribute, follow_symlinks=False)
    return marks


def skipper(exclusions: Sequence[str], mount_points: Collection[str], in_use: Collection[str]) -> Callable[[str], bool]:
    """Return a predicate for what is not captured: mount points, and exclusions unless a process holds something there.

    An exclusion is a path prefix (``/proc``), or a glob over the whole path (``*/__pycache__``). A path that is written
    without its slash (``tmp``, ``./proc``) is taken from the root, since there is nothing else that it could mean.
    """
    exclusions = [_from_root(pattern) for pattern in exclusions]
    points = frozenset(mount_points) - {"/"}
    needed = frozenset(ancestor for path in in_use for ancestor in _ancestors(path))

    def skip(path: str) -> bool:
        return path in points or (path not in needed and any(_excluded(path, pattern) for pattern in exclusions))

    return skip


def _from_root(pattern: str) -> str:
    clean = pattern.removeprefix("./")
    return clean if clean.startswith(("/", "*", "?", "[")) else f"/{clean}"


def _ancestors(path: str) -> Iterator[str]:
    """Return the path itself and every directory above it but the root."""
    parts = path.strip("/").split("/")
    return ("/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1))


def _excluded(path: str, pattern: str) -> bool:
    prefix = pattern.rstrip("/")
    return path == prefix or path.startswith(prefix + "/") or fnmatch.fnmatchcase(path, pattern)
