"""A real API server for the tests of this folder."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.api import ControlPlane
from kube.client import Client, connect


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """One etcd and one API server of this session's own."""
    with ControlPlane.start() as plane:
        yield plane


@pytest.fixture(scope="session")
def checkpoint_plane(control_plane: ControlPlane) -> ControlPlane:
    """The same, which knows DynamoCheckpoints."""
    crd = Path(__file__).parents[2] / "charts/snapshot/crds/nvidia.com_dynamocheckpoints.yaml"
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crd))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/dynamocheckpoints.nvidia.com")
    return control_plane


@pytest.fixture
async def kube(control_plane: ControlPlane) -> AsyncIterator[Client]:
    """Our own client of the API server."""
    async with await connect(str(control_plane.kubeconfig)) as found:
        yield found


@pytest.fixture(scope="session")
def workload_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One with the stock controllers, and our webhook asked about pods."""
    from tests.support.fixtures.workload import working_plane  # noqa: PLC0415 - only who asks for it pays for it

    with working_plane(tmp_path_factory.mktemp("webhook")) as plane:
        yield plane


@pytest.fixture(scope="session")
def graph_plane() -> Iterator[ControlPlane]:
    """One with the stock controllers and the kinds of checkpoints and graphs."""
    from tests.support.fixtures.graph import graphs_plane  # noqa: PLC0415 - only who asks for it pays for it

    with graphs_plane() as plane:
        yield plane


@pytest.fixture(scope="module")
def graph_controllers(graph_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Our controller, for all graphs of a module."""
    from tests.support.fixtures.graph import controllers_of  # noqa: PLC0415 - only who asks for it pays for it

    with controllers_of(graph_plane, tmp_path_factory.mktemp("controller")) as found:
        yield found


@pytest.fixture
async def graph_scene(graph_plane: ControlPlane, graph_controllers: Any) -> AsyncIterator[Any]:
    """A namespace of its own for a test's graphs."""
    from tests.support.fixtures.graph import graphs_in  # noqa: PLC0415 - only who asks for it pays for it

    async with graphs_in(graph_plane, graph_controllers) as found:
        yield found
