"""One agent for all namespaces, from the example's values: each namespace has a volume of its own, made when needed."""

import json
from collections.abc import Iterator

import pytest

from demo.install import CHART, HELM_SECONDS, RELEASE, Helm, complaints, image_settings
from demo.kubectl import CommandError, Kubectl
from demo.manifests import ROOT
from demo.platform import Platform
from tests.support.fixtures import node

HOME = "snapshot-infra"
TEAMS = ("team-a", "team-b")
NAME = "same"


@pytest.fixture(scope="module")
def teams(platform: Platform) -> Iterator[list[Kubectl]]:
    """A release that serves all namespaces but those of the other tests, and two teams."""
    helm = Helm(platform.helm, platform.kubeconfig, HOME)
    home = Kubectl(platform.kubectl, platform.kubeconfig, HOME)
    namespaces = [each["metadata"]["name"] for each in home.items("namespaces")]
    settings = image_settings(platform.image_tag, platform.image_prefix) | node.PATIENT | {"storage.pvc.size": "1Gi"}
    flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
    example = str(ROOT / "examples" / "storage" / "pod-mount-created.yaml")
    try:
        helm(
            *("upgrade", "--install", RELEASE, str(CHART), "--create-namespace", "-f", example),
            *("--wait", "--timeout", f"{HELM_SECONDS}s", *flags),
            *("--set-json", f"webhook.excludedNamespaces={json.dumps(namespaces)}"),
        )
    except CommandError as error:
        pytest.fail(f"{error}\n{complaints(home)}")
    found = [Kubectl(platform.kubectl, platform.kubeconfig, team) for team in TEAMS]
    for team in found:
        team("create", "namespace", team.namespace)
    yield found
    helm.uninstall()
    home("delete", "namespace", *TEAMS, "--wait=false")


def test_one_identity_in_two_namespaces_is_two_checkpoints(teams: list[Kubectl]):
    """The same id, each on its own volume; every pod restores its own namespace's process."""
    for team in teams:
        node.create(team, node.checkpoint(NAME))
    found = [node.phase(team, NAME, "Ready", "Failed")["status"] for team in teams]
    for team in teams:
        node.create(team, node.pod("one", NAME, readinessProbe=node.probe()))
    tokens = {node.await_answer(team, "one")["token"] for team in teams}
    lines = [node.first_line(team, "one") for team in teams]

    assert ["Ready", "Ready"] == [status["phase"] for status in found]
    assert 1 == len({status["checkpointID"] for status in found})
    assert [f"{team}/snapshot-pvc" for team in TEAMS] == [status["storageClaim"] for status in found]
    assert 2 == len(tokens)
    assert all(line.startswith("SNAPSHOT_RESTORED:") for line in lines)


def test_the_one_agent_mounts_no_volume(platform: Platform, teams: list[Kubectl]):
    del teams
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, HOME)
    spec = kubectl.get("daemonset", f"{RELEASE}-agent")["spec"]["template"]["spec"]

    assert [] == [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    assert [] == kubectl.items("pvc")
