"""Finds standby's socket: standby holds a worker's memory beside the page server, so neither's end leaves holes."""

import socket

from agent.container import standby_socket
from agent.executor.lock import ControlDir
from contract.api import control_files


def has_guard(control: ControlDir) -> bool:
    """Say whether there is a socket; whose it is, connecting to it says."""
    return standby_socket.is_there(control.directory, control_files.PAGES)


def connect_guard(control: ControlDir, init_pid: int) -> socket.socket | None:
    """Connect to the standby ``init_pid``; None if it has no socket, or another process made that one."""
    return standby_socket.connect(control.directory, control_files.PAGES, init_pid)
