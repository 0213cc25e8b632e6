"""One label on a stock image and the chart's own values, with real CRIU: the very files of examples/automatic."""

from pathlib import Path
from typing import Any

import pytest

from contract.api import keys
from demo.kubectl import Kubectl, WaitError, wait_for
from tests.support.fixtures import node

EXAMPLES = Path(__file__).parents[4] / "examples" / "automatic"
RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint"
STOCK = {"dynamo-snapshot/demo-worker:dev"}
FILES = ("deployment.yaml", "wait-for-checkpoint.yaml", "job.yaml", "statefulset.yaml")

Json = dict[str, Any]


@pytest.fixture(scope="module")
def applied(installed: Kubectl) -> Kubectl:
    """All of them at once, so that their captures overlap."""
    for name in FILES:
        installed("apply", "-f", str(EXAMPLES / name))
    return installed


def pods(kubectl: Kubectl, app: str) -> list[Json]:
    """The workload's own pods that are not ending."""
    found = kubectl.items("pods", "-l", f"app={app},!{keys.LABEL_IS_SOURCE}")
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def note(pod: Json, key: str) -> str | None:
    found: str | None = pod["metadata"].get("annotations", {}).get(key)
    return found


def checkpoints(kubectl: Kubectl, workload: str) -> dict[str, Json]:
    """The automatic checkpoints of a workload, by name."""
    found = kubectl.items("dynamocheckpoints")
    return {each["metadata"]["name"]: each for each in found if note(each, keys.ANN_WORKLOAD) == workload}


def ready(kubectl: Kubectl, workload: str, count: int = 1) -> dict[str, Json]:
    """Wait until a workload has *count* checkpoints, all Ready."""

    def look() -> dict[str, Json] | None:
        found = checkpoints(kubectl, workload)
        phases = [each.get("status", {}).get("phase") for each in found.values()]
        assert "Failed" not in phases, [each["status"] for each in found.values()]
        return found if phases == ["Ready"] * count else None

    try:
        return wait_for(look, f"{count} Ready checkpoints of {workload}", node.CAPTURE_SECONDS)
    except WaitError as error:
        there = kubectl("get", "pods,dckpt,jobs", "-o", "wide")
        pytest.fail(f"{error}\n{there}\n{kubectl('get', 'events', '--sort-by=.lastTimestamp')[-6000:]}")


def tokens(kubectl: Kubectl, found: list[Json]) -> list[str]:
    return [node.await_answer(kubectl, pod["metadata"]["name"])["token"] for pod in found]


def shaped(kubectl: Kubectl, app: str, name: str, count: int) -> list[Json]:
    """Wait for *count* serving pods that were restored from checkpoint *name*."""

    def look() -> list[Json] | None:
        found = [
            pod
            for pod in pods(kubectl, app)
            if note(pod, keys.ANN_CHECKPOINT) == name and note(pod, keys.ANN_ADMISSION) == "restore-shaped"
        ]
        return found if len(found) == count else None

    found = wait_for(look, f"{count} pods that restore from {name}", 60)
    for pod in found:
        node.await_ready(kubectl, pod["metadata"]["name"])
        assert node.first_line(kubectl, pod["metadata"]["name"]).startswith(RESTORED)
    return found


@pytest.fixture(scope="module")
def first(applied: Kubectl) -> str:
    """The checkpoint that the Deployment asked for, Ready by itself."""
    (name,) = ready(applied, "Deployment/automatic")
    return name


def test_the_first_pod_is_cold_and_the_next_ones_are_one_process_restored(applied: Kubectl, first: str):
    (cold,) = pods(applied, "automatic")
    applied("scale", "deployment/automatic", "--replicas=3")
    found = shaped(applied, "automatic", first, 2)
    said = tokens(applied, found)

    assert "checkpoint-requested" == note(cold, keys.ANN_ADMISSION)
    assert STOCK == {pod["spec"]["containers"][0]["image"] for pod in (cold, *found)}
    assert 1 == len(set(said))
    assert tokens(applied, [cold])[0] not in said


def test_held_replicas_are_all_restored(applied: Kubectl):
    (name,) = ready(applied, "Deployment/patient")
    found = shaped(applied, "patient", name, 3)

    assert {"checkpoint-ready"} == {note(pod, keys.ANN_GATE) for pod in found}
    assert 1 == len(set(tokens(applied, found)))


def test_a_bare_pod_of_the_same_kind_shares_the_checkpoint(applied: Kubectl, first: str):
    """It has nobody's template, and comes to the same memory all the same."""
    applied("create", "-f", str(EXAMPLES / "pod.yaml"))
    (found,) = shaped(applied, "lone", first, 1)
    (other, *_) = shaped(applied, "automatic", first, 2)

    assert 1 == len(set(tokens(applied, [found, other])))


def test_a_replica_of_a_stateful_set_is_restored_with_its_own_name_and_data(applied: Kubectl):
    (name,) = ready(applied, "StatefulSet/ordered")
    applied("rollout", "status", "statefulset/ordered", "--timeout=60s")
    applied("delete", "pod", "ordered-1", "--wait=true")
    (found,) = shaped(applied, "ordered", name, 1)
    claims = [each.get("persistentVolumeClaim", {}).get("claimName") for each in found["spec"]["volumes"]]

    assert "ordered-1" == found["metadata"]["name"]
    assert "data-ordered-1" in claims


def test_a_held_job_keeps_its_only_try(applied: Kubectl):
    applied("wait", "--for=condition=Complete", "job/batch", "--timeout=120s")
    (pod,) = pods(applied, "batch")

    assert "went on as restored" in applied("logs", pod["metadata"]["name"], "-c", "main")
    assert "checkpoint-ready" == note(pod, keys.ANN_GATE)


def test_a_restart_makes_a_new_checkpoint_and_going_back_finds_the_old_one(applied: Kubectl, first: str):
    applied("scale", "deployment/automatic", "--replicas=1")
    applied("rollout", "restart", "deployment/automatic")
    both = ready(applied, "Deployment/automatic", 2)
    applied("rollout", "status", "deployment/automatic", "--timeout=60s")
    applied("rollout", "undo", "deployment/automatic")
    (back,) = shaped(applied, "automatic", first, 1)

    assert first in both
    assert note(back, keys.ANN_TEMPLATE_HASH) == note(both[first], keys.ANN_TEMPLATE_HASH)
    assert both.keys() == checkpoints(applied, "Deployment/automatic").keys()


def test_describe_tells_the_story(applied: Kubectl, first: str):
    (pod,) = shaped(applied, "automatic", first, 1)
    node.described(applied, "pod", pod["metadata"]["name"], "RestoreShaped")

    assert "Deployment/automatic" in node.described(applied, "dckpt", first, "AutomaticCheckpoint")
