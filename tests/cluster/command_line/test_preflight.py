"""``snapshotctl preflight`` against a real API server: the questions that no agent gets to answer."""

import json

import pytest

from contract.api import keys
from tests.support.fixtures.cli import made_in


@pytest.fixture(scope="module")
def world(control_plane):
    """Return a small world in which pod plain-0 runs, on no node of any agent."""
    found = made_in(control_plane)
    running = '{"status": {"phase": "Running"}}'
    control_plane.kubectl("patch", "pod", "plain-0", "-n", found.namespace, "--subresource=status", "-p", running)
    return found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["none"], "no pod none in namespace", id="no-such-pod"),
        pytest.param(["plain-0", "-c", "other"], "has no container other; it has main", id="no-such-container"),
        pytest.param(["cold-0"], "does not run", id="not-running"),
        pytest.param(["plain-0", "--timeout", "1s"], "no answer from a snapshot agent", id="no-agent"),
    ],
)
def test_what_cannot_be_found_out_says_what_to_do(world, arguments, words):
    result = world.run("preflight", *arguments)
    assert 1 == result.exit_code, result.output
    assert words in " ".join(result.stderr.split())


def test_the_question_is_taken_off_the_pod_again(world):
    world.run("preflight", "plain-0", "--timeout", "1s")
    found = json.loads(world.plane.kubectl("get", "pod", "plain-0", "-n", world.namespace, "-o", "json"))
    assert not {keys.ANN_PREFLIGHT, keys.ANN_PREFLIGHT_REPORT} & found["metadata"].get("annotations", {}).keys()
