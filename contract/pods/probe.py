"""A container's probe, as far as it can be asked from outside the container."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

SECONDS: Final = 1.0
"""Kubernetes' own default of timeoutSeconds."""


@dataclass(frozen=True)
class Probe:
    """An HTTP or TCP probe."""

    kind: Literal["HTTP", "HTTPS", "TCP"]
    host: str
    port: int
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float = SECONDS


def serving_probe(container: Mapping[str, Any], pod_ip: str) -> Probe | None:
    """Return the probe that says that the container serves; None if it has none, or one that runs a program.

    Args:
        container: of a pod's spec.
        pod_ip: whom to ask if the probe names no host.
    """
    for name in ("readinessProbe", "startupProbe"):
        found: Mapping[str, Any] = container.get(name) or {}
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


def port_number(port: object, ports: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the number of a port that may be given by name; None if no port has that name."""
    if isinstance(port, int):
        return port
    if isinstance(port, str) and port.isdecimal():
        return int(port)
    return next((int(each["containerPort"]) for each in ports if each.get("name") == port), None)
