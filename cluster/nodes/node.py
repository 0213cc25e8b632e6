"""One node from the host's side: its folder, its first process, and running commands in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from cluster.errors import CommandError, StartError, StateError
from cluster.nodes import cgroups, node_boot
from cluster.nodes.cgroups import Hierarchy
from cluster.nodes.node_boot import Bind, Spec
from cluster.processes import Process, held, run, wait_until

CONFIG = "/etc/cluster"
PKI = "/etc/kubernetes/pki"
LOGS = "/var/log/cluster"
"""Where a node sees its own settings, keys and logs."""

ENVIRONMENT = {
    "PATH": node_boot.PATH,
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "KUBECONFIG": f"{CONFIG}/admin.kubeconfig",
    "CONTAINERD_NAMESPACE": "k8s.io",
}
"""What commands run in a node find; ctr reads the last one."""


@dataclass(frozen=True, order=True)
class Mount:
    """A folder of the machine that a node has too, to be read: a driver, models."""

    source: str
    target: str

    @classmethod
    def parse(cls, text: str) -> Mount:
        """Read ``SOURCE`` or ``SOURCE:TARGET``; StateError if that is no folder here, or names no place there."""
        source, _, target = text.partition(":")
        if not Path(source).is_absolute() or not Path(source).is_dir():
            raise StateError(f"--mount {text}: {source} is not the absolute path of a folder of this machine")
        found = PurePosixPath(target or source)
        if not found.is_absolute() or ".." in found.parts or found == PurePosixPath("/"):
            raise StateError(f"--mount {text}: {found} cannot be where a node has it; name an absolute path below /")
        return cls(str(PurePosixPath(source)), str(found))


@dataclass(frozen=True)
class Node:
    """The *index*-th node, counted from 1, of the cluster with this identity."""

    index: int
    name: str
    identity: str
    folder: Path

    @property
    def config(self) -> Path:
        """Settings, which the node sees at CONFIG."""
        return self.folder / "config"

    @property
    def pki(self) -> Path:
        """Keys, which the node sees at PKI."""
        return self.folder / "pki"

    @property
    def logs(self) -> Path:
        """Logs of the node's programs."""
        return self.folder / "log" / "cluster"

    @property
    def group(self) -> str:
        """Its control group's name."""
        return cgroups.group_name(self.identity, self.index)

    def lives(self) -> bool:
        """Say whether any process of the node lives."""
        return held(self.folder / "lock")

    def mounts(self) -> set[Mount]:
        """Return the folders of the machine that the running node has to be read."""
        binds = Spec.load(str(self.folder / "boot.json")).binds
        return {Mount(bind.source, bind.target) for bind in binds if bind.read_only}

    def first_process(self) -> Process:
        """Return the node's pid 1 as the host numbers it; StateError if there is none."""
        outer = self._outer()
        children = outer.children() if outer else []
        if not children:
            raise StateError(f"node {self.name} is not running")
        return Process.of(children[0])

    def spawn(self, spec: Spec) -> IO[bytes]:
        """Start the first process; it waits for a line on the stream returned, and ends if that is closed."""
        path = self.folder / "boot.json"
        path.write_text(json.dumps(asdict(spec)))
        reader, writer = os.pipe()
        try:
            with (self.folder / "boot.log").open("wb") as log:
                # No child of ours: it outlives this process, and the process that ends it need not be its parent.
                argv = ["setsid", "--fork", sys.executable, "-I", node_boot.__file__, str(path)]
                subprocess.run(argv, stdin=reader, stdout=log, stderr=log, cwd="/", check=True)
        finally:
            os.close(reader)
        gate = os.fdopen(writer, "wb", buffering=0)
        wait_until(f"node {self.name}: its first process", self._booted, seconds=15)
        outer = self._outer()
        for folder, hierarchy in zip(spec.cgroups, spec.hierarchies, strict=True):
            if outer and hierarchy["kind"] == "cgroup2":
                cgroups.set_aside(Path(folder), outer.pid)
        return gate

    def _booted(self) -> bool:
        complaint = (self.folder / "boot.log").read_text()
        if complaint and not self.lives():
            raise StartError(f"node {self.name} did not start:\n{complaint}")
        outer = self._outer()
        return outer is not None and bool(outer.children())

    def kill(self) -> None:
        """End the node's first process and with it, by the kernel, everything in the node."""
        outer = self._outer()
        if outer:
            for pid in outer.children():
                Process.of(pid).kill()
            outer.kill()
        wait_until(f"the end of node {self.name}", lambda: not self.lives(), seconds=20)

    def enter(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs *command* in the node's namespaces."""
        pid = str(self.first_process().pid)
        namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"]
        variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        return ["nsenter", "--target", pid, *namespaces, "--", "/usr/bin/env", "-i", "-C/", *variables, *command]

    def run(self, *command: str, stdin: bytes | None = None) -> str:
        """Run *command* in the node; its output, or CommandError."""
        return run(self.enter(command), stdin=stdin)

    def load(self, archive: Path) -> list[str]:
        """Import an OCI or docker archive; the names of the images that it added or changed."""
        before = self.images()
        with archive.open("rb") as stream:
            argv = self.enter(["ctr", "images", "import", "-"])
            done = subprocess.run(argv, stdin=stream, capture_output=True, check=False)
        if done.returncode:
            raise CommandError(["load-image", str(archive)], done.returncode, (done.stdout + done.stderr).decode())
        after = self.images()
        return sorted(name for name, digest in after.items() if before.get(name) != digest)

    def images(self) -> dict[str, str]:
        """Return name -> digest of all images in the node."""
        rows = [line.split()[:3] for line in self.run("ctr", "images", "ls").splitlines()[1:]]
        # The runtime's own second name of each image is its configuration's digest.
        return {name: digest for name, _type, digest in rows if not name.startswith("sha256:")}

    def _outer(self) -> Process | None:
        return Process.noted(self.folder / "pid", str(self.folder / "boot.json"))


def boot_spec(
    node: Node,
    lower: Path,
    programs: dict[str, Path],
    volumes: Path,
    found: list[Hierarchy],
    mounts: Sequence[Mount] = (),
) -> Spec:
    """Write the configuration of the node's first process. Its folders exist already; their contents may come later."""
    binds = [Bind(str(folder), f"/opt/cluster/{name}", read_only=True) for name, folder in programs.items()]
    binds += [
        Bind(str(programs["cni"]), "/opt/cni/bin", read_only=True),
        Bind(str(node.config), CONFIG, read_only=True),
        Bind(str(node.config / "containerd"), "/etc/containerd", read_only=True),
        Bind(str(node.config / "cni"), "/etc/cni/net.d", read_only=True),
        Bind(str(node.pki), PKI, read_only=True),
        Bind(str(node.folder / "log"), "/var/log"),
        Bind(str(volumes), "/var/lib/dynamo-volumes"),
        *(Bind(str(node.folder / name), f"/var/lib/{name}") for name in ("containerd", "kubelet", "etcd")),
        *(Bind(mount.source, mount.target, read_only=True) for mount in mounts),
    ]
    return Spec(
        hostname=node.name,
        lock=str(node.folder / "lock"),
        pid_file=str(node.folder / "pid"),
        cgroups=cgroups.create(found, node.group),
        hierarchies=[{"name": h.name, "kind": h.kind, "options": h.options} for h in found],
        lower=str(lower),
        scratch=str(node.folder / "scratch"),
        binds=binds,
        supervisor=["/usr/bin/python3", "-I", f"{CONFIG}/supervise.py", f"{CONFIG}/supervisor.json"],
    )


def make_folders(node: Node) -> None:
    """Everything that is bound into the node."""
    for name in ("config/containerd", "config/cni", "pki", "log/cluster", "containerd", "kubelet", "etcd", "scratch"):
        (node.folder / name).mkdir(parents=True, exist_ok=True)
