"""Asks a worker whether it serves, from inside its own network namespace, as kubelet would."""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final

from agent.container.network import in_network
from agent.container.questions import commands
from contract.pods.probe import Probe
from linux.proc import PROC

REFUSED: Final = (OSError, http.client.HTTPException, ValueError)


def askable(probe: Probe | None, control: int) -> Probe | None:
    """Return the probe; None if it is a command, and standby is of a release that runs none.

    Args:
        probe: the worker's.
        control: descriptor of the container's control directory.
    """
    return None if probe is not None and probe.command and not commands.can_run(control) else probe


def problem(probe: Probe, init_pid: int, proc: Path = PROC) -> str | None:
    """Say why a probe of the network does not pass now; None if it does."""
    return in_network(init_pid, lambda: _problem_here(probe), proc)


def own_address() -> str:
    """Return the address that this network namespace sends from; nothing is sent."""
    for family, there in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # RFC 5737 and 3849
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((there, 9))
            return str(asking.getsockname()[0])
    return "127.0.0.1"


def _problem_here(probe: Probe) -> str | None:
    try:
        found = _ASKED_BY[probe.kind](probe)
    except REFUSED as error:
        found = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"port {probe.port}: {found}" if found else None


def _connects(probe: Probe) -> str | None:
    with socket.create_connection((probe.host, probe.port), probe.timeout):
        return None


def _answers(probe: Probe) -> str | None:
    with closing(connect(probe.kind, probe.host, probe.port, probe.timeout)) as connection:
        connection.connect()
        with hang_up_after(connection.sock, probe.timeout):
            connection.request("GET", probe.path, headers=dict(probe.headers))
            status = connection.getresponse().status
            passes = HTTPStatus.OK <= status < HTTPStatus.BAD_REQUEST
            return None if passes else f"GET {probe.path} is answered with status {status}"


def _serves_grpc(probe: Probe) -> str | None:
    from agent.container.questions import grpc_health  # noqa: PLC0415 - loads h2, which few workers need

    authority = f"[{probe.host}]:{probe.port}" if ":" in probe.host else f"{probe.host}:{probe.port}"
    try:
        with (
            socket.create_connection((probe.host, probe.port), probe.timeout) as connection,
            hang_up_after(connection, probe.timeout),
        ):
            grpc_health.check(connection, authority, probe.service, probe.timeout)
    except grpc_health.HealthError as error:
        return str(error)
    return None


_ASKED_BY: Final[Mapping[str, Callable[[Probe], str | None]]] = {
    "HTTP": _answers,
    "HTTPS": _answers,
    "TCP": _connects,
    "GRPC": _serves_grpc,
}


@contextmanager
def hang_up_after(connection: socket.socket, seconds: float) -> Iterator[None]:
    """End an open connection then: a worker that sends byte by byte would never run into the time limit of each."""
    late = threading.Timer(seconds, _hang_up, (connection,))
    late.start()
    try:
        yield
    finally:
        late.cancel()


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the worker was first
        connection.shutdown(socket.SHUT_RDWR)


def connect(scheme: str, host: str, port: int, timeout: float) -> http.client.HTTPConnection:
    """Return a connection that is not open yet."""
    if scheme == "HTTP":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    # As kubelet: the certificate is the worker's own affair.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
