"""Which of a container's probes can be asked without kubelet, and what it asks."""

import json

import pytest

from contract.api import keys
from contract.api.control_files import READY_FOR_SNAPSHOT
from contract.pods.injected_tools import file_probe
from contract.pods.probe import Probe, keep_probe, serving_probe

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


@pytest.mark.parametrize(
    ("expected", "word"),
    [
        pytest.param("8000", "$(PORT)", id="a-value"),
        pytest.param("http://h:8000/$(PATH)", "http://$(HOST):$(PORT)/$(PATH)", id="not-of-the-spec"),
        pytest.param("", "$(ELSEWHERE)", id="of-a-secret"),
        pytest.param("$(PORT)", "$$(PORT)", id="escaped"),
        pytest.param("$$(PORT", "$$$(PORT", id="not-closed"),
        pytest.param("$PORT ${PORT}", "$PORT ${PORT}", id="the-shells-own"),
        pytest.param("$(PORT)", "$(INDIRECT)", id="once"),
    ],
)
def test_a_command_is_expanded_as_kubelet_does(expected, word):
    env = [
        {"name": "PORT", "value": "8000"},
        {"name": "HOST", "value": "h"},
        {"name": "INDIRECT", "value": "$(PORT)"},
        {"name": "ELSEWHERE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    found = serving_probe({"env": env, "readinessProbe": {"exec": {"command": ["check", word]}}}, "")
    assert found is not None
    assert ("check", expected) == found.command


def kept(fields):
    """Return a container of which a capture has kept the probe, and has its own in place of it."""
    env = [{"name": name, "value": value} for name, value in keep_probe({"name": "main", **fields}).items()]
    ours = file_probe("/snapshot-control", READY_FOR_SNAPSHOT, stock=True)
    return {"name": "main", "readinessProbe": ours, "env": [{"name": "A", "value": "{"}, *env]}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"readinessProbe": HTTP}, Probe("HTTP", "10.1.2.3", 8000, "/health"), id="http"),
        pytest.param(
            {"readinessProbe": {"httpGet": {"port": 1, "host": "h", "httpHeaders": [{"name": "A", "value": "é"}]}}},
            Probe("HTTP", "h", 1, headers=(("A", "é"),)),
            id="host-and-headers",
        ),
        pytest.param(
            {"readinessProbe": {"tcpSocket": {"port": "web"}}, "ports": [{"name": "web", "containerPort": 80}]},
            Probe("TCP", "10.1.2.3", 80),
            id="named-port",
        ),
        pytest.param(
            {"readinessProbe": {"grpc": {"port": 9000, "service": "model"}}},
            Probe("GRPC", "10.1.2.3", 9000, service="model"),
            id="grpc",
        ),
        pytest.param(
            {"readinessProbe": {"exec": {"command": ["sh", "-c", "test $(A)"]}, "timeoutSeconds": 3}},
            Probe("EXEC", timeout=3.0, command=("sh", "-c", "test $(A)")),
            id="a-program",
        ),
        pytest.param(
            {"readinessProbe": HTTP, "startupProbe": HTTP | {"initialDelaySeconds": 5, "failureThreshold": 30}},
            Probe("HTTP", "10.1.2.3", 8000, "/health", patience=305.0),
            id="as-patient-as-its-startup-probe",
        ),
        pytest.param(
            {"startupProbe": HTTP | {"periodSeconds": 60, "failureThreshold": 60}},
            Probe("HTTP", "10.1.2.3", 8000, "/health", patience=600.0),
            id="for-ten-minutes-at-most",
        ),
        pytest.param(
            {"startupProbe": HTTP | {"periodSeconds": 1}},
            Probe("HTTP", "10.1.2.3", 8000, "/health"),
            id="no-less-patient",
        ),
    ],
)
def test_a_probe_that_a_capture_takes_away_is_kept(fields, expected):
    assert expected == serving_probe(kept(fields), "10.1.2.3")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="none"),
        pytest.param({"livenessProbe": HTTP}, id="liveness"),
        pytest.param({"startupProbe": {"exec": {"command": [keys.STANDBY, "--gate", "/d", "1"]}}}, id="our-own-gate"),
    ],
)
def test_what_says_nothing_is_not_kept(fields):
    assert {} == keep_probe({"name": "main", **fields})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="no-json"),
        pytest.param("[]", id="no-object"),
        pytest.param({}, id="no-kind"),
        pytest.param({"kind": "FTP", "port": 1}, id="another-kind"),
        pytest.param({"kind": "TCP", "port": 1 << 16}, id="no-port"),
        pytest.param({"kind": "TCP", "port": 0}, id="port-zero"),
        pytest.param({"kind": "EXEC"}, id="no-command"),
        pytest.param({"kind": "EXEC", "command": [""]}, id="empty-command"),
        pytest.param({"kind": "EXEC", "command": ["a\0b"]}, id="nul"),
        pytest.param({"kind": "TCP", "port": 1, "timeout": 0}, id="no-time"),
        pytest.param({"kind": "TCP", "port": 1, "patience": 1e9}, id="for-ever"),
        pytest.param('{"kind": "TCP", "port": 1, "timeout": NaN}', id="no-number"),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_what_no_capture_has_kept_is_no_probe(value):
    env = [{"name": keys.ENV_PROBE, "value": value if isinstance(value, str) else json.dumps(value)}]
    assert serving_probe({"name": "main", "readinessProbe": HTTP, "env": env}, "10.1.2.3") is None
