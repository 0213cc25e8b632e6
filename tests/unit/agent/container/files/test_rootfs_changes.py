"""What of a container's files travels, and what stays behind."""

import os

import pytest

from agent.container.files.rootfs import Changes, collect, parse_deleted, skipper, trusted_start, upper_directory
from agent.container.files.volumes import content, tmpfs_size, travelling
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


def collected(folder, *arguments):
    fd = os.open(folder, os.O_RDONLY)
    try:
        return collect(fd, lambda _: False, *arguments).files
    finally:
        os.close(fd)


def test_what_the_runtime_made_before_the_container_started_is_left_out(tmp_path):
    """The toolkit's hooks make links to the node's driver, and a cache of libraries that names it."""
    (tmp_path / "lib").mkdir()
    for name in ("cache", "in-use", "changed"):
        (tmp_path / name).write_text("made")
    (tmp_path / "lib/libcuda.so.1").symlink_to("libcuda.so.580.0.1")
    started = (tmp_path / "lib/libcuda.so.1").lstat().st_ctime_ns + 1
    while (tmp_path / "changed").stat().st_ctime_ns < started:
        (tmp_path / "changed").chmod(0o600)
    (tmp_path / "lib/own.so").symlink_to("own.so.1")

    assert ["changed", "in-use", "lib", "lib/own.so"] == collected(tmp_path, started, ["/in-use"])
    assert ["cache", "changed", "in-use", "lib", "lib/libcuda.so.1", "lib/own.so"] == collected(tmp_path)


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
    tools = Mount("/opt/dynamo-snapshot", "/p/volumes/kubernetes.io~empty-dir/snapshot-tools", "ext4", "", "")
    assert [] == travelling([control, tools], ())


def test_what_others_write_for_the_worker_does_not_travel():
    mount = Mount("/input", "/p/volumes/kubernetes.io~empty-dir/input", "ext4", "", "", is_read_only=True)
    assert [] == travelling([mount], ("/input",))


def test_a_volume_that_is_too_large_names_its_largest_file(tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 100)
    (tmp_path / "large").write_bytes(b"x" * 9000)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        found = content(fd, "/scratch", skip_nothing, 1 << 20)
        assert (["large", "small"], 9100) == (found.names, found.bytes)
        with pytest.raises(RefusedError, match=r"9100 bytes, more than 500 .* the largest file is /scratch/large"):
            content(fd, "/scratch", skip_nothing, 500)
    finally:
        os.close(fd)


def skip_nothing(_):
    return False


@pytest.mark.parametrize(
    ("point", "in_use", "names"),
    [
        pytest.param("/scratch", (), ["state"], id="cache-in-it"),
        pytest.param("/root/.cache/huggingface", (), [], id="it-is-the-cache"),
        pytest.param("/root/.cache/huggingface", ("/root/.cache/huggingface/state",), ["state"], id="in-use"),
    ],
)
def test_caches_of_models_stay(tmp_path, point, in_use, names):
    """They are excluded of emptyDirs as of the image."""
    (tmp_path / "state").write_text("x")
    if point == "/scratch":
        (tmp_path / "__pycache__").mkdir()
        (tmp_path / "__pycache__/a.txt").write_text("x")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert names == content(fd, point, skipper(EXCLUSIONS, (), in_use), 1 << 20).names
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("started", "said", "ahead", "trusted"),
    [
        pytest.param(7, b"1000000000\n", 1_000_000_000, 7, id="the-clock-went-on"),
        pytest.param(7, b"1000000000\n", 999_100_000, 7, id="read-a-moment-apart"),
        pytest.param(7, b"1000000000\n", 9_000_000_000, 7, id="set-ahead"),
        pytest.param(7, b"1000000000\n", 998_000_000, None, id="set-back"),
        pytest.param(7, b"-5\n", 0, 7, id="a-node-whose-clock-says-1970"),
        pytest.param(None, None, 0, None, id="standby-of-an-earlier-release"),
        pytest.param(7, b"", 0, None, id="nothing-said"),
        pytest.param(7, b"soon", 0, None, id="no-number"),
    ],
)
def test_the_start_counts_unless_the_clock_was_set_back(started, said, ahead, trusted):
    assert trusted == trusted_start(started, said, ahead)
