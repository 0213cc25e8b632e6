"""Standby in a placeholder: it waits without a limit until an agent has started, and from then on as anywhere else."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.api import control_files, keys
from tests.support.fixtures.standby_container import SH, containers, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces")

LONG = control_files.CLAIM_WINDOW + 1.0
PLACEHOLDER = {keys.ENV_STANDBY_ID: ""}
"""No checkpoint is named in a placeholder's environment."""


def starts(start, script: str = "echo worker", **env: str):
    return start(keys.STANDBY_WAIT, *SH, script, env=PLACEHOLDER | env)


def pass_time(seconds: float) -> None:
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > seconds, "time has passed", seconds + 60)


def refused_late(start) -> str:
    """The claim window is long over when an agent comes, and refuses."""
    container = starts(start)
    container.nonce()
    pass_time(LONG)
    assert container.process.poll() is None
    nonce = container.nonce()
    container.take()
    container.verdict(f"failed {nonce} clean the checkpoint was deleted")
    container.release()
    assert 0 == container.code()
    return container.text()


def lost_before_the_start(start) -> str:
    """An agent that dies in its queue has touched nothing, so the next one may take any time."""
    container = starts(start)
    container.nonce()
    container.take()
    pass_time(1)
    container.release()
    pass_time(control_files.LOST_CLAIM_WINDOW + 2)
    assert container.process.poll() is None
    container.verdict(f"failed {container.nonce()} clean the next agent says no")
    assert 0 == container.code()
    return container.text()


def lost_after_the_start(start) -> str:
    container = starts(start)
    container.claim()
    container.release()
    assert 0 == container.code()
    return container.text()


SLOW = (refused_late, lost_before_the_start, lost_after_the_start)


@pytest.fixture(scope="module", autouse=True)
def slow(standby, room) -> Iterator[dict[Callable[..., object], Future]]:
    """What waits long is played at the same time."""
    with containers(standby, room) as make, ThreadPoolExecutor(len(SLOW)) as threads:
        yield {scenario: threads.submit(scenario, make) for scenario in SLOW}


@pytest.mark.parametrize(
    ("expected", "scenario"),
    [
        pytest.param("the checkpoint was deleted", refused_late, id="refused after a long wait"),
        pytest.param("the next agent says no", lost_before_the_start, id="an agent died before it had started"),
        pytest.param("the agent died", lost_after_the_start, id="an agent died at work"),
    ],
)
def test_it_starts_cold_for_a_reason_alone(slow, expected, scenario):
    cold = control_files.LOG_COLD_START.format(reason=expected)

    assert [control_files.LOG_WAITING, cold, "worker"] == slow[scenario].result(60).splitlines()


def test_a_verdict_of_a_moment_is_seen(start):
    """An agent that refuses has the claim for less time than standby takes between two looks."""
    container = starts(start)
    nonce = container.nonce()
    container.verdict(f"failed {nonce} clean at once")

    assert 0 == container.code()
    assert control_files.LOG_COLD_START.format(reason="at once") in container.text()


@pytest.mark.parametrize(
    ("expected", "context"),
    [
        pytest.param("qwen-1", '{"checkpointId": "qwen-1", "namespace": "ns"}', id="as the agent writes it"),
        pytest.param("(unnamed)", "", id="none"),
        pytest.param("(unnamed)", '{"checkpointId": "\\u001b[2J"}', id="no id"),
        pytest.param("a" * 127, '{"checkpointId": "' + "a" * 4000, id="too long"),
    ],
)
def test_its_log_names_what_was_restored(start, expected, context):
    container = starts(start, "echo cold")
    nonce = container.claim()
    container.enter("bash", "-c", "(kill -STOP $BASHPID; exit 7) & disown; exit 0")
    host = wait_for(container.children, "restored child")[0]
    wait_for(lambda: "State:\tT" in Path(f"/proc/{host}/status").read_text(), "stopped")
    inner = Path(f"/proc/{host}/status").read_text().split("NSpid:")[1].split("\n")[0].split()[-1]
    (container.dir / control_files.RESTORE_CONTEXT).write_text(context)
    container.verdict(f"restored {nonce} {inner}")
    container.release()

    assert 7 == container.code()
    assert [control_files.LOG_WAITING, control_files.LOG_RESTORED.format(id=expected)] == container.text().splitlines()


def test_it_ends_when_its_pod_is_deleted(start):
    container = starts(start)
    container.says(control_files.LOG_WAITING)
    os.kill(container.init(), signal.SIGTERM)

    assert 128 + signal.SIGTERM == container.code()


def test_it_waits_again_when_its_container_is_started_again(start):
    """Kubelet keeps the volume, and in it all that a former container and its agent left."""

    def leave(directory: Path) -> None:
        for name in control_files.STALE_AT_START:
            (directory / name).write_text("restored 00 5\n")

    container = start(keys.STANDBY_WAIT, *SH, "echo worker", env=PLACEHOLDER, prepare=leave)
    container.says(control_files.LOG_WAITING)

    assert container.process.poll() is None
    assert not (container.dir / control_files.RESTORE_COMPLETE).exists()


def test_it_costs_next_to_nothing(start):
    """Placeholders wait for days, many of them on one node."""
    container = starts(start)
    container.says(control_files.LOG_WAITING)
    pass_time(3)
    fields = Path(f"/proc/{container.init()}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])

    assert ticks <= 0.01 * 3 * os.sysconf("SC_CLK_TCK")
