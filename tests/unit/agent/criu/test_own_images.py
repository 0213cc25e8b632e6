"""Which files of an artifact are used from storage, and which are copied."""

import pytest

from agent.criu.own_images import read_in_place


@pytest.mark.parametrize(
    ("in_place", "name"),
    [
        pytest.param(False, "files.img", id="image"),
        pytest.param(False, "pagemap-12.img", id="map-of-pages"),
        pytest.param(False, "pagemap-shmem-7.img", id="map-of-shared-pages"),
        pytest.param(False, "ghost-file-1.img", id="unlinked-file"),
        pytest.param(True, "pages-12.img", id="pages"),
        pytest.param(True, "rootfs-diff.tar", id="files-of-the-worker"),
        pytest.param(True, "device-memory-7-0", id="device-memory"),
    ],
)
def test_what_is_used_from_storage(in_place, name):
    assert ([name] if in_place else []) == read_in_place([name])
