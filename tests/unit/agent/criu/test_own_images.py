"""Which files of an artifact are used from storage, and which are copied."""

import pytest

from agent.criu.own_images import read_in_place
from artifact.manifest import FileEntry

LARGE = 1 << 30


@pytest.mark.parametrize(
    ("in_place", "name", "size"),
    [
        pytest.param(False, "files.img", LARGE, id="image"),
        pytest.param(False, "pagemap-12.img", LARGE, id="map-of-pages"),
        pytest.param(False, "pagemap-shmem-7.img", LARGE, id="map-of-shared-pages"),
        pytest.param(True, "pages-12.img", LARGE, id="pages"),
        pytest.param(False, "pages-12.img", 4096, id="few-pages"),
        pytest.param(True, "rootfs-diff.tar", 4096, id="files-of-the-worker"),
        pytest.param(True, "device-memory-7-0", 4096, id="device-memory"),
    ],
)
@pytest.mark.parametrize("pods_write", [pytest.param(True, id="of-the-pods"), pytest.param(False, id="of-the-agents")])
def test_what_is_used_from_storage(in_place, name, size, pods_write):
    found = read_in_place({name: FileEntry(size=size, blake3="0" * 64)}, pods_write=pods_write)
    assert ([name] if in_place else []) == found


@pytest.mark.parametrize(
    ("in_place", "size", "pods_write"),
    [
        pytest.param(True, LARGE, False, id="store-of-the-agents"),
        pytest.param(False, LARGE, True, id="store-of-the-pods"),
        pytest.param(False, 4096, False, id="little"),
    ],
)
def test_a_deleted_file_is_used_from_a_store_that_no_pod_can_write(in_place, size, pods_write):
    name = "ghost-file-1.img"
    found = read_in_place({name: FileEntry(size=size, blake3="0" * 64)}, pods_write=pods_write)
    assert ([name] if in_place else []) == found
