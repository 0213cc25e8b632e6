"""Which multicast groups were joined, of those that the kernel lists."""

import pytest

from linux.net.sockets import multicast_groups

IGMP = """Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
2\teth0      :     2      V3
{}\t\t\t\t010000E0     1 0:00000000\t\t0
"""
IGMP6 = """1    lo              ff020000000000000000000000000001     1 0000000C 0
1    lo              ff010000000000000000000000000001     1 00000008 0
2    eth0            ff0200000000000000000001ff000007     1 00000004 0
{}"""


@pytest.mark.parametrize(
    ("expected", "four", "six"),
    [
        pytest.param([], "", "", id="the-kernels-own"),
        pytest.param(["224.0.0.251"], "\t\t\t\tFB0000E0     1 0:00000000\t\t1\n", "", id="version-4"),
        pytest.param(
            ["ff15::7"], "", "2    eth0            ff150000000000000000000000000007     1 4 0\n", id="version-6"
        ),
    ],
)
def test_groups(tmp_path, expected, four, six):
    net = tmp_path / "7/net"
    net.mkdir(parents=True)
    (net / "igmp").write_text(IGMP.format(four))
    (net / "igmp6").write_text(IGMP6.format(six))
    assert expected == multicast_groups(7, tmp_path)


def test_a_kernel_without_multicast(tmp_path):
    (tmp_path / "7/net").mkdir(parents=True)
    assert [] == multicast_groups(7, tmp_path)
