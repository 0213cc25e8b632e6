"""What the tests of this folder share: a whole cluster with the chart installed, and standby by itself."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cluster import api
from cluster.api import Cluster
from cluster.builder.cache import Cache
from demo import story
from demo.install import Helm, complaints, image_settings
from demo.kubectl import CommandError, Kubectl
from demo.platform import Platform, build_images, equip
from snapshotctl.__main__ import main
from tests.support.fixtures import node
from tests.support.fixtures.standby_container import Container, compiled, containers

NAMESPACE = "snapshot-tests"


@pytest.fixture(scope="session")
def embedded_cluster() -> Iterator[Cluster]:
    """A one-node cluster of this session's own, named after the process so that sessions do not meet."""
    cluster = api.up(f"test-{os.getpid()}", progress=api.for_terminal())
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="session")
def with_images() -> Cache:
    """The cache with the archives of all images, built once for all clusters of the session."""
    home = Cache.from_env(os.environ)
    build_images(home, api.for_terminal())()
    return home


@pytest.fixture(scope="session")
def platform(embedded_cluster: Cluster, with_images: Cache) -> Platform:
    """The cluster with all images loaded."""
    return equip(embedded_cluster, with_images, api.for_terminal())


@pytest.fixture(scope="session")
def installed(platform: Platform) -> Kubectl:
    """The chart, installed with Helm; kubectl in its namespace."""
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, NAMESPACE)
    try:
        Helm(platform.helm, platform.kubeconfig, NAMESPACE).install(
            image_settings(platform.image_tag, platform.image_prefix) | node.PATIENT
        )
    except CommandError as error:
        pytest.fail(f"{error}\n{complaints(kubectl)}")
    story.await_webhook(kubectl)
    return kubectl


@pytest.fixture(scope="session")
def run(platform: Platform, installed: Kubectl) -> Callable[..., Result]:
    """``snapshotctl`` in the release's namespace; what it printed goes to the test's report."""

    def call(*arguments: str) -> Result:
        where = ["--kubeconfig", str(platform.kubeconfig), "-n", installed.namespace]
        result = CliRunner().invoke(main, [*arguments, *where])
        print(f"$ snapshotctl {' '.join(arguments)}\n{result.output}")  # noqa: T201 - shown beside a failure
        return result

    return call


@pytest.fixture(scope="session")
def dynamo_system(platform: Platform) -> Iterator[Kubectl]:
    """A second release that serves graph deployments, in the namespace that the guides' manifests name."""
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, "dynamo-system")
    helm = Helm(platform.helm, platform.kubeconfig, kubectl.namespace)
    more = {"graphDeployments.enabled": "true", "automatic.attempts": "1"} | node.PATIENT
    try:
        helm.install(image_settings(platform.image_tag, platform.image_prefix) | more)
    except CommandError as error:
        pytest.fail(f"{error}\n{complaints(kubectl)}")
    story.await_webhook(kubectl)
    yield kubectl
    helm.uninstall()


@pytest.fixture(scope="session")
def room() -> Iterator[Path]:
    """A directory that other users reach too; pytest's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="standby-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="session")
def standby(room: Path) -> Path:
    """The program that is pid 1 of every captured or restored container."""
    return compiled(room)


@pytest.fixture
def start(standby: Path, room: Path) -> Iterator[Callable[..., Container]]:
    """Starts containers whose first process is standby."""
    with containers(standby, room) as make:
        yield make
