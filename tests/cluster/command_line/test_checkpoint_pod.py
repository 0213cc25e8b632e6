"""``snapshotctl checkpoint --pod`` against a real API server: what is made, and what is refused before anything is."""

import json
import subprocess
import sys

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


def ended(world, name, phase):
    """Be the controller: the capture has ended."""
    status = json.dumps({"status": {"phase": phase}})
    world.plane.kubectl(
        "-n", world.namespace, "patch", "dckpt", name, "--subresource=status", "--type=merge", "-p", status
    )


@pytest.mark.parametrize(
    ("code", "name"), [pytest.param(0, "warm", id="for-the-same"), pytest.param(1, "other", id="for-another")]
)
def test_what_is_in_progress_is_not_asked_for_again(world, code, name):
    before = stored(world, "pod", "plain-0")["metadata"]["annotations"]
    result = world.run("checkpoint", "--pod", "plain-0", "--name", name)
    assert code == result.exit_code, result.output
    assert {"status=skipped", "reason=in-progress", "name=warm"} <= set(result.stdout.splitlines())
    assert ("describe warm" in result.stderr) == bool(code)
    assert before == stored(world, "pod", "plain-0")["metadata"]["annotations"]


def test_what_has_ended_is_in_the_way_of_its_name_alone(world):
    ended(world, "warm", "Failed")
    again = world.run("checkpoint", "--pod", "plain-0", "--name", "warm")
    assert 1 == again.exit_code
    assert "DynamoCheckpoint warm exists" in " ".join(again.stderr.split())
    result = world.run("checkpoint", "--pod", "plain-0", "--name", "after-warm")
    assert 0 == result.exit_code, result.output
    ended(world, "after-warm", "Ready")


def test_of_many_at_once_one_is_served(world):
    where = ["-n", world.namespace, "--kubeconfig", str(world.plane.kubeconfig)]
    argv = [sys.executable, "-m", "snapshotctl", "checkpoint", "--pod", "plain-0", *where, "--name"]
    asking = [
        subprocess.Popen([*argv, f"at-once-{number}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    said = [each.communicate(timeout=60)[0] for each in asking]
    assert ["skipped", "skipped", "skipped", "submitted"] == sorted(text.partition("\n")[0][7:] for text in said)
    (served,) = (text for text in said if text.startswith("status=submitted"))
    name = requested_checkpoint(stored(world, "pod", "plain-0")["metadata"]["annotations"][keys.ANN_CAPTURE])
    assert f"name={name}\n" in served
    assert all(f"name={name}\n" in text for text in said)
    ended(world, name, "Ready")


def test_a_request_whose_asker_died_is_in_nobodys_way(world):
    notes = f"{keys.ANN_CAPTURE}=never-made@1"
    world.plane.kubectl("-n", world.namespace, "annotate", "pod", "plain-0", "--overwrite", notes)
    result = world.run("checkpoint", "--pod", "plain-0", "--name", "made")
    assert 0 == result.exit_code, result.output
    ended(world, "made", "Ready")


def test_waiting_ends(world):
    result = world.run("checkpoint", "--pod", "plain-0", "--name", "awaited", "--wait", "--timeout", "1s")
    assert 1 == result.exit_code
    assert "status=pending" in result.stdout
