"""The address at which a worker asks for its capture: it is on the loopback device of its pod's network, and ours.

Who reaches it is in the pod; which container it is, the socket at the other end says.
"""

import socket
from contextlib import suppress
from pathlib import Path

from agent.container.find import container_of
from agent.container.network import in_network
from agent.container.pod_groups import PodGroups
from contract.api import trigger
from linux.net.loopback import add_address
from linux.net.sockets import socket_between
from linux.proc import PROC, started


def listen(pod_uid: str, groups: PodGroups, proc: Path = PROC) -> socket.socket | None:
    """Listen in the network of a pod; None if no process of it is there yet.

    Raises:
        OSError: it has ended, or the pod listens there itself.
    """
    pid = _any_process(pod_uid, groups, proc)
    if pid is None:
        return None

    def act() -> socket.socket:
        add_address(trigger.ADDRESS)
        return socket.create_server((str(trigger.ADDRESS), trigger.PORT))

    return in_network(pid, act, proc)


def caller_of(pod_uid: str, peer: tuple[str, int], groups: PodGroups, proc: Path = PROC) -> str:
    """Return the id of the container whose process is at the other end of a connection to us; empty if none is."""
    for pid in groups.pids(pod_uid, proc):
        container = _container(pid, pod_uid, proc)
        if container:
            inode = socket_between(pid, peer, (str(trigger.ADDRESS), trigger.PORT), proc)
            if inode is not None and _has_socket(pid, inode, proc):
                return container
    return ""


def _any_process(pod_uid: str, groups: PodGroups, proc: Path) -> int | None:
    """Return the oldest process of a pod, which holds its network before any container runs; None: no process.

    One in the node's network is none of a pod that has its own: CRI-O may keep its monitor in the pod's control groups.
    """
    nodes = (proc / "1/ns/net").readlink()
    found = []
    for pid in groups.pids(pod_uid, proc):
        with suppress(OSError):
            if _container(pid, pod_uid, proc) and (proc / f"{pid}/ns/net").readlink() != nodes:
                found.append((started(pid, proc), pid))
    return min(found)[1] if found else None


def _container(pid: int, pod_uid: str, proc: Path) -> str:
    with suppress(OSError):
        owner = container_of((proc / str(pid) / "cgroup").read_text(errors="surrogateescape"))
        return owner.container_id if owner is not None and owner.pod_uid == pod_uid else ""
    return ""


def _has_socket(pid: int, inode: int, proc: Path) -> bool:
    with suppress(OSError):
        for entry in (proc / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if str(entry.readlink()) == f"socket:[{inode}]":
                    return True
    return False
