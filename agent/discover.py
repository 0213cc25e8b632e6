"""Finds containers and their processes in /proc: no runtime API, any runtime, cgroup v1 and v2."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from contract.api import keys

PROC: Final = Path("/proc")
# kubepods/burstable/pod<uid>/<id> (cgroupfs) or kubepods-burstable-pod<uid_>.slice/cri-containerd-<id>.scope (systemd).
_POD: Final = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice)?/")
_CONTAINER: Final = re.compile(r"(?:^|[-/])([0-9a-f]{64})(?:\.scope)?(?=/|$)")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
CAPABILITY_SETS: Final = ("CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd")


@dataclass(frozen=True)
class Home:
    """Which container a process belongs to."""

    pod_uid: str
    container_id: str


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    point: str
    root: str
    fstype: str
    source: str
    options: str
    """The super block's: overlay's layers, a tmpfs's size."""

    def option(self, name: str) -> str | None:
        """Value of a ``name=value`` option."""
        prefix = name + "="
        return next((o.removeprefix(prefix) for o in self.options.split(",") if o.startswith(prefix)), None)


@dataclass(frozen=True)
class Status:
    """What /proc/PID/status says that matters here."""

    pid: int
    inner_pid: int
    """As numbered in its own pid namespace."""
    inner_session: int
    parent: int
    state: str
    uid: int
    gid: int
    groups: frozenset[int]
    capabilities: Mapping[str, int]
    no_new_privileges: bool
    seccomp: int


def home_of(cgroups: str) -> Home | None:
    """The pod and container that the text of /proc/PID/cgroup names; None for a process outside of pods."""
    for line in cgroups.splitlines():
        path = line.split(":", 2)[-1]
        pod, container = _POD.search(path), _CONTAINER.findall(path)
        if pod and container:
            return Home(pod[1].replace("_", "-"), container[-1])
    return None


def cgroup_files(cgroups: str, root: Path) -> list[str]:
    """The ``cgroup.procs`` files of a process's cgroups: of each v1 controller, and of the v2 leaf where it has one."""
    files = []
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if path == "/" and not controllers:
            continue  # an unused v2 tree beside v1
        # A private cgroup namespace shows paths relative to itself; from ours they begin above its root.
        clean = PurePosixPath("/", *(part for part in path.split("/") if part != "..")).relative_to("/")
        files += [str(base / clean / "cgroup.procs") for base in _cgroup_mount(root, controllers)]
    return files


def _cgroup_mount(root: Path, controllers: str) -> list[Path]:
    if not controllers:
        return [root / "unified" if (root / "unified").is_dir() else root]
    named = root / controllers.removeprefix("name=")
    return [named] if named.is_dir() else [root / c for c in controllers.split(",") if (root / c).is_dir()][:1]


def mounts(pid: int, proc: Path = PROC) -> list[Mount]:
    """The mounts that a process sees, in mount order."""
    return parse_mountinfo((proc / str(pid) / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))


def parse_mountinfo(text: str) -> list[Mount]:
    """The lines of mountinfo."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        found.append(Mount(_plain(fields[4]), _plain(fields[3]), tail[0], _plain(tail[1]), _plain(tail[2])))
    return found


def _plain(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)


def mount_of(path: str, mounted: list[Mount]) -> Mount | None:
    """The mount that a path lies on; of two on the same point, the later covers the earlier."""
    fitting = [m for m in mounted if path == m.point or path.startswith(m.point.rstrip("/") + "/")]
    return max(reversed(fitting), key=lambda m: len(m.point), default=None)


def status(pid: int, proc: Path = PROC) -> Status:
    """The status of a process.

    Raises:
        FileNotFoundError, ProcessLookupError: where it is gone.
    """
    return parse_status((proc / str(pid) / "status").read_text())


def parse_status(text: str) -> Status:
    """The text of /proc/PID/status."""
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return Status(
        pid=int(fields["Pid"]),
        inner_pid=int(fields["NSpid"].split()[-1]),
        inner_session=int(fields["NSsid"].split()[-1]),
        parent=int(fields["PPid"]),
        state=fields["State"][:1],
        uid=int(fields["Uid"].split()[1]),
        gid=int(fields["Gid"].split()[1]),
        groups=frozenset(int(group) for group in fields["Groups"].split()),
        capabilities={name: int(fields[name], 16) for name in CAPABILITY_SETS},
        no_new_privileges=fields.get("NoNewPrivs", "0") == "1",
        seccomp=int(fields.get("Seccomp", "0")),
    )


def pids(proc: Path = PROC) -> Iterator[int]:
    """All processes."""
    return (int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal())


def namespace_mates(pid: int, proc: Path = PROC) -> dict[int, Status]:
    """All live processes in the pid namespace of ``pid``, itself among them, by host pid."""
    own = (proc / str(pid) / "ns/pid").readlink()
    found = {}
    for other in pids(proc):
        try:
            if (proc / str(other) / "ns/pid").readlink() == own:
                found[other] = status(other, proc)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return {number: mate for number, mate in found.items() if mate.state not in "ZX"}


def descendants(root: int, mates: Mapping[int, Status]) -> list[int]:
    """Host pids of the children of ``root``, theirs, and so on, parents first."""
    found, frontier = [], [root]
    while frontier:
        frontier = [mate.pid for mate in mates.values() if mate.parent in frontier]
        found += frontier
    return found


def inner_thread_ids(pid: int, proc: Path = PROC) -> list[int]:
    """The ids of a process's threads, as numbered inside its pid namespace."""
    tasks = proc / str(pid) / "task"
    return [status(tid, tasks).inner_pid for tid in pids(tasks)]


def worker_of(init: int, mates: Mapping[int, Status]) -> Status | None:
    """The process that standby started: its child that leads a session, the oldest where orphans do so too."""
    leaders = [m for m in mates.values() if m.parent == init and m.inner_pid == m.inner_session]
    return min(leaders, key=lambda mate: mate.inner_pid, default=None)


@dataclass(frozen=True)
class Found:
    """A running container of a pod."""

    init_pid: int
    """Host pid of its first process."""
    container_id: str
    program: str
    """Name of the file that its first process runs."""


def find_container(pod_uid: str, container: str, proc: Path = PROC) -> Found | None:
    """The running container of that name, known by its control directory; None where none runs.

    A status may speak of the container before this one, and lags by a second; mounts do neither.
    """
    control = f"/{pod_uid}/volumes/kubernetes.io~empty-dir/{keys.CONTROL_VOLUME}/{container}"
    for pid in pids(proc):
        try:
            home = home_of((proc / str(pid) / "cgroup").read_text())
            if home is None or home.pod_uid != pod_uid or status(pid, proc).inner_pid != 1:
                continue
            if any(mount.root.endswith(control) for mount in mounts(pid, proc)):
                return Found(pid, home.container_id, (proc / str(pid) / "exe").readlink().name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return None


def _holds(pid: int, claim: os.stat_result, proc: Path) -> bool:
    directory = proc / str(pid) / "fd"
    for entry in directory.iterdir():
        try:
            found = entry.stat()
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (claim.st_dev, claim.st_ino):
            return True
    return False


def holds(pid: int, claim: os.stat_result, proc: Path = PROC) -> bool:
    """Whether a live process has this very file open."""
    try:
        return _holds(pid, claim, proc)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def files_in_use(pid: int, proc: Path = PROC) -> set[str]:
    """Paths that a process has open, mapped, as its program, or as its directory; as it sees them."""
    base = proc / str(pid)
    found = set()
    for link in [base / "cwd", base / "exe", *_entries(base / "fd"), *_entries(base / "map_files")]:
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("/"):
            found.add(target.removesuffix(" (deleted)"))
    return found


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []
