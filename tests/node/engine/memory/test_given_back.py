"""A node that is short of memory gives back what it has of artifacts, and restores their workers as before."""

import os
import tempfile
from pathlib import Path

import pytest

from agent.executor.memory.page_cache import PageCache
from tests.support.fixtures.bare_container import wait_for
from tests.support.fixtures.engine import Node, captured
from tests.support.page_cache import cached_pages

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")


@pytest.fixture
def node(folder, tmp_path):
    """A node that is short of memory, whose store is on a disk."""
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 0 kB\n")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as store:
        made = Node(*folder, page_cache=PageCache(tmp_path / "meminfo"))
        made.store = Path(store)
        yield made
        for container in made.containers:
            container.close()


def pages(node: Node) -> int:
    os.sync()  # what was not written yet stays
    return sum(map(cached_pages, node.store.rglob("pages-*.img")))


async def test_an_artifact_that_was_used_is_given_back_and_restored_again(node):
    before, digest = await captured(node, "given-back")
    assert 32 << 8 < pages(node)  # its worker has 32 MiB
    for _ in range(2):
        node.environment.page_cache.look()
        assert 0 == pages(node)
        target = node.start()
        target.init()
        outcome = await node.restore(target, "given-back", digest)
        assert outcome.ok, outcome
        assert before == wait_for(target.get, "an answer")
        target.close()
        node.containers.remove(target)
        assert 0 < pages(node)
