"""Which container needs a startup gate, and which gate waits for the verdict before it asks."""

import pytest

from contract.api import keys
from contract.pods.startup_gate import startup_gate
from tests.support.builders.objects import container

GATE = [keys.STANDBY, "--gate", "/c"]
GET = (
    "GET /health HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: kube-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
)
HTTP = {"httpGet": {"path": "/health", "port": 8000}, "timeoutSeconds": 3}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"readinessProbe": HTTP}, ["3", "http", "", "8000", GET], id="http"),
        pytest.param(
            {
                "readinessProbe": {"httpGet": {"port": "web", "scheme": "HTTPS"}},
                "ports": [{"name": "web", "containerPort": 4}],
            },
            ["1", "tcp", "", "4"],
            id="https-is-whether-it-listens",
        ),
        pytest.param(
            {"livenessProbe": {"tcpSocket": {"port": 1, "host": "10.0.0.1"}}}, ["1", "tcp", "10.0.0.1", "1"], id="tcp"
        ),
        pytest.param({"startupProbe": {"grpc": {"port": 5}}}, ["1", "tcp", "", "5"], id="grpc"),
        pytest.param({"startupProbe": {"exec": {"command": ["a", "b"]}}}, ["1", "exec", "a", "b"], id="program"),
        pytest.param({"readinessProbe": {"tcpSocket": {"port": "none"}}}, ["1"], id="no-such-port-is-not-asked"),
        pytest.param({}, ["1"], id="no-probe"),
    ],
)
def test_standby_asks_what_the_probe_asks(fields, words):
    gate = startup_gate(container(**fields), "/c", canary=True)
    assert {"command": [*GATE, *words]} == gate["exec"]
    assert int(words[0]) + 2 == gate["timeoutSeconds"]
    assert {"httpGet", "tcpSocket", "grpc"}.isdisjoint(gate)
    assert (1, 1800) == (gate["periodSeconds"], gate["failureThreshold"])


def test_a_gate_behind_a_canary_is_left_as_it_is():
    gate = startup_gate(container(readinessProbe=HTTP), "/c", canary=True)
    assert gate == startup_gate(container(readinessProbe=HTTP, startupProbe=gate), "/c", canary=True)


NEVER = 2**31 - 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"readinessProbe": HTTP}, ["3", "http", "", "8000", GET], id="http"),
        pytest.param({}, ["1"], id="no-probe"),
        pytest.param(
            {"startupProbe": {"exec": {"command": ["true"]}, "failureThreshold": 3}}, ["1", "exec", "true"], id="own"
        ),
    ],
)
def test_the_gate_of_a_placeholder_never_gives_up_and_asks_nothing_before_the_verdict(fields, words):
    gate = startup_gate(container(**fields), "/c", waits=True)
    assert {"command": [*GATE, *words]} == gate["exec"]
    assert (2, NEVER, 1) == (gate["periodSeconds"], gate["failureThreshold"], gate["successThreshold"])
    assert gate == startup_gate(container(**{**fields, "startupProbe": gate}), "/c", waits=True)


GRPC, TCP, EXEC = {"grpc": {"port": 5}}, {"tcpSocket": {"port": 5}}, {"exec": {"command": ["a"]}}
ELSEWHERE = {"httpGet": {"port": 8000, "host": "10.0.0.1"}}


@pytest.mark.parametrize("probe", [HTTP, GRPC], ids=["http", "grpc"])
def test_no_gate_where_readiness_is_the_workers_own_answer(probe):
    assert startup_gate(container(readinessProbe=probe), "/c") is None


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        pytest.param("httpGet", {"readinessProbe": HTTP, "livenessProbe": HTTP}, id="liveness-would-end-it"),
        pytest.param("httpGet", {"readinessProbe": HTTP, "startupProbe": HTTP}, id="a-startup-probe-of-its-own"),
        pytest.param("httpGet", {"readinessProbe": ELSEWHERE}, id="another-answers"),
        pytest.param("grpc", {"livenessProbe": GRPC}, id="grpc"),
        pytest.param("tcpSocket", {"readinessProbe": {"tcpSocket": {"port": 5, "host": "db"}}}, id="a-name"),
        pytest.param("exec", {"readinessProbe": TCP}, id="the-kernel-accepts-for-a-worker-that-is-stopped"),
        pytest.param("exec", {"readinessProbe": EXEC}, id="what-a-program-sees-may-be-left-of-before"),
        pytest.param("exec", {}, id="no-probe"),
    ],
)
def test_what_may_pass_before_the_worker_waits_for_the_verdict(expected, fields):
    gate = startup_gate(container(**fields), "/c")
    assert {expected} == {"httpGet", "tcpSocket", "grpc", "exec"} & gate.keys()
    assert (GATE if expected == "exec" else []) == (gate.get("exec") or {}).get("command", [])[:3]
