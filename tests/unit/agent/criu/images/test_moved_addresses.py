"""Which address of this pod takes the place of which."""

import ipaddress

import pytest

from agent.criu.connections import plan_addresses
from agent.errors import RefusedError
from contract.api.states import AgentReason

FOUR, SIX = ipaddress.ip_address("10.0.0.9"), ipaddress.ip_address("fd00::9")


@pytest.mark.parametrize(
    ("expected", "then"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({}, ["10.0.0.9"], id="the-same"),
        pytest.param({"10.0.0.3": FOUR}, ["10.0.0.3"], id="another"),
        pytest.param({"10.0.0.3": FOUR, "fd00::3": SIX}, ["10.0.0.3", "fd00::3"], id="both"),
    ],
)
def test_plan(expected, then):
    moves = {ipaddress.ip_address(text): address for text, address in expected.items()}
    assert moves == plan_addresses(then, {4: FOUR, 6: SIX})


def test_no_such_address():
    with pytest.raises(RefusedError, match=r"fd00::3 then; this pod has none") as refused:
        plan_addresses(["fd00::3"], {4: FOUR})
    assert AgentReason.ADDRESS_BOUND == refused.value.code
