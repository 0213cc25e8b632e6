"""Restore pods from their first sight to the last word, in virtual time."""

import asyncio
from concurrent.futures import Future
from dataclasses import replace

import pytest

from agent.executor.api import ExecutionResult
from contract.api import keys
from contract.api.reports import Filled, ReportPhase, Step, read_report, with_fill
from contract.api.states import AgentReason
from kube.errors import ServerUnavailableError
from tests.support.builders import agent
from tests.support.builders.agent import (
    FIRST,
    NOT_YET,
    RESTORED,
    SECOND,
    ScriptedEngine,
    Stage,
    reported,
    running,
    terminated,
    waiting,
)
from tests.support.virtual_time import now, run

FAILED = ExecutionResult(ok=False, reason="artifact-missing", message="gone", container_id=FIRST)


def play(stage, *steps):
    """Show pods at their times; ``None`` means that the pod is deleted. Ends a minute after the last step."""

    async def scenario():
        start, pod = now(), None
        for seconds, shown in steps:
            await asyncio.sleep(start + seconds - now())
            if shown is None:
                stage.restores.forget(pod)
            else:
                pod = shown
                stage.see(pod)
        await asyncio.sleep(60)
        await stage.restores.drain(1)

    run(scenario())
    return stage


PARKED = ExecutionResult(ok=True, parked=True, container_id=FIRST, seconds={"total": 0.5})
WOKEN = {keys.ANN_WAKE: "now"}


def bound(**fields):
    return agent.target(waiting(), phase="Pending", **fields)


def test_the_order_is_given_before_there_is_a_container():
    """Kubelet's word is not waited for: the engine finds the container itself, and says which it was."""
    stage = play(Stage(ScriptedEngine(RESTORED), agent.checkpoint()), (0, bound()))

    assert "" == stage.engine.orders[0].place.container_id
    assert ["completed"] == stage.statuses()
    assert FIRST == stage.kube.annotations("Pod", "web-1")[keys.ANN_RESTORE_CONTAINER_ID_PREFIX + "main"]
    assert ["RestoreRequested", "RestoreSucceeded"] == stage.said.reasons()


def test_the_pod_is_not_written_before_the_restore():
    stage = play(Stage(ScriptedEngine(RESTORED), agent.checkpoint()), (0, bound()))

    assert [("get", "DynamoCheckpoint", "qwen"), ("get", "Pod", "web-1"), ("patch", "Pod", "web-1")] == stage.kube.calls


def test_an_engine_that_finds_nothing_yet_is_asked_again():
    stage = play(Stage(ScriptedEngine(NOT_YET, NOT_YET, RESTORED), agent.checkpoint()), (0, bound()))

    assert 3 == len(stage.engine.orders)
    assert ["RestoreRequested", "RestoreSucceeded"] == stage.said.reasons()


def test_a_long_restore_is_reported_as_running():
    stage = Stage(ScriptedEngine(RESTORED, seconds=30), agent.checkpoint())
    play(stage, (0, bound()), (2, agent.target(running())))

    assert ["in_progress", "completed"] == stage.statuses()
    assert 1 == len(stage.engine.orders)


def test_a_short_one_is_not():
    stage = Stage(ScriptedEngine(RESTORED, seconds=0.5), agent.checkpoint())
    play(stage, (0, bound()), (0.1, agent.target(running())))

    assert ["completed"] == stage.statuses()


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        pytest.param(["1", "2"], {"started": True, "ready": False}, id="not-ready-yet"),
        pytest.param([], {"started": False, "ready": False}, id="behind-its-gate"),
        pytest.param([], {"started": True, "ready": True}, id="ready"),
    ],
)
def test_kubelet_is_made_to_ask_until_the_worker_is_ready(expected, status):
    stage = Stage(ScriptedEngine(RESTORED), agent.checkpoint())
    ready = agent.target(running(started=True, ready=True))
    play(stage, (0, bound()), (0.1, agent.target(running(**status))), (3.5, ready))

    asked = [notes[keys.ANN_RESTORE_ASKED] for notes in stage.kube.written("Pod") if keys.ANN_RESTORE_ASKED in notes]
    assert expected == asked


def test_a_worker_that_is_never_ready_is_left_to_its_probes_period():
    stage = Stage(ScriptedEngine(RESTORED), agent.checkpoint())
    play(stage, (0, bound()), (0.1, agent.target(running(started=True))))

    assert "5" == stage.kube.annotations("Pod", "web-1")[keys.ANN_RESTORE_ASKED]


FILLED = Filled(Step(ReportPhase.FILL, 0.25, 2.0), 7 << 30, 12)


def filling(filled=None) -> Future:
    found: Future = Future()
    found.set_result(filled)
    return found


@pytest.mark.parametrize(
    ("expected", "found", "status"),
    [
        pytest.param(True, filling(FILLED), {"started": True, "ready": True}, id="its-end"),
        pytest.param(True, filling(FILLED), {"started": True}, id="its-end-though-it-is-never-ready"),
        pytest.param(False, filling(), {"started": True, "ready": True}, id="its-server-ended-early"),
        pytest.param(False, Future(), {"started": True, "ready": True}, id="it-goes-on"),
        pytest.param(False, None, {"started": True, "ready": True}, id="there-was-none"),
    ],
)
def test_the_end_of_a_fill_is_added_to_the_report(expected, found, status):
    stage = Stage(ScriptedEngine(replace(RESTORED, filling=found)), agent.checkpoint())
    play(stage, (0, agent.target(running(**status))))
    notes = stage.kube.annotations("Pod", "web-1")
    report = read_report(notes[keys.ANN_RESTORE_REPORT])

    steps = with_fill(report, notes.get(keys.ANN_RESTORE_FILL, "")).steps
    assert expected == (FILLED.step in steps)


def test_a_failed_restore_is_reported_once():
    stage = play(Stage(ScriptedEngine(FAILED), agent.checkpoint()), (0, bound()), (2, agent.target(running())))

    assert ["failed"] == stage.statuses()
    assert ["RestoreRequested", "RestoreFailed"] == stage.said.reasons()


def test_each_attempt_is_told_and_counted():
    tried = ((AgentReason.RESTORE_FAILED, "criu said no"),)
    stage = play(Stage(ScriptedEngine(replace(RESTORED, tried=tried)), agent.checkpoint()), (0, bound()))
    report = read_report(stage.kube.annotations("Pod", "web-1")[keys.ANN_RESTORE_REPORT])

    assert ["RestoreRequested", "RestoreAttemptFailed", "RestoreSucceeded"] == stage.said.reasons()
    assert ("restore-failed",) == report.tried


@pytest.mark.parametrize(
    ("expected", "reasons", "said"),
    [
        pytest.param(3, ["RestoreRequested"], "3", id="its own"),
        pytest.param(1, ["RestoreAttemptsIgnored", "RestoreRequested"], "9", id="too many"),
    ],
)
def test_a_pod_says_how_often_it_is_tried(expected, reasons, said):
    pod = bound(annotations={keys.ANN_ATTEMPTS: said})
    stage = play(Stage(ScriptedEngine(RESTORED), agent.checkpoint()), (0, pod))

    assert expected == stage.engine.orders[0].attempts
    assert [*reasons, "RestoreSucceeded"] == stage.said.reasons()


@pytest.mark.parametrize("word", ["completed", "failed"])
def test_an_agent_that_restarts_leaves_what_has_its_word(word):
    stage = play(
        Stage(ScriptedEngine(RESTORED), agent.checkpoint()),
        (0, agent.target(running(), annotations=reported(word))),
    )

    assert [] == stage.engine.orders


def test_an_agent_that_restarts_goes_on_with_what_was_in_progress():
    pod = agent.target(running(), annotations=reported("in_progress"))
    stage = play(Stage(ScriptedEngine(RESTORED), agent.checkpoint()), (0, pod))

    assert ["completed"] == stage.statuses()


def test_a_restarted_container_is_restored_again():
    second = ExecutionResult(ok=True, container_id=SECOND)
    stage = play(
        Stage(ScriptedEngine(RESTORED, second), agent.checkpoint()),
        (0, bound()),
        (1, agent.target(running())),
        (30, agent.target(terminated(137))),
        (31, agent.target(running(SECOND, restartCount=1))),
    )

    assert ["completed", "completed"] == stage.statuses()
    assert SECOND == stage.engine.orders[1].place.container_id


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(terminated(1), id="ended"),
        pytest.param(waiting(restartCount=3), id="backs off"),
    ],
)
def test_a_container_that_may_start_again_is_not_looked_for_in_vain(status):
    """Looking costs the node; standby waits longer than status lags."""
    stage = play(Stage(ScriptedEngine(RESTORED), agent.checkpoint()), (0, agent.target(status)))

    assert [] == stage.engine.orders


def test_a_container_that_nobody_can_claim_is_given_up():
    stage = play(
        Stage(ScriptedEngine(NOT_YET), agent.checkpoint()),
        (0, bound()),
        (1, agent.target(running(SECOND))),
    )

    assert "failed" == stage.statuses()[-1]
    assert "RestoreFailed" == stage.said.reasons()[-1]
    assert len(stage.engine.orders) < 60 / 0.02, "it was given up, not asked for ever"


def test_a_request_for_a_container_that_was_started_again_is_made_again():
    """What it says of the image is of the one before; so is what the pod says of it for a second."""
    stage = play(
        Stage(ScriptedEngine(*[NOT_YET] * 20, replace(RESTORED, container_id=SECOND), seconds=0.1), agent.checkpoint()),
        (0, agent.placeholder(running(imageID="img@sha256:old"))),
        (1, agent.placeholder(running(SECOND, imageID="img@sha256:new"))),
    )
    asked = list(dict.fromkeys((each.place.container_id, each.image) for each in stage.engine.orders))

    assert [(FIRST, "img@sha256:old"), (SECOND, "img@sha256:new")] == asked


def test_a_placeholder_is_restored_once_a_checkpoint_is_named_on_it():
    """By whatever agent is there then: one that has seen it all along, or one that starts later."""
    stage = play(Stage(ScriptedEngine(RESTORED), agent.checkpoint()), (0, agent.placeholder(running())))

    assert FIRST == stage.engine.orders[0].place.container_id
    assert "completed" == stage.statuses()[-1]


def test_a_failure_without_an_id_waits_for_kubelet_to_tell_it():
    started = ExecutionResult(ok=False, reason="already-started", message="too late")
    stage = play(
        Stage(ScriptedEngine(started), agent.checkpoint()),
        (0, bound()),
        (1, agent.target(running(SECOND))),
    )

    assert ["failed"] == [status for status in stage.statuses() if status != "in_progress"]
    assert SECOND == stage.kube.annotations("Pod", "web-1")[keys.ANN_RESTORE_CONTAINER_ID_PREFIX + "main"]
    assert 1 == len(stage.engine.orders)


REFUSED = ExecutionResult(ok=False, reason="checkpoint-not-found", message="gone", container_id=FIRST)


def test_a_refusal_reaches_the_container_as_soon_as_it_starts():
    """Standby gets a verdict, so that the worker need not wait for an agent that will not come."""
    stage = play(Stage(ScriptedEngine(NOT_YET, REFUSED)), (0, bound()))

    assert ["checkpoint-not-found"] * 2 == [request.reason for request in stage.engine.orders]
    assert ["failed"] == stage.statuses()
    assert ["RestoreFailed"] == stage.said.reasons()


def test_a_refusal_is_thought_over_while_the_container_does_not_start():
    """A long image pull, say: meanwhile the checkpoint may have become what the pod wants."""

    async def scenario():
        stage = Stage(ScriptedEngine(NOT_YET), agent.checkpoint(phase="Creating"))
        stage.see(bound())
        await asyncio.sleep(20)
        stage.kube.objects["DynamoCheckpoint", "qwen"] = agent.checkpoint()
        stage.engine.outcomes = [NOT_YET, RESTORED]
        await asyncio.sleep(40)
        return stage

    assert "completed" == run(scenario()).statuses()[-1]


def test_targets_that_do_not_fit_are_told_once():
    pod = agent.target(annotations={keys.ANN_TARGET_CONTAINERS: "other"})
    stage = play(Stage(ScriptedEngine(RESTORED)), (0, pod), (1, pod))

    assert ["RestoreFailed"] == stage.said.reasons()


def test_a_deleted_pod_is_not_waited_for():
    stage = play(Stage(ScriptedEngine(NOT_YET), agent.checkpoint()), (0, bound()), (1, None))

    assert len(stage.engine.orders) < 2 / 0.02
    assert [] == stage.statuses()


def test_an_api_server_that_is_away_is_asked_again():
    stage = Stage(ScriptedEngine(RESTORED), agent.checkpoint())
    stage.kube.failures = [ServerUnavailableError("away")]
    play(stage, (0, bound()))

    assert ["completed"] == stage.statuses()


def test_each_target_is_restored_for_itself():
    mounts = [{"name": keys.CONTROL_VOLUME, "mountPath": keys.CONTROL_DIR}]
    containers = [{"name": name, "volumeMounts": mounts} for name in ("one", "two", "side")]
    pod = agent.target(phase="Pending", annotations={keys.ANN_TARGET_CONTAINERS: "one,two"}, containers=containers)
    stage = play(Stage(ScriptedEngine(RESTORED), agent.checkpoint()), (0, pod))

    assert ["one", "two"] == sorted(request.place.container for request in stage.engine.orders)
    notes = stage.kube.annotations("Pod", "web-1")
    assert ["completed"] * 2 == [notes[keys.ANN_RESTORE_STATUS_PREFIX + name] for name in ("one", "two")]


@pytest.mark.parametrize(
    ("status", "expected"),
    [pytest.param(running(), ["completed"], id="runs"), pytest.param(waiting(), [], id="has not started")],
)
def test_shutdown_waits_for_what_runs_and_not_for_what_does_not(status, expected):
    async def scenario():
        stage = Stage(ScriptedEngine(RESTORED, seconds=15), agent.checkpoint())
        stage.see(agent.target(status, phase="Pending"))
        await asyncio.sleep(1)
        started = now()
        await stage.restores.drain(20)
        return stage, now() - started

    stage, seconds = run(scenario())

    assert expected == stage.statuses()
    assert seconds < 16


def test_after_shutdown_nothing_is_begun():
    async def scenario():
        stage = Stage(ScriptedEngine(RESTORED), agent.checkpoint())
        await stage.restores.drain(20)
        stage.see(agent.target(running()))
        await asyncio.sleep(5)
        return stage

    assert [] == run(scenario()).engine.orders


def parked(**notes):
    return agent.parking(running(), annotations=reported("parked") | notes)


def test_a_worker_is_parked_until_its_pod_is_woken():
    stage = Stage(ScriptedEngine(PARKED, RESTORED), agent.checkpoint())
    play(stage, (0, agent.parking(running())), (10, parked()), (100, parked(**WOKEN)), (110, parked(**WOKEN)))

    assert [True, False] == [order.parks for order in stage.engine.orders]
    assert ["parked", "completed"] == stage.statuses()
    assert ["RestoreRequested", "RestoreParked", "RestoreSucceeded"] == stage.said.reasons()


def test_a_parked_worker_is_left_alone_though_its_pod_does_not_show_it():
    stage = Stage(ScriptedEngine(PARKED), agent.checkpoint())
    play(stage, (0, agent.parking(running())), (0.5, agent.parking(running())), (5, agent.parking(running())))

    assert 1 == len(stage.engine.orders)


def test_an_agent_that_restarts_leaves_a_parked_worker_alone_and_wakes_it():
    stage = Stage(ScriptedEngine(RESTORED), agent.checkpoint())
    play(stage, (0, parked()), (30, parked(**WOKEN)))

    assert [False] == [order.parks for order in stage.engine.orders]


def test_a_wake_that_comes_while_the_worker_is_being_parked():
    stage = Stage(ScriptedEngine(PARKED, RESTORED, seconds=3), agent.checkpoint())
    play(stage, (0, agent.parking(running())), (1, agent.parking(running(), annotations=WOKEN)))

    assert [True, False] == [order.parks for order in stage.engine.orders]
    assert "completed" == stage.statuses()[-1]


def test_a_container_that_starts_again_is_parked_again():
    stage = Stage(ScriptedEngine(PARKED, replace(PARKED, container_id=SECOND)), agent.checkpoint())
    again = agent.parking(running(SECOND), annotations=reported("parked"))
    play(stage, (0, agent.parking(running())), (10, parked()), (20, again))

    assert [True, True] == [order.parks for order in stage.engine.orders]
    assert SECOND == stage.kube.annotations("Pod", "web-1")[keys.ANN_RESTORE_CONTAINER_ID_PREFIX + "main"]
