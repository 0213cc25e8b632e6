import asyncio
from http import HTTPStatus
from itertools import pairwise
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from contract.config.values import load_values
from tests.support.builders.objects import ready, review
from tests.support.builders.pods import random_pod
from webhook.http_fast_path import HEAD_LIMIT, KNOWN_HEADS, DateHeader, FastPath, HeaderCache, Reply, plain_length
from webhook.metrics import Metrics
from webhook.review import answer
from webhook.server import Edge

PATH = "/admit"
LIMIT = 1000
HEAD = b"POST /admit?timeout=2s HTTP/1.1\r\nHost: webhook\r\nAccept-Encoding: gzip\r\nContent-Length: %d"


class Desk:
    """Answers with the body it was asked with."""

    path = PATH
    body_limit = LIMIT
    takes_plain = True

    def __init__(self):
        self.asked = []

    def reply(self, body):
        self.asked.append(body)
        return Reply(HTTPStatus.OK, "application/json", b"<" + body + b">")


class General(asyncio.Protocol):
    """Notes what it is handed."""

    def __init__(self):
        self.received = b""
        self.calls = []

    def connection_made(self, _):
        self.calls.append("made")

    def connection_lost(self, _):
        self.calls.append("lost")

    def data_received(self, data):
        self.received += data

    def eof_received(self):
        self.calls.append("eof")

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")


class Transport(asyncio.Transport):
    """Notes what is written."""

    def __init__(self):
        super().__init__()
        self.written = b""

        self.aborted = False

    def write(self, data):
        self.written += data

    def abort(self):
        self.aborted = True


class Lane:
    """A connection and all that it touches."""

    def __init__(self, desk=None):
        self.desk, self.general, self.transport = desk or Desk(), General(), Transport()
        self.connection = FastPath(self.desk, HeaderCache(PATH), self.general, lambda: b"now")
        self.connection.connection_made(self.transport)

    def receive(self, *parts):
        for part in parts:
            self.connection.data_received(part)
        return self


def request(body, head=HEAD):
    return head % len(body) + b"\r\n\r\n" + body


def answered(body):
    length = len(body) + 2
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: now\r\n\r\n" % length
    return head + b"<" + body + b">"


def test_a_plain_request_is_answered_at_once():
    lane = Lane().receive(request(b"review"))
    assert answered(b"review") == lane.transport.written
    assert lane.general.received == b""


PART, WHOLE = request(b"review")[:-1], request(b"review")


@pytest.mark.parametrize(
    ("expected", "between"),
    [
        pytest.param([False, True], [PART, b""], id="nothing-more-comes"),
        pytest.param([False, True], [PART[:9], PART[9:]], id="drop-by-drop"),
        pytest.param([False, False], [PART, b"w"], id="it-came"),
        pytest.param([False, False], [PART, b"w" + PART], id="the-next-one-has-begun"),
        pytest.param([False, False], [WHOLE, PART], id="it-has-just-begun"),
        pytest.param([False, False], [b"", b""], id="idle"),
        pytest.param([False, False, True], [b"", PART, b""], id="idle-before"),
    ],
)
def test_a_connection_is_closed_where_a_request_arrives_for_two_looks(expected, between):
    lane = Lane()
    assert expected == [lane.receive(data).connection.close_if_stalled() for data in between]
    assert expected[-1] == lane.transport.aborted


def test_an_empty_body_is_a_body():
    assert answered(b"") == Lane().receive(request(b"")).transport.written


@given(
    bodies=st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    cuts=st.lists(st.integers(min_value=0, max_value=1000), max_size=12),
)
def test_however_the_bytes_are_cut_the_answers_are_the_same_and_in_order(bodies, cuts):
    stream = b"".join(request(body) for body in bodies)
    edges = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    lane = Lane().receive(*(stream[start:end] for start, end in pairwise(edges)))
    assert b"".join(answered(body) for body in bodies) == lane.transport.written
    assert bodies == lane.desk.asked
    assert lane.general.received == b""


ODD = [
    pytest.param(b"GET /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 0", id="other-method"),
    pytest.param(b"POST /other HTTP/1.1\r\nHost: w\r\nContent-Length: 0", id="other-path"),
    pytest.param(b"POST /admit HTTP/1.0\r\nHost: w\r\nContent-Length: 0", id="other-version"),
    pytest.param(b"POST  /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 0", id="two-spaces"),
    pytest.param(b"POST /admit x HTTP/1.1\r\nHost: w\r\nContent-Length: 0", id="space-in-target"),
    pytest.param(b"nonsense", id="not-http"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w", id="no-length"),
    pytest.param(b"POST /admit HTTP/1.1\r\nContent-Length: 0", id="no-host"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: -1", id="negative-length"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 1_0", id="length-with-separator"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 12345678901", id="endless-length"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: %d" % (LIMIT + 1), id="too-large"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\ncontent-length: 5", id="two-lengths"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked", id="chunked"),
    pytest.param(
        b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\nTransfer-Encoding: chunked", id="length-and-chunked"
    ),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\nExpect: 100-continue", id="expect"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\nConnection: close", id="close"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\nContent-Encoding: gzip", id="compressed"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\n folded\r\nContent-Length: 0", id="folded-header"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length : 0", id="space-before-colon"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\nX: y\r\nContent-Length: 0", id="bare-line-feed"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\nX: a\x0bb", id="control-character"),
    pytest.param(b"POST /admit HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\nX: a\0b", id="nul-in-header"),
    pytest.param(b"POST /admit?a\0b HTTP/1.1\r\nHost: w\r\nContent-Length: 0", id="nul-in-target"),
    pytest.param(b"POST /admit?\xff HTTP/1.1\r\nHost: w\r\nContent-Length: 0", id="not-ascii"),
]


@pytest.mark.parametrize("head", ODD)
def test_what_is_not_plain_goes_to_the_general_server_for_good(head):
    odd = head + b"\r\n\r\n"
    lane = Lane().receive(request(b"first"), odd + request(b"second"), request(b"third"))
    assert answered(b"first") == lane.transport.written
    assert odd + request(b"second") + request(b"third") == lane.general.received


def test_a_head_without_end_is_not_kept():
    lane = Lane().receive(b"x" * (HEAD_LIMIT - 1))
    assert lane.general.received == b""
    assert b"x" * HEAD_LIMIT == lane.receive(b"x").general.received


def test_while_draining_the_general_server_answers():
    lane = Lane()
    lane.desk.takes_plain = False
    assert request(b"review") == lane.receive(request(b"review")).general.received


def test_a_request_cut_by_draining_is_not_lost():
    whole = request(b"review")
    lane = Lane().receive(whole[:-2])
    lane.desk.takes_plain = False
    assert whole == lane.receive(whole[-2:]).general.received


def test_a_client_that_does_not_read_is_left_to_the_general_server():
    lane = Lane()
    lane.connection.pause_writing()
    lane.connection.resume_writing()
    lane.receive(request(b"review"))
    assert ["made", "pause", "resume"] == lane.general.calls
    assert request(b"review") == lane.general.received


def test_an_unfinished_request_is_handed_over_with_the_end_of_the_stream():
    lane = Lane().receive(request(b"review")[:-1])
    lane.connection.eof_received()
    assert request(b"review")[:-1] == lane.general.received
    assert ["made", "eof"] == lane.general.calls


def test_a_lost_connection_ends_both():
    lane = Lane().receive(request(b"review")[:-1])
    lane.connection.connection_lost(None)
    assert ["made", "lost"] == lane.general.calls
    assert lane.general.received == b""


def test_remembered_heads_are_bounded():
    heads = HeaderCache(PATH)
    for number in range(3 * KNOWN_HEADS):
        assert number == heads.length(HEAD % number)
    assert len(heads._known) <= KNOWN_HEADS


@given(st.binary(max_size=200))
def test_no_head_is_too_strange_to_be_judged(head):
    assert -1 == plain_length(head, PATH.encode())


def test_the_date_is_made_once_a_second():
    moments = iter([0.0, 0.9, 1.0])
    date = DateHeader(lambda: next(moments))
    expected = [b"Thu, 01 Jan 1970 00:00:00 GMT"] * 2 + [b"Thu, 01 Jan 1970 00:00:01 GMT"]
    assert expected == [date() for _ in expected]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=6))
def test_pods_of_every_kind_get_the_answer_that_the_decision_gives(seeds, cuts):
    """Shaped, held, stamped or refused: the short way changes nothing about an answer."""
    values = load_values("{placeholder: {mode: inject}, startupPolicy: WaitForCheckpoint}")
    stored = {"qwen": ready()}.get
    bodies = [orjson.dumps(review(random_pod(Random(seed)))) for seed in seeds]
    lane = Lane(Edge(lambda _, name: stored(name), values, Metrics(CollectorRegistry()), path=PATH))
    stream = b"".join(request(body) for body in bodies)
    edges = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    lane.receive(*(stream[start:end] for start, end in pairwise(edges)))
    wanted = [answer(body, lambda _, name: stored(name), values).body for body in bodies]
    assert wanted == [part.partition(b"\r\n\r\n")[2] for part in lane.transport.written.split(b"HTTP/1.1 200 OK")[1:]]
    assert lane.general.received == b""
