"""What may be restored in place into which pod: each refusal by name, and the patch that names a checkpoint."""

from pathlib import Path

import pytest

from contract.api import keys
from contract.pods.placeholder import Unfit, in_place_patch, refuse, refuse_node, waiting_containers
from tests.support.builders.objects import ID, IMAGE, container, ready

WAITS = [keys.STANDBY, keys.STANDBY_WAIT, "--", "python3"]
MAIN = container(command=WAITS)
SINCE = "2026-11-21T03:00:00Z"
RUNS = [{"name": "main", "state": {"running": {"startedAt": SINCE}}}]


def placeholder(*containers, labels=None, annotations=None, phase="Running", deleting=False, statuses=RUNS):
    metadata = {"name": "web-1", "namespace": "ns", "resourceVersion": "7"}
    metadata |= {"labels": labels or {}, "annotations": annotations or {}}
    if deleting:
        metadata["deletionTimestamp"] = SINCE
    return {
        "metadata": metadata,
        "spec": {"containers": list(containers) or [MAIN]},
        "status": {"phase": phase, "containerStatuses": statuses},
    }


def named(status="", targets="main"):
    notes = {keys.ANN_TARGET_CONTAINERS: targets}
    notes |= {keys.ANN_RESTORE_STATUS_PREFIX + "main": status} if status else {}
    return placeholder(labels={keys.LABEL_CHECKPOINT_ID: "old"}, annotations=notes)


def with_condition(kind, message):
    entry = {"type": kind, "status": "True", "message": message}
    return ready(status={**ready()["status"], "conditions": [entry]})


def deleting():
    found = ready()
    found["metadata"]["deletionTimestamp"] = SINCE
    return found


def taken_of(image):
    return ready(status={**ready()["status"], "image": {"reference": image}})


@pytest.mark.parametrize(
    ("expected", "words", "pod", "targets", "checkpoint"),
    [
        pytest.param(None, "", placeholder(), ["main"], ready(), id="waits"),
        pytest.param(None, "", placeholder(phase="Pending", statuses=[]), ["main"], ready(), id="has no node yet"),
        pytest.param(None, "", placeholder(), ["main"], taken_of(IMAGE), id="its image was captured"),
        pytest.param(Unfit.ENDING, "is being deleted", placeholder(deleting=True), ["main"], ready(), id="ending"),
        pytest.param(Unfit.ENDING, "is Failed", placeholder(phase="Failed"), ["main"], ready(), id="has failed"),
        pytest.param(
            Unfit.NOT_A_PLACEHOLDER,
            f"started by itself at {SINCE}; make one: snapshotctl placeholder",
            placeholder(container()),
            ["main"],
            ready(),
            id="any pod",
        ),
        pytest.param(
            Unfit.NOT_A_PLACEHOLDER,
            f"main started by itself at {SINCE}",
            placeholder(container()),
            [],
            ready(),
            id="all",
        ),
        pytest.param(
            Unfit.NOT_A_PLACEHOLDER,
            "no placeholder",
            placeholder(container(command=[keys.STANDBY, "--", "--wait"])),
            ["main"],
            ready(),
            id="made to restore at its start",
        ),
        pytest.param(
            Unfit.TARGETS_INVALID,
            "container side does not wait for a restore; of this pod main does",
            placeholder(MAIN, container("side")),
            ["side"],
            ready(),
            id="a container beside it",
        ),
        pytest.param(
            Unfit.TARGETS_INVALID,
            "container other",
            placeholder(),
            ["main", "other"],
            ready(),
            id="one that is not there",
        ),
        pytest.param(
            Unfit.TARGETS_INVALID,
            "container side of pod web-1 waits too",
            placeholder(MAIN, container("side", command=WAITS)),
            ["main"],
            ready(),
            id="one of two that wait",
        ),
        pytest.param(Unfit.ALREADY_RESTORING, "checkpoint old", named(), ["main"], ready(), id="named"),
        pytest.param(None, "", named(targets="side"), ["main"], ready(), id="named by hand, for a container not there"),
        pytest.param(Unfit.ALREADY_RESTORING, "", named("in_progress"), ["main"], ready(), id="in progress"),
        pytest.param(Unfit.ALREADY_RESTORED, "checkpoint old", named("completed"), ["main"], ready(), id="restored"),
        pytest.param(Unfit.ALREADY_STARTED, "snapshotctl why web-1", named("failed"), ["main"], ready(), id="cold"),
        pytest.param(
            Unfit.CHECKPOINT_NOT_READY,
            "is Creating, not Ready",
            placeholder(),
            ["main"],
            ready(status={"phase": "Creating", "checkpointID": ID}),
            id="in the making",
        ),
        pytest.param(Unfit.CHECKPOINT_DELETING, "deleted", placeholder(), ["main"], deleting(), id="being deleted"),
        pytest.param(
            Unfit.RESTORES_FAILING,
            "cpu-mismatch",
            placeholder(),
            ["main"],
            with_condition("RestoresFailing", "three failed with cpu-mismatch"),
            id="its restores fail",
        ),
        pytest.param(
            Unfit.IMAGE_MISMATCH, "taken of other:2", placeholder(), ["main"], taken_of("other:2"), id="another image"
        ),
    ],
)
def test_what_can_be_restored_where(expected, words, pod, targets, checkpoint):
    found = refuse(pod, targets, checkpoint)

    assert expected == (found.code if found else None)
    assert words in (found.message if found else "")


def test_every_code_of_the_list_has_its_case_here():
    source = Path(__file__).read_text()

    assert [] == [code.name for code in Unfit if f"Unfit.{code.name}" not in source]


@pytest.mark.parametrize(
    ("expected", "labels"),
    [
        pytest.param(None, {keys.LABEL_NODE_READY: "ready"}, id="an agent is ready"),
        pytest.param(Unfit.NO_AGENT, {keys.LABEL_NODE_READY: "draining"}, id="another word"),
        pytest.param(Unfit.NO_AGENT, {}, id="none"),
    ],
)
def test_the_node_has_an_agent(expected, labels):
    found = refuse_node({"metadata": {"name": "node-1", "labels": labels}})

    assert expected == (found.code if found else None)


def test_which_containers_wait():
    found = placeholder(
        container("a"), container("b", command=WAITS), container("c", command=[keys.STANDBY, "--serve"])
    )

    assert ("b",) == waiting_containers(found)


def test_the_patch_names_the_version_that_was_captured_and_holds_for_what_was_seen():
    wanted = ready(annotations={keys.ANN_ARTIFACT_VERSION: "2"})

    assert {
        "metadata": {
            "resourceVersion": "7",
            "labels": {keys.LABEL_CHECKPOINT_ID: ID, keys.LABEL_IS_RESTORE_TARGET: "true"},
            "annotations": {
                keys.ANN_CHECKPOINT: "qwen",
                keys.ANN_ARTIFACT_VERSION: "1",
                keys.ANN_TARGET_CONTAINERS: "main",
            },
        }
    } == in_place_patch(placeholder(), ["main"], wanted)


def test_every_code_is_explained():
    page = (Path(__file__).parents[4] / "docs" / "placeholders.md").read_text()

    assert [] == [code for code in Unfit if f"| `{code}` |" not in page]
