"""What of a container's files travels, and what stays behind."""

import os

import pytest

from agent.container.rootfs import Changes, collect, parse_deleted, skipper, upper_directory
from agent.container.volumes import check_size, tmpfs_size, travelling
from agent.errors import RefusedError
from linux.proc import Mount

EXCLUSIONS = ("/proc", "/sys", "/dev", "*/.cache/huggingface", "*/__pycache__", "*.pyc")


@pytest.mark.parametrize(
    ("path", "skipped"),
    [
        pytest.param("/app/state.db", False, id="ordinary"),
        pytest.param("/proc", True, id="excluded"),
        pytest.param("/dev/x", True, id="below-an-exclusion"),
        pytest.param("/process", False, id="only-a-prefix-of-the-name"),
        pytest.param("/root/.cache/huggingface", True, id="glob"),
        pytest.param("/app/a.pyc", True, id="extension"),
        pytest.param("/etc/hosts", True, id="mount-point"),
        pytest.param("/models/.cache/huggingface", False, id="excluded-but-above-a-file-in-use"),
        pytest.param("/models/.cache/huggingface/weights", False, id="excluded-but-in-use"),
        pytest.param("/models/.cache/huggingface/other", False, id="beside-one-in-use"),
    ],
)
def test_skipped(path, skipped):
    skip = skipper(EXCLUSIONS, ["/", "/etc/hosts"], ["/models/.cache/huggingface/weights"])
    assert skipped == skip(path)


@pytest.mark.parametrize(
    ("pattern", "path", "skipped"),
    [
        pytest.param("tmp", "/tmp/scratch", True, id="without-its-slash"),
        pytest.param("./proc", "/proc/1", True, id="from-here"),
        pytest.param("tmp", "/app/tmp", False, id="elsewhere"),
        pytest.param("models/*.bin", "/models/a.bin", True, id="glob-without-its-slash"),
        pytest.param("*/tmp", "/app/tmp", True, id="glob-anywhere"),
    ],
)
def test_what_an_exclusion_names(pattern, path, skipped):
    assert skipped == skipper([pattern], [], [])(path)


def test_collect(tmp_path):
    for name in ("app", "app/__pycache__", "etc"):
        (tmp_path / name).mkdir()
    for name in ("app/x", "app/__pycache__/x.pyc", "etc/hosts"):
        (tmp_path / name).write_text("x")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        changes = collect(fd, skipper(EXCLUSIONS, ["/etc/hosts"], []))
    finally:
        os.close(fd)
    assert (["app", "app/x", "etc"], [], []) == (changes.files, changes.gone, changes.emptied)


def test_deleted_files_round_trip():
    changes = Changes(gone=["a"], emptied=["b"], sockets=["c"])
    assert changes == parse_deleted(changes.deleted_json().encode())


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"[" * 100_000, b'{"deleted": []}', b'{"deleted": 1, "opaque": [], "sockets": []}']
)
def test_bad_deleted_files(text):
    with pytest.raises(RefusedError):
        parse_deleted(text)


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        pytest.param([Mount("/", "/", "overlay", "o", "rw,upperdir=/a/b,workdir=/c")], "a/b", id="overlay"),
        pytest.param([Mount("/", "/", "ext4", "/dev/sda", "rw")], None, id="not-an-overlay"),
        pytest.param([Mount("/", "/", "overlay", "o", "ro,lowerdir=/a")], None, id="read-only"),
    ],
)
def test_upper_directory(tmp_path, mounts, expected):
    assert (expected and tmp_path / expected) == upper_directory(mounts, tmp_path)


@pytest.mark.parametrize(
    ("text", "size"),
    [("size=64k", 65536), ("rw,size=8m", 8 << 20), ("size=1g", 1 << 30), ("size=512", 512), ("rw", None)],
)
def test_tmpfs_size(text, size):
    assert size == tmpfs_size(Mount("/dev/shm", "/", "tmpfs", "shm", text))


def test_the_control_volume_never_travels():
    control = Mount("/snapshot-control", "/p/volumes/kubernetes.io~empty-dir/snapshot-control/main", "ext4", "", "")
    assert [] == travelling([control], ["/snapshot-control/ready-for-snapshot"], ())


def test_a_volume_that_is_too_large_names_its_largest_file(tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 100)
    (tmp_path / "large").write_bytes(b"x" * 9000)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert ["large", "small"] == check_size(fd, "/scratch", 1 << 20)
        with pytest.raises(RefusedError, match="the largest file is /scratch/large"):
            check_size(fd, "/scratch", 500)
    finally:
        os.close(fd)
