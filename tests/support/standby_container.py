"""Standby, compiled, as the first process of a pid namespace; a test plays kubelet and agent."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from contract.api import control_files, keys
from images.native import STANDBY_SOURCES

SOURCES = [Path(__file__).parents[2] / "native" / "standby" / name for name in STANDBY_SOURCES]
SAY_AND_STAY = "echo worker $$; env | sort; trap 'exit 7' TERM; while :; do read -t 1 x < /dev/zero || :; done"
SH = ("--", "bash", "-c")


def compiled(room: Path) -> Path:
    """The program, in a tool folder of *room*."""
    binary = room / "tools" / "bin" / "snapshot-standby"
    binary.parent.mkdir(parents=True)
    compiler = (
        ["gcc"] if shutil.which("gcc") else [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl"]
    )
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Os", "-static"]
    subprocess.run([*compiler, *flags, "-o", binary, *SOURCES], check=True)
    return binary


def wait_for(condition, what, seconds=60.0):
    """Polls until the condition gives something true, and returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError(f"{what}: not within {seconds} s")


def runs_below(parent: int, program: str) -> bool:
    """Whether a child of the process runs the program."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        lines = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    except OSError:
        return False
    return any(line.split(b"\0")[0].endswith(program.encode()) for line in lines)


class Container:
    """A pid namespace whose first process is standby, its control directory, and an agent's hand on its claim."""

    def __init__(self, standby: Path, control_dir: Path, *arguments: str, env=None, user: int | None = None):
        self.dir = control_dir
        self.log = control_dir.parent / "log"
        as_user = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        base = {"PATH": os.environ["PATH"], keys.ENV_CONTROL_DIR: str(control_dir), keys.ENV_STANDBY_ID: "abc"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *as_user, standby, *arguments],
                env=base | (env or {}), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.lock: int | None = None
        self.entered: list[subprocess.Popen] = []

    def text(self) -> str:
        return self.log.read_text()

    def says(self, words: str) -> str:
        return wait_for(lambda: words in self.text() and self.text(), f"log line {words!r}")

    def nonce(self) -> str:
        def fresh():
            with contextlib.suppress(FileNotFoundError):
                return re.match(r"([0-9a-f]{32})\n", (self.dir / control_files.CLAIM).read_text())
            return None

        return wait_for(fresh, "claim")[1]

    def claim(self, allowed: int = 60) -> str:
        nonce = self.nonce()
        self.take()
        os.write(self.lock, f"{allowed}\n".encode())
        return nonce

    def take(self) -> None:
        """Hold the container, and say nothing of how long."""
        self.lock = os.open(self.dir / control_files.CLAIM, os.O_RDWR | os.O_APPEND)
        wait_for(self._take, "claim lock")

    def _take(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def release(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def verdict(self, line: str) -> None:
        temporary = self.dir / ".verdict"
        temporary.write_text(line + "\n")
        temporary.rename(self.dir / control_files.VERDICT)

    def init(self) -> int:
        """Host pid of the namespace's first process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(wait_for(lambda: children.read_text().split(), "first process")[0])

    def children(self) -> list[int]:
        init = self.init()
        return [int(pid) for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split()]

    def enter(self, *argv: str) -> None:
        """Starts a process in the namespace, as an exec probe or a restore does."""
        self.nonce()
        nsenter = ["nsenter", "-t", str(self.init()), "-p", "-m", "--"]
        process = subprocess.Popen([*nsenter, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.entered.append(process)
        # Only once it is inside: standby takes whatever comes after its decision for a probe.
        wait_for(lambda: process.poll() is not None or runs_below(process.pid, argv[0]), f"{argv[0]} inside")

    def code(self) -> int:
        return self.process.wait(30)

    def close(self) -> None:
        self.release()
        self.process.kill()
        for process in [self.process, *self.entered]:
            process.wait()


@contextlib.contextmanager
def containers(standby: Path, room: Path) -> Iterator[Callable[..., Container]]:
    """Makes containers, and ends them all."""
    made = []

    def make(*arguments, **options):
        own = Path(tempfile.mkdtemp(dir=room))
        own.chmod(0o755)
        control_dir = own / "main"
        control_dir.mkdir()
        control_dir.chmod(0o777)
        prepare = options.pop("prepare", None)
        if prepare:
            prepare(control_dir)
        made.append(Container(standby, control_dir, *arguments, **options))
        return made[-1]

    yield make
    for container in made:
        container.close()
