"""TCP sockets in criu's images: read, and changed so that a restore keeps what can be kept and closes the rest.

The layout is that of criu's ``fdinfo.proto``, ``sk-inet.proto`` and ``tcp-stream.proto``; fields that are not named
here stay as they are.
"""

import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from agent import protobuf
from agent.criu.connections import CLOSE, LASTING, SYN_SENT, Address, End, Endpoint, Fate, decide
from agent.criu.images.files import read_image, replace_image
from agent.criu.images.streams import Half, StreamImage, settled
from agent.errors import CriuError
from agent.protobuf import BYTES, Field
from contract.api.states import AgentReason

FILES: Final = "files.img"
_TYPE, _SOCKET, _INET = 1, 4, 4
"""Of a file: the field that says what it is, that of an internet socket, and what the first says then."""
_INODE, _FAMILY, _KIND, _PROTOCOL, _STATE, _LOCAL_PORT, _REMOTE_PORT = 2, 3, 4, 5, 6, 7, 8
_LOCAL, _REMOTE, _SHUTDOWN = 11, 12, 19
_BOTH_WAYS: Final = 3
_may_be_inet: Final = protobuf.may_embed(_SOCKET)


def settle(directory: int, own: Collection[Address] = ()) -> Fate:
    """Decide about the connections in the images of a directory, and change the images accordingly.

    Args:
        directory: where they are.
        own: addresses of the pod that a restore replaces by those of its own pod.

    Raises:
        CriuError: ``dump-failed``: the images are not what criu writes.
    """
    try:
        files = read_image(directory, FILES)
        halves = {half.end.inode: half for half in _halves(directory, files)}
        fate = decide([half.end for half in halves.values()], own)
        after = dict(_after(fate, halves))
        moved = (half.end for inode, half in after.items() if half.end.state != halves[inode].end.state)
        changes = {end.inode: {_STATE: end.state} for end in moved}
        changes |= {end.inode: {_STATE: CLOSE, _SHUTDOWN: _BOTH_WAYS} for end in fate.ended}
        changes |= {end.inode: _closed(end) for end in fate.closed}
        if changes:
            replace_image(directory, FILES, _changed(files, changes))
        for inode, half in after.items():
            if half.image != halves[inode].image:
                replace_image(directory, _stream_name(inode), half.image.encode())
        for end in fate.closed:
            os.unlink(_stream_name(end.inode), dir_fd=directory)
    except (OSError, ValueError) as error:
        raise CriuError(AgentReason.DUMP_FAILED, f"criu's images of connections: {error}") from error
    return fate


def _after(fate: Fate, halves: Mapping[int, Half]) -> Iterator[tuple[int, Half]]:
    """Yield the ends that a restore brings back, as their images are to be."""
    for one, other in fate.kept:
        for half in settled(halves[one.inode], halves[other.inode]):
            yield half.end.inode, half
    for end in fate.ended:
        half = halves[end.inode]
        yield end.inode, half.moved(end.state, half.image.over())


def _closed(end: End) -> dict[int, int]:
    """Make it one that was never bound nor connected.

    A connect(2) that was waiting starts again; all others read the end, and may write no more.
    """
    never = {_STATE: CLOSE, _LOCAL_PORT: 0, _REMOTE_PORT: 0}
    return never if end.state == SYN_SENT else never | {_SHUTDOWN: _BOTH_WAYS}


def kept_ends(directory: int) -> list[tuple[Endpoint, Endpoint]]:
    """Return address and peer of each connection that is there after a restore, as long as the tree is stopped.

    Raises:
        CriuError: ``restore-failed``: the images are not what criu writes.
    """
    try:
        found = _sockets(read_image(directory, FILES))
    except (OSError, ValueError) as error:
        raise CriuError(AgentReason.RESTORE_FAILED, f"criu's images of connections: {error}") from error
    there = [fields for fields in found if _is_connection(fields) and protobuf.number(fields, _STATE) in LASTING]
    return [_endpoints(fields) for fields in there]


def bound_ports(directory: int) -> set[int]:
    """Return the ports of all TCP sockets in the images."""
    found = _sockets(read_image(directory, FILES))
    return {protobuf.number(fields, _LOCAL_PORT) for fields in found if _is_tcp(fields)}


def used_addresses(directory: int, own: Collection[Address]) -> list[str]:
    """Return those of the pod's own addresses that any socket in the images is bound to."""
    found = _sockets(read_image(directory, FILES))
    used = {_address(fields, _LOCAL) for fields in found if protobuf.number(fields, _LOCAL_PORT)}
    return [str(address) for address in own if address in used]


def move_sockets(directory: int, addresses: Mapping[Address, Address]) -> None:
    """Put the sockets in the images on other addresses.

    Raises:
        CriuError: ``restore-failed``: the images are not what criu writes.
    """
    try:
        files = read_image(directory, FILES)
        parts = [files[: protobuf.MAGIC]]
        for text in protobuf.messages(files):
            fields = _inet(text)
            parts.append(protobuf.framed(_with_socket(text, _moved(fields, addresses)) if fields else text))
        replace_image(directory, FILES, b"".join(parts))
    except (OSError, ValueError) as error:
        raise CriuError(AgentReason.RESTORE_FAILED, f"criu's images of connections: {error}") from error


def _moved(fields: list[Field], addresses: Mapping[Address, Address]) -> list[Field]:
    """Replace own addresses; the peer's is one if both ends are in the tree."""
    for column in (_LOCAL, _REMOTE):
        after = addresses.get(_address(fields, column))
        if after is not None:
            words = iter(_words(after, len(protobuf.numbers(fields, column))))
            fields = [field._replace(value=next(words)) if field.number == column else field for field in fields]
    return fields


def _words(address: Address, count: int) -> tuple[int, ...]:
    """Return an address as so many numbers of 32 bits: version 4 within version 6 takes four."""
    packed = address.packed
    if count * 4 > len(packed):
        packed = ipaddress.IPv6Address(f"::ffff:{address}").packed
    return struct.unpack(f"={count}I", packed)


def _halves(directory: int, files: bytes) -> Iterator[Half]:
    for fields in _sockets(files):
        if _is_connection(fields):
            inode = protobuf.number(fields, _INODE)
            image = StreamImage.parse(read_image(directory, _stream_name(inode)))
            yield Half(End(inode, protobuf.number(fields, _STATE), *_endpoints(fields), image.stream), image)


def _sockets(files: bytes) -> list[list[Field]]:
    """Return the fields of each internet socket in the image of open files, of which there may be ten thousand."""
    return [fields for text in filter(_may_be_inet, protobuf.messages(files)) if (fields := _inet(text))]


def _inet(text: bytes) -> list[Field]:
    """Return the fields of the internet socket in a message about a file; none if it is another kind of file."""
    outer = protobuf.parse(text)
    if protobuf.number(outer, _TYPE) != _INET:
        return []
    return [field for part in protobuf.embedded(outer, _SOCKET) for field in protobuf.parse(part)]


def _is_tcp(fields: list[Field]) -> bool:
    kind, protocol = protobuf.number(fields, _KIND), protobuf.number(fields, _PROTOCOL)
    return kind == socket.SOCK_STREAM and protocol == socket.IPPROTO_TCP


def _is_connection(fields: list[Field]) -> bool:
    return _is_tcp(fields) and protobuf.number(fields, _REMOTE_PORT) != 0


def _endpoints(fields: list[Field]) -> tuple[Endpoint, Endpoint]:
    local = Endpoint(_address(fields, _LOCAL), protobuf.number(fields, _LOCAL_PORT))
    return local, Endpoint(_address(fields, _REMOTE), protobuf.number(fields, _REMOTE_PORT))


def _address(fields: list[Field], wanted: int) -> Address:
    words = protobuf.numbers(fields, wanted)
    try:
        found = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    except struct.error as error:
        raise ValueError(f"address {words}") from error
    return getattr(found, "ipv4_mapped", None) or found


def _changed(files: bytes, changes: Mapping[int, dict[int, int]]) -> bytes:
    """Return the image of open files with other numbers in its internet sockets, by inode."""
    parts = [files[: protobuf.MAGIC]]
    for text in protobuf.messages(files):
        fields = _inet(text)
        change = changes.get(protobuf.number(fields, _INODE)) if _is_tcp(fields) else None
        changed = _with_socket(text, protobuf.replaced(fields, change)) if change else text
        parts.append(protobuf.framed(changed))
    return b"".join(parts)


def _with_socket(text: bytes, fields: list[Field]) -> bytes:
    others = [field for field in protobuf.parse(text) if field.number != _SOCKET]
    return protobuf.encode([*others, Field(_SOCKET, BYTES, protobuf.encode(fields))])


def _stream_name(inode: int) -> str:
    return f"tcp-stream-{inode:x}.img"
