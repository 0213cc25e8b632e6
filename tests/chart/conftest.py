"""The real Helm, and a real API server for what it renders."""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.api import ControlPlane
from cluster.builder.build import build
from cluster.builder.cache import Cache
from cluster.builder.toolchain import HELM
from cluster.progress import Silent

CHART = Path(__file__).parents[2] / "charts" / "snapshot"
MUTATING_POLICIES = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"


@dataclass(frozen=True)
class Helm:
    """Helm, bound to a kubeconfig or to none."""

    program: Path
    kubeconfig: str = "/nonexistent"

    def __call__(self, *arguments: str) -> str:
        """Run it; CalledProcessError carries what it said on stderr."""
        env = {**os.environ, "KUBECONFIG": self.kubeconfig}
        done = subprocess.run([self.program, *arguments], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr)
        return done.stdout

    def refusal(self, *arguments: str) -> str:
        """What it says when it refuses to do this."""
        with pytest.raises(subprocess.CalledProcessError) as refused:
            self(*arguments)
        return str(refused.value.stderr)

    def render(self, *flags: str, release: str = "snapshot", namespace: str = "ns") -> list[dict[str, Any]]:
        """The chart's objects, as on a server that has mutating policies."""
        text = self(
            "template", release, str(CHART), "--namespace", namespace, "--api-versions", MUTATING_POLICIES, *flags
        )
        return [found for found in yaml.safe_load_all(text) if found]


@pytest.fixture(scope="session")
def chart() -> Path:
    """The chart's folder."""
    return CHART


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Helm that knows no cluster."""
    return Helm(build(Cache.from_env(os.environ), [HELM], Silent()).path("helm"))


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A real etcd and API server of this session."""
    with ControlPlane.start() as plane:
        yield plane


@pytest.fixture(scope="session")
def cluster_helm(helm: Helm, control_plane: ControlPlane) -> Helm:
    """Helm for that API server."""
    return Helm(helm.program, str(control_plane.kubeconfig))


@pytest.fixture(scope="session")
def new_namespace(control_plane: ControlPlane) -> Callable[[], str]:
    """Makes a namespace of its own for a test."""
    numbers = itertools.count()

    def make() -> str:
        name = f"chart-{next(numbers)}"
        control_plane.kubectl("create", "namespace", name)
        return name

    return make


@pytest.fixture(scope="session")
def pick() -> Callable[..., Mapping[str, Any]]:
    """Finds the one object of a kind, and of a name where there are several."""

    def find(objects: list[dict[str, Any]], kind: str, name: str = "") -> Mapping[str, Any]:
        found = [o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"])]
        assert 1 == len(found), f"{len(found)} objects of kind {kind} {name}"
        return found[0]

    return find
