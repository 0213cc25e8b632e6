"""What is fuzzed: each target takes bytes and raises if a promise is broken.

A refusal that the reader documents is no finding; any other exception is one, as is an answer that breaks a rule
which holds for every input. Nothing here needs the fuzzing engine, so unit tests run the seeds through all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import jsonpatch
import orjson
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser

from contract.config.values import Values, ValuesError, load_values
from fuzz import readers
from webhook.http_fast_path import FastPath, HeaderCache, Reply
from webhook.review import LABELS, Answer, BadReviewError, answer

Json = Any
Target = Callable[[bytes], None]

VALUES: Final = tuple(
    map(
        load_values,
        (
            "{placeholder: {mode: inject}, startupPolicy: WaitForCheckpoint, storage: {accessMode: podMount}}",
            "",
            "{checkpoint: {seccomp: {disabled: true}}, placeholder: {images: {example.test/a: example.test/b}}}",
        ),
    )
)
"""Installations that take different ways through the decision."""
LARGEST_ANSWER: Final = 64 << 10
"""Bytes that an answer may have beyond some times its pod."""
OURS: Final = ("/metadata/annotations/nvidia.com~1", "/metadata/labels/nvidia.com~1")
PATH: Final = "/admit"
BODY_LIMIT: Final = 4096


def admission(body: bytes) -> None:
    """Post any body: it gets an answer for its uid, or a refusal that says why."""
    _ask(body, lambda *_: None, VALUES[0])


def decision(text: bytes) -> None:
    """Decide about ``[pod, DynamoCheckpoint, installation]``: both objects hostile, the review itself well-formed."""
    try:
        pod, checkpoint, which = orjson.loads(text)
        values = VALUES[which % len(VALUES)]
    except (ValueError, TypeError):
        return
    request = {"uid": "u", "operation": "CREATE", "namespace": "ns", "object": pod}
    body = orjson.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
    stored = checkpoint if readers.storable(checkpoint) else None
    first = _ask(body, lambda *_: stored, values)
    if first is not None:
        _apply(pod, orjson.loads(first.body)["response"])


def _ask(body: bytes, lookup: Callable[[str, str], Json], values: Values) -> Answer | None:
    try:
        found = answer(body, lookup, values)
    except BadReviewError as refusal:
        assert str(refusal), "a refusal must say why"
        return None
    response = orjson.loads(found.body)["response"]
    assert orjson.loads(body)["request"]["uid"] == response["uid"], "the answer is for another request"
    assert found.label in LABELS, f"label {found.label} is not of the closed list"
    assert len(found.body) <= LARGEST_ANSWER + 8 * len(body), "the answer outgrows its question"
    return found


def _apply(pod: Json, response: Json) -> None:
    """Check that the API server can apply what was answered, and that all it removes is ours."""
    operations = orjson.loads(readers.unbase64(response.get("patch", "")) or b"[]")
    for operation in operations:
        path = operation["path"]
        assert operation["op"] in ("add", "replace") or path.startswith(OURS), f"{operation['op']} {path}"
        assert path.startswith(("/metadata/labels", "/metadata/annotations", "/spec/")), path
    jsonpatch.apply_patch(pod, operations)


class _Desk:
    """Notes what the short way answered."""

    path = PATH
    body_limit = BODY_LIMIT
    takes_plain = True

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def reply(self, body: bytes) -> Reply:
        self.asked.append(body)
        return Reply(HTTPStatus.OK, "text/plain", b"ok")


class _General(asyncio.Protocol):
    """Notes what the short way left to the general server."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


class _Nowhere(asyncio.Transport):
    """Answers go nowhere."""

    def write(self, data: Any) -> None:  # noqa: ANN401 - as the base class has it
        assert data


def fast_lane(text: bytes) -> None:
    """Send a stream; the first two bytes say where it is cut.

    Cuts change nothing, and what the short way answers is what a general HTTP parser would have made of it: if the
    two disagreed about the end of a request, bytes of one client could pass for another's.
    """
    cut, stream = int.from_bytes(text[:2], "big"), text[2:]
    bodies, left = _travel(stream)
    at = cut % (len(stream) + 1)
    assert (bodies, left) == _travel(stream[:at], stream[at:]), "where the stream is cut makes a difference"
    assert bodies == _parsed(stream[: len(stream) - left]), "another parser reads other bodies"


def _travel(*parts: bytes) -> tuple[list[bytes], int]:
    """Return the bodies that were answered, and how many bytes were not."""
    desk, general = _Desk(), _General()
    lane = FastPath(desk, HeaderCache(PATH), general, lambda: b"now")
    lane.connection_made(_Nowhere())
    for part in parts:
        lane.data_received(part)
    lane.eof_received()
    return desk.asked, len(general.received)


_LOOP: Final = asyncio.new_event_loop()


def _parsed(stream: bytes) -> list[bytes]:
    parser = HttpRequestParser(BaseProtocol(_LOOP), _LOOP, 2**16)
    messages, upgraded, rest = parser.feed_data(stream)
    assert not upgraded
    assert not rest
    for message, _ in messages:
        assert message.method == "POST"
        assert message.path.partition("?")[0] == PATH
        assert not message.chunked
        assert not message.should_close
    return [payload.read_nowait(-1) for _, payload in messages]


def words(text: bytes) -> None:
    """Read the text by the reader that its first byte picks: of what a worker, an agent, an image or a person wrote."""
    if text:
        readers.READERS[text[0] % len(readers.READERS)](text[1:])


def values(text: bytes) -> None:
    """Load the chart's values: read, or refused with every problem."""
    try:
        load_values(text.decode("utf-8", "replace"))
    except ValuesError as error:
        assert error.problems, "a refusal must say why"


TARGETS: Final[dict[str, Target]] = {
    each.__name__.replace("_", "-"): each for each in (admission, decision, fast_lane, words, values)
}
