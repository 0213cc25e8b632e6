"""Condition Compatible: how many nodes could restore a checkpoint, or what most of them lack."""

import pytest

from contract.config.values import load_values
from contract.nodes.node_facts import read_source
from controller.checkpoints.plan.compatible import REASONS
from tests.support.builders.checkpoints import AGENT_MOUNT, JOB, condition_in, labelled, status_after, status_of, step

TAKEN_ON = {"node": "node-1", "architecture": "amd64", "kernel": "6.1.0", "criu": "4.2.1", "cpuFlags": "avx avx2"}
GPUS = {"gpuModels": ["NVIDIA L4", "NVIDIA L4"], "gpuDriver": "580.159.04"}


def ready(**fields):
    ready = {"type": "Ready", "status": "True", "reason": "CheckpointReady", "message": ""}
    conditions = [ready | {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}]
    return labelled(
        status=status_of("Ready", **{"jobName": JOB, "source": TAKEN_ON, "conditions": conditions} | fields)
    )


def nodes(*kinds):
    """Return how many nodes there are of each kind, told by what differs from the one of the capture."""
    return {read_source(TAKEN_ON | differs).facts: count for count, differs in kinds}


def compatible(obj, around, values=AGENT_MOUNT):
    found = condition_in(status_after(obj, values, nodes=around), "Compatible")
    return found and tuple(found[field] for field in ("status", "reason", "message"))


NO_AVX2 = (
    "none of 3 nodes could restore it: 2 cpu-mismatch, 1 kernel-mismatch; on one of them: this node's processor (Old) "
    "lacks avx2; keep the pods on nodes like that of the capture, or capture on the oldest processor of the pool"
)
OTHER_DRIVER = (
    "none of 1 nodes could restore it: 1 gpu-mismatch; on one of them: captured with driver 580.159.04, this node has "
    "595.1"
)
OLD_CPU, OLD_KERNEL = {"cpuFlags": "avx", "cpuModel": "Old"}, {"kernel": "5.15.0"}


@pytest.mark.parametrize(
    ("expected", "taken_on", "around"),
    [
        pytest.param(("True", "NodesCompatible", "1 of 1 nodes could restore it"), {}, [(1, {})], id="its-own"),
        pytest.param(
            ("True", "NodesCompatible", "2 of 5 nodes could restore it; the others: 2 cpu-mismatch, 1 kernel-mismatch"),
            {},
            [(1, {}), (1, {"kernel": "6.18"}), (1, OLD_KERNEL), (2, OLD_CPU)],
            id="some",
        ),
        pytest.param(
            ("False", "CPUMismatch", NO_AVX2),
            {},
            [(1, OLD_KERNEL), (2, OLD_CPU)],
            id="none",
        ),
        pytest.param(("False", "NoNodes", "no agent that is ready says what its node is"), {}, [], id="no-agent"),
        pytest.param(
            ("True", "NodesCompatible", "1 of 2 nodes could restore it; the others: 1 gpu-mismatch"),
            GPUS,
            [(1, {}), (1, GPUS | {"gpuModels": ["NVIDIA L4"] * 8})],
            id="gpus-to-spare",
        ),
        pytest.param(
            ("False", "GPUMismatch", OTHER_DRIVER),
            GPUS,
            [(1, GPUS | {"gpuDriver": "595.1"})],
            id="driver",
        ),
    ],
)
def test_the_condition(expected, taken_on, around):
    assert expected == compatible(ready(source=TAKEN_ON | taken_on), nodes(*around))


@pytest.mark.parametrize(
    ("obj", "around"),
    [
        pytest.param(ready(), None, id="nodes-not-known-yet"),
        pytest.param(ready(source=None), nodes((1, {})), id="an-earlier-release"),
        pytest.param(ready(source={"kernel": 6}), nodes((1, {})), id="source-unusable"),
        pytest.param(labelled(status=status_of("Failed", source=TAKEN_ON)), nodes((1, {})), id="not-ready"),
    ],
)
def test_nothing_is_said_of_what_is_not_known(obj, around):
    assert not [each for each in status_after(obj, nodes=around).get("conditions", ()) if each["type"] == "Compatible"]


def test_what_all_nodes_bypass_does_not_count():
    values = load_values("config: {restore: {bypass: [cpu-mismatch]}}")
    assert "2 of 3 nodes could restore it; the others: 1 kernel-mismatch" in compatible(
        ready(), nodes((2, OLD_CPU), (1, OLD_KERNEL)), values
    )


def test_it_is_written_only_if_it_changes_and_told_only_if_it_turns():
    around = nodes((1, OLD_CPU))
    first = step(ready(), nodes=around)
    again = step(ready() | {"status": first.status}, nodes=around)

    assert ["CPUMismatch"] == [event.reason for event in first.events]
    assert (None, ()) == (again.status, again.events)


def test_every_check_of_a_node_has_its_reason():
    assert len(REASONS) == len(set(REASONS.values()))
    for differs in ({"architecture": "arm64"}, OLD_CPU, OLD_KERNEL, {"criu": "4.1"}, {"gpuModels": []}):
        taken_on = TAKEN_ON | GPUS
        found = compatible(ready(source=taken_on), {read_source(taken_on | differs).facts: 1})
        assert "False" == found[0]
