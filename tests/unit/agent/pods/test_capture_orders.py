"""What the pod of a capture Job asks of the agent, as tables."""

import pytest

from agent.executor.api import CaptureRequest
from agent.pods import orders
from agent.pods.selection import Wait
from contract.api import keys
from contract.api.states import AccessMode, AgentReason
from contract.pods.probe import Probe, keep_probe
from tests.support.builders import agent
from tests.support.builders.agent import FIRST, ID, running, terminated

IN_POD = agent.storage(AccessMode.POD_MOUNT)
PROBE = {keys.ANN_READY_SIGNAL: "Probe", keys.ANN_SETTLE_SECONDS: "7"}
SERVES = {"name": "main", "readinessProbe": {"grpc": {"port": 9000}}}


@pytest.mark.parametrize(
    ("expected", "pod", "job", "ready_for"),
    [
        pytest.param(CaptureRequest, agent.source(running(ready=True)), agent.job(), 0.0, id="file says ready"),
        pytest.param(Wait(None), agent.source(running(ready=False)), agent.job(), 0.0, id="not ready"),
        pytest.param(Wait(None), agent.source(), agent.job(), 0.0, id="not started"),
        pytest.param(
            Wait(4.5),
            agent.source(running(ready=True), annotations=PROBE),
            agent.job(),
            2.5,
            id="settles",
        ),
        pytest.param(
            CaptureRequest,
            agent.source(running(ready=True), annotations=PROBE),
            agent.job(),
            7.0,
            id="settled",
        ),
        pytest.param(
            Wait(None),
            agent.source(running(ready=True)),
            agent.job({keys.ANN_CHECKPOINT_STATUS: "completed"}),
            0.0,
            id="has its verdict",
        ),
        pytest.param(
            AgentReason.WORKER_EXITED,
            agent.source(terminated(3), phase="Failed"),
            agent.job(),
            0.0,
            id="worker failed",
        ),
        pytest.param(
            AgentReason.WORKER_EXITED,
            agent.source(terminated(0)),
            agent.job(),
            0.0,
            id="worker ended by itself",
        ),
        pytest.param(
            AgentReason.AGENT_DIED,
            agent.source(terminated(1)),
            agent.job({keys.ANN_NODE: "node-1"}),
            0.0,
            id="an agent had started",
        ),
        pytest.param(
            AgentReason.TARGETS_INVALID,
            agent.source(running(ready=True), annotations={keys.ANN_TARGET_CONTAINERS: "other"}),
            agent.job(),
            0.0,
            id="no such target",
        ),
        pytest.param(
            AgentReason.ID_INVALID,
            agent.source(running(ready=True), labels={keys.LABEL_CHECKPOINT_ID: "a/b"}),
            agent.job(),
            0.0,
            id="hostile id",
        ),
    ],
)
def test_capture(expected, pod, job, ready_for):
    found = orders.capture(pod, job, ready_for, agent.storage())

    if isinstance(expected, Wait):
        assert expected.why == found.again
    elif isinstance(expected, AgentReason):
        assert expected == found.reason
    else:
        assert isinstance(found, CaptureRequest)
        assert (ID, "1", "img:1", FIRST) == (
            found.checkpoint_id,
            found.version,
            found.image,
            found.place.container_id,
        )


def test_a_worker_that_failed_is_reported_with_its_code_and_its_log():
    found = orders.capture(agent.source(terminated(137)), agent.job(), 0.0, agent.storage())

    assert "exited with code 137" in found.message
    assert "kubectl logs -n ns job-1-x -c main" in found.message


def test_two_targets_cannot_be_captured():
    containers = [{"name": "main"}, {"name": "other"}]
    pod = agent.source(annotations={keys.ANN_TARGET_CONTAINERS: "main,other"}, containers=containers)

    assert AgentReason.TARGETS_INVALID == orders.capture(pod, agent.job(), 0.0, agent.storage()).reason


@pytest.mark.parametrize(
    ("expected", "annotations"),
    [
        pytest.param(None, {}, id="as-the-node-is-set"),
        pytest.param(True, {keys.ANN_WEIGHTS: "referenced"}, id="referenced"),
        pytest.param(False, {keys.ANN_WEIGHTS: "stored"}, id="stored"),
        pytest.param(False, {keys.ANN_WEIGHTS: "elsewhere"}, id="not-known"),
    ],
)
def test_what_becomes_of_weights_goes_with_the_request(expected, annotations):
    pod = agent.source(running(ready=True), annotations=annotations)
    assert expected is orders.capture(pod, agent.job(), 0.0, agent.storage()).refers_to_weights


def test_pod_mount_reaches_the_store_through_the_pod():
    pod = agent.source(running(ready=True))

    assert orders.capture(pod, agent.job(), 0.0, IN_POD).through_pod


@pytest.mark.parametrize(
    ("expected", "container"),
    [
        pytest.param(None, {"name": "main"}, id="none"),
        pytest.param(Probe("GRPC", "10.1.2.3", 9000), SERVES, id="its-own"),
        pytest.param(
            Probe("GRPC", "10.1.2.3", 9000),
            {"name": "main", "env": [{"name": name, "value": value} for name, value in keep_probe(SERVES).items()]},
            id="kept-from-the-ready-file",
        ),
    ],
)
def test_the_probe_goes_with_the_request(expected, container):
    pod = agent.source(running(ready=True))
    pod["spec"]["containers"] = [pod["spec"]["containers"][0] | container]
    pod["status"]["podIP"] = "10.1.2.3"

    assert expected == orders.capture(pod, agent.job(), 0.0, agent.storage()).probe
