"""A container's probe, as far as it can be asked without kubelet.

A capture that waits for the ready file gives the container a probe for that file, in place of its own. What its own
would have asked is kept in its environment, for the proof: no update of a pod can change that, and a command is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from contract.api import control_files, keys
from contract.config import patterns

SECONDS: Final = 1.0
"""Kubernetes' own default of timeoutSeconds."""
PATIENCE: Final = 60.0
_MOST_PATIENCE: Final = 600.0
_PERIOD: Final = 10
_FAILURES: Final = 3
"""Kubernetes' own defaults of periodSeconds and failureThreshold."""
_REFERENCE: Final = re.compile(r"\$\$|\$\(([^)]*)\)")
_Text = Annotated[str, Field(pattern=patterns.NO_NUL)]


@dataclass(frozen=True)
class Probe:
    """A probe by HTTP, TCP, gRPC or a command."""

    kind: Literal["HTTP", "HTTPS", "TCP", "GRPC", "EXEC"]
    host: _Text = ""
    port: Annotated[int, Field(ge=0, lt=1 << 16)] = 0
    path: _Text = "/"
    headers: tuple[tuple[_Text, _Text], ...] = ()
    timeout: Annotated[float, Field(gt=0, le=86_400)] = SECONDS
    """Seconds of each time that it is asked."""
    command: tuple[_Text, ...] = ()
    """Of an exec probe."""
    service: _Text = ""
    """Of a gRPC probe: what its health service is asked for; empty: the server as a whole."""
    patience: Annotated[float, Field(gt=0, le=_MOST_PATIENCE)] = PATIENCE
    """Seconds within which it has to pass once its worker was restored."""


_KEPT: Final = TypeAdapter(Probe)


def serving_probe(container: Mapping[str, Any], pod_ip: str) -> Probe | None:
    """Return the probe that says that the container serves: by HTTP or TCP before gRPC, and before a program.

    None if it has none but those that a capture gives it, and none is kept.

    Args:
        container: of a pod's spec.
        pod_ip: whom to ask if the probe names no host.
    """
    kept = next((each for each in container.get("env") or () if each.get("name") == keys.ENV_PROBE), None)
    found = _own(container) if kept is None else _read(str(kept.get("value") or ""))
    if found is None or found.kind == "EXEC":
        return found
    return replace(found, host=found.host or pod_ip or "127.0.0.1")


def keep_probe(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment that keeps a container's probe while a capture has its own there; empty if it has none.

    A worker that says itself when it is to be captured may still have much to do then, so the probe has as long to pass
    as its startup probe would give it.

    Raises:
        AttributeError, TypeError, ValueError: a probe is not of Kubernetes' shape.
    """
    if (probe := _own(container)) is None:
        return {}
    probe = replace(probe, patience=_patience(container.get("startupProbe") or {}))
    said = {each.name: getattr(probe, each.name) for each in fields(probe)}
    usual = {each.name: each.default for each in fields(probe)}
    return {keys.ENV_PROBE: json.dumps({name: value for name, value in said.items() if value != usual[name]})}


def _patience(startup: Mapping[str, Any]) -> float:
    if not startup:
        return PATIENCE
    tries = int(startup.get("failureThreshold") or _FAILURES) * int(startup.get("periodSeconds") or _PERIOD)
    return min(max(PATIENCE, float(int(startup.get("initialDelaySeconds") or 0) + tries)), _MOST_PATIENCE)


def _read(text: str) -> Probe | None:
    """Read what a capture has kept; what it cannot have written is no probe."""
    try:
        probe = _KEPT.validate_json(text)
    except ValidationError:
        return None
    can_be_asked = probe.port > 0 if probe.kind != "EXEC" else any(probe.command[:1])
    return probe if can_be_asked else None


def _own(container: Mapping[str, Any]) -> Probe | None:
    probes = [container.get(name) or {} for name in ("readinessProbe", "startupProbe")]
    return _of_network(probes, container) or _of_grpc(probes) or _of_command(probes, container)


def _of_network(probes: Sequence[Mapping[str, Any]], container: Mapping[str, Any]) -> Probe | None:
    for found in probes:
        if what := found.get("httpGet") or found.get("tcpSocket"):
            port = port_number(what.get("port"), container.get("ports") or ())
            if port is None:
                continue
            http = "httpGet" in found
            return Probe(
                kind=("HTTPS" if what.get("scheme") == "HTTPS" else "HTTP") if http else "TCP",
                host=str(what.get("host") or ""),
                port=port,
                path=str(what.get("path") or "/"),
                headers=tuple((str(h.get("name")), str(h.get("value", ""))) for h in what.get("httpHeaders") or ()),
                timeout=_timeout(found),
            )
    return None


def _of_grpc(probes: Sequence[Mapping[str, Any]]) -> Probe | None:
    for found in probes:
        what = found.get("grpc") or {}
        if port := port_number(what.get("port"), ()):
            return Probe("GRPC", port=port, timeout=_timeout(found), service=str(what.get("service") or ""))
    return None


def _of_command(probes: Sequence[Mapping[str, Any]], container: Mapping[str, Any]) -> Probe | None:
    for found in probes:
        command = tuple(map(str, (found.get("exec") or {}).get("command") or ()))
        if command and not _is_ours(command):
            return Probe("EXEC", timeout=_timeout(found), command=_expanded(command, container.get("env") or ()))
    return None


def _expanded(command: Iterable[str], env: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return a command as kubelet runs it: with the values that the spec itself gives its variables."""
    values = {str(each.get("name")): str(each.get("value") or "") for each in env}

    def value(found: re.Match[str]) -> str:
        return "$" if found[1] is None else values.get(found[1], found[0])

    return tuple(_REFERENCE.sub(value, word) for word in command)


def _is_ours(command: Sequence[str]) -> bool:
    """Say whether it asks standby, or for the file that says that a worker is ready for its snapshot.

    Neither says anything of a restored worker.
    """
    return command[0] == keys.STANDBY or PurePosixPath(command[-1]).name == control_files.READY_FOR_SNAPSHOT


def _timeout(probe: Mapping[str, Any]) -> float:
    return float(probe.get("timeoutSeconds") or SECONDS)


def port_number(port: object, ports: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the number of a port that may be given by name; None if no port has that name."""
    if isinstance(port, int):
        return port
    if isinstance(port, str) and port.isdecimal():
        return int(port)
    return next((int(each["containerPort"]) for each in ports if each.get("name") == port), None)
