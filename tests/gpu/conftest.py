"""What tests on a card share: a node with the real engine, driver and criu."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.gpu.ahead.resident import ResidentPrefetcher
from agent.gpu.client import CudaHelper
from tests.gpu.containers import WORKERS
from tests.support.fixtures.bare_container import node_folder
from tests.support.fixtures.engine import Node
from tests.support.fixtures.tools import unpack_tools

REGISTERED = 80 << 30
"""Bytes of page cache: all of the largest artifact."""


@pytest.fixture(scope="module")
def folder() -> Iterator[tuple[Path, Path]]:
    with node_folder() as path:
        criu = unpack_tools(path)
        for script in WORKERS.glob("*.py"):
            shutil.copy(script, path / "tools")
        yield path, criu


@pytest.fixture
def node(folder) -> Iterator[Node]:
    helper = CudaHelper()
    assert helper.driver(), "no card"
    prefetcher = ResidentPrefetcher(budget=REGISTERED, sums=True)
    prefetcher.prepare()  # as the agent does at its start
    made = Node(*folder, gpus=helper, prefetcher=prefetcher)
    yield made
    for container in made.containers:
        container.close()
    prefetcher.close()
    helper.close()
