"""Condition StorageReady: what is wrong with agents and claims, and where an artifact is looked for in vain."""

import pytest

from contract.api import keys
from contract.config.storage import storage_from_values
from controller.checkpoints.diagnose.agents import agent_problem
from tests.support.builders.checkpoints import (
    AGENT_MOUNT,
    JOB,
    POD_MOUNT,
    capture_pod,
    claim,
    condition,
    condition_in,
    creating,
    job,
    labelled,
    load_values,
    pending,
    status_of,
    step,
)
from tests.support.builders.objects import ID

STORAGE = storage_from_values(AGENT_MOUNT)


def agent(claim_name="snapshot-pvc", path="/checkpoints", wanted=1, ready=1, volume="checkpoints"):
    mounts = [{"name": "checkpoints", "mountPath": path}]
    volumes = [{"name": "config"}, {"name": volume, "persistentVolumeClaim": {"claimName": claim_name}}]
    spec = {"containers": [{"name": "agent", "volumeMounts": mounts}], "volumes": volumes}
    return {
        "metadata": {"name": "snap-agent", "namespace": "ns"},
        "spec": {"template": {"spec": spec}},
        "status": {"desiredNumberScheduled": wanted, "numberReady": ready},
    }


@pytest.mark.parametrize(
    ("agents", "reason", "words"),
    [
        pytest.param((agent(),), None, "", id="serves"),
        pytest.param((agent(path="/checkpoints/"),), None, "", id="a-slash-more"),
        pytest.param((agent("other"), agent()), None, "", id="one-of-two"),
        pytest.param((), "AgentMissing", keys.LABEL_AGENT, id="none"),
        pytest.param((agent("other"),), "AgentStorageDiffers", "claim other at /checkpoints", id="another-claim"),
        pytest.param((agent(path="/data"),), "AgentStorageDiffers", "at /data", id="another-path"),
        pytest.param((agent(volume="x"),), "AgentStorageDiffers", "no checkpoint claim", id="pod-mount-agent"),
        pytest.param((agent(wanted=0, ready=0),), "AgentNotReady", "runs on no node", id="no-node"),
        pytest.param((agent(wanted=3, ready=0),), "AgentNotReady", "none of the 3 pods", id="not-ready"),
    ],
)
def test_agents(agents, reason, words):
    problem = agent_problem(agents, "ns", STORAGE)

    assert reason == (problem.reason if problem else None)
    assert words in (problem.message if problem else "")


def test_a_missing_agent_is_said_and_the_job_made_all_the_same():
    """Its pod waits for a node with an agent, so it goes on by itself."""
    planned = step(pending(), agents=())

    assert "Creating" == planned.status["phase"]
    assert "no snapshot-agent DaemonSet" in planned.status["message"]
    assert "AgentMissing" == condition_in(planned.status, "StorageReady")["reason"]


def test_a_missing_agent_explains_more_than_the_scheduler():
    stuck = capture_pod(condition("PodScheduled", "False", message="didn't match Pod's node affinity/selector"))
    status = step(creating(), job=job(), pods=(stuck,), agents=()).status

    assert "no snapshot-agent DaemonSet" in status["message"]
    assert "affinity" in condition_in(status, "Scheduled")["message"]


def ready(**fields):
    return labelled(status=status_of("Ready", jobName=JOB, location=f"/checkpoints/{ID}/versions/1", **fields))


@pytest.mark.parametrize(
    ("obj", "values", "around", "reason"),
    [
        pytest.param(ready(), AGENT_MOUNT, {}, None, id="as-it-was"),
        pytest.param(ready(storageClaim="ns/snapshot-pvc"), POD_MOUNT, {"claim": claim()}, None, id="claim-there"),
        pytest.param(ready(), POD_MOUNT, {}, "VolumeClaimMissing", id="claim-gone"),
        pytest.param(ready(), load_values("storage: {pvc: {basePath: /b}}"), {}, "StorageChanged", id="path-changed"),
        pytest.param(ready(storageClaim="ns/old"), AGENT_MOUNT, {}, "StorageChanged", id="claim-changed"),
        pytest.param(
            ready(storageClaim="ns/snapshot-pvc"),
            AGENT_MOUNT,
            {"release_namespace": "release"},
            "StorageChanged",
            id="another-volume-for-all",
        ),
    ],
)
def test_where_the_artifact_of_a_ready_checkpoint_is_looked_for(obj, values, around, reason):
    status = step(obj, values, **around).status or obj["status"]
    entry = next((each for each in status.get("conditions", ()) if each["type"] == "StorageReady"), None)

    assert "Ready" == status["phase"]
    assert reason == (entry and entry["reason"])


def test_settings_that_were_set_back_are_good_again():
    obj = ready()
    moved = obj | {"status": step(obj, load_values("storage: {pvc: {basePath: /b}}")).status}
    back = step(moved).status

    assert ("True", "AgentMountsStorage") == tuple(
        condition_in(back, "StorageReady")[field] for field in ("status", "reason")
    )
    assert step(moved | {"status": back}).status is None


def test_time_without_a_pod_does_not_count():
    """A quota on GPUs keeps the Job from having a pod at all: it waits as one that is not scheduled."""
    (extended,) = step(creating(), job=job(age=1801)).actions

    assert 1801 + 3600 == extended.seconds
