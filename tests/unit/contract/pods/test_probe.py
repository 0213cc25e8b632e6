"""Which of a container's probes can be asked without kubelet, and what it asks."""

import pytest

from contract.api.control_files import READY_FOR_SNAPSHOT
from contract.pods.injected_tools import file_probe
from contract.pods.probe import Probe, serving_probe

HTTP = {"httpGet": {"path": "/health", "port": 8000}}
EXEC = {"exec": {"command": ["true"]}}
GRPC = {"grpc": {"port": 9000}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"readinessProbe": EXEC}, Probe("EXEC", command=("true",)), id="a-program"),
        pytest.param(
            {"startupProbe": EXEC | {"timeoutSeconds": 5}},
            Probe("EXEC", command=("true",), timeout=5.0),
            id="a-program-at-the-start",
        ),
        pytest.param(
            {"readinessProbe": file_probe("/snapshot-control", READY_FOR_SNAPSHOT, stock=False)}, None, id="ready-file"
        ),
        pytest.param(
            {"readinessProbe": file_probe("/snapshot-control", READY_FOR_SNAPSHOT, stock=True)},
            None,
            id="ready-file-by-standby",
        ),
        pytest.param({"readinessProbe": {"exec": {}}}, None, id="no-program"),
        pytest.param({"readinessProbe": GRPC}, Probe("GRPC", "10.1.2.3", 9000), id="grpc"),
        pytest.param(
            {"startupProbe": {"grpc": {"port": 9000, "service": "model"}, "timeoutSeconds": 2}},
            Probe("GRPC", "10.1.2.3", 9000, service="model", timeout=2.0),
            id="grpc-of-a-service",
        ),
        pytest.param(
            {"readinessProbe": {"grpc": {"port": 9000, "service": None}}},
            Probe("GRPC", "10.1.2.3", 9000),
            id="grpc-of-no-service",
        ),
        pytest.param(
            {"readinessProbe": EXEC, "startupProbe": GRPC}, Probe("GRPC", "10.1.2.3", 9000), id="grpc-before-a-program"
        ),
        pytest.param(
            {"readinessProbe": GRPC, "startupProbe": HTTP},
            Probe("HTTP", "10.1.2.3", 8000, "/health"),
            id="http-before-grpc",
        ),
        pytest.param({"livenessProbe": HTTP}, None, id="liveness-says-nothing-of-serving"),
        pytest.param({"readinessProbe": HTTP}, Probe("HTTP", "10.1.2.3", 8000, "/health"), id="http"),
        pytest.param({"startupProbe": HTTP}, Probe("HTTP", "10.1.2.3", 8000, "/health"), id="startup"),
        pytest.param(
            {"readinessProbe": EXEC, "startupProbe": HTTP}, Probe("HTTP", "10.1.2.3", 8000, "/health"), id="the-other"
        ),
        pytest.param(
            {"readinessProbe": {"httpGet": {"port": "443", "scheme": "HTTPS", "host": "h"}, "timeoutSeconds": 3}},
            Probe("HTTPS", "h", 443, timeout=3.0),
            id="https",
        ),
        pytest.param(
            {"readinessProbe": {"tcpSocket": {"port": "web"}}, "ports": [{"name": "web", "containerPort": 80}]},
            Probe("TCP", "10.1.2.3", 80),
            id="named-port",
        ),
        pytest.param({"readinessProbe": {"tcpSocket": {"port": "web"}}}, None, id="no-such-port"),
        pytest.param(
            {"readinessProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "Host", "value": "x"}]}}},
            Probe("HTTP", "10.1.2.3", 1, headers=(("Host", "x"),)),
            id="headers",
        ),
    ],
)
def test_the_probe_that_says_that_a_worker_serves(fields, expected):
    assert expected == serving_probe({"name": "main", **fields}, "10.1.2.3")


def test_a_pod_without_an_address_is_asked_on_loopback():
    found = serving_probe({"readinessProbe": HTTP}, "")
    assert found is not None
    assert "127.0.0.1" == found.host
