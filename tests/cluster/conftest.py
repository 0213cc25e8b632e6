"""A real API server for the tests of this folder."""

from collections.abc import Iterator

import pytest

from cluster.api import ControlPlane


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """One etcd and one API server of this session's own."""
    with ControlPlane.start() as plane:
        yield plane
