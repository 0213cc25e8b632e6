"""When a restored worker's memory is copied before it runs, and when it is filled while it runs."""

import pytest

from agent.executor.memory.plan import SMALL, plan_memory
from artifact.manifest import FileEntry
from contract.api.reports import MemoryRestore, remarks
from tests.support.builders.manifests import DIGEST, captured, manifest

GIB = 1 << 30


@pytest.mark.parametrize(
    ("expected", "enabled", "pages", "shared", "lost"),
    [
        pytest.param(MemoryRestore.WHILE_RUNNING, True, GIB, 0, False, id="large"),
        pytest.param(MemoryRestore.WHILE_RUNNING, True, SMALL, 0, False, id="just-large-enough"),
        pytest.param(MemoryRestore.SMALL, True, SMALL - 4096, 0, False, id="small"),
        pytest.param(MemoryRestore.SWITCHED_OFF, False, GIB, 0, False, id="switched-off"),
        pytest.param(MemoryRestore.SHARED, True, GIB, GIB // 2, False, id="forked"),
        pytest.param(MemoryRestore.AFTER_LOSS, True, GIB, 0, True, id="its-server-ended-before"),
        pytest.param(MemoryRestore.WHILE_RUNNING, True, GIB, GIB // 20, False, id="forked-with-little-in-common"),
    ],
)
def test_how_memory_comes_back(expected, enabled, pages, shared, lost):
    process = captured().process.model_copy(update={"shared": shared})
    files = {"pages-1.img": FileEntry(size=pages, blake3=DIGEST), "rootfs-diff.tar": FileEntry(size=GIB, blake3=DIGEST)}
    found = manifest(captured(process=process)).model_copy(update={"files": files})
    assert expected == plan_memory(found, enabled=enabled, lost_before=lost)


def test_what_needs_no_word_gets_none():
    assert [MemoryRestore.SMALL] == [way for way in MemoryRestore if not remarks(None, way)]
