"""The startup gate of a container that is to be restored: a startup probe that keeps its other probes off meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contract.api import keys
from contract.pods.probe import port_number

Json = dict[str, Any]

_PROBE_PERIOD: Final = 10
_LARGEST_INT32: Final = 2**31 - 1
_WAITING_PERIOD: Final = 2
"""Seconds between the questions to a container that may wait for days: each starts a program in it."""
_PROBE_FAILURES: Final = 3
_ASKED: Final = ("exec", "httpGet", "tcpSocket", "grpc")
"""Kubernetes' kinds of probes."""
_EXEC_SECONDS: Final = 1
"""What starting a program in the container may take beside the probe's own time."""


def startup_gate(container: Mapping[str, Any], directory: str, *, canary: bool = False, waits: bool = False) -> Json:
    """Return the startup probe that keeps the other probes off while a restore or a cold start runs.

    It asks what the container's own probe asks, every second, and gives up no earlier than that probe would have. If
    there is none it asks standby, which also knows of a cold start that could write no file.

    Args:
        container: the target.
        directory: its control directory.
        canary: whether the restored worker, though it listens, may not serve before it has answered a canary.
        waits: whether the container waits for its restore for as long as it takes. Its gate never gives up, and asks
            nothing before the wait is over: what else answers at the worker's port is not the worker.
    """
    own = container.get("startupProbe") or container.get("livenessProbe") or container.get("readinessProbe")
    if own is None:
        own = {} if canary or waits else {"exec": {"command": [keys.STANDBY, "--opened", directory]}}
        own |= {"timeoutSeconds": 1}
    gate = {key: value for key, value in own.items() if key != "initialDelaySeconds"}
    if (canary or waits) and not is_gate(own):
        gate = _behind_verdict(gate, container, directory)
    if waits:
        return gate | {"periodSeconds": _WAITING_PERIOD, "failureThreshold": _LARGEST_INT32, "successThreshold": 1}
    budget = int(own.get("initialDelaySeconds") or 0) + int(own.get("periodSeconds") or _PROBE_PERIOD) * int(
        own.get("failureThreshold") or _PROBE_FAILURES
    )
    return gate | {
        "periodSeconds": 1,
        # An int32 for the API server, which would refuse the whole pod for more.
        "failureThreshold": min(max(keys.STARTUP_FAILURE_THRESHOLD, budget), _LARGEST_INT32),
        "successThreshold": 1,
    }


def is_gate(probe: Mapping[str, Any]) -> bool:
    """Say whether a probe is the gate already: a shaped pod may be shaped again."""
    command = (probe.get("exec") or {}).get("command") or ()
    return list(command[:2]) in ([keys.STANDBY, "--gate"], [keys.STANDBY, "--opened"])


def _behind_verdict(probe: Json, container: Mapping[str, Any], directory: str) -> Json:
    """Have standby ask what the probe asks, once a verdict is there."""
    seconds = int(probe.get("timeoutSeconds") or 1)
    words = [keys.STANDBY, "--gate", directory, str(seconds), *_question(probe, container)]
    rest = {key: value for key, value in probe.items() if key not in _ASKED}
    return rest | {"exec": {"command": words}, "timeoutSeconds": seconds + _EXEC_SECONDS}


def _question(probe: Mapping[str, Any], container: Mapping[str, Any]) -> list[str]:
    """Return standby's words for a probe; HTTPS and gRPC become: does it listen."""
    if command := (probe.get("exec") or {}).get("command"):
        return ["exec", *command]
    http: Mapping[str, Any] = probe.get("httpGet") or {}
    asked = http or probe.get("tcpSocket") or probe.get("grpc") or {}
    port = port_number(asked.get("port"), container.get("ports") or ())
    if port is None:
        return []
    if not http or http.get("scheme") == "HTTPS":
        return ["tcp", str(asked.get("host") or ""), str(port)]
    return ["http", str(http.get("host") or ""), str(port), _request(http, port)]


def _request(http: Mapping[str, Any], port: int) -> str:
    headers = {"Host": f"{http.get('host') or 'localhost'}:{port}", "User-Agent": "kube-probe", "Accept": "*/*"}
    headers |= {str(header.get("name")): str(header.get("value", "")) for header in http.get("httpHeaders") or ()}
    lines = [f"GET {http.get('path') or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""])
