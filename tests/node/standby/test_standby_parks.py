"""Standby beside a parked worker: it waits without a limit, keeps it stopped, and obeys who wakes it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.api import control_files, keys
from tests.node.standby.test_standby_waits import pass_time
from tests.support.fixtures.standby_container import SH, containers, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces")

ALLOWED = 1
"""Seconds that the agent allows itself: what is parked outlives them, and standby's own margin."""
LONG = ALLOWED + control_files.LOST_CLAIM_WINDOW + 2.0
PARKED = control_files.LOG_PARKED.format(id="abc")


def parked(start, mode: tuple[str, ...] = (keys.STANDBY_PARK,), **env: str):
    """Play the agent that restores a worker, parks it, and lets go; return its host and its inner pid too."""
    container = start(*mode, *SH, "echo cold", env=env)
    nonce = container.claim(ALLOWED)
    container.enter("bash", "-c", "(kill -STOP $BASHPID; exit 7) & disown; exit 0")
    host = wait_for(container.children, "restored child")[0]
    wait_for(lambda: "State:\tT" in Path(f"/proc/{host}/status").read_text(), "stopped")
    inner = Path(f"/proc/{host}/status").read_text().split("NSpid:")[1].split("\n")[0].split()[-1]
    park(container, f"{nonce} {inner}")
    container.release()
    if mode:
        container.says(PARKED)
    return container, nonce, host, inner


def park(container, line: str) -> None:
    temporary = container.dir / ".parked"
    temporary.write_text(f"{line}\n")
    temporary.rename(container.dir / control_files.PARKED)


def woken(container, verdict: str) -> None:
    container.take()
    (container.dir / control_files.PARKED).unlink()
    container.verdict(verdict)
    container.release()


def woken_late(start) -> str:
    container, nonce, host, inner = parked(start)
    pass_time(LONG)
    assert container.process.poll() is None
    assert "State:\tT" in Path(f"/proc/{host}/status").read_text()
    assert not (container.dir / control_files.RESTORE_COMPLETE).exists()
    woken(container, f"restored {nonce} {inner}")
    assert 7 == container.code()
    return container.text()


def refused_late(start) -> str:
    """The worker is ended by the agent; its word comes after that."""
    container, nonce, host, _ = parked(start)
    container.take()
    os.kill(host, signal.SIGKILL)
    pass_time(1)
    container.verdict(f"failed {nonce} clean no device memory is free")
    container.release()
    assert 0 == container.code()
    return container.text()


def lost_before_the_wake(start) -> str:
    """An agent that dies before it has taken the worker over has changed nothing."""
    container, nonce, _, inner = parked(start)
    container.take()
    pass_time(1)
    container.release()
    pass_time(control_files.LOST_CLAIM_WINDOW + 2)
    woken(container, f"restored {nonce} {inner}")
    assert 7 == container.code()
    return container.text()


def lost_in_the_wake(start) -> str:
    container, *_ = parked(start)
    container.take()
    (container.dir / control_files.PARKED).unlink()
    container.release()
    assert 0 == container.code()
    return container.text()


def of_a_former_start(start) -> str:
    """What quotes another nonce parks nothing."""
    container = start(keys.STANDBY_PARK, *SH, "echo cold")
    container.claim(ALLOWED)
    park(container, f"{'0' * 32} 1")
    container.release()
    assert 0 == container.code()
    return container.text()


SLOW = (woken_late, refused_late, lost_before_the_wake, lost_in_the_wake, of_a_former_start)
RESTORED = control_files.LOG_RESTORED.format(id="abc")


def cold(reason: str) -> list[str]:
    return [control_files.LOG_COLD_START.format(reason=reason), "cold"]


@pytest.fixture(scope="module", autouse=True)
def slow(standby, room) -> Iterator[dict[Callable[..., object], Future]]:
    """What waits long is played at the same time."""
    with containers(standby, room) as make, ThreadPoolExecutor(len(SLOW)) as threads:
        yield {scenario: threads.submit(scenario, make) for scenario in SLOW}


@pytest.mark.parametrize(
    ("expected", "scenario"),
    [
        pytest.param([PARKED, RESTORED], woken_late, id="woken after a long time"),
        pytest.param([PARKED, *cold("no device memory is free")], refused_late, id="refused after a long time"),
        pytest.param([PARKED, RESTORED], lost_before_the_wake, id="an agent died before it had started"),
        pytest.param([PARKED, *cold("the agent died")], lost_in_the_wake, id="an agent died at work"),
        pytest.param(cold("the agent died"), of_a_former_start, id="parked by the agent of a former start"),
    ],
)
def test_what_becomes_of_a_parked_worker(slow, expected, scenario):
    assert expected == slow[scenario].result(120).splitlines()


@pytest.mark.parametrize(
    ("expected", "policy", "words"),
    [
        pytest.param(
            control_files.EXIT_RESTART_ME, "Always", "SNAPSHOT_RESTART: ", id="its container is started again"
        ),
        pytest.param(0, "Never", "SNAPSHOT_COLD_START: ", id="nothing starts its container again"),
    ],
)
def test_a_parked_worker_that_ends_is_noticed(start, expected, policy, words):
    """The kernel may end it for the pod's memory limit; it is then restored and parked once more."""
    container, _, host, _ = parked(start, **{keys.ENV_STANDBY_RESTART_POLICY: policy})
    os.kill(host, signal.SIGKILL)

    assert expected == container.code()
    assert words in container.text()
    assert "the parked worker has ended" in container.text()


def test_it_says_so_at_once(start):
    """An agent has started, so nothing is left of the time that standby waits for one."""
    began = time.monotonic()
    parked(start)

    assert time.monotonic() - began < control_files.CLAIM_WINDOW - 1


def test_it_ends_when_its_pod_is_deleted(start):
    container, _, host, _ = parked(start)
    os.kill(container.init(), signal.SIGTERM)

    assert 128 + signal.SIGTERM == container.code()
    wait_for(lambda: not Path(f"/proc/{host}").exists(), "the worker's end")


def test_a_container_that_was_not_to_park_does_not(start):
    """Its startup probe would not wait."""
    container, *_ = parked(start, mode=())

    assert 0 == container.code()
    assert [control_files.LOG_COLD_START.format(reason="the agent died"), "cold"] == container.text().splitlines()
