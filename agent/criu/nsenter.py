"""Writes files into a container and starts criu inside it; a subprocess of its own for every attempt.

It joins the container's cgroups and its namespaces, but for that of IPC if a dump is to have what is in it. It never
enters the mount namespace, and neither does criu until its loader, its libraries and all their constructors have run
(``native/criu_preload``).
So whatever a loader or a C library opens by a fixed path is a file of the agent's image, never one of the container.
The process, and criu with it, dies with the agent.
It is in the way of every restore and loads little: an interpreter and this file take 15 ms, the usual modules 30 more.

``python nsenter.py SOCKET``: the number of a connection that brings the marshalled request and its descriptors, which
get the numbers that they have in the agent; each step is reported by a marshalled pair.
"""

from __future__ import annotations

import _socket  # of the usual modules: ``socket`` alone takes as long as all of these
import fcntl
import marshal
import os
import struct
import sys
import time

from linux import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LAST_PID = "/proc/sys/kernel/ns_last_pid"
"""Probes that start meanwhile get the pids after it. A worker's own are free in a container that has just started, but
not in one whose probes have taken the counter there in hours of waiting."""
NAMESPACES = ("cgroup", "ipc", "uts", "net", "pid")
EXIT_FILES = 3
EXIT_ENTER = 4
"""criu was not started, or could not enter the mount namespace: preload.c uses the same number."""
ENTER_VARIABLE = "SNAPSHOT_ENTER_MOUNT_NAMESPACE"
"""Holds the number of the descriptor that preload.c gives to setns(2)."""
APPARMOR_VARIABLE = "SNAPSHOT_APPARMOR"
"""1: preload.c has criu find AppArmor, of which a container's mount namespace shows nothing."""
ERROR = "error"
"""First of the pair that says why criu was not started."""
HEAD = "=QI"
"""What comes first: bytes of the request, and number of descriptors, which come before it."""
AT_ONCE = 250
"""Descriptors that one message brings; the kernel takes 253."""
_SIGKILL = 9
_DESCRIPTOR = 4
"""Bytes of the number of one."""


def main(argv: list[str]) -> int:
    """Run one request; the exit code is criu's, or one of the EXIT constants."""
    syscalls.die_with_parent(_SIGKILL)
    run = _receive(_socket.socket(fileno=int(argv[1])))
    if run is None:
        return 0
    if os.getppid() != run["parent"]:
        return EXIT_ENTER  # the agent died before the line above
    try:
        filetree = _load_filetree(run["file_changes"])
        _join_cgroups(run["cgroups"])
        for step in run["file_changes"]:
            start = time.monotonic()
            _change_files(filetree, run["pid"], step)
            _report(run["report"], step["what"], (start, time.monotonic()))
        if run["shared"] is not None:
            from agent.criu.shared_fill import fill  # noqa: PLC0415 - loads modules that a restore seldom needs

            fill(*run["shared"])
        if run["criu"] is None:
            return 0
        mount_namespace = os.open(f"/proc/{run['pid']}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        _join_namespaces(run["pid"], [name for name in NAMESPACES if name not in run["criu"]["stays_out_of"]])
    except Exception as error:  # noqa: BLE001 - the report is the only way out
        _report(run["report"], ERROR, str(error) or type(error).__name__)
        return EXIT_FILES
    start = time.monotonic()
    code = _run_criu(mount_namespace, run["criu"])
    _report(run["report"], "criu", (start, time.monotonic()))
    return code


def _receive(connection: _socket.socket) -> dict[str, Any] | None:
    """Return the request, with its descriptors in place; None if the agent needs none."""
    if not _is_there(connection):
        from linux import filetree  # noqa: F401, PLC0415 - there is time for it
    head = _exactly(connection, struct.calcsize(HEAD))
    if not head:
        return None
    size, count = struct.unpack(HEAD, head)
    received: list[int] = []
    while len(received) < count:
        room = _socket.CMSG_SPACE(AT_ONCE * _DESCRIPTOR)
        data, ancillary, _, _ = connection.recvmsg(1, room, _socket.MSG_CMSG_CLOEXEC)
        if not data:
            return None
        for _, _, numbers in ancillary:
            received += memoryview(numbers).cast("i")
    run: dict[str, Any] = marshal.loads(_exactly(connection, size))  # noqa: S302 - written by the agent
    connection.close()
    _number(received, run["descriptors"])
    return run


def _is_there(connection: _socket.socket) -> bool:
    """Say whether a request is there already."""
    try:
        connection.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def _exactly(connection: _socket.socket, size: int) -> bytes:
    """Return so many bytes; fewer if the agent has ended."""
    found = b""
    while len(found) < size and (part := connection.recv(size - len(found))):
        found += part
    return found


def _number(received: list[int], wanted: list[int]) -> None:
    """Give descriptors other numbers, each of which another one may have."""
    above = max([*received, *wanted], default=0) + 1
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in received]
    for fd in received:
        os.close(fd)
    for fd, number in zip(moved, wanted, strict=True):
        os.dup2(fd, number, inheritable=False)
        os.close(fd)


def _report(fd: int, what: str, value: tuple[float, float] | str) -> None:
    os.write(fd, marshal.dumps((what, value)))


def _load_filetree(steps: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - a module, or None
    """Import the module that changes files, but only if any are to be changed: it loads many others."""
    if not any("tar" in step for step in steps):
        return None
    from linux import filetree  # noqa: PLC0415 - see above

    return filetree


def _join_cgroups(files: list[str]) -> None:
    for file in files:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)


def _join_namespaces(pid: int, names: list[str]) -> None:
    wanted = []
    for name in names:
        try:
            wanted.append(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            if name != "cgroup":  # the only one that a kernel may lack
                raise
    for namespace in wanted:
        syscalls.setns(namespace)
        os.close(namespace)


def _change_files(filetree: Any, pid: int, step: dict[str, Any]) -> None:  # noqa: ANN401 - a module
    root = syscalls.open_in_root_of(pid, step["root"], os.O_PATH | os.O_DIRECTORY)
    try:
        if "size" in step:
            syscalls.resize_tmpfs(root, step["size"])
        else:
            filetree.change(root, step)
    finally:
        os.close(root)


def _run_criu(mount_namespace: int, criu: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _become_criu(mount_namespace, criu)
        finally:
            os._exit(EXIT_ENTER)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _set_last_pid(number: int) -> None:
    try:
        with open(LAST_PID, "wb", buffering=0) as last_pid:  # noqa: PTH123 - fewest modules
            last_pid.write(b"%d" % number)
    except OSError:
        return  # a pid that is taken is refused by name


def _become_criu(mount_namespace: int, criu: dict[str, Any]) -> None:
    """Execute criu; runs in the child, which alone is in the container's pid namespace.

    The loader is started by its path in the agent's own mount namespace; what criu itself looks for by name once it is
    inside (helpers, plug-ins) it looks for below the descriptor of our folder, whatever the container holds.
    """
    syscalls.die_with_parent(_SIGKILL)
    if criu["last_pid"]:
        _set_last_pid(criu["last_pid"])
    if os.getppid() != 0:  # seen from inside, a helper that lives outside is 0, and a dead one has left us to pid 1
        return
    folder = criu["tree"]
    tree = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for fd in (tree, mount_namespace, *criu["keep"]):
        os.set_inheritable(fd, True)
    library = f"{folder}/lib"
    loader = ["criu", "--inhibit-cache", "--library-path", library, "--preload", f"{library}/preload.so"]
    inside = f"/proc/self/fd/{tree}"
    environment = {
        "PATH": f"{inside}/bin",
        "CRIU_LIBS_DIR": f"{inside}/plugins",
        ENTER_VARIABLE: str(mount_namespace),
        APPARMOR_VARIABLE: str(int(criu["profile"])),
    }
    os.execve(f"{library}/ld.so", [*loader, f"{folder}/bin/criu", *criu["argv"]], environment)  # noqa: S606 - no shell


if __name__ == "__main__":
    os._exit(main(sys.argv))  # what the interpreter would tidy up takes 5 ms, and a restore waits for the end
