"""The standby protocol, spoken by the compiled program in a pid namespace; the test plays kubelet and agent."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from contract import control, keys
from images.native import STANDBY_SOURCES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces")

SOURCES = [Path(__file__).parents[2] / "standby" / name for name in STANDBY_SOURCES]
SAY_AND_STAY = "echo worker $$; env | sort; trap 'exit 7' TERM; while :; do read -t 1 x < /dev/zero || :; done"


@pytest.fixture(scope="session")
def room() -> Iterator[Path]:
    """A directory that other users reach too; pytest's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="standby-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="session")
def standby(room: Path) -> Path:
    binary = room / "tools" / "bin" / "snapshot-standby"
    binary.parent.mkdir(parents=True)
    compiler = (
        ["gcc"] if shutil.which("gcc") else [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl"]
    )
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Os", "-static"]
    subprocess.run([*compiler, *flags, "-o", binary, *SOURCES], check=True)
    return binary


def wait_for(condition, what, seconds=20.0):
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
                return re.match(r"([0-9a-f]{32})\n", (self.dir / control.CLAIM).read_text())
            return None

        return wait_for(fresh, "claim")[1]

    def claim(self, allowed: int = 60) -> str:
        nonce = self.nonce()
        self.take()
        os.write(self.lock, f"{allowed}\n".encode())
        return nonce

    def take(self) -> None:
        """Hold the container, and say nothing of how long."""
        self.lock = os.open(self.dir / control.CLAIM, os.O_RDWR | os.O_APPEND)
        wait_for(self._take, "claim lock", 1)

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
        temporary.rename(self.dir / control.VERDICT)

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


@pytest.fixture
def start(standby, room) -> Iterator[Callable[..., Container]]:
    with containers(standby, room) as make:
        yield make


SH = ("--", "bash", "-c")


def agent_dies_after_its_claim(start) -> tuple[int, float, str]:
    container = start(*SH, "echo worker")
    container.claim()
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 5.2, "claim window over")
    container.release()
    return container.code(), time.monotonic() - began, container.text()


def agent_dies_within_the_claim_window(start) -> tuple[int, float, str]:
    """It had begun, so another one gets its time: there may be something to take back."""
    container = start(*SH, "echo worker")
    container.claim()
    began = time.monotonic()
    container.release()
    return container.code(), time.monotonic() - began, container.text()


def restore_takes_longer_than_allowed(start) -> tuple[int, float, str]:
    container = start(*SH, "echo worker")
    container.claim(allowed=1)
    began = time.monotonic()
    return container.code(), time.monotonic() - began, container.text()


def claim_waits_long_for_its_turn(start) -> tuple[int, float, str]:
    """The allowed seconds count from when the agent writes them, long after it has taken the container."""
    container = start(*SH, "echo worker")
    nonce = container.nonce()
    container.take()
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 17, "a long queue")
    os.write(container.lock, b"1\n")
    wait_for(lambda: time.monotonic() - began > 19, "more than was allowed")
    assert container.process.poll() is None
    container.verdict(f"failed {nonce} clean my turn")
    return container.code(), time.monotonic() - began, container.text()


SLOW = (
    agent_dies_after_its_claim,
    agent_dies_within_the_claim_window,
    restore_takes_longer_than_allowed,
    claim_waits_long_for_its_turn,
)


@pytest.fixture(scope="module", autouse=True)
def slow(standby, room) -> Iterator[dict[Callable[..., object], Future]]:
    """What waits for standby's longest windows is played at the same time, beside the other tests."""
    with containers(standby, room) as make, ThreadPoolExecutor(len(SLOW)) as threads:
        yield {scenario: threads.submit(scenario, make) for scenario in SLOW}


class TestColdStart:
    def test_nobody_claims(self, start):
        """After the claim window the original command is pid 1, the gate is open, and nothing of ours is in its env."""
        container = start(
            *SH, SAY_AND_STAY, env={keys.ENV_CHECKPOINT_PATH: "x", keys.ENV_CONTROL_DIR_NEW: "y", "KEPT": "1"}
        )
        began = time.monotonic()
        text = container.says("KEPT=1")
        assert 4.9 < time.monotonic() - began < 6.5
        expected = control.LOG_COLD_START.format(reason="no agent claimed this container within 5 s")
        assert expected == text.splitlines()[0]
        assert "worker 1\n" in text
        assert "SNAPSHOT_CONTROL_DIR" not in text
        assert "DYN_" not in text
        assert (container.dir / control.RESTORE_COMPLETE).read_text() == control.COLD_START
        assert (container.dir / control.RESTORE_COMPLETE).stat().st_mode & 0o777 == 0o644

    def test_stale_files_are_removed_first(self, start):
        def leave(directory):
            for name in control.STALE_AT_START:
                (directory / name).write_text("restored 00 5\n")

        container = start(*SH, "echo worker", prepare=leave)
        assert len(container.nonce()) == 32
        left = sorted(path.name for path in container.dir.iterdir())
        assert left == [control.CLAIM]

    @pytest.mark.parametrize(
        ("policy", "code", "words"),
        [
            pytest.param({}, 0, "SNAPSHOT_COLD_START: Falling back to cold start: criu said no\nworker\n", id="cold"),
            pytest.param(
                {keys.ENV_STANDBY_POLICY: keys.POLICY_REQUIRE}, control.EXIT_REQUIRED, "criu said no", id="require"
            ),
        ],
    )
    def test_failed_verdict(self, start, policy, code, words):
        container = start(*SH, "echo worker", env=policy)
        nonce = container.claim()
        container.verdict(f"failed {nonce} clean criu said no")
        container.release()
        assert code == container.code()
        assert words in container.text()
        assert (code == 0) == ("\nworker" in container.text())

    @pytest.mark.parametrize(
        ("restart_policy", "code"),
        [
            pytest.param("Always", control.EXIT_RESTART_ME, id="kubelet-restarts"),
            pytest.param("Never", 0, id="in-place-because-never"),
        ],
    )
    @pytest.mark.parametrize("said", ["dirty", "clean"])
    def test_dirty_files(self, start, restart_policy, code, said):
        """Dirty by verdict, or by the mark that an agent left: either is enough."""
        container = start(*SH, "echo worker", env={keys.ENV_STANDBY_RESTART_POLICY: restart_policy})
        nonce = container.claim()
        if said == "clean":
            (container.dir / control.DIRTY).write_text("")
        container.verdict(f"failed {nonce} {said} half restored")
        container.release()
        assert code == container.code()
        assert "half restored" in container.text()
        assert (code == 0) == ("restartPolicy Never" in container.text())

    def test_foreign_nonce_is_ignored(self, start):
        container = start(*SH, "echo worker")
        container.nonce()
        container.verdict(f"restored {'0' * 32} 1001")
        assert container.code() == 0
        assert "no agent claimed" in container.text()

    def test_another_agent_takes_over(self, start):
        container = start(*SH, "echo worker")
        container.claim()
        container.release()
        wait_for(lambda: container.process.poll() is None, "alive")
        nonce = container.claim()
        container.verdict(f"failed {nonce} clean second agent gave up")
        assert container.code() == 0
        assert "second agent gave up" in container.text()

    def test_foreign_process_is_ended(self, start):
        container = start(*SH, "echo worker")
        nonce = container.claim()
        container.enter("sleep", "60")
        container.verdict(f"failed {nonce} clean no")
        container.release()
        assert container.code() == 0

    def test_foreign_process_of_root_survives_so_kubelet_restarts(self, start):
        container = start(*SH, "echo worker", user=1000)
        nonce = container.claim()
        container.enter("sleep", "60")
        container.verdict(f"failed {nonce} clean no")
        container.release()
        assert container.code() == control.EXIT_RESTART_ME

    def test_without_control_directory(self, start):
        container = start(*SH, "echo worker", env={keys.ENV_CONTROL_DIR: "/nonexistent"})
        assert container.code() == 0
        assert "control directory /nonexistent" in container.text()

    @pytest.mark.parametrize(
        ("command", "code"),
        [pytest.param("/nonexistent", 127, id="missing"), pytest.param("/etc/passwd", 126, id="not-executable")],
    )
    def test_command_that_cannot_run(self, start, command, code):
        container = start("--", command, env={keys.ENV_CONTROL_DIR: "/nonexistent"})
        assert code == container.code()
        assert f"cannot execute {command}" in container.text()

    def test_sigterm_while_waiting_ends_the_container(self, start):
        container = start(*SH, "echo worker")
        container.nonce()
        os.kill(container.init(), signal.SIGTERM)
        assert container.code() == 128 + signal.SIGTERM

    def test_signal_mask_is_given_back(self, start):
        container = start(*SH, "grep SigBlk /proc/self/status", env={keys.ENV_CONTROL_DIR: "/nonexistent"})
        assert container.code() == 0
        assert "SigBlk:\t0000000000000000" in container.text()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param([], control.EXIT_REQUIRED, id="nothing"),
        pytest.param(["--"], control.EXIT_REQUIRED, id="no-command"),
        pytest.param(["--what", "--", "true"], control.EXIT_REQUIRED, id="unknown-option"),
        pytest.param(["--image-entrypoint", "--"], control.EXIT_REQUIRED, id="no-recorded-entrypoint"),
        pytest.param(["--install"], control.EXIT_REQUIRED, id="install-nowhere"),
    ],
)
def test_bad_command_line(start, arguments, code):
    container = start(*arguments)
    assert code == container.code()
    assert container.text().startswith(("usage: ", "snapshot-standby: the image records no entrypoint"))


class TestInstall:
    """The tool folder into a pod's emptyDir, as an init container of any user does it."""

    @pytest.fixture
    def tools(self, standby: Path) -> Iterator[Path]:
        """The folder that standby lies in, with something else beside it."""
        folder = standby.parents[1]
        (folder / "record").write_text("python3\0")
        (folder / "record").chmod(0o600)
        yield folder
        (folder / "record").unlink()

    def install(self, standby: Path, target: Path, *, user: int = 1000) -> subprocess.CompletedProcess:
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        return subprocess.run(
            [*as_user, "sh", "-c", 'umask 077; exec "$@"', "sh", standby, "--install", target],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    @pytest.fixture
    def target(self, room: Path) -> Path:
        """A volume that everybody may write, as an emptyDir is."""
        folder = Path(tempfile.mkdtemp(dir=room))
        folder.chmod(0o777)
        return folder

    @pytest.mark.parametrize("times", [pytest.param(1, id="once"), pytest.param(2, id="again")])
    def test_everybody_may_read_and_run_what_is_installed(self, standby, tools, target, times):
        """Whatever the umask; nothing but the tools is left."""
        (tools / "record").chmod(0o644)
        done = [self.install(standby, target).returncode for _ in range(times)]

        assert [0] * times == done
        assert ["bin", "bin/snapshot-standby", "record"] == sorted(
            str(p.relative_to(target)) for p in target.rglob("*")
        )
        modes = [(target / name).stat().st_mode & 0o777 for name in ("bin", "bin/snapshot-standby", "record")]
        assert [0o755, 0o555, 0o444] == modes
        assert standby.read_bytes() == (target / "bin/snapshot-standby").read_bytes()

    def test_the_installed_program_installs_itself_further(self, standby, target, room):
        self.install(standby, target, user=0)
        second = Path(tempfile.mkdtemp(dir=room))
        second.chmod(0o777)

        assert 0 == self.install(target / "bin/snapshot-standby", second).returncode
        assert (second / "bin/snapshot-standby").exists()

    @pytest.mark.parametrize(
        ("prepare", "words"),
        [
            pytest.param(lambda folder: folder.rmdir(), "cannot open", id="no such folder"),
            pytest.param(lambda folder: folder.chmod(0o755), "cannot make bin", id="not writable"),
        ],
    )
    def test_what_cannot_be_installed_is_said(self, standby, tools, target, prepare, words):
        (tools / "record").chmod(0o644)
        prepare(target)
        done = self.install(standby, target)

        assert 1 == done.returncode
        assert words in done.stderr or "cannot write record" in done.stderr

    @pytest.mark.usefixtures("tools")
    def test_a_tool_that_its_user_cannot_read_is_said(self, standby, target):
        done = self.install(standby, target)

        assert 1 == done.returncode
        assert "cannot read record" in done.stderr

    def test_a_program_outside_of_a_tool_folder_says_so(self, standby, target, room):
        alone = shutil.copy(standby, room / "alone")

        assert "--install copies the folder" in self.install(alone, target).stderr


@pytest.mark.parametrize(
    ("prepare", "file", "code"),
    [
        pytest.param(lambda folder: (folder / control.RESTORE_COMPLETE).touch(), [], 0, id="open"),
        pytest.param(lambda _: None, [], 1, id="closed"),
        pytest.param(lambda folder: folder.rmdir(), [], 1, id="no folder"),
        pytest.param(
            lambda folder: (folder / control.READY_FOR_SNAPSHOT).touch(), [control.READY_FOR_SNAPSHOT], 0, id="ready"
        ),
        pytest.param(
            lambda folder: (folder / control.RESTORE_COMPLETE).touch(), [control.READY_FOR_SNAPSHOT], 1, id="not ready"
        ),
    ],
)
def test_the_probes_of_ours_need_no_other_program(standby, tmp_path, prepare, file, code):
    folder = tmp_path / "control"
    folder.mkdir()
    prepare(folder)

    assert code == subprocess.run([standby, "--opened", folder, *file], check=False).returncode


class TestRestored:
    """A stopped child of standby stands for the restored tree."""

    def restored(self, start, script: str, **options):
        container = start(*SH, "echo cold", **options)
        nonce = container.claim()
        # Forked twice, so that it becomes standby's child as after `criu restore --restore-detached`.
        container.enter("bash", "-c", f"(kill -STOP $BASHPID; {script}) >{container.dir}/out & disown; exit 0")
        host = wait_for(container.children, "restored child")[0]
        wait_for(lambda: "State:\tT" in Path(f"/proc/{host}/status").read_text(), "stopped")
        inner = Path(f"/proc/{host}/status").read_text().split("NSpid:")[1].split("\n")[0].split()[-1]
        container.verdict(f"restored {nonce} {inner}")
        container.release()
        return container, host

    @pytest.mark.parametrize(
        ("script", "code"),
        [
            pytest.param("exit 0", 0, id="zero"),
            pytest.param("exit 42", 42, id="code"),
            pytest.param("kill -KILL $BASHPID", 137, id="signal"),
        ],
    )
    def test_exit_code_passes_through(self, start, script, code):
        container, _ = self.restored(start, script)
        assert code == container.code()
        assert control.LOG_RESTORED.format(id="abc") == container.text().splitlines()[0]
        assert (container.dir / control.RESTORE_COMPLETE).read_text() == control.DONE
        assert "cold" not in container.text()

    def test_signal_reaches_the_worker(self, start):
        script = "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.05; done"
        container, _ = self.restored(start, script)
        wait_for(lambda: "up" in (container.dir / "out").read_text(), "worker up")
        os.kill(container.init(), signal.SIGTERM)
        assert container.code() == 9

    def test_named_process_is_not_there(self, start):
        container = start(*SH, "echo cold")
        nonce = container.claim()
        container.verdict(f"restored {nonce} 4000")
        assert container.code() == control.EXIT_RESTART_ME


RECORD_SIGNALS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
everything = ctypes.c_uint64(2**64 - 1)
libc.syscall(14, 2, ctypes.byref(everything), None, 8)
print("pid", os.getpid(), "sid", os.getsid(0), flush=True)
info = ctypes.create_string_buffer(128)
while True:
    print("signal", libc.syscall(128, ctypes.byref(everything), info, None, 8), flush=True)
"""


def tell(directory: Path, entrypoint: list[str], cmd: list[str]) -> None:
    """Write what the image would run, as the agent does: the list that standby waits for comes last."""
    for name, words in ((control.IMAGE_CMD, cmd), (control.IMAGE_ENTRYPOINT, entrypoint)):
        (directory / ".told").write_text("".join(f"{word}\0" for word in words))
        (directory / ".told").rename(directory / name)


class TestCapture:
    def test_every_signal_is_forwarded(self, start):
        """1 to 64 except the two that nobody can catch; the real-time ones that C libraries hide included."""
        container = start("--capture", "--", sys.executable, "-c", RECORD_SIGNALS)
        container.says("pid 1")
        wanted = [number for number in range(1, 65) if number not in (signal.SIGKILL, signal.SIGSTOP)]
        for number in wanted:
            os.kill(container.init(), number)
            container.says(f"signal {number}\n")

    def test_worker_is_far_from_the_pids_of_probes_and_leads_a_session(self, start):
        container = start("--capture", "--", sys.executable, "-c", RECORD_SIGNALS)
        words = container.says("sid").split()
        assert int(words[1]) > control.FIRST_WORKER_PID
        assert words[1] == words[3]

    @pytest.mark.parametrize(
        ("script", "code"),
        [pytest.param("exit 5", 5, id="code"), pytest.param("kill -KILL $$", 137, id="signal")],
    )
    def test_worker_ends_by_itself(self, start, script, code):
        assert code == start("--capture", *SH, script).code()

    def test_captured(self, start):
        """The worker died of the dump; the Job completes all the same."""
        container = start("--capture", *SH, SAY_AND_STAY)
        container.says(keys.ENV_CONTROL_DIR)
        nonce = container.claim()
        for pid in container.children():
            os.kill(pid, signal.SIGKILL)
        container.verdict(f"captured {nonce}")
        container.release()
        assert container.code() == 0

    def test_capture_failed(self, start):
        container = start("--capture", *SH, SAY_AND_STAY)
        nonce = container.claim()
        container.verdict(f"failed {nonce} clean disk full")
        container.release()
        assert container.code() == 1
        assert "disk full" in container.text()

    def test_agent_dies_after_the_worker(self, start):
        container = start("--capture", *SH, SAY_AND_STAY)
        container.says("worker 1")
        container.claim()
        worker = container.children()[0]
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: not container.children(), "reaped")
        assert container.process.poll() is None
        container.release()
        assert container.code() == 1

    def test_orphans_stay_in_the_workers_tree(self, start):
        """What the worker leaves behind must be its own child, or a dump of its tree would miss it."""
        container = start("--capture", *SH, "(setsid sleep 60 &) ; " + SAY_AND_STAY)
        container.says("worker 1")
        worker = container.children()[0]
        orphans = Path(f"/proc/{worker}/task/{worker}/children")
        wait_for(lambda: orphans.read_text().split(), "orphan")
        assert len(container.children()) == 1

    @pytest.mark.parametrize(
        ("entrypoint", "cmd", "arguments", "said"),
        [
            pytest.param(["echo", "a b"], ["c", ""], [], "a b c \n", id="entrypoint and cmd"),
            pytest.param(["echo", "a"], ["c"], ["d", "e"], "a d e\n", id="the pod's arguments take cmd's place"),
            pytest.param([], ["echo", "c"], [], "c\n", id="cmd alone"),
        ],
    )
    def test_an_agent_tells_what_a_stock_image_runs(self, start, entrypoint, cmd, arguments, said):
        container = start("--capture", "--image-entrypoint", "--", *arguments)
        container.nonce()
        tell(container.dir, entrypoint, cmd)

        assert container.code() == 0
        assert said == container.text()

    def test_an_image_that_runs_nothing_is_refused(self, start):
        container = start("--capture", "--image-entrypoint", "--")
        container.nonce()
        tell(container.dir, [], [])

        assert control.EXIT_REQUIRED == container.code()
        assert "neither entrypoint nor cmd" in container.text()

    def test_what_was_told_of_a_former_container_does_not_count(self, start):
        container = start("--capture", "--image-entrypoint", "--", prepare=lambda folder: tell(folder, ["false"], []))
        container.nonce()
        tell(container.dir, ["echo", "fresh"], [])

        assert container.code() == 0
        assert "fresh\n" == container.text()

    def test_sigterm_while_nobody_tells_ends_the_container(self, start):
        container = start("--capture", "--image-entrypoint", "--")
        container.nonce()
        os.kill(container.init(), signal.SIGTERM)

        assert 128 + signal.SIGTERM == container.code()

    def test_zombies_are_reaped(self, start):
        container = start("--capture", *SH, SAY_AND_STAY)
        container.says("worker 1")
        container.enter("bash", "-c", "sleep 0.1 & disown; exit 0")
        wait_for(lambda: len(container.children()) == 1, "reaped")


@pytest.mark.parametrize(
    ("scenario", "least", "most", "words"),
    [
        pytest.param(agent_dies_after_its_claim, 14.5, 18, "the agent died", id="agent dies"),
        pytest.param(agent_dies_within_the_claim_window, 14, 18, "the agent died", id="agent dies early"),
        pytest.param(restore_takes_longer_than_allowed, 11, 20, "restore timed out", id="too long"),
        pytest.param(claim_waits_long_for_its_turn, 19, 23, "my turn", id="long queue"),
    ],
)
def test_patience_has_an_end(slow, scenario, least, most, words):
    code, seconds, text = slow[scenario].result(60)

    assert 0 == code
    assert f"{control.LOG_COLD_START.format(reason=words)}\nworker\n" == text
    assert least < seconds < most
