"""The standby protocol until the container's command starts; the test plays kubelet and agent."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from contract.api import control_files, keys
from tests.support.fixtures.standby_container import SAY_AND_STAY, SH, containers, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces")


def agent_dies_after_its_claim(start) -> tuple[int, float, str]:
    container = start(*SH, "echo worker")
    container.claim()
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > control_files.CLAIM_WINDOW, "claim window over")
    return released(container)


def agent_dies_within_the_claim_window(start) -> tuple[int, float, str]:
    """It had begun, so another one gets its time: there may be something to take back."""
    container = start(*SH, "echo worker")
    container.claim()
    return released(container)


def released(container) -> tuple[int, float, str]:
    began = time.monotonic()
    container.release()
    return container.code(), time.monotonic() - began, container.text()


def restore_takes_longer_than_allowed(start) -> tuple[int, float, str]:
    container = start(*SH, "echo worker")
    began = time.monotonic()
    container.claim(allowed=1)
    return container.code(), time.monotonic() - began, container.text()


def verdict_comes_as_standby_gives_up(start) -> tuple[int, float, str]:
    """It has looked for one since it left its note, and ends what the agent has made."""
    container = start(*SH, "echo worker")
    began = time.monotonic()
    nonce = container.claim(allowed=1)
    container.enter("sleep", "60")
    wait_for((container.dir / control_files.GAVE_UP).exists, "its note")
    container.verdict(f"restored {nonce} 1001")
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
    verdict_comes_as_standby_gives_up,
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
        began = time.monotonic()
        container = start(
            *SH, SAY_AND_STAY, env={keys.ENV_CHECKPOINT_PATH: "x", keys.ENV_CONTROL_DIR_NEW: "y", "KEPT": "1"}
        )
        text = container.says("KEPT=1")
        assert (
            control_files.CLAIM_WINDOW
            <= time.monotonic() - began
            < control_files.CLAIM_WINDOW + control_files.LOST_CLAIM_WINDOW
        )
        expected = control_files.LOG_COLD_START.format(reason="no agent claimed this container within 5 s")
        assert expected == text.splitlines()[0]
        assert "worker 1\n" in text
        assert "SNAPSHOT_CONTROL_DIR" not in text
        assert "DYN_" not in text
        assert (container.dir / control_files.RESTORE_COMPLETE).read_text() == control_files.COLD_START
        assert (container.dir / control_files.RESTORE_COMPLETE).stat().st_mode & 0o777 == 0o644

    def test_stale_files_are_removed_first(self, start):
        def leave(directory):
            for name in control_files.STALE_AT_START:
                (directory / name).write_text("restored 00 5\n")

        container = start(*SH, "echo worker", prepare=leave)
        assert len(container.nonce()) == 32
        # A file; standby's own socket of that name comes a moment later.
        left = sorted(path.name for path in container.dir.iterdir() if path.is_file())
        assert left == [control_files.CLAIM, control_files.MOUNTS, control_files.STARTED]
        ahead = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        assert abs(ahead - int((container.dir / control_files.STARTED).read_text())) < 1e6

    @pytest.mark.parametrize(
        ("policy", "code", "words"),
        [
            pytest.param({}, 0, "SNAPSHOT_COLD_START: Falling back to cold start: criu said no\nworker\n", id="cold"),
            pytest.param(
                {keys.ENV_STANDBY_POLICY: keys.POLICY_REQUIRE},
                control_files.EXIT_REQUIRED,
                "criu said no",
                id="require",
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
            pytest.param("Always", control_files.EXIT_RESTART_ME, id="kubelet-restarts"),
            pytest.param("Never", 0, id="in-place-because-never"),
        ],
    )
    @pytest.mark.parametrize("said", ["dirty", "clean"])
    def test_dirty_files(self, start, restart_policy, code, said):
        """Dirty by verdict, or by the mark that an agent left: either is enough."""
        container = start(*SH, "echo worker", env={keys.ENV_STANDBY_RESTART_POLICY: restart_policy})
        nonce = container.claim()
        if said == "clean":
            (container.dir / control_files.DIRTY).write_text("")
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
        assert container.code() == control_files.EXIT_RESTART_ME

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
        pytest.param([], control_files.EXIT_REQUIRED, id="nothing"),
        pytest.param(["--"], control_files.EXIT_REQUIRED, id="no-command"),
        pytest.param(["--what", "--", "true"], control_files.EXIT_REQUIRED, id="unknown-option"),
        pytest.param(["--image-entrypoint", "--"], control_files.EXIT_REQUIRED, id="no-recorded-entrypoint"),
        pytest.param(["--install"], control_files.EXIT_REQUIRED, id="install-nowhere"),
    ],
)
def test_bad_command_line(start, arguments, code):
    container = start(*arguments)
    assert code == container.code()
    assert container.text().startswith(("usage: ", "snapshot-standby: the image records no entrypoint"))


@pytest.mark.parametrize(
    ("scenario", "least", "words"),
    [
        pytest.param(agent_dies_after_its_claim, control_files.LOST_CLAIM_WINDOW, "the agent died", id="agent dies"),
        pytest.param(
            agent_dies_within_the_claim_window, control_files.LOST_CLAIM_WINDOW, "the agent died", id="agent dies early"
        ),
        pytest.param(restore_takes_longer_than_allowed, 11, "restore timed out", id="too long"),
        pytest.param(verdict_comes_as_standby_gives_up, 11, "restore timed out", id="too late"),
        pytest.param(claim_waits_long_for_its_turn, 19, "my turn", id="long queue"),
    ],
)
def test_patience_has_an_end(slow, scenario, least, words):
    """Not before its time; the end is what the scenario itself waits for."""
    code, seconds, text = slow[scenario].result(60)

    assert 0 == code
    assert f"{control_files.LOG_COLD_START.format(reason=words)}\nworker\n" == text
    assert least < seconds
