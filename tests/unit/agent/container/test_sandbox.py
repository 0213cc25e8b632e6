"""Of which processes a look that fails can be said to be a sandbox."""

import pytest

from agent.container.sandbox import can_tell
from linux.proc import parse_status

STATUS = """Name:\tx
State:\tS (sleeping)
Pid:\t9
PPid:\t1
NSpid:\t9
NSsid:\t9
Uid:\t{uids}
Gid:\t{gids}
Groups:\t
CapInh:\t0000000000000000
CapPrm:\t{permitted}
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
CapAmb:\t0000000000000000
NoNewPrivs:\t{limited}
"""
USER, OTHER, MIXED = "7\t7\t7\t7", "8\t8\t8\t8", "7\t8\t7\t8"
NONE, NET_RAW, SYS_ADMIN = "0000000000000000", "0000000000002000", "0000000000200000"


def process(uids=USER, gids=USER, permitted=NONE, limited=1):
    return parse_status(STATUS.format(uids=uids, gids=gids, permitted=permitted, limited=limited))


@pytest.mark.parametrize(
    ("expected", "about", "first"),
    [
        pytest.param(True, process(), process(), id="alike"),
        pytest.param(False, process(limited=0), process(), id="cannot-be-in-one"),
        pytest.param(True, process(permitted=SYS_ADMIN, limited=0), process(), id="privileged"),
        pytest.param(False, process(uids=OTHER), process(), id="another-user"),
        pytest.param(False, process(uids=MIXED), process(), id="two-users"),
        pytest.param(False, process(gids=OTHER), process(), id="another-group"),
        pytest.param(False, process(), process(permitted=NET_RAW), id="fewer-rights"),
        pytest.param(True, process(permitted=NET_RAW), process(), id="more-rights"),
    ],
)
def test_who_can_be_asked(expected, about, first):
    assert expected is can_tell(about, first)
