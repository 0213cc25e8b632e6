"""Standby as init of a worker that is captured, or of a tree that was restored."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from contract.api import control_files, keys
from tests.support.fixtures.standby_container import SAY_AND_STAY, SH, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces")


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
        assert control_files.LOG_RESTORED.format(id="abc") == container.text().splitlines()[0]
        assert (container.dir / control_files.RESTORE_COMPLETE).read_text() == control_files.DONE
        assert "cold" not in container.text()

    def test_signal_reaches_the_worker(self, start):
        script = "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.05; done"
        container, _ = self.restored(start, script)
        wait_for(lambda: "up" in (container.dir / "out").read_text(), "worker up")
        os.kill(container.init(), signal.SIGTERM)
        assert container.code() == 9

    def test_a_process_that_was_stopped_is_not_woken(self, start):
        """The one that is named stays stopped; the worker, another one, runs."""
        container = start(*SH, "echo cold")
        nonce = container.claim()
        script = "sleep 77 & kill -STOP $!; echo $! >&3; kill -STOP $BASHPID; while :; do sleep 0.05; done"
        argv = ("bash", "-c", f"({script}) 3>{container.dir}/stopped >{container.dir}/out & disown; exit 0")
        container.enter(*argv)
        host = wait_for(container.children, "restored child")[0]
        wait_for(lambda: "State:\tT" in Path(f"/proc/{host}/status").read_text(), "stopped")
        inner = Path(f"/proc/{host}/status").read_text().split("NSpid:")[1].split("\n")[0].split()[-1]
        child = Path(f"/proc/{host}/task/{host}/children").read_text().split()[0]
        container.verdict(f"restored {nonce} {inner} 4000 {(container.dir / 'stopped').read_text().strip()}")
        container.release()
        wait_for(lambda: "State:\tT" not in Path(f"/proc/{host}/status").read_text(), "worker woken")
        assert "State:\tT" in Path(f"/proc/{child}/status").read_text()

    def test_named_process_is_not_there(self, start):
        container = start(*SH, "echo cold")
        nonce = container.claim()
        container.verdict(f"restored {nonce} 4000")
        assert container.code() == control_files.EXIT_RESTART_ME


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
    for name, words in ((control_files.IMAGE_CMD, cmd), (control_files.IMAGE_ENTRYPOINT, entrypoint)):
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
        assert int(words[1]) > control_files.FIRST_WORKER_PID
        assert words[1] == words[3]

    @pytest.mark.parametrize(
        ("script", "code"),
        [pytest.param("exit 5", 5, id="code"), pytest.param("kill -KILL $$", 137, id="signal")],
    )
    def test_worker_ends_by_itself(self, start, script, code):
        assert code == start("--capture", *SH, script).code()

    @pytest.mark.parametrize("mode", ["--capture", "--serve"])
    @pytest.mark.parametrize(
        ("said", "told"),
        [
            pytest.param(None, "multipathtcp=0", id="nothing"),
            pytest.param("netdns=go", "netdns=go,multipathtcp=0", id="something-else"),
            pytest.param("multipathtcp=1", "multipathtcp=1", id="the-opposite"),
        ],
    )
    def test_programs_of_go_are_asked_for_plain_tcp(self, start, mode, said, told):
        """CRIU knows no socket of MPTCP, by which they listen from Go 1.24 on; the owner's word goes before ours."""
        env = {} if said is None else {"GODEBUG": said}
        container = start(mode, *SH, "echo told $GODEBUG.", env=env)
        assert f"told {told}.\n" in container.says("told")

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

        assert control_files.EXIT_REQUIRED == container.code()
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


class TestServe:
    """A worker that can be captured while it runs: standby's child from the start, with nothing to wait for."""

    @staticmethod
    def state(pid: int) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]

    @pytest.mark.parametrize(
        ("script", "code"),
        [pytest.param("exit 5", 5, id="code"), pytest.param("kill -KILL $$", 137, id="signal")],
    )
    def test_the_worker_starts_at_once_and_its_end_is_the_containers(self, start, script, code):
        container = start("--serve", *SH, script)
        assert code == container.code()
        assert control_files.COLD_START == (container.dir / control_files.RESTORE_COMPLETE).read_text()

    def test_a_worker_that_takes_itself_for_restored_finds_nothing_to_take_over(self, start):
        """One of Dynamo does, by the control directory, and ends without the file."""
        container = start("--serve", *SH, "exit 5")
        assert 5 == container.code()
        assert {"env": {}} == json.loads((container.dir / control_files.RESTORE_CONTEXT).read_text())

    def test_of_ours_it_sees_the_control_directory_alone(self, start):
        container = start("--serve", *SH, SAY_AND_STAY)
        container.says(keys.ENV_CONTROL_DIR)
        assert keys.ENV_STANDBY_ID not in container.text()
        os.kill(container.init(), signal.SIGTERM)
        assert 7 == container.code()

    @pytest.mark.parametrize(
        ("woken", "note"), [pytest.param(True, "", id="all"), pytest.param(False, "1001", id="stopped-before")]
    )
    def test_whom_a_dead_agent_left_is_woken(self, start, woken, note):
        container = start("--serve", *SH, SAY_AND_STAY)
        container.says("worker")
        (worker,) = container.children()
        container.nonce()
        container.take()
        (container.dir / control_files.FROZEN).write_text(note)
        os.kill(worker, signal.SIGSTOP)
        wait_for(lambda: self.state(worker) == "T", "stopped")
        container.release()
        wait_for(lambda: not (container.dir / control_files.FROZEN).exists(), "note taken away", 5)
        if woken:
            wait_for(lambda: self.state(worker) != "T", "woken", 5)
        assert woken == (self.state(worker) != "T")

    def test_while_an_agent_holds_the_lock_nobody_is_woken(self, start):
        container = start("--serve", *SH, SAY_AND_STAY)
        container.says("worker")
        (worker,) = container.children()
        container.nonce()
        container.take()
        (container.dir / control_files.FROZEN).write_text("")
        os.kill(worker, signal.SIGSTOP)
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > 1.5, "several looks of standby")
        assert "T" == self.state(worker)
        assert (container.dir / control_files.FROZEN).exists()

    @pytest.mark.parametrize(
        ("window", "note"),
        [
            pytest.param(0.0, control_files.DEVICES_LOST, id="the-driver-failed"),
            pytest.param(control_files.DEVICES_WINDOW, "", id="no-agent-came"),
        ],
    )
    def test_whose_devices_are_not_given_back_starts_again(self, start, window, note):
        container = start("--serve", *SH, SAY_AND_STAY)
        container.says("worker")
        container.nonce()
        container.take()
        (container.dir / control_files.DEVICES).write_text(note)
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > 1.5, "several looks of standby")
        assert container.process.poll() is None
        released = time.monotonic()
        container.release()
        assert control_files.EXIT_RESTART_ME == container.process.wait(window + 5)
        assert time.monotonic() - released > window

    def test_without_a_control_directory_it_becomes_the_command(self, start):
        container = start("--serve", *SH, "echo pid $$", env={keys.ENV_CONTROL_DIR: "/nonexistent"})
        assert 0 == container.code()
        assert "cannot be captured while it runs: control directory /nonexistent" in container.text()
        assert "pid 1\n" in container.text()
