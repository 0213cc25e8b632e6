"""A health check by gRPC passes only if the worker says SERVING; what else it says is named."""

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.container.questions.grpc_health import HealthError, check, request, verdict
from tests.support import grpc_health

OK = {":status": "200", "content-type": "application/grpc", "grpc-status": "0"}
SERVING = b"\x08\x01"


def framed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack("!BL", flag, len(message)) + message


@pytest.mark.parametrize(
    ("expected", "service"),
    [
        pytest.param(framed(b""), "", id="the-whole-server"),
        pytest.param(framed(b"\x0a\x05model"), "model", id="a-service"),
        pytest.param(framed(b"\x0a\x04\xc3\xa9\xc3\xa9"), "éé", id="utf-8"),
        pytest.param(framed(b"\x0a\xc8\x01" + b"s" * 200), "s" * 200, id="long"),
    ],
)
def test_the_request_names_the_service(expected, service):
    assert expected == request(service)


@pytest.mark.parametrize(
    ("expected", "headers", "body"),
    [
        pytest.param(None, {}, framed(SERVING), id="serving"),
        pytest.param(None, {}, framed(b"\x12\x03abc" + SERVING), id="fields-of-a-later-version"),
        pytest.param("NOT_SERVING", {}, framed(b"\x08\x02"), id="not-serving"),
        pytest.param("SERVICE_UNKNOWN", {}, framed(b"\x08\x03"), id="service-unknown"),
        pytest.param("UNKNOWN", {}, framed(b""), id="the-default-is-left-out"),
        pytest.param("status 9", {}, framed(b"\x08\x09"), id="status-of-a-later-version"),
        pytest.param("HTTP status 503", {":status": "503"}, b"", id="a-proxy-answers"),
        pytest.param("no grpc-status", {"grpc-status": None}, framed(SERVING), id="no-trailers"),
        pytest.param("knows no such service", {"grpc-status": "5"}, b"", id="not-found"),
        pytest.param("has no health service", {"grpc-status": "12"}, b"", id="unimplemented"),
        pytest.param("gRPC status 14: at home", {"grpc-status": "14", "grpc-message": "at%20home"}, b"", id="message"),
        pytest.param(
            "gRPC status 2: a b", {"grpc-status": "2", "grpc-message": "a%0a\x1bb"}, b"", id="nothing-for-terminals"
        ),
        pytest.param("not one message", {}, b"", id="no-message"),
        pytest.param("not one message", {}, framed(SERVING)[:-1], id="cut-off"),
        pytest.param("not one message", {}, framed(SERVING) + b"x", id="more-behind-it"),
        pytest.param("compressed", {}, framed(SERVING, 1), id="compressed"),
        pytest.param("no health response", {}, framed(b"\x08"), id="no-protocol-buffer"),
    ],
)
def test_what_a_reply_says(expected, headers, body):
    found = verdict({name: value for name, value in (OK | headers).items() if value is not None}, body)
    assert (expected is None) == (found is None)
    assert expected is None or expected in found


def test_a_message_of_the_worker_is_cut():
    found = verdict(OK | {"grpc-status": "2", "grpc-message": "x" * 10_000}, b"")
    assert found is not None
    assert len(found) < 300


GRPCIO = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
def check(request, context):
    if request != b"\\x0a\\x05model":
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return b"\\x08\\x01"
handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
server = grpc.server(ThreadPoolExecutor(1))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(None)
"""


def test_a_server_of_grpcs_own_library_understands_it():
    command = [sys.executable, "-c", GRPCIO]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        here = ("127.0.0.1", int(other.stdout.readline()))
        with socket.create_connection(here, 5) as connection:
            assert check(connection, "worker:9000", "model", 5.0) is None
        with socket.create_connection(here, 5) as connection, pytest.raises(HealthError, match="no such service"):
            check(connection, "worker:9000", "", 5.0)
        other.stdin.close()


@contextmanager
def server(act, *arguments):
    """Serve in a thread; yield a connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=act, args=(listener, *arguments))
        thread.start()
        with socket.create_connection(listener.getsockname()[:2], 5) as connection:
            yield connection
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize("service", [pytest.param("", id="whole"), pytest.param("model", id="named")])
def test_a_worker_that_serves(service):
    with server(grpc_health.serve, {"": 1, "model": 1}) as connection:
        assert check(connection, "worker:9000", service, 1.0) is None


@pytest.mark.parametrize(
    ("service", "words"),
    [pytest.param("", "NOT_SERVING", id="not-serving"), pytest.param("other", "no such service", id="not-found")],
)
def test_a_worker_that_does_not_serve(service, words):
    with server(grpc_health.serve, {"": 2}) as connection, pytest.raises(HealthError, match=words):
        check(connection, "worker:9000", service, 1.0)


def says(listener: socket.socket, text: bytes) -> None:
    connection, _ = listener.accept()
    with closing(connection):
        connection.recv(1 << 16)
        connection.sendall(text)


SETTINGS = b"\0\0\0\4\0\0\0\0\0"
RESET = b"\0\0\4\3\0\0\0\0\1" + struct.pack("!I", 7)
GO_AWAY = b"\0\0\10\7\0\0\0\0\0" + struct.pack("!II", 0, 11)
HEADERS_OF_NOTHING = b"\0\0\1\1\4\0\0\0\1\xff"
PUSH = b"\0\0\5\5\4\0\0\0\1" + struct.pack("!I", 2) + b"\x82"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "speaks HTTP/1", id="http-1"),
        pytest.param(b"", "ends without an answer", id="hangs-up"),
        pytest.param(SETTINGS, "ends without an answer", id="settings-alone"),
        pytest.param(SETTINGS + RESET, "resets the call", id="reset"),
        pytest.param(SETTINGS + GO_AWAY, "ends the connection", id="away"),
        pytest.param(SETTINGS + HEADERS_OF_NOTHING, "no HTTP/2", id="broken-headers"),
        pytest.param(SETTINGS + PUSH, "no HTTP/2", id="what-nobody-asked-for"),
    ],
)
def test_what_is_no_reply(text, words):
    with server(says, text) as connection, pytest.raises(HealthError, match=words):
        check(connection, "worker:9000", "", 1.0)


FRAMES = st.builds(
    lambda kind, flags, stream, payload: (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack("!I", stream) + payload
    ),
    st.integers(0, 12),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 1, 2]),
    st.binary(max_size=40),
)


@given(frames=st.lists(FRAMES, max_size=8), end=st.binary(max_size=20))
def test_whatever_is_sent_is_judged(frames, end):
    here, there = socket.socketpair()
    with here, there, contextlib.suppress(HealthError, OSError):
        there.sendall(SETTINGS + b"".join(frames) + end)
        there.shutdown(socket.SHUT_WR)
        check(here, "worker:9000", "", 1.0)


NAMES = st.sampled_from([":status", "grpc-status", "grpc-message"])


@given(headers=st.dictionaries(NAMES, st.text()), body=st.binary())
def test_whatever_is_in_a_reply_is_judged(headers, body):
    found = verdict(OK | headers, body)
    assert found is None or found.isprintable()
