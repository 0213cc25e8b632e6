"""Files of models on a pod's volumes: which volumes count, and what is opened there."""

import os
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agent.container.files import model_files
from agent.container.files.model_files import find_model_files, open_regular, volumes_of
from contract.api import keys
from linux.proc import Mount, status
from tests.support.models import write_model

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it takes another user's rights")

EMPTY_DIR = "/pods/1/volumes/kubernetes.io~empty-dir"


def mount(point, root="/", fstype="ext4"):
    return Mount(point=point, root=root, fstype=fstype, source="disk", options="")


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        pytest.param([mount("/")], [], id="the-image"),
        pytest.param([mount("/models"), mount("/data")], ["/data", "/models"], id="volumes"),
        pytest.param([mount("/scratch", f"{EMPTY_DIR}/scratch")], [], id="an-emptydir-by-its-place"),
        pytest.param([mount("/cache", "/elsewhere")], [], id="an-emptydir-as-the-pod-says"),
        pytest.param([mount("/run/control", f"{EMPTY_DIR}/{keys.CONTROL_VOLUME}/main")], [], id="ours"),
        pytest.param([mount("/dev"), mount("/dev/shm"), mount("/proc"), mount("/sys/fs/cgroup")], [], id="the-kernels"),
        pytest.param([mount("/development")], ["/development"], id="a-name-that-begins-like-the-kernels"),
        pytest.param([mount("/models"), mount("/models", f"{EMPTY_DIR}/x")], [], id="covered-by-an-emptydir"),
        pytest.param([mount("/mod\udcffels")], [], id="no-text"),
    ],
)
def test_volumes_whose_content_another_pod_has(mounts, expected):
    assert expected == volumes_of(mounts, {"/cache"})


@pytest.fixture
def volume(tmp_path) -> Path:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005 and folder != Path("/"):
            folder.chmod(0o755)
    made = tmp_path / "volume"
    made.mkdir(mode=0o755)
    return made


def found(volume: Path, user: int = 0) -> list[str]:
    """Return the names of the files that are found in a volume of this very container, by one of its users."""
    worker = replace(status(os.getpid()), uid=user, gid=user, groups=frozenset())
    with ExitStack() as resources:
        files = find_model_files(os.getpid(), worker, [str(volume)], resources, 60.0, Path("/proc"))
        assert all(os.fstat(each.descriptor).st_size == each.size for each in files)
        return sorted(each.name for each in files)


def test_models_are_found_in_folders_and_behind_links_of_the_volume(volume):
    (volume / "hub/blobs").mkdir(parents=True)
    (volume / "hub/snapshots/1").mkdir(parents=True)
    write_model(volume / "hub/blobs/0123", {"a": 10})
    (volume / "hub/snapshots/1/model.safetensors").symlink_to("../../blobs/0123")
    (volume / "again.safetensors").symlink_to(f"{volume}/hub/blobs/0123")
    write_model(volume / "plain.safetensors", {"a": 10})
    assert ["hub/blobs/0123", "plain.safetensors"] == found(volume)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.write_bytes(b"none"), id="no-model"),
        pytest.param(lambda path: path.mkdir(), id="a-folder"),
        pytest.param(os.mkfifo, id="a-pipe"),
        pytest.param(lambda path: path.symlink_to("/etc/passwd"), id="a-link-out"),
        pytest.param(lambda path: path.symlink_to("../../outside.safetensors"), id="a-link-up"),
        pytest.param(lambda path: path.symlink_to(path.name), id="a-link-to-itself"),
        pytest.param(lambda path: path.symlink_to("/proc/self/fd/0"), id="a-link-of-the-kernels"),
    ],
)
def test_what_is_no_model_is_left_out(volume, make):
    write_model(volume.parent / "outside.safetensors", {"a": 10})
    make(volume / "model.safetensors")
    assert [] == found(volume)


def test_what_the_worker_may_not_read_is_left_out(volume):
    write_model(volume / "model.safetensors", {"a": 10})
    (volume / "model.safetensors").chmod(0o600)
    (volume / "locked").mkdir()
    write_model(volume / "locked/model.safetensors", {"a": 10})
    (volume / "locked").chmod(0o700)
    assert (["locked/model.safetensors", "model.safetensors"], []) == (found(volume), found(volume, user=1234))


def test_no_more_files_are_open_than_a_process_may_have(volume, monkeypatch):
    monkeypatch.setattr(model_files, "MOST_FILES", 2)
    for number in range(3):
        write_model(volume / f"{number}.safetensors", {"a": 10})
        os.utime(volume / f"{number}.safetensors", (number, 0))
    assert ["1.safetensors", "2.safetensors"] == found(volume), "what was read last counts first"


def test_no_more_names_are_looked_at_than_that(volume, monkeypatch):
    monkeypatch.setattr(model_files, "MOST_NAMES", 1)
    for number in range(3):
        write_model(volume / f"{number}.safetensors", {"a": 10})
    assert 1 == len(found(volume))


def test_folders_may_be_any_number_of_folders_down(volume):
    place = os.open(volume, os.O_PATH)
    for _ in range(1500):  # a path of theirs would be too long
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_PATH, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    write_model(volume / "model.safetensors", {"a": 10})
    assert ["model.safetensors"] == found(volume)
    subprocess.run(["rm", "-r", volume / "d"], check=True)  # Python's own would recurse


@pytest.mark.parametrize(
    "name",
    [pytest.param("../outside", id="up"), pytest.param("/etc/passwd", id="absolute"), pytest.param("", id="none")],
)
def test_a_name_of_an_artifact_does_not_leave_the_volume(volume, name):
    root = os.open(volume, os.O_PATH)
    with pytest.raises(OSError, match=r"."):
        open_regular(root, name)
    os.close(root)
