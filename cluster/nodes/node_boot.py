"""Turns a process into the first process of a node: ``python -I node_boot.py SPEC``.

Outside, it takes the node's lock and notes its number, enters the node's control groups and becomes ``unshare``.
Inside (``--inside``), it assembles the node's file system, makes that its root and becomes the supervisor.
The lock is inherited all the way: as long as anything of the node lives, it is held, whatever else was lost.

SPEC is a JSON file; see ``Spec``. Standard library only: it runs without our packages on its path.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 4096, 16384, 1 << 18, 1 << 20
MNT_DETACH = 2

NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup")

PATH = "/opt/cluster/kubernetes:/opt/cluster/containerd:/opt/cluster/etcd:/opt/cluster/helm:/usr/sbin:/usr/bin"


KUBELET_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet insists on (pkg/kubelet/cm, setupKernelTunables). They hold for the whole machine, so it is shown
files with these values instead: it then writes nothing."""


@dataclass(frozen=True)
class Bind:
    """A file or folder of the host that the node sees at *target*."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Spec:
    """Everything that the boot needs, decided before it."""

    hostname: str
    lock: str
    pid_file: str
    cgroups: list[str]
    """Folders to enter, one per hierarchy."""
    hierarchies: list[dict[str, str]]
    """Hierarchies to mount inside: name, kind, options."""
    lower: str
    """The read-only root file system below the node's own changes."""
    scratch: str
    """Folder for the node's changes; on a file system that overlays can stack on."""
    binds: list[Bind]
    supervisor: list[str]
    """The command that the first process becomes."""

    @classmethod
    def load(cls, path: str) -> Spec:
        """Read the file *path*."""
        data = json.loads(Path(path).read_text())
        return cls(**{**data, "binds": [Bind(**bind) for bind in data["binds"]]})


def outside(path: str) -> NoReturn:
    """Lock, note, enter the control groups, and become unshare."""
    spec = Spec.load(path)
    lock = os.open(spec.lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.set_inheritable(lock, True)
    for group in spec.cgroups:
        (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    draft = Path(spec.pid_file + ".new")
    draft.write_text(str(os.getpid()))
    draft.rename(spec.pid_file)
    again = [sys.executable, "-I", __file__, "--inside", path]
    options = ["--propagation", "private", "--fork", "--kill-child", "--"]
    os.execvp("unshare", ["unshare", *NAMESPACES, *options, *again])  # noqa: S606


def inside(path: str) -> NoReturn:
    """Assemble the root, wait for the word that the network is there, and become the supervisor."""
    spec = Spec.load(path)
    socket.sethostname(spec.hostname)
    root = _assemble(spec)
    _pivot(root)
    _protect_global_settings()
    # Volumes mounted in one place must appear in others (mountPropagation), so all of the node is shared.
    mount("", "/", "", MS_SHARED | MS_REC)
    if sys.stdin.readline() != "go\n":
        sys.exit("the starting process has ended")
    if spec.hierarchies and spec.hierarchies[0]["kind"] == "cgroup2":
        _make_room(Path("/sys/fs/cgroup"))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.execve(spec.supervisor[0], spec.supervisor, {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"})  # noqa: S606


def _assemble(spec: Spec) -> str:
    scratch = Path(spec.scratch)
    root, upper, work = scratch / "root", scratch / "upper", scratch / "work"
    for folder in (root, upper, work):
        folder.mkdir(parents=True, exist_ok=True)
    mount("overlay", str(root), "overlay", 0, f"lowerdir={spec.lower},upperdir={upper},workdir={work}")
    mount("/dev", _folder(root / "dev"), "", MS_BIND | MS_REC)
    mount("", str(root / "dev"), "", MS_PRIVATE | MS_REC)
    mount("tmpfs", _folder(root / "dev/shm"), "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("proc", _folder(root / "proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", _folder(root / "sys"), "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", _folder(root / "run"), "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    _mount_cgroups(spec, root / "sys/fs/cgroup")
    for bind in spec.binds:
        _bind(bind, root)
    return str(root)


def _mount_cgroups(spec: Spec, at: Path) -> None:
    first = spec.hierarchies[0] if spec.hierarchies else {"kind": ""}
    if first["kind"] == "cgroup2":
        mount("cgroup2", str(at), "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        return
    mount("tmpfs", str(at), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    for hierarchy in spec.hierarchies:
        mount("cgroup", _folder(at / hierarchy["name"]), "cgroup", 0, hierarchy["options"])


def _make_room(at: Path) -> None:
    """Move ourselves into a leaf: version 2 lets only groups without processes hand controllers down.

    The process around ours, which we cannot see, was moved away by the one that started it.
    """
    leaf = at / "init"
    leaf.mkdir(exist_ok=True)
    (leaf / "cgroup.procs").write_text("0")
    available = (at / "cgroup.controllers").read_text().split()
    (at / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in available))


def _bind(bind: Bind, root: Path) -> None:
    target = root / bind.target.lstrip("/")
    if Path(bind.source).is_dir():
        _folder(target)
    else:
        _folder(target.parent)
        target.touch()
    mount(bind.source, str(target), "", MS_BIND)
    if bind.read_only:
        mount("", str(target), "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def _pivot(root: str) -> None:
    os.chdir(root)
    _check(_libc().pivot_root(b".", b"."), "pivot_root")
    _check(_libc().umount2(b".", MNT_DETACH), "umount of the host's root")
    os.chdir("/")


def _protect_global_settings() -> None:
    """Leave only the network's settings writable: the others hold for the whole machine."""
    mount("/proc/sys", "/proc/sys", "", MS_BIND)
    mount("", "/proc/sys", "", MS_BIND | MS_REMOUNT | MS_RDONLY)
    mount("/proc/sys/net", "/proc/sys/net", "", MS_BIND)
    mount("", "/proc/sys/net", "", MS_BIND | MS_REMOUNT)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for name, value in KUBELET_SETTINGS.items():
        shown = Path("/run/settings") / name
        _folder(shown.parent)
        shown.write_text(value + "\n")
        mount(str(shown), f"/proc/sys/{name}", "", MS_BIND)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mount *source* on *target*; OSError names the latter."""
    arguments = (source or "none", target, kind or "none")
    result = _libc().mount(*(os.fsencode(word) for word in arguments), flags, os.fsencode(data) if data else None)
    _check(result, f"mount on {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _folder(path: Path) -> str:
    path.mkdir(parents=True, exist_ok=True)
    return str(path)


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        inside(sys.argv[2])
    outside(sys.argv[1])
