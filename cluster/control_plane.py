"""etcd and an API server as plain processes on loopback: what most cluster tests need, in seconds.

They live as long as the process that started them, however that ends, or until they are stopped by name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster import components, config, credentials, embedded
from cluster.builder import build, toolchain
from cluster.builder.build import Programs
from cluster.builder.cache import Cache
from cluster.components import Layout, Ports
from cluster.credentials import MASTERS, User
from cluster.errors import CommandError, StartError, StateError
from cluster.kubectl import Kubectl
from cluster.nodes import cleanup, network, supervise
from cluster.nodes.cleanup import end_control_plane
from cluster.ports import free_ports
from cluster.processes import exclusive, held, wait_until
from cluster.progress import Progress, Silent

START_SECONDS = 60
"""Seen: 3 to 5 s; a machine busy with other work is given a minute."""

ADMIN = "admin"
CONTROLLER_MANAGER = "kube-controller-manager"


@dataclass
class ControlPlane:
    """A running control plane. As a context manager it ends with the block."""

    folder: Path
    server: str
    programs: Programs
    token: str = field(repr=False)
    supervisor: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def start(
        cls,
        *,
        controllers: bool = False,
        audit: bool = False,
        apiserver_flags: Sequence[str] = (),
        home: Cache | None = None,
        progress: Progress | None = None,
    ) -> ControlPlane:
        """Start one for this process; raises StartError with the end of the log of what failed."""
        programs = _programs(home or Cache.from_env(os.environ), progress or Silent())
        folder = Path(tempfile.mkdtemp(prefix="control-plane-"))
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            plane, spec = _prepare(folder, programs, controllers=controllers, audit=audit, extra=apiserver_flags)
            plane.supervisor = _spawn(folder, {**spec, "parent_pipe": True, "remove": str(folder)})
            undo.callback(plane.stop)
            plane.wait()
            undo.pop_all()
        return plane

    @property
    def kubeconfig(self) -> Path:
        """For its administrator."""
        return self.folder / "kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        """The client program, bound to this control plane."""
        return Kubectl(self.programs.path("kubectl"), self.kubeconfig)

    def log(self, component: str) -> str:
        """Return what a component has logged so far."""
        return (self.folder / "log" / f"{component}.log").read_text(errors="replace")

    def wait(self) -> None:
        """Wait until it serves and has its first namespace."""
        wait_until("the API server", self._serves, seconds=START_SECONDS)
        wait_until("the namespace default", self._has_namespace, seconds=START_SECONDS)

    def stop(self) -> None:
        """End its processes and remove its folder."""
        if self.supervisor:
            self.supervisor.terminate()
            self.supervisor.wait()
            if self.supervisor.stdin:
                self.supervisor.stdin.close()
        else:
            end_control_plane(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _serves(self) -> bool:
        if self.supervisor and self.supervisor.poll() is not None:
            raise StartError(f"the control plane ended while starting:\n{_tails(self.folder)}")
        return supervise.reachable(f"{self.server}/readyz")

    def _has_namespace(self) -> bool:
        try:
            self.kubectl("get", "namespace", "default")
        except CommandError:
            return False
        return True


def up(home: Cache, name: str, *, controllers: bool, audit: bool, progress: Progress) -> ControlPlane:
    """Start one that outlives this process, under *name*, or give the one that runs."""
    folder = home.cluster(name)
    programs = _programs(home, progress)
    with exclusive(home.cluster_lock(name), f"control plane {name}"):
        present = find(home, name)
        if present:
            return present
        if embedded.find(home, name):
            raise StateError(f"{name} is a whole cluster; use it as it is, or choose another --name")
        cleanup.clear(folder)
        folder.mkdir(parents=True)
        with progress.step(f"starting control plane {name}"):
            plane, spec = _prepare(folder, programs, controllers=controllers, audit=audit, extra=())
            plane.supervisor = _spawn(folder, {**spec, "pid_file": str(folder / "pid")})
            plane.wait()
            record = {
                "server": plane.server,
                "token": plane.token,
                "programs": {n: str(p) for n, p in programs.folders.items()},
            }
            (folder / "control-plane.json").write_text(json.dumps(record))
        return plane


def find(home: Cache, name: str) -> ControlPlane | None:
    """Return the control plane *name* if it runs."""
    folder = home.cluster(name)
    try:
        record = json.loads((folder / "control-plane.json").read_text())
        programs = Programs({key: Path(value) for key, value in record["programs"].items()})
    except (OSError, ValueError, KeyError):
        return None
    return ControlPlane(folder, record["server"], programs, record["token"]) if held(folder / "lock") else None


def _programs(home: Cache, progress: Progress) -> Programs:
    return build.build(home, toolchain.CONTROL_PLANE_COMPONENTS, progress)


def _prepare(
    folder: Path, programs: Programs, *, controllers: bool, audit: bool, extra: Sequence[str]
) -> tuple[ControlPlane, dict[str, Any]]:
    at = Layout(
        {name: str(path) for name, path in programs.folders.items()},
        pki=f"{folder}/pki", kubeconfigs=str(folder), logs=f"{folder}/log", data=f"{folder}/data",
    )  # fmt: skip
    (folder / "log").mkdir()
    ports = Ports(*free_ports(3))
    server = f"https://127.0.0.1:{ports.apiserver}"
    users = {ADMIN: User(ADMIN, MASTERS), CONTROLLER_MANAGER: User(f"system:{CONTROLLER_MANAGER}")}
    _write_files(folder, server, users)
    flags = [*components.loopback_apiserver_flags(controllers=controllers), *extra, f"--cert-dir={folder}/pki"]
    flags += components.audit_flags(at) if audit else []
    parts = [components.etcd(at, ports), components.apiserver(at, ports, flags)]
    if controllers:
        parts.append(components.controller_manager(at, ports, secure_port=0))
    return ControlPlane(folder, server, programs, users[ADMIN].token), {"components": parts, "restart": False}


def _write_files(folder: Path, server: str, users: dict[str, User]) -> None:
    names = ["localhost", "127.0.0.1", "kubernetes.default.svc", str(network.SERVICE_NETWORK[1])]
    credentials.write(folder / "pki", names, list(users.values()), dt.datetime.now(dt.UTC))
    ca = (folder / "pki/ca.crt").read_bytes()
    for name, user in users.items():
        path = folder / ("kubeconfig" if name == ADMIN else f"{name}.kubeconfig")
        path.touch(mode=0o600)
        path.write_text(json.dumps(config.kubeconfig(server, ca, user.token), indent=1))
    (folder / "audit-policy.json").write_text(json.dumps(config.audit_policy()))


def _spawn(folder: Path, spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the supervisor with the folder's lock, which it holds as long as it lives."""
    (folder / "supervisor.json").write_text(json.dumps({"pid_file": str(folder / "pid"), **spec}, indent=1))
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (folder / "log/supervisor.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-I", supervise.__file__, str(folder / "supervisor.json")],
                stdin=subprocess.PIPE if spec.get("parent_pipe") else subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, pass_fds=[lock], cwd="/",
            )  # fmt: skip
    finally:
        os.close(lock)


def _tails(folder: Path) -> str:
    logs = sorted((folder / "log").glob("*.log"))
    return "\n".join(f"{log.name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-5:]) for log in logs)
