"""Asks a worker whether it serves, from inside its own network namespace, as kubelet would."""

import http.client
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Final

from contract.pods.probe import Probe
from linux import syscalls
from linux.proc import PROC
from linux.sock_diag import end_time_wait

REFUSED: Final = (OSError, http.client.HTTPException, ValueError)


def passes(probe: Probe, init_pid: int, proc: Path = PROC) -> bool:
    """Say whether the probe passes now."""

    def ask() -> bool:
        _enter_network(init_pid, proc)
        try:
            return _connects(probe) if probe.kind == "TCP" else _answers(probe)
        except REFUSED:
            return False

    with ThreadPoolExecutor(1, thread_name_prefix="probe") as thread:  # it stays in that network, so it is used once
        return thread.submit(ask).result()


def free_ports(init_pid: int, proc: Path = PROC) -> None:
    """End connections in TIME_WAIT in a container's network: a listener could not bind its port again."""

    def end() -> None:
        _enter_network(init_pid, proc)
        end_time_wait()

    with ThreadPoolExecutor(1, thread_name_prefix="ports") as thread:
        thread.submit(end).result()


def _enter_network(init_pid: int, proc: Path) -> None:
    with (proc / str(init_pid) / "ns/net").open() as network:
        syscalls.setns(network.fileno())


def _connects(probe: Probe) -> bool:
    with socket.create_connection((probe.host, probe.port), probe.timeout):
        return True


def _answers(probe: Probe) -> bool:
    with closing(_connection(probe)) as connection:
        connection.connect()
        # A worker that sends its answer byte by byte would never run into the time limit of each.
        late = threading.Timer(probe.timeout, connection.sock.shutdown, (socket.SHUT_RDWR,))
        late.start()
        try:
            connection.request("GET", probe.path, headers=dict(probe.headers))
            return HTTPStatus.OK <= connection.getresponse().status < HTTPStatus.BAD_REQUEST
        finally:
            late.cancel()


def _connection(probe: Probe) -> http.client.HTTPConnection:
    if probe.kind == "HTTP":
        return http.client.HTTPConnection(probe.host, probe.port, timeout=probe.timeout)
    # As kubelet: the certificate is the worker's own affair.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(probe.host, probe.port, timeout=probe.timeout, context=context)
