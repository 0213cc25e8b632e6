"""Asks a worker its canary, from its own network namespace or by a command in its container, and judges the answer."""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from jsonpointer import JsonPointerException, resolve_pointer

from agent.container.network import in_network
from agent.container.questions import commands
from agent.container.questions.probe import REFUSED, connect, hang_up_after, own_address
from contract.api import keys
from contract.pods.canary import Canary, CanaryCall
from linux.proc import PROC

LARGEST: Final = 16 << 20
"""Bytes of an answer that are read; a worker could send without end."""


@dataclass(frozen=True)
class Answer:
    """What a worker answered."""

    status: int
    sha256: str
    """Of the body or the output, or of what the canary selects in it."""
    complaint: str = ""
    """What a command says to people."""


class NoAnswerError(Exception):
    """There is none that could be judged; the message says why."""

    def __init__(self, words: str, *, final: bool = False) -> None:
        super().__init__(words)
        self.final = final
        """Whether there will be none if it is asked again."""


def ask(call: CanaryCall, init_pid: int, control: int, proc: Path = PROC) -> Answer:
    """Ask once, within the canary's seconds.

    Args:
        call: what to ask.
        init_pid: the container's standby.
        control: descriptor of its control directory.
        proc: where processes show.

    Raises:
        NoAnswerError: nothing came that could be judged.
        OSError: the container has ended.
    """
    if (command := call.canary.exec) is not None:
        return _run(call.canary, command.command, init_pid, control)
    return in_network(init_pid, lambda: _ask_here(call), proc)


def cannot_ask(call: CanaryCall | None, control: int) -> str | None:
    """Say why a container cannot be asked, whatever its worker does; None if it can."""
    if call is None or call.canary.exec is None or commands.can_run(control):
        return None
    return (
        f"annotation {keys.ANN_CANARY} names a command, and the container's snapshot-standby is of a release that runs "
        "none: build the placeholder image, or the image with the tools, again"
    )


def _run(canary: Canary, command: Sequence[str], init_pid: int, control: int) -> Answer:
    try:
        ended = commands.run(command, control, init_pid, canary.seconds)
    except commands.CommandError as error:
        raise NoAnswerError(f"{command[0]}: {error}", final=error.final) from error
    if ended.status != canary.status:
        return Answer(ended.status, "", ended.complaint)  # what it wrote is seldom what the pointers expect
    return Answer(ended.status, hashlib.sha256(_selected(ended.output, canary.select)).hexdigest())


def wrong(canary: Canary, answer: Answer, source: str | None) -> str | None:
    """Say what is wrong with an answer; None if it is right.

    Args:
        canary: what was asked.
        answer: what came.
        source: sha256 of what the captured worker answered; None if it was not asked.
    """
    if answer.status != canary.status:
        who = "it answers" if canary.exec is None else f"{canary.exec.command[0]} ends"
        said = f": {answer.complaint}" if answer.complaint else ""
        return f"{who} with status {answer.status}, not {canary.status}{said}"
    if canary.sha256 is not None and answer.sha256 != canary.sha256:
        return f"the sha256 of its answer is {answer.sha256}, not {canary.sha256}"
    if canary.same and source is not None and answer.sha256 != source:
        return "its answer is another than just before the capture"
    return None


def _ask_here(call: CanaryCall) -> Answer:
    canary = call.canary
    path = canary.path or "/"
    method, end = "GET" if canary.body is None else "POST", time.monotonic() + canary.seconds
    with closing(connect(canary.scheme, own_address(), call.port, canary.seconds)) as connection:
        try:
            connection.connect()
            with hang_up_after(connection.sock, canary.seconds):
                connection.request(method, path, body=call.body, headers=call.headers)
                return _answer(connection, canary, end)
        except REFUSED as error:
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise NoAnswerError(f"{method} {path} on port {call.port}: {why}") from error


def _answer(connection: HTTPConnection, canary: Canary, end: float) -> Answer:
    response = connection.getresponse()
    body = response.read(LARGEST + 1)
    if len(body) > LARGEST:
        raise NoAnswerError(f"its answer is longer than {LARGEST >> 20} MiB")
    if time.monotonic() > end:  # an answer without a length ends where we hung up, as if it were whole
        raise NoAnswerError(f"its answer takes longer than {canary.seconds:g} s")
    if response.status != canary.status:
        return Answer(response.status, "")  # an error is seldom of the shape that the pointers expect
    return Answer(response.status, hashlib.sha256(_selected(body, canary.select)).hexdigest())


def _selected(body: bytes, pointers: Sequence[str]) -> bytes:
    if not pointers:
        return body
    try:
        document: Any = json.loads(body)
        found = [resolve_pointer(document, pointer) for pointer in pointers]
        return json.dumps(found, sort_keys=True).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NoAnswerError(f"its answer cannot be read as JSON: {error}") from error
    except JsonPointerException as error:
        raise NoAnswerError(f"its answer lacks what select names: {error}") from error
