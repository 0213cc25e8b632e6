"""What helm says at its end: a claim that the release needs and has not, with the command that makes it."""

import re
import subprocess

import pytest

SHOWN = re.compile(r"^kubectl apply .*?^END$", re.MULTILINE | re.DOTALL)
AWAY = ("--set", "storage.pvc.create=false")


@pytest.fixture
def notes(cluster_helm, chart, new_namespace):
    """Install or upgrade in one namespace; return it and what was said."""
    namespace = new_namespace()

    def run(*flags):
        command = ("upgrade", "--install", "snapshot", str(chart), "--namespace", namespace)
        return namespace, cluster_helm(*command, *flags).partition("NOTES:")[2]

    yield run
    cluster_helm("uninstall", "snapshot", "--namespace", namespace, "--no-hooks", "--ignore-not-found")


@pytest.mark.parametrize(
    ("mode", "harm"),
    [
        pytest.param("agentMount", "the agents stay Pending", id="agent-mount"),
        pytest.param("podMount", "in one without, nothing is captured or restored", id="pod-mount"),
    ],
)
def test_a_missing_claim_is_named_and_the_command_shown_makes_it(mode, harm, notes, control_plane):
    flags = (*AWAY, "--set", f"storage.accessMode={mode}", "--set", "storage.pvc.name=models")
    flags += ("--set", "storage.pvc.storageClass=nfs")
    namespace, said = notes(*flags)
    assert f"namespace {namespace} has no claim models" in said
    assert harm in " ".join(said.split())

    (command,) = SHOWN.findall(said)
    shell = command.replace("kubectl ", f"{control_plane.kubectl.program} --kubeconfig {control_plane.kubeconfig} ", 1)
    subprocess.run(["sh", "-c", shell], check=True, capture_output=True)
    made = control_plane.kubectl.json("get", "pvc", "models", "-n", namespace)["spec"]
    assert (["ReadWriteMany"], "nfs", "1Ti") == (
        made["accessModes"],
        made["storageClassName"],
        made["resources"]["requests"]["storage"],
    )
    assert "has no claim" not in notes(*flags)[1]


def test_a_claim_that_the_chart_makes_is_not_missed(notes):
    assert "has no claim" not in notes()[1]
