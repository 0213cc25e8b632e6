"""A container's probe, as far as it can be asked without kubelet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal

from contract.api import control_files

SECONDS: Final = 1.0
"""Kubernetes' own default of timeoutSeconds."""


@dataclass(frozen=True)
class Probe:
    """A probe by HTTP, TCP, gRPC or a command."""

    kind: Literal["HTTP", "HTTPS", "TCP", "GRPC", "EXEC"]
    host: str = ""
    port: int = 0
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float = SECONDS
    """Seconds."""
    command: tuple[str, ...] = ()
    """Of an exec probe."""
    service: str = ""
    """Of a gRPC probe: what its health service is asked for; empty: the server as a whole."""


def serving_probe(container: Mapping[str, Any], pod_ip: str) -> Probe | None:
    """Return the probe that says that the container serves: by HTTP or TCP before gRPC, and before a program.

    None if it has none, or only those that a capture gives it.

    Args:
        container: of a pod's spec.
        pod_ip: whom to ask if the probe names no host.
    """
    probes = [container.get(name) or {} for name in ("readinessProbe", "startupProbe")]
    return _of_network(probes, container, pod_ip) or _of_grpc(probes, pod_ip) or _of_command(probes)


def _of_network(probes: Sequence[Mapping[str, Any]], container: Mapping[str, Any], pod_ip: str) -> Probe | None:
    for found in probes:
        if what := found.get("httpGet") or found.get("tcpSocket"):
            port = port_number(what.get("port"), container.get("ports") or ())
            if port is None:
                continue
            http = "httpGet" in found
            return Probe(
                kind=("HTTPS" if what.get("scheme") == "HTTPS" else "HTTP") if http else "TCP",
                host=str(what.get("host") or pod_ip or "127.0.0.1"),
                port=port,
                path=str(what.get("path") or "/"),
                headers=tuple((str(h.get("name")), str(h.get("value", ""))) for h in what.get("httpHeaders") or ()),
                timeout=float(found.get("timeoutSeconds") or SECONDS),
            )
    return None


def _of_grpc(probes: Sequence[Mapping[str, Any]], pod_ip: str) -> Probe | None:
    for found in probes:
        if what := found.get("grpc"):
            timeout = float(found.get("timeoutSeconds") or SECONDS)
            service = str(what.get("service") or "")
            return Probe("GRPC", pod_ip or "127.0.0.1", int(what["port"]), timeout=timeout, service=service)
    return None


def _of_command(probes: Sequence[Mapping[str, Any]]) -> Probe | None:
    for found in probes:
        command = tuple(map(str, (found.get("exec") or {}).get("command") or ()))
        # The file that says that a worker is ready for its snapshot says nothing of a restored one.
        if command and PurePosixPath(command[-1]).name != control_files.READY_FOR_SNAPSHOT:
            return Probe("EXEC", timeout=float(found.get("timeoutSeconds") or SECONDS), command=command)
    return None


def port_number(port: object, ports: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the number of a port that may be given by name; None if no port has that name."""
    if isinstance(port, int):
        return port
    if isinstance(port, str) and port.isdecimal():
        return int(port)
    return next((int(each["containerPort"]) for each in ports if each.get("name") == port), None)
