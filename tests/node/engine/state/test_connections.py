"""Connections of a worker: those within its tree go on where they were, all others are closed and named."""

import ipaddress
import os
import socket
import sys

import pytest

from agent.container.network import in_network
from agent.criu.connections import Endpoint
from contract.api import control_files
from contract.api.reports import Connections
from contract.pods.probe import Probe
from tests.support.fixtures.bare_container import BareContainer, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

START = """
import os, socket, sys, threading, time
sys.path.insert(0, "/tools")
import snapshot_sdk

def pair(family=socket.AF_INET, host="127.0.0.1", peer_family=None):
    server = socket.socket(family)
    server.bind((host, 0)); server.listen()
    client = socket.socket(peer_family or family)
    client.connect(("127.0.0.1" if client.family == socket.AF_INET else "::1", server.getsockname()[1]))
    client.settimeout(5)
    accepted = server.accept()[0]
    accepted.settimeout(5)
    return server, client, accepted

def fill(sending, most=1 << 26):
    sending.setblocking(False)
    sent = 0
    try:
        while sent < most:
            sent += sending.send(pattern(sent, 65536))
    except BlockingIOError:
        pass
    sending.settimeout(5)
    return sent

def pattern(at, length):
    first = at // 4
    return b"".join(n.to_bytes(4, "big") for n in range(first, first + length // 4 + 2))[at % 4 : at % 4 + length]

def drain(receiving, length):
    got = b""
    while len(got) < length:
        part = receiving.recv(1 << 20)
        assert part, f"ended after {len(got)} of {length}"
        got += part
    assert got == pattern(0, length), f"{len(got)} bytes, not those that were sent"

def talks(one, other):
    one.sendall(b"question"); assert b"question" == other.recv(64)
    other.sendall(b"answer"); assert b"answer" == one.recv(64)
"""
END = """
print("ready", flush=True)
outcome = snapshot_sdk.quiesce()
try:
    after()
    print("as it was", flush=True)
except BaseException as error:
    print(f"differs: {error!r}", flush=True)
threading.Event().wait()
"""
FORKED = """
server = socket.create_server(("127.0.0.1", 0))
if os.fork() == 0:
    there = socket.create_connection(server.getsockname())
    server.close()
    while asked := there.recv(64):
        there.sendall(b"pong " + asked)
    os._exit(0)
engine, _ = server.accept()
engine.settimeout(5)
def after():
    engine.sendall(b"1")
    assert b"pong 1" == engine.recv(64)
"""
KEPT = {
    "two-processes": FORKED,
    "ipv6": """
server, client, accepted = pair(socket.AF_INET6, "::1")
def after(): talks(client, accepted)
""",
    "mapped": """
server, client, accepted = pair(socket.AF_INET6, "::", socket.AF_INET)
def after(): talks(client, accepted); talks(accepted, client)
""",
    "unread": """
server, client, accepted = pair()
client.sendall(b"one two"); accepted.sendall(b"three")
def after():
    assert b"one two" == accepted.recv(64); assert b"three" == client.recv(64)
    talks(client, accepted)
""",
    "full-queues": """
server, client, accepted = pair()
sent, back = fill(client), fill(accepted)
def after():
    print("bytes", sent, back, flush=True)
    drain(accepted, sent); drain(client, back)
    talks(client, accepted)
""",
    "half-closed": """
server, client, accepted = pair()
client.sendall(b"last"); client.shutdown(socket.SHUT_WR)
def after():
    assert b"last" == accepted.recv(64); assert b"" == accepted.recv(64)
    accepted.sendall(b"reply"); assert b"reply" == client.recv(64)
    accepted.close(); assert b"" == client.recv(64)
""",
    "half-closed-full": """
server, client, accepted = pair()
sent = fill(client); client.shutdown(socket.SHUT_WR)
def after():
    drain(accepted, sent); assert b"" == accepted.recv(64)
    accepted.sendall(b"reply"); assert b"reply" == client.recv(64)
""",
    "half-closed-unread-back": """
server, client, accepted = pair()
accepted.sendall(b"unread"); client.shutdown(socket.SHUT_WR)
def after():
    assert b"" == accepted.recv(64); assert b"unread" == client.recv(64)
    accepted.sendall(b"reply"); assert b"reply" == client.recv(64)
""",
    "reuseport": """
first, second = socket.socket(), socket.socket()
for each in (first, second):
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    each.bind(("127.0.0.1", 7000)); each.listen(); each.settimeout(5)
clients = [socket.create_connection(("127.0.0.1", 7000)) for _ in range(8)]
first.setblocking(False); second.setblocking(False)
accepted = {}
while len(accepted) < 8:
    for each in (first, second):
        try:
            got, where = each.accept()
            accepted[where[1]] = got
        except BlockingIOError:
            pass
def after():
    for client in clients:
        client.settimeout(5)
        talks(client, accepted[client.getsockname()[1]])
    socket.create_connection(("127.0.0.1", 7000)).close()
""",
    "closed-by-peer": """
server, client, accepted = pair()
accepted.sendall(b"bye"); accepted.close()
def after():
    assert b"bye" == client.recv(64); assert b"" == client.recv(64)
""",
    "many": """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
pairs = [pair() for _ in range(100)]
def after():
    for server, client, accepted in pairs:
        talks(client, accepted)
""",
}

CLOSED = {
    "not-accepted": """
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname()); client.sendall(b"lost"); client.settimeout(5)
def after():
    assert b"" == client.recv(64)
    again = socket.create_connection(server.getsockname())
    talks(again, server.accept()[0])
""",
    "connecting": """
server = socket.create_server(("127.0.0.1", 0), backlog=0)
first = socket.create_connection(server.getsockname())
client = socket.socket(); client.setblocking(False); client.connect_ex(server.getsockname())
def after():
    again = socket.create_connection(server.getsockname())
    talks(again, server.accept()[0])
""",
}
"""Of the tree, and yet with one end only."""
SERVER = """
server = socket.socket(socket.AF_INET6 if ":" in HOST else socket.AF_INET)
server.bind((HOST, 7100)); server.listen()
print("listening", flush=True)
held = [server.accept()[0] for _ in range(COUNT)]
act(held)
def after():
    for each in held:
        if each.fileno() < 0: continue
        each.settimeout(5)
        assert b"" == each.recv(64)
        try:
            each.sendall(b"x"); raise AssertionError("it is written to nobody")
        except BrokenPipeError:
            pass
    again = socket.create_connection(server.getsockname()[:2])
    talks(again, server.accept()[0])
"""


def start(node, body):
    source = node.start_as(BareContainer, "--capture", "--", sys.executable, "-c", START + body + END)
    return waits(source)


def waits(source):
    """Wait until the worker waits for its capture."""
    source.says("ready")
    wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, f"ready file; {source.text()}")
    return source


async def restored(node, name, outcome):
    target = node.start_as(BareContainer, "--", sys.executable, "-c", "raise SystemExit(9)")
    target.init()
    result = await node.restore(target, name, outcome.manifest_digest)
    assert result.ok, result.message
    assert outcome.connections == result.connections
    return target


def assert_as_it_was(target):
    wait_for(lambda: "as it was" in target.text() or "differs" in target.text(), "an answer")
    assert "as it was" in target.text(), target.text()


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in KEPT.items()])
async def test_a_connection_within_the_tree_goes_on(node, body, request):
    name = f"kept-{request.node.callspec.id}"
    outcome = await node.capture(start(node, body), name)
    assert outcome.ok, outcome.message
    assert outcome.connections is not None
    assert 0 == outcome.connections.closed
    target = await restored(node, name, outcome)
    assert_as_it_was(target)


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in CLOSED.items()])
async def test_a_connection_that_was_not_accepted_is_closed(node, body, request):
    name = f"closed-{request.node.callspec.id}"
    outcome = await node.capture(start(node, body), name)
    assert outcome.ok, outcome.message
    assert outcome.connections.closed
    assert_as_it_was(await restored(node, name, outcome))


def serve(node, host="127.0.0.1", count=1, act="pass"):
    """Start a worker that accepts so many connections."""
    setting = f"HOST, COUNT = {host!r}, {count}\ndef act(held):\n    {act}\n"
    source = node.start_as(BareContainer, "--capture", "--", sys.executable, "-c", START + setting + SERVER + END)
    source.says("listening")
    return source


def connect(source, host="127.0.0.1"):
    """Connect from the network of the pod, as another container of it."""
    peer = in_network(source.init(), lambda: socket.create_connection((host, 7100)))
    peer.settimeout(5)
    return peer


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_connection_to_another_container_of_the_pod_is_closed(node, host):
    """The peer learns of it at once, and the report names it."""
    source = serve(node, host)
    with connect(source, host) as peer:
        named = str(Endpoint(ipaddress.ip_address(host), peer.getsockname()[1]))
        outcome = await node.capture(waits(source), f"outside-{host.count(':')}")
        assert outcome.ok, outcome.message
        assert Connections(0, 1, (named,)) == outcome.connections
        with pytest.raises(ConnectionResetError):
            peer.recv(64)
    assert_as_it_was(await restored(node, f"outside-{host.count(':')}", outcome))


@pytest.mark.parametrize(
    ("count", "act", "closes"),
    [
        pytest.param(0, "pass", False, id="not-accepted"),
        pytest.param(3, "pass", False, id="established"),
        pytest.param(1, "pass", True, id="close-wait"),
        pytest.param(1, "held[0].shutdown(socket.SHUT_WR)", False, id="fin-wait-2"),
        pytest.param(1, "held[0].close()", False, id="fin-wait-2-of-nobody"),
        pytest.param(1, "held[0].close()", True, id="time-wait"),
        pytest.param(1, "held[0].shutdown(socket.SHUT_WR)", True, id="closed"),
    ],
)
async def test_a_probe_on_its_way_fails_no_capture(node, count, act, closes, request):
    """The listener has no SO_REUSEADDR, and the proof binds its port again."""
    name = f"probed-{request.node.callspec.id}"
    source = serve(node, count=count, act=act)
    peers = [connect(source) for _ in range(max(count, 2))]
    source.says("ready")
    for peer in peers if closes else ():
        peer.close()
    outcome = await node.capture(waits(source), name, probe=Probe("TCP", "127.0.0.1", 7100))
    for peer in peers:
        peer.close()
    assert outcome.ok, outcome.message
    assert_as_it_was(await restored(node, name, outcome))
