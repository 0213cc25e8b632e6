"""Where the demo runs: the embedded cluster, or the one that KUBECONFIG names."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster import embedded
from cluster.builder.cache import Cache
from cluster.progress import Progress
from demo.kubectl import CommandError
from demo.manifests import ROOT

EMBEDDED_NAME = "demo"
EMBEDDED_TAG = "dev"
IMAGE_PREFIX = "dynamo-snapshot"

NEEDS = """\
KUBECONFIG is set, so the demo runs on that cluster. It needs there:
  - nodes with Linux 5.15 or newer on amd64 and containerd, where privileged pods may run (the node agent),
  - a default StorageClass that serves ReadWriteMany (or: --set storage.pvc.accessMode=ReadWriteOnce),
  - kubectl and helm on your PATH, and rights to create cluster roles and webhook configurations,
  - these images in a registry it can pull from, named by --image-prefix and --image-tag:
      {images}
    `make images` builds them as archives; push them with your own tool."""


@dataclass(frozen=True)
class Platform:
    """A cluster that is ready for the chart."""

    kubeconfig: Path
    kubectl: Path
    helm: Path
    image_prefix: str
    image_tag: str
    embedded: embedded.Cluster | None


def own(image_prefix: str | None, image_tag: str) -> Platform:
    """Return the cluster of $KUBECONFIG.

    Raises:
        CommandError: something that the demo needs is missing; the message lists all of it.
    """
    names = ("control-plane", "agent", "demo-worker-placeholder")
    missing = [tool for tool in ("kubectl", "helm") if shutil.which(tool) is None]
    if image_prefix is None or missing:
        lacks = [f"{tool} is not on PATH" for tool in missing] + ([] if image_prefix else ["--image-prefix is not set"])
        needs = NEEDS.format(images="  ".join(f"PREFIX/{name}:{image_tag}" for name in names))
        raise CommandError(f"{needs}\nMissing now: {', '.join(lacks)}")
    kubectl, helm = (Path(str(shutil.which(tool))) for tool in ("kubectl", "helm"))
    return Platform(Path(os.environ["KUBECONFIG"]), kubectl, helm, image_prefix, image_tag, None)


def embed(home: Cache, progress: Progress, name: str = EMBEDDED_NAME) -> Platform:
    """Start the embedded cluster and build the images at the same time, then load them.

    Raises:
        CommandError: the images could not be built.
        cluster.errors.ClusterError: the cluster could not be built or started.
    """
    finish = build_images(home, progress)
    running = embedded.up(home, name, embedded.Options(), progress)
    finish()
    return equip(running, home, progress)


def equip(running: embedded.Cluster, home: Cache, progress: Progress) -> Platform:
    """Load the built images into a running embedded cluster."""
    with progress.step("loading the images into the cluster"):
        for archive in sorted(archives(home).glob("*.tar")):
            running.load_image(archive)
    return Platform(
        running.kubeconfig, running.programs.path("kubectl"), running.helm, IMAGE_PREFIX, EMBEDDED_TAG, running
    )


def archives(home: Cache) -> Path:
    """Return the folder that holds the image archives."""
    folder = home.root / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build_images(home: Cache, progress: Progress) -> Callable[[], None]:
    """Start building the images in a process of their own; the function returned waits for the end."""
    progress.say("building the container images at the same time (first time: some minutes)")
    target = archives(home)
    log = target / "build.log"
    with log.open("w") as sink:
        builder = subprocess.Popen(
            [sys.executable, "-m", "images", "build", "all", "-o", str(target)],
            cwd=ROOT,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )

    def finish() -> None:
        with progress.step("waiting for the container images"):
            code = builder.wait()
        if code != 0:
            tail = "\n".join(log.read_text().splitlines()[-20:])
            raise CommandError(f"the images could not be built (exit {code}); the log {log} ends with:\n{tail}")

    return finish
