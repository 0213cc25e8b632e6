"""podMount: the workers mount the volume, the agent reaches it through them; a second release beside the first."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from contract.api import keys
from demo import story
from demo.install import Helm, complaints, image_settings
from demo.kubectl import CommandError, Kubectl
from demo.platform import Platform
from snapshotctl.__main__ import main
from tests.support.fixtures import node

NAMESPACE = "snapshot-pod-mount"
NAME = "tiny"


@pytest.fixture(scope="module")
def release(platform: Platform, installed: Kubectl) -> Iterator[Kubectl]:
    """A release in podMount whose claim nobody makes, and a checkpoint that waits for it."""
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, NAMESPACE)
    helm = Helm(platform.helm, platform.kubeconfig, NAMESPACE)
    install(platform, create=False)
    node.create(kubectl, node.checkpoint(NAME))
    yield kubectl
    helm.uninstall()


def install(platform: Platform, *, create: bool) -> None:
    """Install or upgrade it; with *create* the controller makes the claim, as the seeds' operator does."""
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, NAMESPACE)
    settings = image_settings(platform.image_tag, platform.image_prefix)
    more = {"storage.accessMode": "podMount", "storage.pvc.create": str(create).lower()}
    try:
        Helm(platform.helm, platform.kubeconfig, NAMESPACE).install(settings | more)
    except CommandError as error:
        pytest.fail(f"{error}\n{complaints(kubectl)}")
    story.await_webhook(kubectl)


@pytest.fixture(scope="module")
def claimless(release: Kubectl) -> str:
    """The name of a pod that would wait for a checkpoint, and with it for a claim that nobody makes."""
    node.phase(release, NAME, "Pending")
    notes = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
    node.create(release, node.pod("tiny-0", NAME, annotations=notes, readinessProbe=node.probe()))
    node.await_ready(release, "tiny-0")
    return "tiny-0"


@pytest.fixture(scope="module")
def ready(platform: Platform, release: Kubectl, claimless: str) -> dict:
    """The checkpoint, Ready once the controller may make the claim."""
    install(platform, create=True)
    return node.phase(release, NAME, "Ready", "Failed")


@pytest.fixture(scope="module")
def restored(release: Kubectl, ready: dict) -> str:
    """The name of a restored pod."""
    node.create(release, node.pod("tiny-1", NAME, readinessProbe=node.probe()))
    node.await_answer(release, "tiny-1")
    node.await_ready(release, "tiny-1")
    return "tiny-1"


def test_a_pod_is_not_held_for_a_claim_that_nobody_makes(release: Kubectl, claimless: str):
    """It starts cold, where it would have waited for ever."""
    found = release.get("pod", claimless)

    assert "volume-claim-unavailable" == found["metadata"]["annotations"][keys.ANN_ADMISSION]
    assert ["python3"] == found["spec"]["containers"][0]["command"][:1]
    assert 1 == node.workers(release, claimless)


def test_the_checkpoint_becomes_ready(ready: dict):
    assert "Ready" == ready["status"]["phase"]
    assert "pvc" == ready["status"]["storageType"]


def test_the_controller_made_the_claim(release: Kubectl, ready: dict):
    assert "Bound" == release.get("pvc", "snapshot-pvc")["status"]["phase"]


def test_the_agent_mounts_no_claim(release: Kubectl):
    volumes = release.get("daemonset", "snapshot-agent")["spec"]["template"]["spec"]["volumes"]

    assert [] == [volume for volume in volumes if "persistentVolumeClaim" in volume]


def test_the_worker_is_restored(release: Kubectl, restored: str):
    assert node.first_line(release, restored).startswith("SNAPSHOT_RESTORED:")
    assert 1 == node.workers(release, restored)


def test_the_restored_pod_cannot_write_the_store(release: Kubectl, restored: str):
    found = release.get("pod", restored)
    mounts = found["spec"]["containers"][0]["volumeMounts"]
    store = next(mount for mount in mounts if mount["name"] == keys.STORAGE_VOLUME)

    assert store["readOnly"] is True
    assert "/checkpoints" == found["metadata"]["annotations"][keys.ANN_STORAGE_BASE_PATH]


def test_a_placeholder_is_restored_in_place(platform: Platform, release: Kubectl, ready: dict):
    """Through the volume that its own container mounts, since long before a checkpoint was named."""

    def run(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, "-n", NAMESPACE, "--kubeconfig", str(platform.kubeconfig)])
        assert 0 == result.exit_code, result.output
        return result.stdout

    assert "admission=placeholder" in run("placeholder", NAME, "--name", "tiny-spare")
    release("wait", "--for=jsonpath={.status.phase}=Running", "pod/tiny-spare", f"--timeout={node.READY_SECONDS}s")
    run("restore", "--pod", "tiny-spare", "--checkpoint-id", ready["status"]["checkpointID"])
    node.await_answer(release, "tiny-spare")
    assert "SNAPSHOT_RESTORED: " in release("logs", "tiny-spare")
