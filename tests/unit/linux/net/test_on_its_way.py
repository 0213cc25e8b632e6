"""What waits in a Unix socket is seen, and received as without the look."""

import os
import socket

from linux.net.on_its_way import on_its_way


def sent(*descriptors, count=1) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.send(b"before")
    for _ in range(count):
        socket.send_fds(ours, [b"with"], descriptors)
    return ours, theirs


def test_what_waits_is_seen_and_stays():
    reading, writing = os.pipe()
    ours, theirs = sent(reading, writing)
    with ours, theirs:
        found = on_its_way(os.getpid(), theirs.fileno())
        assert [f"pipe:[{os.fstat(reading).st_ino}]"] * 2 == [each.target for each in found.descriptors]
        assert found.is_all
        assert (True, theirs.fileno()) == (found.descriptors[0].is_on_its_way, found.descriptors[0].number)
        data, received, _, _ = socket.recv_fds(theirs, 99, 9)
        assert (b"beforewith", 2) == (data, len(received))
        for each in (*received, reading, writing):
            os.close(each)


def test_a_second_message_is_not_seen():
    ours, theirs = sent(0, count=2)
    with ours, theirs:
        found = on_its_way(os.getpid(), theirs.fileno())
        assert (1, False) == (len(found.descriptors), found.is_all)


def test_a_place_for_looks_is_not_moved():
    ours, theirs = sent(0)
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, 42, 3)
        assert ((), False) == on_its_way(os.getpid(), theirs.fileno())
        assert b"ore" == theirs.recv(3, socket.MSG_PEEK)


def test_sockets_that_wait_in_each_other_are_looked_at_once():
    first, second = socket.socketpair()
    socket.send_fds(first, [b"x"], [first.fileno()])
    socket.send_fds(second, [b"x"], [second.fileno()])
    with first, second:
        found = on_its_way(os.getpid(), second.fileno())
        targets = {each.socket for each in found.descriptors}
        assert {os.fstat(first.fileno()).st_ino, os.fstat(second.fileno()).st_ino} == targets


def test_nothing_waits():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b"x")
        assert ((), True) == on_its_way(os.getpid(), theirs.fileno())
