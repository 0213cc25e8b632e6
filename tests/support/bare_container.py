"""A container without a container runtime: namespaces, an overlay root, cgroups, and volumes where kubelet has them.

What the agent reads of a node (process, cgroup and mount tables, the kubelet's folder, the layers) is the real thing.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from contract.api import control_files, keys
from images.cache import Cache, default_root
from images.steps import Steps

PROJECT = Path(__file__).parents[2]
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("pids", "memory")
ENTER_ROOT = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$LAYERS/upper,workdir=$LAYERS/work" "$LAYERS/root"
cd "$LAYERS/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o "size=$SHM" shm dev/shm
mkdir -p snapshot-control checkpoints old scratch tools
mount --bind "$VOLUMES/snapshot-control/main" snapshot-control
mount --bind "$VOLUMES/scratch" scratch
mount --bind "$STORE" checkpoints
mount --bind "$TOOLS" tools
pivot_root . old
cd /
umount -l /old
rmdir /old
ip link set lo up
exec 0</dev/null
exec setpriv --reuid "$RUN_AS" --regid "$RUN_AS" --clear-groups /tools/snapshot-standby "$@"
"""


def wait_for(condition, what, seconds=60.0):
    """Polls until the condition gives something true, and returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if value := condition():
                return value
        time.sleep(0.005)
    raise AssertionError(f"{what}: not within {seconds} s")


@contextlib.contextmanager
def node_folder() -> Iterator[Path]:
    """A folder in memory that every user may enter, on a file system of its own: layers must not lie in their lower."""
    with tempfile.TemporaryDirectory(prefix="node-", dir="/dev/shm") as directory:
        path = Path(directory)
        path.chmod(0o755)
        for name in ("pods", "store", "tools", "work", "lower"):
            (path / name).mkdir()
        (path / "store").chmod(0o777)
        yield path
    for controller in CONTROLLERS:
        with contextlib.suppress(OSError):  # never made, or somebody else's
            (CGROUPS / controller / "kubepods").rmdir()


def unpack_tools(node: Path) -> Path:
    """Standby into the node's tools, criu beside them; returns criu's folder."""
    steps = Steps(PROJECT, Cache(default_root()), print)
    for layer, target in ((steps.criu(), node / "criu"), (steps.tools(), node / "unpacked")):
        with tarfile.open(layer.path) as tar:
            tar.extractall(target, filter="fully_trusted")
    shutil.copy(node / "unpacked/opt/dynamo-snapshot/bin/snapshot-standby", node / "tools/snapshot-standby")
    shutil.copytree(PROJECT / "sdk/snapshot_sdk", node / "tools/snapshot_sdk")
    return node / "criu/opt/criu"


class BareContainer:
    """A pod with one container, ``main``, whose first process is standby."""

    def __init__(self, node: Path, *arguments: str, user: int = 0, shm: str = "64m", env: dict[str, str] | None = None):
        self.pod_uid = str(uuid.uuid4())
        self.container_id = secrets.token_hex(32)
        self.layers = Path(tempfile.mkdtemp(dir=node, prefix="layers-"))
        self.layers.chmod(0o755)
        self.volumes = node / "pods" / self.pod_uid / "volumes" / "kubernetes.io~empty-dir"
        self.control = self.volumes / keys.CONTROL_VOLUME / "main"
        for path in (self.control, self.volumes / "scratch", *(self.layers / n for n in ("upper", "work", "root"))):
            path.mkdir(parents=True)
        self.control.chmod(0o777)
        (self.volumes / "scratch").chmod(0o777)
        self.cgroups = [CGROUPS / c / "kubepods" / f"pod{self.pod_uid}" / self.container_id for c in CONTROLLERS]
        for cgroup in self.cgroups:
            cgroup.mkdir(parents=True)
        settings = {
            "PATH": os.environ["PATH"], "LAYERS": self.layers, "VOLUMES": self.volumes, "STORE": node / "store",
            "TOOLS": node / "tools", "LOWER": "/", "SHM": shm, "RUN_AS": user, keys.ENV_CONTROL_DIR: keys.CONTROL_DIR,
            keys.ENV_STANDBY_ID: "abc",
        }  # fmt: skip
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        self._said = b""
        self.process = subprocess.Popen(
            ["unshare", "--pid", "--net", "--ipc", "--uts", "--mount", "--fork", "--kill-child",
             "sh", "-c", ENTER_ROOT, "sh", *arguments],
            env={key: str(value) for key, value in (settings | (env or {})).items()},
            stdin=subprocess.DEVNULL, stdout=write, stderr=write,
            preexec_fn=self._join,  # noqa: PLW1509 - one thread
        )  # fmt: skip
        os.close(write)

    def _join(self) -> None:
        for cgroup in self.cgroups:
            (cgroup / "cgroup.procs").write_text("0")

    def text(self) -> str:
        """What the container has printed so far."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._read, 65536):
                self._said += part
        return self._said.decode()

    def says(self, words: str) -> str:
        try:
            return wait_for(lambda: words in self.text() and self.text(), repr(words))
        except AssertionError as error:
            raise AssertionError(f"{error}; the log says:\n{self.text()}") from None

    def init(self) -> int:
        """Host pid of standby, once it has made its claim."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        claim = self.control / control_files.CLAIM
        wait_for(lambda: re.match(r"[0-9a-f]{32}\n", claim.read_text()), "claim")
        return int(children.read_text().split()[0])

    def claimed(self) -> bool:
        """Whether an agent holds it; asked as standby asks, with the lock taken shared for a moment."""
        with (self.control / control_files.CLAIM).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def get(self, path: str = "/") -> str:
        """GET from the worker's port 8000, from inside the container's network."""
        argv = [
            "nsenter",
            "-t",
            str(self.init()),
            "-n",
            "curl",
            "-sf",
            "--max-time",
            "5",
            f"http://127.0.0.1:8000{path}",
        ]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the container, as an exec probe would."""
        argv = ["nsenter", "-t", str(self.init()), "-m", "-n", "-p", "-i", "-u", "sh", "-c", script]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def upper(self) -> list[str]:
        """Files in the container's upper layer, without those that starting it made."""
        top = self.layers / "upper"
        made = ("snapshot-control", "checkpoints", "scratch", "tools")
        found = (str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())
        return sorted(path for path in found if path not in made)

    def children(self) -> list[int]:
        init = self.init()
        return [int(pid) for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split()]

    def code(self) -> int:
        return self.process.wait(30)

    def close(self) -> None:
        # Its first process first: the tie to unshare is cut where it becomes another user.
        for pid in (self.cgroups[0] / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        os.close(self._read)
        for cgroup in self.cgroups:
            wait_for(lambda c=cgroup: not (c / "cgroup.procs").read_text(), "cgroup empty")
            cgroup.rmdir()
            cgroup.parent.rmdir()
        shutil.rmtree(self.layers)


WORKER = """
import ctypes, hashlib, http.server, mmap, os, secrets, socket, subprocess, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk
token = secrets.token_hex(8)
data = secrets.token_bytes(int(sys.argv[1]) << 20)
log = open("/var/tmp/worker.log", "w")
log.write("before\\n"); log.flush()
if os.getuid() == 0:
    os.unlink("/etc/issue.net")
shared = os.open("/dev/shm/segment", os.O_RDWR | os.O_CREAT)
os.ftruncate(shared, 4096)
segment = mmap.mmap(shared, 4096)
segment[:8] = b"segment!"
scratch = open("/scratch/state", "w+")
scratch.write("scratch!"); scratch.flush()
listener = socket.socket(socket.AF_UNIX)
listener.bind("/var/tmp/worker.sock")
listener.listen()
child = subprocess.Popen([sys.executable, "-c", "import time\\nwhile True: time.sleep(0.2)"])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        log.write("served\\n"); log.flush()
        scratch.seek(0)
        words = [token, hashlib.sha256(data).hexdigest(), os.getpid(), child.pid, child.poll(),
                 bytes(segment[:8]).decode(), scratch.read(), open("/var/tmp/worker.log").readline().strip()]
        body = " ".join(map(str, words)).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        print("served by", os.getpid(), flush=True)

server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("warm", flush=True)
print("outcome", snapshot_sdk.quiesce().name, flush=True)
threading.Event().wait()
"""
# A Python that every user may run: that of a virtual environment often lies in somebody's home.
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
WORKER_COMMAND = (PYTHON, "-c", WORKER)
