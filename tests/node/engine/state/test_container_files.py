"""What a container holds is never loaded, run or read as configuration by criu and what starts it."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from contract.api import control_files, keys
from tests.support import opens, trap
from tests.support.fixtures.bare_container import BareContainer, wait_for
from tests.support.fixtures.engine import Node, until_ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

LIBRARIES = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib", "/usr/lib64")
HELPERS = ("tar", "ip", "nft", "iptables", "iptables-restore", "ip6tables-restore", "apparmor_parser", "criu")
CLOCK_NANOSLEEP = 230
SPRUNG = "#!/bin/sh\necho helper >> /sprung\n"
TEXTS = {
    "/etc/ld.so.preload": "/trap.so\n",
    "/etc/criu/default.conf": "action-script /trap.sh\n",
    "/.criu/default.conf": "action-script /trap.sh\n",
    "/root/.criu/default.conf": "action-script /trap.sh\n",
    "/etc/nsswitch.conf": "passwd: trap\ngroup: trap\nhosts: trap\nservices: trap\n",
    "/etc/gnutls/config": "[global]\noverride-mode = trap\n",
    "/etc/pkcs11/modules/trap.module": "module: /trap.so\n",
    "/etc/ssl/openssl.cnf": "openssl_conf = trap\n[trap]\nengines = e\n[e]\nx = y\n[y]\ndynamic_path = /trap.so\n",
    "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules": "module TRAP// INTERNAL /trap 1\n",
    "/run/criu.kdat": "no such kernel",
    "/etc/iproute2/rt_marks": "0x1 trap\n",
}
"""What would lead somebody to the library or the script, or astray, by path."""

# What criu opens by name inside a container's mount namespace: the kernel's own tables, the ways into the tree that is
# dumped or restored, and files of its work and image folders, which it names by descriptor.
KERNEL = r"/|\.|//\.|/proc(/.*)?|/sys/fs/cgroup(/.*)?|/dev/net/tun"
OURS = r"(dump|restore)\.log|stats-(dump|restore)|irmap-cache"
IMAGES = r"//[a-z0-9-]+\.img"
"""In the folder of images that a restore has, which has no path: by its descriptor, not in the container's root."""

WOKEN = f"{keys.CONTROL_DIR}/{control_files.RESTORE_COMPLETE}"
"""Read by the worker, once it runs again."""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """A shared object that leaves a mark when it is loaded."""
    return trap.build(tmp_path_factory.mktemp("trap"))


def set_traps(container: BareContainer, library: Path, criu: Path, workers: set[str]) -> None:
    """Behind every path, but for the files that the worker has mapped itself."""
    root = Path(f"/proc/{container.init()}/root")
    shutil.copy(library, root / "trap.so")
    named = [found.name for found in (criu / "lib").iterdir()] + ["libnss_trap.so.2", "libgcc_s.so.1", "trap.so"]
    in_use = {Path(name).name for name in workers}
    folders = [*LIBRARIES, "/usr/lib/criu", "/usr/libexec/criu", "/usr/lib/x86_64-linux-gnu/gconv"]
    for name in {*named} - in_use:
        for place in folders:
            put(root, f"{place}/{name}", library.read_bytes())
    for helper in HELPERS:
        for place in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"):
            put(root, f"{place}/{helper}", SPRUNG.encode(), 0o755)
    put(root, "/trap.sh", SPRUNG.encode(), 0o755)
    for path, text in TEXTS.items():
        put(root, path, text.encode())


def put(root: Path, path: str, content: bytes, mode: int = 0o644) -> None:
    """Write a file of the container; links of the image (``/lib``) are those of this machine, and lead to the same."""
    target = root / str(Path(path).parent.resolve() / Path(path).name).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(content)
    target.chmod(mode)


def mapped(container: BareContainer) -> set[str]:
    """Files that standby and the processes below it have mapped or open."""
    found = set()
    for pid in tree(container.init()):
        found |= set(re.findall(r" (/\S+)$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE))
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.add(str(fd.readlink()))
    return found


def settled(container: BareContainer) -> bool:
    """Whether the worker's child has been loaded and sleeps: its loader reads the container's files, as it must."""
    child = tree(container.init())[-1]
    return Path(f"/proc/{child}/syscall").read_text().startswith(f"{CLOCK_NANOSLEEP} ")


def tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in tree(int(child)))]


def unsprung(container: BareContainer) -> bool:
    return "sprung" not in container.upper()


async def test_traps_behind_every_path(node, folder, library):
    """One trap sprung would have had all rights of the node."""
    source = node.start("--capture")
    until_ready(source)
    wait_for(lambda: settled(source), "the child sleeps")
    workers = mapped(source)
    set_traps(source, library, folder[1], workers)
    outcome = await node.capture(source, "trapped")
    assert outcome.ok, outcome
    assert unsprung(source)
    target = node.start()
    set_traps(target, library, folder[1], workers)
    outcome = await node.restore(target, "trapped", outcome.manifest_digest)
    assert outcome.ok, outcome
    target.says("outcome RESTORED")
    assert unsprung(target)


def test_the_traps_work(node, folder, library):
    """A loader that is started inside the container, as criu's once was, loads the library."""
    container = node.start("--capture")
    container.says("warm")
    set_traps(container, library, folder[1], mapped(container))
    folder_of_criu = os.open(folder[1], os.O_PATH)
    here = f"/proc/self/fd/{folder_of_criu}"
    inside = ["nsenter", "-t", str(container.init()), "-m", "-p"]
    criu = [f"{here}/lib/ld.so", "--library-path", f"{here}/lib", f"{here}/bin/criu", "--version"]
    try:
        subprocess.run([*inside, *criu], check=True, capture_output=True, pass_fds=[folder_of_criu])
    finally:
        os.close(folder_of_criu)
    assert not unsprung(container)


def test_every_call_is_on_the_list(node, folder):
    """Every open, exec and executable mapping within both containers is on the closed list."""
    source = node.start("--capture")
    until_ready(source)
    target = node.start()
    workers = mapped(source)
    spaces = {c: Path(f"/proc/{c.init()}/ns/mnt").stat().st_ino for c in (source, target)}
    calls = traced(folder, source, target)
    # The source's proof maps what the worker had mapped, as a restore does.
    assert [] == unexpected(calls.within(spaces[source]), workers, node.store)
    assert [] == unexpected(calls.within(spaces[target]), workers, node.store)
    assert calls.within(spaces[source])
    assert calls.within(spaces[target])
    loaded = {Path(call.path).name for call in calls.seen if call.what.startswith("exec")}
    assert {"ld.so", Path(sys.executable).name} == loaded
    target.says("outcome RESTORED")


def unexpected(seen: set[tuple[str, str]], workers: set[str], store: Path) -> list[tuple[str, str]]:
    """What is on no list: criu's own, or the worker's files, which a restore opens and maps again for the worker."""
    allowed = re.compile(f"(?:{KERNEL}|{OURS}|{IMAGES}|{re.escape(str(store))}/.*)")
    workers = workers | {WOKEN}
    files = workers | {f"//{name.lstrip('/')}" for name in workers}
    return sorted(
        (what, path)
        for what, path in seen
        if path not in files and not (what.startswith("open") and allowed.fullmatch(path))
    )


def traced(folder, source: BareContainer, target: BareContainer) -> opens.Calls:
    """Capture and restore by an engine in a process of its own, whose calls are watched."""
    command = [sys.executable, __file__, *map(str, folder), source.pod_uid, target.pod_uid]
    paths = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"]}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=paths)
    listener = int(process.stdout.readline())
    with opens.watching(process.pid, listener) as calls:
        said, _ = process.communicate("go\n", timeout=60)
        assert [[True, ""]] * 2 == [json.loads(line) for line in said.splitlines()]
        target.says("outcome RESTORED")
    return calls


def engine(path: str, criu: str, source: str, target: str) -> None:
    """The traced process."""
    listener = opens.filter_self()
    say(listener)
    sys.stdin.readline()

    async def story() -> None:
        node = Node(Path(path), Path(criu))
        capture = await node.capture(known(node, source), "traced")
        say([capture.ok, capture.message])
        restore = await node.restore(known(node, target), "traced", capture.manifest_digest)
        say([restore.ok, restore.message])

    asyncio.run(story())


def say(what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def known(node: Node, pod_uid: str) -> SimpleNamespace:
    """A container that another process has started."""
    return SimpleNamespace(pod_uid=pod_uid, volumes=node.folder / "pods" / pod_uid / "volumes/kubernetes.io~empty-dir")


if __name__ == "__main__":
    engine(*sys.argv[1:])
