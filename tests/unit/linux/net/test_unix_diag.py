"""What the kernel says of Unix sockets."""

import os
import socket

import pytest

from linux.net.unix_diag import unix_sockets


def inode(found: socket.socket) -> int:
    return os.fstat(found.fileno()).st_ino


def said() -> dict:
    return {each.inode: each for each in unix_sockets(queues=True)}


def test_a_pair_with_data_that_waits():
    one, other = socket.socketpair()
    with one, other:
        one.send(b"xyz")
        found = said()
        assert (inode(other), inode(one)) == (found[inode(one)].peer, found[inode(other)].peer)
        assert found[inode(other)].unread > 0
        assert (0, "", ()) == (found[inode(one)].unread, found[inode(one)].name, found[inode(one)].waiting)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_name(tmp_path, kind):
    name = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX, kind) as plain, socket.socket(socket.AF_UNIX, kind) as abstract:
        plain.bind(name)
        abstract.bind("\0of-no-file")
        found = said()
        assert (name, kind) == (found[inode(plain)].name, found[inode(plain)].kind)
        assert ("@of-no-file", 0) == (found[inode(abstract)].name, found[inode(abstract)].peer)


def test_who_waits_to_be_accepted():
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0of-no-file-either")
        listener.listen()
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        try:
            for each in clients:
                each.connect("\0of-no-file-either")
            listening = said()[inode(listener)]
            assert {inode(each) for each in clients} == set(listening.waiting)
            assert 3 == listening.unread
        finally:
            for each in clients:
                each.close()
