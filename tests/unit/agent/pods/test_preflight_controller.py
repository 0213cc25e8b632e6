"""A request about a running container is answered once, by the agent of its node."""

import asyncio

import pytest

from agent.executor.api import LookRequest, LookResult
from agent.pods import orders
from agent.pods.preflight_controller import PreflightController
from agent.pods.report import Reporter
from contract.api import keys
from contract.api.preflight import Seen, read_preflight, report_of
from contract.api.states import AgentReason
from tests.support.builders import agent
from tests.support.builders.agent import FIRST, RecordingKube, Said, running, waiting

ASKED = {keys.ANN_PREFLIGHT: "main@1"}
ANSWER = report_of("main@1", "main", "node-1", Seen((), 1), "").to_json()


class Looking:
    def __init__(self, result):
        self.result, self.orders = result, []

    async def look(self, request):
        self.orders.append(request)
        return self.result


@pytest.mark.parametrize(
    ("pod", "asks"),
    [
        pytest.param(agent.target(running()), False, id="not-asked"),
        pytest.param(agent.target(running(), annotations=ASKED), True, id="asked"),
        pytest.param(agent.target(running(), annotations={keys.ANN_PREFLIGHT: "main"}), True, id="by-name-alone"),
        pytest.param(agent.target(waiting(), annotations=ASKED), False, id="does-not-run"),
        pytest.param(agent.target(running(), annotations={keys.ANN_PREFLIGHT: "other"}), False, id="no-such-container"),
        pytest.param(
            agent.target(running(), annotations=ASKED | {keys.ANN_PREFLIGHT_REPORT: ANSWER}), False, id="answered"
        ),
        pytest.param(
            agent.target(running(), annotations={keys.ANN_PREFLIGHT: "main@2", keys.ANN_PREFLIGHT_REPORT: ANSWER}),
            True,
            id="asked-again",
        ),
    ],
)
def test_a_running_container_is_looked_at_once_for_each_request(pod, asks):
    found = orders.look(pod, agent.storage())
    assert asks == isinstance(found, LookRequest)
    assert found is None or FIRST == found.place.container_id


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(LookResult(processes=3), id="nothing"),
        pytest.param(LookResult(((AgentReason.IO_URING, "descriptor 7"),), 1), id="finding"),
        pytest.param(LookResult(error="it ended"), id="error"),
    ],
)
async def test_the_answer_is_written_on_the_pod(result):
    pod = agent.target(running(), annotations=ASKED)
    kube, engine = RecordingKube(pod), Looking(result)
    controller = PreflightController(engine, Reporter(kube, Said(), "node-1"), agent.storage())
    controller.see(pod)
    controller.see(pod)
    async with asyncio.timeout(5):
        await controller.in_flight.drain(5)
    (written,) = kube.written("Pod")
    report = read_preflight(written[keys.ANN_PREFLIGHT_REPORT])
    assert 1 == len(engine.orders)
    assert report is not None
    assert ("main@1", "node-1", result.processes, result.error) == (
        report.request,
        report.node,
        report.processes,
        report.error,
    )
    assert [words for _, words in result.findings] == [each.message for each in report.findings]


async def test_nothing_is_written_once_the_question_was_taken_off():
    pod = agent.target(running(), annotations=ASKED)
    kube = RecordingKube(agent.target(running()))
    controller = PreflightController(Looking(LookResult()), Reporter(kube, Said(), "node-1"), agent.storage())
    controller.see(pod)
    await controller.in_flight.drain(5)
    assert [] == kube.written("Pod")
