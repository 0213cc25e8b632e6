"""Addresses on the loopback device of the calling thread's network namespace, by rtnetlink(7)."""

import ipaddress
import os
import socket
import struct
from typing import Final

_NEW_ADDRESS: Final = 20
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_HEADER: Final = struct.Struct("=IHHII")
"""length, kind, flags, sequence number, port."""
_ADDRESS: Final = struct.Struct("=BBBBI")
"""family, length of the prefix, flags, scope, device."""
_ATTRIBUTE: Final = struct.Struct("=HH4s")
_SCOPE_HOST: Final = 254
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_EEXIST: Final = 17
_SECONDS: Final = 1.0


def add_address(address: ipaddress.IPv4Address) -> None:
    """Add an address that this machine alone has; one that is there already is as good.

    Raises:
        OSError: the kernel refuses.
    """
    device = socket.if_nametoindex("lo")
    body = _ADDRESS.pack(socket.AF_INET, address.max_prefixlen, 0, _SCOPE_HOST, device)
    for kind in (_IFA_ADDRESS, _IFA_LOCAL):
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size, kind, address.packed)
    flags = _REQUEST | _ACK | _CREATE | _EXCLUSIVE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(_SECONDS)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), _NEW_ADDRESS, flags, 1, 0) + body)
        (number,) = struct.unpack_from("=i", netlink.recv(4096), _HEADER.size)
    if -number not in (0, _EEXIST):
        raise OSError(-number, f"cannot add {address} to the loopback device: {os.strerror(-number)}")
