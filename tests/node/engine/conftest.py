"""A node of each test's own; the tools are unpacked once a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures.bare_container import node_folder
from tests.support.fixtures.engine import Node
from tests.support.fixtures.tools import unpack_tools


@pytest.fixture(scope="module")
def folder() -> Iterator[tuple[Path, Path]]:
    with node_folder() as path:
        yield path, unpack_tools(path)


@pytest.fixture
def node(folder) -> Iterator[Node]:
    made = Node(*folder)
    yield made
    for container in made.containers:
        container.close()
