"""Which files of an artifact are used from storage, and which are copied."""

import pytest

from agent.criu.images.own import read_in_place
from artifact.manifest import DEVICE_MEMORY
from artifact.parts.files import FileEntry

LARGE = 1 << 30


@pytest.mark.parametrize(
    ("in_place", "name", "size"),
    [
        pytest.param(False, "files.img", LARGE, id="image"),
        pytest.param(False, "pagemap-12.img", LARGE, id="map-of-pages"),
        pytest.param(False, "pagemap-shmem-7.img", LARGE, id="map-of-shared-pages"),
        pytest.param(False, "ghost-file-1.img", LARGE, id="unlinked-file"),
        pytest.param(True, "pages-12.img", LARGE, id="pages"),
        pytest.param(False, "pages-12.img", 4096, id="few-pages"),
        pytest.param(True, "rootfs-diff.tar", 4096, id="files-of-the-worker"),
        pytest.param(True, f"{DEVICE_MEMORY}7-0.img", LARGE, id="device-memory"),
    ],
)
def test_what_is_used_from_storage(in_place, name, size):
    found = read_in_place({name: FileEntry(size=size, blake3="0" * 64)})
    assert ([name] if in_place else []) == found
