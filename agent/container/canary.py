"""Asks a worker its canary from inside its own network namespace, and judges what it answers."""

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
from agent.container.probe import REFUSED, connect, hang_up_after, own_address
from contract.pods.canary import Canary, CanaryCall
from linux.proc import PROC

LARGEST: Final = 16 << 20
"""Bytes of an answer that are read; a worker could send without end."""


@dataclass(frozen=True)
class Answer:
    """What a worker answered."""

    status: int
    sha256: str
    """Of the body, or of what the canary selects in it."""


class NoAnswerError(Exception):
    """There is none that could be judged; the message says why."""


def ask(call: CanaryCall, init_pid: int, proc: Path = PROC) -> Answer:
    """Ask once, within the canary's seconds.

    Raises:
        NoAnswerError: nothing came that could be judged.
        OSError: the container has ended.
    """
    return in_network(init_pid, lambda: _ask_here(call), proc)


def wrong(canary: Canary, answer: Answer, source: str | None) -> str | None:
    """Say what is wrong with an answer; None if it is right.

    Args:
        canary: what was asked.
        answer: what came.
        source: sha256 of what the captured worker answered; None if it was not asked.
    """
    if answer.status != canary.status:
        return f"it answers with status {answer.status}, not {canary.status}"
    if canary.sha256 is not None and answer.sha256 != canary.sha256:
        return f"the sha256 of its answer is {answer.sha256}, not {canary.sha256}"
    if canary.same and source is not None and answer.sha256 != source:
        return "its answer is another than just before the capture"
    return None


def _ask_here(call: CanaryCall) -> Answer:
    canary = call.canary
    method, end = "GET" if canary.body is None else "POST", time.monotonic() + canary.seconds
    with closing(connect(canary.scheme, own_address(), call.port, canary.seconds)) as connection:
        try:
            connection.connect()
            with hang_up_after(connection, canary.seconds):
                connection.request(method, canary.path, body=call.body, headers=call.headers)
                return _answer(connection, canary, end)
        except REFUSED as error:
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise NoAnswerError(f"{method} {canary.path} on port {call.port}: {why}") from error


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
