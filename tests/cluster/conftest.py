"""A real API server for the tests of this folder."""

from collections.abc import Iterator

import pytest

from cluster.api import ControlPlane


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """One etcd and one API server of this session's own."""
    with ControlPlane.start() as plane:
        yield plane


@pytest.fixture(scope="session")
def workload_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One with the stock controllers, and our webhook asked about pods."""
    from tests.cluster.workload_scene import working_plane  # noqa: PLC0415 - only who asks for it pays for it

    with working_plane(tmp_path_factory.mktemp("webhook")) as plane:
        yield plane


@pytest.fixture(scope="session")
def graph_plane() -> Iterator[ControlPlane]:
    """One with the stock controllers and the kinds of checkpoints and graphs."""
    from tests.cluster.graph_scene import graphs_plane  # noqa: PLC0415 - only who asks for it pays for it

    with graphs_plane() as plane:
        yield plane
