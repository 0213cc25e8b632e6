"""The demo's story, as assertions, on a real kubelet with real CRIU."""

import pytest

from contract.api import keys
from demo import story
from demo.kubectl import Kubectl
from demo.timeline import Story, faults
from tests.support.fixtures import node


@pytest.fixture(scope="module")
def told(installed: Kubectl) -> Story:
    """The whole story, once."""
    return story.tell(installed, print)


def test_the_story_holds(told: Story):
    """Token, answers and times are as claimed."""
    assert faults(told) == []


@pytest.mark.parametrize(
    ("start", "kind", "words"),
    [
        pytest.param("cold", "cold", "admission: checkpoint-not-found", id="before the checkpoint"),
        pytest.param("restored", "restored", "SNAPSHOT_RESTORED: container restored from checkpoint", id="from it"),
        pytest.param("fallback", "cold", "SNAPSHOT_COLD_START: Falling back to cold start:", id="artifact gone"),
    ],
)
def test_every_start_says_what_it_was(told: Story, start: str, kind: str, words: str):
    found = getattr(told, start)

    assert kind == found.kind
    assert found.reason.startswith(words)


def test_the_restored_start_is_several_times_faster(told: Story):
    """Several is at least three here; the machine is shared, and the ratio is what counts."""
    assert told.ratio > 3


def test_every_pod_becomes_ready(told: Story, installed: Kubectl):
    installed("wait", "--for=condition=Ready", "pod", "-l", story.APP, "--timeout=60s")


def test_the_restored_pod_explains_itself(told: Story, installed: Kubectl):
    described = node.described(installed, "pod", told.restored.pod, "RestoreSucceeded")

    assert f"{keys.ANN_ADMISSION}: restore-shaped" in described


def test_the_checkpoint_explains_itself(told: Story, installed: Kubectl):
    found = installed.get("dynamocheckpoint", "minilm")
    node.described(installed, "dckpt", "minilm", "CheckpointReady")

    assert found["status"]["manifestDigest"].startswith("blake3:")
    assert found["status"]["size"] > 2**20


def test_kubectl_waits_for_a_ready_checkpoint(told: Story, installed: Kubectl):
    """Both forms that the documents use."""
    installed("wait", "--for=jsonpath={.status.phase}=Ready", "dynamocheckpoint/minilm", "--timeout=5s")
    installed("wait", "--for=condition=Ready", "dynamocheckpoint/minilm", "--timeout=5s")
