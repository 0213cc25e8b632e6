"""Has standby run a command in its container: with the container's rights, since the agent's never enter it.

What the command writes comes through pipes and is bounded here; hanging up ends it, with all that it started.
"""

import os
import selectors
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from agent.container import standby_socket
from contract.api import control_files

LARGEST: Final = 16 << 20
"""Bytes of output that are read; a command could write without end."""
_ERRORS: Final = 4096
"""Of what it writes to standard error: the last line is shown."""
_SOCKET_SECONDS: Final = 1.0
"""How long after its claim a standby may take to make its socket."""
_PAUSE: Final = 0.02
_CHUNK: Final = 1 << 16
_SHOWN: Final = 200


class CommandError(Exception):
    """It could not be run, or did not end as a command should; the message says why."""

    def __init__(self, words: str, *, final: bool = False) -> None:
        super().__init__(words)
        self.final = final
        """Whether another try would end the same."""


@dataclass(frozen=True)
class Ended:
    """A command that came to its end."""

    status: int
    output: bytes
    complaint: str
    """The last line of its standard error, for people."""


def can_run(directory: int) -> bool:
    """Say whether the standby of that control directory runs commands; one of an earlier release does not."""
    end = time.monotonic() + _SOCKET_SECONDS
    while not (is_there := standby_socket.is_there(directory, control_files.COMMANDS)) and time.monotonic() < end:
        time.sleep(_PAUSE)
    return is_there


def run(command: Sequence[str], directory: int, init_pid: int, seconds: float) -> Ended:
    """Run a command and wait for its end; nothing of it is left then.

    Args:
        command: program and arguments, without a shell.
        directory: the container's control directory.
        init_pid: its standby.
        seconds: how long it may take.

    Raises:
        CommandError: it cannot be run, takes too long, or writes too much.
    """
    end = time.monotonic() + seconds
    with ExitStack() as stack:
        connection = standby_socket.connect(directory, control_files.COMMANDS, init_pid)
        if connection is None:
            raise CommandError("the container's snapshot-standby takes no commands", final=True)
        stack.enter_context(connection)
        with ExitStack() as during:  # its end is seen only when no writing end is ours
            streams = [_pipe(stack, during), _pipe(stack, during)]
            request = b"".join(word.encode() + b"\0" for word in command)
            try:
                socket.send_fds(connection, [request], [writing for _, writing in streams])
            except OSError as error:
                raise CommandError(f"standby cannot be asked: {error}") from error
        output, errors = (reading for reading, _ in streams)
        return _follow(connection, output, errors, end, seconds)


def _pipe(stack: ExitStack, during: ExitStack) -> tuple[int, int]:
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    during.callback(os.close, writing)
    os.set_blocking(reading, False)
    return reading, writing


def _follow(connection: socket.socket, output: int, errors: int, end: float, seconds: float) -> Ended:
    """Read both streams until standby says how it ended; all that was written is in them by then."""
    written = {output: bytearray(), errors: bytearray()}
    with selectors.DefaultSelector() as selector:
        for file in (connection, output, errors):
            selector.register(file, selectors.EVENT_READ)
        while True:
            events = selector.select(max(0.0, end - time.monotonic()))
            if not events or time.monotonic() > end:
                raise CommandError(f"the command takes longer than {seconds:g} s")
            if any(key.fileobj is connection for key, _ in events):
                answer = connection.recv(64)
                for stream, into in written.items():
                    _read_all(stream, into)
                return _ended(answer, bytes(written[output]), bytes(written[errors]))
            for key, _ in events:
                if not _read(key.fd, written[key.fd]):
                    selector.unregister(key.fd)
            _refuse_much(written[output])
            del written[errors][:-_ERRORS]


def _read(stream: int, into: bytearray) -> bool:
    """Read what is there; False at the end, or if there is nothing."""
    try:
        part = os.read(stream, _CHUNK)
    except BlockingIOError:
        return False
    into += part
    return bool(part)


def _read_all(stream: int, into: bytearray) -> None:
    """Read what is left in a pipe, which holds no more than the kernel lets it."""
    while _read(stream, into):
        _refuse_much(into)


def _refuse_much(output: bytearray) -> None:
    if len(output) > LARGEST:
        raise CommandError(f"the command writes more than {LARGEST >> 20} MiB", final=True)


def _ended(answer: bytes, output: bytes, errors: bytes) -> Ended:
    word, _, number = answer.decode("ascii", "replace").partition(" ")
    if word == "exited" and number.isdigit():
        return Ended(int(number), output, _last_line(errors))
    if word == "refused" and number.isdigit():
        raise CommandError(f"the command cannot be executed: {os.strerror(int(number))}", final=True)
    if word == "killed" and number.isdigit():
        raise CommandError(f"the command was ended by {_signal(int(number))}")
    if word == "left":
        raise CommandError("the command left processes that cannot be ended", final=True)
    raise CommandError("the command was lost: what runs it in the container has ended")


def _signal(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _last_line(errors: bytes) -> str:
    lines = errors.decode("utf-8", "replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return "".join(letter for letter in last if letter.isprintable())[:_SHOWN]
