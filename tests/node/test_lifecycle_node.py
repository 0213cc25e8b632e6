"""The life of a checkpoint on a real kubelet: versions, their removal, adoption, the end of what nobody uses.

In podMount with a ReadWriteOnce claim that the controller makes: captures, restores, inspections and removals mount it
one after the other.
"""

import contextlib
from collections.abc import Iterator

import pytest

from contract.api import keys
from demo.install import Helm, complaints, image_settings
from demo.kubectl import CommandError, Kubectl, wait_for
from demo.platform import Platform
from tests.support.fixtures import node

NAMESPACE = "snapshot-lifecycle"
NAME = "life"
SECONDS = 60.0


@pytest.fixture(scope="module")
def release(platform: Platform) -> Iterator[Kubectl]:
    """A release that keeps one version, and of automatic checkpoints none that nobody uses."""
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, NAMESPACE)
    helm = Helm(platform.helm, platform.kubeconfig, NAMESPACE)
    settings = image_settings(platform.image_tag, platform.image_prefix)
    more = {
        "storage.accessMode": "podMount",
        "storage.pvc.accessMode": "ReadWriteOnce",
        "retention.keepVersions": "1",
        "retention.namespaceQuota": "1k",
    }
    try:
        helm.install(settings | more | node.PATIENT)
    except CommandError as error:
        pytest.fail(f"{error}\n{complaints(kubectl)}")
    yield kubectl
    helm.uninstall()


def token(kubectl: Kubectl, pod: str) -> str:
    """What only the captured process can know."""
    return str(node.await_answer(kubectl, pod)["token"])


def captured(kubectl: Kubectl, version: str) -> dict:
    """Wait until this version is Ready; the checkpoint's status."""

    def look() -> dict | None:
        status = kubectl.get("dynamocheckpoint", NAME).get("status", {})
        if status.get("phase") == "Failed":
            pytest.fail(f"version {version}: {status.get('message')}")
        ready = status.get("phase") == "Ready" and status["location"].endswith(f"/versions/{version}")
        return status if ready else None

    return wait_for(look, f"version {version} Ready", node.CAPTURE_SECONDS)


def versions(kubectl: Kubectl) -> list[str]:
    """The versions that the status lists."""
    return [each["version"] for each in kubectl.get("dynamocheckpoint", NAME)["status"].get("versions", [])]


def annotate(kubectl: Kubectl, *notes: str) -> None:
    kubectl("annotate", "--overwrite", "dynamocheckpoint", NAME, *notes)


def stored(kubectl: Kubectl, path: str, seen_by: str = "second") -> list[str]:
    """A folder of the volume, seen by a restored pod that mounts it read-only."""
    code = f"import os; print(*os.listdir('/checkpoints/{path}'))"
    return sorted(kubectl("exec", seen_by, "-c", "main", "--", "python3", "-c", code).split())


@pytest.fixture(scope="module")
def old(release: Kubectl) -> str:
    """Version 1, and a pod restored from it: the token."""
    node.create(release, node.checkpoint(NAME))
    captured(release, "1")
    node.create(release, node.pod("first", NAME, readinessProbe=node.probe()))
    return token(release, "first")


@pytest.fixture(scope="module")
def new(release: Kubectl, old: str) -> str:
    """Version 2, and a pod restored from it: the token."""
    annotate(release, f"{keys.ANN_ARTIFACT_VERSION}=2")
    captured(release, "2")
    node.create(release, node.pod("second", NAME, readinessProbe=node.probe()))
    return token(release, "second")


def test_pods_of_the_old_version_restore_it_again(release: Kubectl, old: str, new: str):
    """A container that restarts is what its pod was made for; and while the pod lives, its version stays."""
    pid = node.await_answer(release, "first")["pid"]
    with contextlib.suppress(CommandError):  # the command ends with the container that it ends
        release("exec", "first", "-c", "main", "--", "python3", "-c", f"import os; os.kill({pid}, 9)")

    def restarted() -> bool | None:
        statuses = release.get("pod", "first")["status"]["containerStatuses"]
        return True if statuses[0]["restartCount"] and statuses[0]["ready"] else None

    wait_for(restarted, "the container's restart", SECONDS)
    assert old == token(release, "first") != new
    assert node.first_line(release, "first").startswith("SNAPSHOT_RESTORED:")
    assert ["1", "2"] == versions(release)


@pytest.fixture(scope="module")
def trimmed(release: Kubectl, old: str, new: str) -> str:
    """Nobody uses version 1 any more, and it goes; the checkpoint's id."""
    node.remove(release, "pod/first")
    wait_for(lambda: versions(release) == ["2"] or None, "version 1 to go", SECONDS)
    return str(release.get("dynamocheckpoint", NAME)["status"]["checkpointID"])


def test_an_old_version_goes_when_nobody_uses_it(release: Kubectl, trimmed: str):
    assert ["2"] == stored(release, f"{trimmed}/versions")
    assert ["version 1 was removed from storage"] == node.messages(release, "VersionRemoved")


@pytest.fixture(scope="module")
def adopted(release: Kubectl, trimmed: str, new: str) -> dict:
    """Deleted, applied again, in the way of its own artifact, taken over: the status."""
    release("delete", "dynamocheckpoint", NAME, "--wait=true")
    again = node.checkpoint(NAME)
    again["metadata"]["annotations"] = {keys.ANN_ARTIFACT_VERSION: "2"}
    node.create(release, again)
    failed = node.phase(release, NAME, "Failed", "Ready")
    annotate(release, f"{keys.ANN_ADOPT}=2")
    return {"failed": failed["status"], **captured(release, "2")}


def test_an_artifact_in_the_way_can_be_taken_over(release: Kubectl, adopted: dict, new: str):
    """The failure names the way; what is taken over is the process that was captured."""
    node.create(release, node.pod("third", NAME, readinessProbe=node.probe()))

    assert "Failed" == adopted["failed"]["phase"]
    assert "snapshotctl adopt" in adopted["failed"]["message"]
    assert adopted["manifestDigest"].startswith("blake3:")
    assert new == token(release, "third")
    assert node.first_line(release, "third").startswith("SNAPSHOT_RESTORED:")

    def unasked() -> bool | None:
        notes = release.get("dynamocheckpoint", NAME)["metadata"]["annotations"]
        return keys.ANN_ADOPT not in notes or None

    wait_for(unasked, "the end of the question", SECONDS)


def test_an_unused_checkpoint_goes_with_its_artifacts(release: Kubectl, adopted: dict, trimmed: str):
    """Only because its own spec says so: it was made by hand."""
    node.remove(release, "pod/second", "pod/third")
    release("patch", "dynamocheckpoint", NAME, "--type=merge", "-p", '{"spec":{"retention":{"ttlAfterLastUse":"5s"}}}')

    def gone() -> bool | None:
        return None if release("get", "dynamocheckpoint", NAME, "--ignore-not-found") else True

    wait_for(gone, "the checkpoint to go", SECONDS + 30)
    assert [f"artifact {trimmed} removed"] == node.messages(release, "ArtifactRemoved")


def automatic(name: str, app: str) -> dict:
    """A pod that asks for a checkpoint of its own kind; *app* is what tells the kinds apart."""
    found = node.pod(name, app, readinessProbe=node.probe(), env=[{"name": "APP", "value": app}])
    found["metadata"] |= {"labels": {"app": app, keys.LABEL_RESTORE: keys.RESTORE_AUTO}, "annotations": {}}
    return found


def asked(kubectl: Kubectl, pod: str) -> dict:
    """The checkpoint of an automatic pod, once it is Ready."""
    return node.phase(kubectl, kubectl.get("pod", pod)["metadata"]["annotations"][keys.ANN_CHECKPOINT], "Ready")


def test_over_the_quota_what_nobody_uses_goes_from_storage_and_what_is_used_stays(release: Kubectl):
    """Two automatic checkpoints are both too large; the artifact of the one without a pod is really gone."""
    for name in ("kept", "freed"):
        node.create(release, automatic(name, name))
    kept, freed = asked(release, "kept"), asked(release, "freed")
    ids = [each["status"]["checkpointID"] for each in (kept, freed)]
    node.create(release, automatic("kept-2", "kept"))
    token(release, "kept-2")
    before = stored(release, "", "kept-2")
    node.remove(release, "pod/freed")

    def gone() -> bool | None:
        return None if release("get", "dynamocheckpoint", freed["metadata"]["name"], "--ignore-not-found") else True

    wait_for(gone, "the checkpoint of no pod to go", SECONDS)
    assert {*ids} <= {*before}
    assert {*before} - {ids[1]} == {*stored(release, "", "kept-2")}
    assert "Ready" == release.get("dynamocheckpoint", kept["metadata"]["name"])["status"]["phase"]
    assert any("exceed the quota of 1000 bytes" in each for each in node.messages(release, "CheckpointExpired"))
    assert f"artifact {ids[1]} removed" in node.messages(release, "ArtifactRemoved")
