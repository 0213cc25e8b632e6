"""Sockets on the address of the pod follow it: the restored pod has another one."""

import os
import subprocess
import sys

import pytest

from agent.container.network import in_network
from contract.api import control_files
from contract.api.states import AgentReason
from tests.node.engine.state.test_connections import END, START, assert_as_it_was
from tests.support.fixtures.bare_container import BareContainer, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

BOUND = """
def bound(kind, host, port):
    while True:  # the pod has its address a moment later
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        try:
            made.bind((host, port)); made.settimeout(5)
            return made
        except OSError:
            made.close(); time.sleep(0.01)
"""
WORKER = """
server = bound(socket.SOCK_STREAM, "10.1.2.3", 7300); server.listen()
server6 = bound(socket.SOCK_STREAM, "fd00::3", 7300); server6.listen()
client = socket.create_connection(("10.1.2.3", 7300), 5); accepted, _ = server.accept()
client6 = socket.create_connection(("fd00::3", 7300), 5); accepted6, _ = server6.accept()
client.sendall(b"unread")
listening = bound(socket.SOCK_DGRAM, "10.1.2.3", 7301)
sending = bound(socket.SOCK_DGRAM, "10.1.2.3", 7302); sending.connect(("10.1.2.3", 7301))
statistics = bound(socket.SOCK_DGRAM, "10.1.2.3", 7303); statistics.connect(("127.0.0.1", 8125))
def after():
    for each in (server, client, accepted, listening, sending, statistics):
        assert "10.1.9.9" == each.getsockname()[0], each
    assert "fd00::9" == client6.getsockname()[0] == client6.getpeername()[0]
    assert b"unread" == accepted.recv(64)
    talks(client, accepted); talks(client6, accepted6)
    talks(socket.create_connection(("10.1.9.9", 7300), 5), server.accept()[0])
    sending.send(b"datagram"); assert (b"datagram", ("10.1.9.9", 7302)) == listening.recvfrom(64)
"""


def start(node, body):
    return node.start_as(BareContainer, "--capture", "--", sys.executable, "-c", START + BOUND + body + END)


def give(container, *addresses):
    """Give the pod addresses."""
    for address in addresses:
        argv = ["ip", "address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else [])]
        in_network(container.init(), lambda argv=argv: subprocess.run(argv, check=True))


async def captured(node, source, name, **fields):
    source.says("ready")
    wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, "ready file")
    return await node.capture(source, name, **fields)


def placeholder(node, *addresses):
    target = node.start_as(BareContainer, "--", sys.executable, "-c", "raise SystemExit(9)")
    give(target, *addresses)
    return target


async def test_sockets_follow_the_pod(node):
    source = start(node, WORKER)
    give(source, "10.1.2.3/32", "fd00::3/128")
    outcome = await captured(node, source, "follow")
    assert outcome.ok, outcome.message
    assert (2, 0) == (outcome.connections.kept, outcome.connections.closed)
    target = placeholder(node, "10.1.9.9/32", "fd00::9/128")
    result = await node.restore(target, "follow", outcome.manifest_digest)
    assert result.ok, result.message
    assert_as_it_was(target)


async def test_a_pod_without_such_an_address_starts_cold(node):
    source = start(node, 'server = bound(socket.SOCK_STREAM, "fd00::3", 7300); server.listen()\ndef after(): pass')
    give(source, "fd00::3/128")
    outcome = await captured(node, source, "follow-nowhere")
    assert outcome.ok, outcome.message
    result = await node.restore(placeholder(node, "10.1.9.9/32"), "follow-nowhere", outcome.manifest_digest)
    assert (False, AgentReason.ADDRESS_BOUND) == (result.ok, result.reason)


async def test_one_of_several_addresses_is_refused(node):
    source = start(node, 'server = bound(socket.SOCK_STREAM, "10.1.2.3", 7300); server.listen()\ndef after(): pass')
    give(source, "10.1.2.3/32", "10.1.2.4/32")
    outcome = await captured(node, source, "several")
    assert (False, AgentReason.ADDRESS_BOUND) == (outcome.ok, outcome.reason)
