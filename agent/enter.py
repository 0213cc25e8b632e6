"""Runs inside a container's namespaces: grafts files, then starts criu; a subprocess of its own for every attempt.

No file of the container is ever executed or imported: criu, its loader and its libraries come from a detached copy of
the agent's own folder, reachable by descriptor alone, and every Python module is loaded before the first ``setns``.
The process, and criu with it, dies with the agent.

``python -m agent.enter FILE``: the file holds the order as JSON; each step puts one JSON line on the report descriptor.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from agent import graft, kernel

NAMESPACES: Final = ("cgroup", "ipc", "uts", "net", "pid", "mnt")
"""In this order: the mount namespace last, since the others are found under /proc."""
EXIT_GRAFT: Final = 3
EXIT_ENTER: Final = 4

Json = dict[str, Any]


def main(argv: list[str]) -> int:
    """Run one errand; the exit code is criu's, or one of the EXIT constants."""
    with open(argv[1], encoding="utf-8") as order:  # noqa: PTH123 - fewest modules, before entering
        errand: Json = json.load(order)
    report = os.fdopen(errand["report"], "w", buffering=1)
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != errand["parent"]:
        return EXIT_ENTER  # the agent died before the line above
    try:
        tree = kernel.open_tree(errand["criu"]["tree"]) if errand.get("criu") else -1
        _join_cgroups(errand["cgroups"])
        _join_namespaces(errand["pid"])
        _forget_imports()
        for step in errand["grafts"]:
            with _timed(report, step["what"]):
                _graft(step)
    except Exception as error:  # noqa: BLE001 - the report is the only way out: a traceback would read the container's files
        print(json.dumps({"error": str(error) or type(error).__name__}), file=report)
        return EXIT_GRAFT
    if tree < 0:
        return 0
    with _timed(report, "criu"):
        return _run_criu(tree, errand["criu"])


@contextmanager
def _timed(report: IO[str], what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    print(json.dumps({"step": what, "seconds": round(time.monotonic() - start, 4)}), file=report)


def _join_cgroups(files: list[str]) -> None:
    for file in files:
        with open(file, "wb", buffering=0) as procs:  # noqa: PTH123 - fewest modules, before entering
            procs.write(b"0")


def _join_namespaces(pid: int) -> None:
    wanted = []
    for name in NAMESPACES:
        try:
            wanted.append(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            if name != "cgroup":  # the only one that a kernel may lack
                raise
    for namespace in wanted:
        kernel.setns(namespace)
        os.close(namespace)
    os.chdir("/")


def _forget_imports() -> None:
    """From here on an import would read the container's files."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()


def _graft(step: Json) -> None:
    root = os.open(step["root"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if "size" in step:
            kernel.resize_tmpfs(step["root"], step["size"])
            return
        with open(step["tar"], "rb", closefd=False) as archive:
            if "undo_tar" in step:
                _journal(root, archive, step)
            archive.seek(0)
            graft.apply(root, archive, step["gone"], step["emptied"])
    finally:
        os.close(root)


def _journal(root: int, archive: IO[bytes], step: Json) -> None:
    """Everything that undo needs is on disk before the first change."""
    with open(step["undo_tar"], "wb", closefd=False) as saved:
        created = graft.inverse(root, archive, step["gone"], step["emptied"], saved)
        saved.flush()
        os.fsync(saved.fileno())
    os.write(step["undo_list"], json.dumps({"root": step["root"], "gone": created}).encode())
    os.fsync(step["undo_list"])


def _run_criu(tree: int, criu: Json) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _become_criu(tree, criu)
        finally:
            os._exit(EXIT_ENTER)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _become_criu(tree: int, criu: Json) -> None:
    """In the child, which alone is in the container's pid namespace."""
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != 0:  # seen from inside, a helper that lives outside is 0, and a dead one has left us to pid 1
        return
    base = f"/proc/self/fd/{tree}"
    loader = f"{base}/lib/ld.so"
    _same_file(tree, "lib/ld.so", loader)
    _same_file(tree, "bin/criu", f"{base}/bin/criu")
    preload = ["--preload", f"{base}/lib/limits.so"] if os.path.exists(f"{base}/lib/limits.so") else []  # noqa: PTH110 - fewest modules, before entering
    for fd in (tree, *criu["keep"]):
        os.set_inheritable(fd, True)
    argv = ["criu", "--library-path", f"{base}/lib", *preload, f"{base}/bin/criu", *criu["argv"]]
    os.execve(loader, argv, {"PATH": f"{base}/bin"})  # noqa: S606 - no shell is wanted


def _same_file(tree: int, name: str, path: str) -> None:
    """What the container shows under /proc must be the very file we mean."""
    fd = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=tree)
    ours, shown = os.fstat(fd), os.stat(path)  # noqa: PTH116 - fewest modules, before entering
    os.close(fd)
    if (ours.st_dev, ours.st_ino) != (shown.st_dev, shown.st_ino):
        raise OSError(f"{path} is not ours: the container hides its /proc")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
