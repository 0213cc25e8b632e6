"""Installs the chart with the real Helm, and takes it away again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.kubectl import CommandError, Kubectl, run
from demo.manifests import ROOT

RELEASE = "snapshot"
CHART = ROOT / "charts" / "snapshot"
HELM_SECONDS = 240


@dataclass(frozen=True)
class Helm:
    """Helm on one cluster."""

    binary: Path
    kubeconfig: Path
    namespace: str

    def __call__(self, *args: str) -> str:
        """Run ``helm ARGS`` in the namespace."""
        base = [str(self.binary), "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace]
        return run([*base, *args], timeout=HELM_SECONDS + 30)

    def install(self, settings: Mapping[str, str]) -> None:
        """Install or upgrade the release, and wait until its pods are ready."""
        flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
        self(
            *("upgrade", "--install", RELEASE, str(CHART), "--create-namespace"),
            *("--wait", "--timeout", f"{HELM_SECONDS}s", *flags),
        )

    def uninstall(self) -> None:
        """Remove the release and wait for its objects to go."""
        self("uninstall", RELEASE, "--wait", "--timeout", f"{HELM_SECONDS}s")


def image_settings(tag: str, prefix: str = "dynamo-snapshot") -> dict[str, str]:
    """Return the chart values that name our images, with the seeds' own flag for the volume."""
    return {
        "storage.pvc.create": "true",
        "storage.pvc.size": "5Gi",
        "controlPlane.image.repository": f"{prefix}/control-plane",
        "controlPlane.image.tag": tag,
        "daemonset.image.repository": f"{prefix}/agent",
        "daemonset.image.tag": tag,
        "daemonset.image.pullPolicy": "IfNotPresent",
    }


def complaints(kubectl: Kubectl) -> str:
    """Return what the namespace says of itself when an installation does not become ready."""
    try:
        return kubectl("get", "pods", "-o", "wide") + kubectl("get", "events", "--sort-by=.lastTimestamp")
    except CommandError as error:
        return str(error)
