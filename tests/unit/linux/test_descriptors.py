"""What the kernel says of this process's own open files."""

import fcntl
import os
import socket
import tempfile
from pathlib import Path

import pytest

from linux.descriptors import Descriptor, _sealed, descriptors
from linux.net.sockets import bound_sockets
from linux.proc import mounts


def of(number):
    return next(found for found in descriptors(os.getpid()) if found.number == number)


def test_a_file_that_is_written(tmp_path):
    with (tmp_path / "x").open("w") as file:
        found = of(file.fileno())
        assert (str(tmp_path / "x"), True) == (found.target, found.is_writable_file)
        assert found.mount in {mount.number for mount in mounts(os.getpid())}


def test_a_file_that_is_read(tmp_path):
    (tmp_path / "x").touch()
    with (tmp_path / "x").open() as file:
        assert not of(file.fileno()).is_writable_file


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param(os.O_WRONLY, True, id="write"),
        pytest.param(os.O_RDWR, True, id="read-and-write"),
        pytest.param(os.O_RDWR | os.O_APPEND, True, id="read-and-append"),
        pytest.param(os.O_WRONLY | os.O_APPEND, False, id="log"),
        pytest.param(os.O_RDONLY, False, id="read"),
    ],
)
def test_what_may_change_a_file(tmp_path, flags, expected):
    number = os.open(tmp_path / "x", flags | os.O_CREAT)
    try:
        assert expected == of(number).is_writable_file
    finally:
        os.close(number)


def test_a_file_without_a_name_is_private():
    with tempfile.TemporaryFile() as file:
        assert not of(file.fileno()).is_writable_file


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param(os.O_WRONLY, 5, id="write"),
        pytest.param(os.O_WRONLY | os.O_APPEND, 5, id="append"),
        pytest.param(os.O_RDONLY, 0, id="read"),
    ],
)
def test_how_much_an_own_file_holds(tmp_path, flags, expected):
    (tmp_path / "file").write_text("words")
    number = os.open(tmp_path / "file", flags)
    try:
        assert expected == of(number).bytes
    finally:
        os.close(number)


def test_a_folder_is_no_file_that_is_written(tmp_path):
    number = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not of(number).is_writable_file
    finally:
        os.close(number)


def test_a_socket():
    with socket.socket() as made:
        assert os.fstat(made.fileno()).st_ino == of(made.fileno()).socket


def test_a_pipe_is_no_socket():
    assert Descriptor(3, "pipe:[12]").socket is None


def test_a_process_that_has_ended():
    assert [] == list(descriptors(2**22 + 1))


@pytest.mark.parametrize(
    ("family", "kind", "address", "protocol"),
    [
        pytest.param(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", "TCP", id="tcp"),
        pytest.param(socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", "UDP", id="udp"),
        pytest.param(socket.AF_INET6, socket.SOCK_STREAM, "::1", "TCP", id="tcp6"),
    ],
)
def test_a_bound_socket(family, kind, address, protocol):
    with socket.socket(family, kind) as made:
        made.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            made.listen()
        inode, port = os.fstat(made.fileno()).st_ino, made.getsockname()[1]
        (found,) = [each for each in bound_sockets(os.getpid()) if each.inode == inode]
    assert (protocol, address, port, True) == (found.protocol, str(found.address), found.port, found.is_anywhere)


@pytest.mark.parametrize(
    ("seals", "sealed"),
    [
        pytest.param(fcntl.F_SEAL_WRITE, True, id="against-writing"),
        pytest.param(fcntl.F_SEAL_SHRINK, False, id="against-shrinking"),
    ],
)
def test_a_sealed_memfd(seals, sealed):
    number = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    try:
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)
        assert (os.fstat(number).st_ino if sealed else 0) == of(number).sealed_inode
    finally:
        os.close(number)


@pytest.mark.parametrize(
    ("family", "protocol"),
    [pytest.param(socket.AF_INET, "TCP", id="tcp"), pytest.param(socket.AF_UNIX, "UNIX", id="unix")],
)
def test_the_protocol_of_a_socket(family, protocol):
    with socket.socket(family) as found:
        assert of(found.fileno()).protocol.startswith(protocol)


def test_a_device():
    with Path("/dev/null").open() as file:
        assert of(file.fileno()).is_device


def test_what_is_only_called_a_memfd_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "memfd:pipe")
    (tmp_path / "memfd:file").touch()
    assert [0, 0] == [_sealed(tmp_path / name) for name in ("memfd:pipe", "memfd:file")]


@pytest.mark.parametrize("flags", [0, os.O_DIRECT])
def test_pipes_that_keep_apart_what_was_written_apart(flags):
    ends = os.pipe2(flags)
    try:
        assert [False, bool(flags)] == [of(end).is_packet_pipe for end in ends]  # who writes decides
    finally:
        for end in ends:
            os.close(end)
