"""Nodes that have the criu of Debian's experimental suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from images.debian import EXPERIMENTAL
from tests.support.fixtures.bare_container import node_folder
from tests.support.fixtures.tools import add_memory_programs, unpack_tools


@pytest.fixture(scope="module")
def folder() -> Iterator[tuple[Path, Path]]:
    with node_folder() as path:
        add_memory_programs(path)
        yield path, unpack_tools(path, EXPERIMENTAL)
