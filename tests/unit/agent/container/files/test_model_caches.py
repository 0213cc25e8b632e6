"""What is known for a cache of models, by the environment of a worker."""

import pytest

from agent.container.files.model_caches import model_caches, read_model_caches
from agent.container.files.rootfs import skipper


@pytest.mark.parametrize(
    ("skipped", "environment", "path"),
    [
        pytest.param(True, {"HF_HOME": "/cache"}, "/cache/hub/models--a--b/blobs/1", id="hub"),
        pytest.param(True, {"HF_HOME": "/cache/"}, "/cache/hub/models--a--b", id="hub-with-a-slash"),
        pytest.param(False, {"HF_HOME": "/cache"}, "/cache/token", id="token"),
        pytest.param(False, {"HF_HOME": "/cache"}, "/cache/hub/version.txt", id="beside-the-models"),
        pytest.param(False, {"HF_HOME": "/cache"}, "/cached/hub/models--a--b", id="another-folder"),
        pytest.param(True, {"HF_HUB_CACHE": "/m"}, "/m/models--a--b/refs/main", id="hub-cache"),
        pytest.param(False, {"HF_HUB_CACHE": "/"}, "/etc/passwd", id="root"),
        pytest.param(False, {"HF_HUB_CACHE": "m"}, "/m/models--a--b", id="relative"),
        pytest.param(False, {"HF_HUB_CACHE": "/*"}, "/m/models--a--b", id="a-pattern-is-a-name"),
        pytest.param(True, {"TORCH_HOME": "/t"}, "/t/hub/checkpoints/resnet.pth", id="torch"),
        pytest.param(False, {"HF_HOME": "/c", "HF_HUB_OFFLINE": "1"}, "/c/hub/models--a", id="offline"),
        pytest.param(True, {"HF_HOME": "/c", "HF_HUB_OFFLINE": "0"}, "/c/hub/models--a", id="not-offline"),
        pytest.param(False, {}, "/root/hub/models--a", id="none"),
    ],
)
def test_what_is_left_out(skipped, environment, path):
    assert skipped == skipper(model_caches(environment), (), ())(path)


def test_what_the_worker_has_open_is_not_left_out():
    held = "/c/hub/models--a/blobs/1"
    skip = skipper(model_caches({"HF_HOME": "/c"}), (), (held,))
    assert (False, False, True) == (skip("/c/hub/models--a"), skip(held), skip("/c/hub/models--a/blobs/2"))


def test_every_process_counts(tmp_path):
    for pid, text in ((7, b"PATH=/bin\0HF_HUB_CACHE=/one\0"), (8, b"\0HF_HUB_CACHE=/two\0ODD\xff\0")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "environ").write_bytes(text)
    found = read_model_caches([7, 8, 9], tmp_path)
    assert {"/one/models--*", "/two/models--*"} <= set(found)
