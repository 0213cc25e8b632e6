"""A whole cluster for the tests of this folder."""

import os
from collections.abc import Iterator

import pytest

from cluster import api
from cluster.api import Cluster


@pytest.fixture(scope="session")
def embedded_cluster() -> Iterator[Cluster]:
    """A one-node cluster of this session's own, named after the process so that sessions do not meet."""
    cluster = api.up(f"test-{os.getpid()}", progress=api.for_terminal())
    try:
        yield cluster
    finally:
        cluster.down()
