"""``snapshotctl checkpoint --pod`` against a real API server: what is made, and what is refused before anything is."""

import json

import pytest

from contract.api import keys
from contract.api.running import requested_checkpoint
from tests.support.fixtures.cli import made_in


@pytest.fixture(scope="module")
def world(control_plane):
    """Return a small world in which pod plain-0 runs, on no node of any agent, and no controller works."""
    found = made_in(control_plane)
    running = '{"status": {"phase": "Running"}}'
    control_plane.kubectl("patch", "pod", "plain-0", "-n", found.namespace, "--subresource=status", "-p", running)
    return found


def stored(world, kind, name):
    return json.loads(world.plane.kubectl("get", kind, name, "-n", world.namespace, "-o", "json"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["none"], "no pod none in namespace", id="no-such-pod"),
        pytest.param(["plain-0", "--container", "other"], "'other' is not in the pod", id="no-such-container"),
        pytest.param(["cold-0"], "does not run", id="not-running"),
        pytest.param(["plain-0", "--name", "a/b"], "--name: ", id="no-name"),
    ],
)
def test_what_cannot_be_asked_for_leaves_nothing(world, arguments, words):
    before = world.plane.kubectl("get", "dckpt", "-n", world.namespace, "-o", "name")
    result = world.run("checkpoint", "--pod", *arguments)
    assert 1 == result.exit_code, result.output
    assert words in " ".join(result.stderr.split())
    assert before == world.plane.kubectl("get", "dckpt", "-n", world.namespace, "-o", "name")
    assert keys.ANN_CAPTURE not in stored(world, "pod", "plain-0")["metadata"].get("annotations", {})


def test_pod_and_checkpoint_name_each_other(world):
    result = world.run("checkpoint", "--pod", "plain-0", "--name", "warm")
    assert 0 == result.exit_code, result.output
    assert "status=submitted" in result.stdout
    pod, made = stored(world, "pod", "plain-0"), stored(world, "dckpt", "warm")
    assert "warm" == requested_checkpoint(pod["metadata"]["annotations"][keys.ANN_CAPTURE])
    assert {"podName": "plain-0", "podUID": pod["metadata"]["uid"]} == made["spec"]["source"]
    again = world.run("checkpoint", "--pod", "plain-0", "--name", "warm")
    assert 1 == again.exit_code
    assert "DynamoCheckpoint warm exists" in " ".join(again.stderr.split())


def test_waiting_ends(world):
    result = world.run("checkpoint", "--pod", "plain-0", "--name", "awaited", "--wait", "--timeout", "1s")
    assert 1 == result.exit_code
    assert "status=pending" in result.stdout
