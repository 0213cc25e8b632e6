"""Runs inside a container's namespaces: grafts files, then starts criu; a subprocess of its own for every attempt.

No file of the container is ever executed or imported: criu, its loader and its libraries come from a detached copy of
the agent's own folder, reachable by descriptor alone, and every Python module is loaded before the first ``setns``.
The process, and criu with it, dies with the agent.
It is in the way of every restore and loads little: an interpreter and this file take 15 ms, the usual modules 30 more.

``python -m agent.enter FILE``: the file holds the order, marshalled; each step is reported by one marshalled pair.
"""

from __future__ import annotations

import marshal
import os
import sys
import time

from agent import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMESPACES = ("cgroup", "ipc", "uts", "net", "pid", "mnt")
"""In this order: the mount namespace last, since the others are found under /proc."""
EXIT_GRAFT = 3
EXIT_ENTER = 4
ERROR = "error"
"""First of the pair that says why criu was not started."""
_SIGKILL = 9


def main(argv: list[str]) -> int:
    """Run one errand; the exit code is criu's, or one of the EXIT constants."""
    with open(argv[1], "rb") as order:  # noqa: PTH123 - fewest modules
        errand = marshal.load(order)  # noqa: S302 - written by the agent, where only root can
    kernel.die_with_parent(_SIGKILL)
    if os.getppid() != errand["parent"]:
        return EXIT_ENTER  # the agent died before the line above
    try:
        tree = kernel.open_tree(errand["criu"]["tree"]) if errand["criu"] else -1
        grafter = _load_grafter(errand["grafts"])
        _join_cgroups(errand["cgroups"])
        _join_namespaces(errand["pid"])
        _forget_imports()
        for step in errand["grafts"]:
            start = time.monotonic()
            _graft(grafter, step)
            _report(errand["report"], step["what"], time.monotonic() - start)
    except Exception as error:  # noqa: BLE001 - the report is the only way out: a traceback would read the container
        _report(errand["report"], ERROR, str(error) or type(error).__name__)
        return EXIT_GRAFT
    if tree < 0:
        return 0
    start = time.monotonic()
    code = _run_criu(tree, errand["criu"])
    _report(errand["report"], "criu", time.monotonic() - start)
    return code


def _report(fd: int, what: str, value: float | str) -> None:
    os.write(fd, marshal.dumps((what, value)))


def _load_grafter(steps: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - a module, or None
    """The module that changes files, where any are to be changed: it loads many others."""
    if not any("tar" in step for step in steps):
        return None
    from agent import graft  # noqa: PLC0415 - see above

    return graft


def _join_cgroups(files: list[str]) -> None:
    for file in files:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)


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


def _graft(grafter: Any, step: dict[str, Any]) -> None:  # noqa: ANN401 - a module
    if "size" in step:
        kernel.resize_tmpfs(step["root"], step["size"])
        return
    root = os.open(step["root"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        grafter.change(root, step)
    finally:
        os.close(root)


def _run_criu(tree: int, criu: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _become_criu(tree, criu)
        finally:
            os._exit(EXIT_ENTER)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _become_criu(tree: int, criu: dict[str, Any]) -> None:
    """In the child, which alone is in the container's pid namespace."""
    kernel.die_with_parent(_SIGKILL)
    if os.getppid() != 0:  # seen from inside, a helper that lives outside is 0, and a dead one has left us to pid 1
        return
    base = f"/proc/self/fd/{tree}"
    loader = f"{base}/lib/ld.so"
    _same_file(tree, "lib/ld.so", loader)
    _same_file(tree, "bin/criu", f"{base}/bin/criu")
    preload = f"{base}/lib/preload.so"
    first = ["--preload", preload] if os.path.exists(preload) else []  # noqa: PTH110 - fewest modules
    for fd in (tree, *criu["keep"]):
        os.set_inheritable(fd, True)
    argv = ["criu", "--library-path", f"{base}/lib", *first, f"{base}/bin/criu", *criu["argv"]]
    os.execve(loader, argv, {"PATH": f"{base}/bin"})  # noqa: S606 - no shell is wanted


def _same_file(tree: int, name: str, path: str) -> None:
    """What the container shows under /proc must be the very file we mean."""
    fd = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=tree)
    ours, shown = os.fstat(fd), os.stat(path)  # noqa: PTH116 - fewest modules
    os.close(fd)
    if (ours.st_dev, ours.st_ino) != (shown.st_dev, shown.st_ino):
        raise OSError(f"{path} is not ours: the container hides its /proc")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
