"""The startup gate of a container that is to be restored: a startup probe that keeps its other probes off meanwhile.

It costs a pod one look of kubelet, a second or two, so a container that needs none gets none:
docs/decisions/0028-no-gate-where-readiness-is-one.md.
"""

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
_WAIT_SECONDS: Final = 1
"""How long standby waits for a verdict before it fails the probe: as long as until kubelet's next look."""


def startup_gate(
    container: Mapping[str, Any], directory: str, *, canary: bool = False, waits: bool = False
) -> Json | None:
    """Return the startup probe that keeps the other probes off while a restore or a cold start runs; None: none needed.

    It asks what the container's own probe asks, every second, and gives up no earlier than that probe would have. If
    there is none it asks standby, which also knows of a cold start that could write no file.

    Args:
        container: the target.
        directory: its control directory.
        canary: whether the restored worker, though it answers, may not serve before it has answered a canary.
        waits: whether the container waits for its restore for as long as it takes. Its gate never gives up, and asks
            nothing before the wait is over: what else answers at the worker's port is not the worker.
    """
    own = container.get("startupProbe") or container.get("livenessProbe")
    readiness = container.get("readinessProbe")
    is_behind = canary or waits
    if own is None and not is_behind and _is_answered_by_worker(readiness or {}):
        return None
    own = own or readiness or {}
    gate = {key: value for key, value in own.items() if key != "initialDelaySeconds"}
    if (is_behind or _may_pass_before(own)) and not is_gate(own):
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


def _is_answered_by_worker(readiness: Mapping[str, Any]) -> bool:
    """Say whether a readiness probe asks for an answer from the pod's own address: only an awake worker gives one."""
    http = readiness.get("httpGet")
    return "grpc" in readiness or (http is not None and not http.get("host"))


def _may_pass_before(probe: Mapping[str, Any]) -> bool:
    """Say whether a probe may pass before its worker is awake.

    The kernel accepts connections as soon as criu has made the socket; what a program looks at may be left of before.
    """
    tcp = probe.get("tcpSocket")
    # Standby resolves no names, so it leaves a host to kubelet.
    return "exec" in probe or (tcp is not None and not tcp.get("host")) or not set(_ASKED) & probe.keys()


def is_gate(probe: Mapping[str, Any]) -> bool:
    """Say whether a probe is the gate already: a shaped pod may be shaped again."""
    command = (probe.get("exec") or {}).get("command") or ()
    return list(command[:2]) in ([keys.STANDBY, "--gate"], [keys.STANDBY, "--opened"])


def _behind_verdict(probe: Json, container: Mapping[str, Any], directory: str) -> Json:
    """Have standby ask what the probe asks, once a verdict is there."""
    seconds = int(probe.get("timeoutSeconds") or 1)
    words = [keys.STANDBY, "--gate", directory, str(seconds), *_question(probe, container)]
    rest = {key: value for key, value in probe.items() if key not in _ASKED}
    return rest | {"exec": {"command": words}, "timeoutSeconds": seconds + _EXEC_SECONDS + _WAIT_SECONDS}


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
