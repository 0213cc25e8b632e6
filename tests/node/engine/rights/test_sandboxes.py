"""Workers in a Landlock sandbox are refused, and those that only look as if they could be in one are not."""

import os
from dataclasses import replace

import pytest

from contract.api.states import AgentReason
from tests.node.engine.state.test_kinds_of_state import start
from tests.support.fixtures.bare_container import PYTHON, BareContainer
from tests.support.kinds.others import SANDBOX

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

USERS = [pytest.param(0, id="root"), pytest.param(1234, id="user")]
ONLY_NO_NEW_RIGHTS = "must(libc.prctl(38, 1, 0, 0, 0))"


@pytest.mark.parametrize("user", USERS)
async def test_one_in_a_sandbox_is_refused(node, user):
    outcome = await node.capture(start(node, f"{SANDBOX}confine()", "", user=user), f"sandbox-{user}")
    assert (False, AgentReason.CONFINEMENT_LOST) == (outcome.ok, outcome.reason), outcome
    assert "dump" not in outcome.seconds


@pytest.mark.parametrize("user", USERS)
async def test_one_without_is_captured(node, user):
    outcome = await node.capture(start(node, ONLY_NO_NEW_RIGHTS, "", user=user), f"no-sandbox-{user}")
    assert outcome.ok, outcome


async def test_one_that_goes_on_is_asked_once_more_while_it_is_stopped(node):
    script = "import ctypes, time\nctypes.CDLL(None).prctl(38, 1, 0, 0, 0)\nprint('warm', flush=True)\ntime.sleep(1e6)"
    source = node.start_as(BareContainer, "--serve", "--", PYTHON, "-c", script)
    source.says("warm")
    outcome = await node.capture_running(source, "sandbox-running")
    assert outcome.ok, outcome


async def test_a_node_may_leave_it_out(node):
    node.engine._environment = replace(node.environment, allow_unconfined=True)
    outcome = await node.capture(start(node, f"{SANDBOX}confine()", ""), "sandbox-left-out")
    assert outcome.ok, outcome
