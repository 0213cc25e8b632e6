"""The guides' Helm commands with the guides' own values files: what they promise is rendered."""

from pathlib import Path

import yaml

from contract.config.values import load_values

ROOT = Path(__file__).parents[2]
VALUES = ROOT / "examples" / "seeds"


def rendered(helm, release, namespace, *flags, chart="charts/snapshot"):
    text = helm("template", release, str(ROOT / chart), "--namespace", namespace, *flags)
    return [found for found in yaml.safe_load_all(text) if found]


def names(objects, kind):
    return [found["metadata"]["name"] for found in objects if found["kind"] == kind]


def configured(objects, pick, name="snapshot-config"):
    """What the processes of the release will read."""
    return load_values(pick(objects, "ConfigMap", name)["data"]["config.yaml"])


def test_the_first_guides_release(helm, pick):
    """Seed 000, steps 1 and 2: release chrek, its volume and its agent by the names that it shows."""
    values = str(VALUES / "chrek-values.yaml")
    objects = rendered(helm, "chrek", "my-team", "--set", "storage.pvc.size=100Gi", "-f", values)

    claim = pick(objects, "PersistentVolumeClaim")
    assert ("chrek-pvc", "100Gi") == (claim["metadata"]["name"], claim["spec"]["resources"]["requests"]["storage"])
    assert ["chrek-agent"] == names(objects, "DaemonSet")
    found = configured(objects, pick, "chrek-config")
    assert ("chrek-pvc", "/checkpoints", True) == (
        found.storage.pvc.name,
        found.storage.pvc.base_path,
        found.checkpoint.enabled,
    )


def test_the_first_guides_claim_before_its_second_step(helm, pick):
    """Seed 000, step 1 alone: the second step then names the claim that is there."""
    objects = rendered(helm, "chrek", "my-team", "--set", "storage.pvc.size=100Gi")

    assert ["chrek-pvc"] == names(objects, "PersistentVolumeClaim")
    assert "chrek-pvc" == configured(objects, pick, "chrek-config").storage.pvc.name


def test_the_platforms_block(helm, pick):
    """Seed 001, step 2."""
    objects = rendered(helm, "snapshot", "my-team", "-f", str(VALUES / "platform-values.yaml"))

    assert configured(objects, pick).checkpoint.enabled


def test_the_guides_path(helm):
    """Seed 001, step 3: the chart at the path that the guide types, an agent by the name that it waits for."""
    flags = ("--set", "storage.pvc.create=true")
    objects = rendered(helm, "snapshot", "my-team", *flags, chart="deploy/helm/charts/snapshot")

    assert ["snapshot-agent"] == names(objects, "DaemonSet")
    assert ["snapshot-pvc"] == names(objects, "PersistentVolumeClaim")


def test_the_shared_agent(helm, pick):
    """Seed 001, step 3: one agent for all namespaces; the operator's block lets the controller make the claims."""
    sets = ("storage.accessMode=podMount", "storage.pvc.create=false", "rbac.namespaceRestricted=false")
    flags = [flag for each in sets for flag in ("--set", each)]
    alone = rendered(helm, "snapshot", "dynamo-system", *flags)
    together = rendered(helm, "snapshot", "dynamo-system", *flags, "-f", str(VALUES / "shared-agent-values.yaml"))

    assert [] == names(alone, "PersistentVolumeClaim") == names(together, "PersistentVolumeClaim")
    assert not configured(alone, pick).storage.pvc.create
    claim = configured(together, pick).storage.pvc
    assert (True, "1Ti", "ReadWriteMany") == (claim.create, claim.size, claim.access_mode)
