"""The addresses by which a pod is reached."""

import ipaddress

import pytest

from linux.net.addresses import sole_addresses

LOCAL = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.99.0.0
        /27 link UNICAST
     |-- {}
        /32 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
"""
TWO = LOCAL.format("10.99.0.30") + LOCAL.format("10.99.0.31")
SIX = (
    "00000000000000000000000000000001 01 80 10 80       lo\n"
    "fe80000000000000000000000000abcd 02 40 20 80     eth0\n"
    "fd000000000000000000000000000009 02 40 00 80     eth0\n"
)


@pytest.mark.parametrize(
    ("expected", "four", "six"),
    [
        pytest.param({4: "10.99.0.30", 6: "fd00::9"}, LOCAL.format("10.99.0.30") * 2, SIX, id="one-of-each"),
        pytest.param({4: "10.99.0.30"}, LOCAL.format("10.99.0.30"), None, id="no-ipv6"),
        pytest.param({6: "fd00::9"}, TWO, SIX, id="several"),
        pytest.param({}, "", SIX.splitlines()[0], id="loopback-alone"),
    ],
)
def test_sole_addresses(tmp_path, expected, four, six):
    folder = tmp_path / "7/net"
    folder.mkdir(parents=True)
    (folder / "fib_trie").write_text(four)
    if six is not None:
        (folder / "if_inet6").write_text(six)
    assert {version: ipaddress.ip_address(text) for version, text in expected.items()} == sole_addresses(7, tmp_path)
