"""Files of ConfigMaps and the like are found again in the new pod, and must be the same."""

import os

import pytest
from blake3 import blake3

from agent.container.files import dated_links, held_files
from agent.container.files.dated_links import DatedLink
from agent.errors import ContainerError, RefusedError
from contract.api.states import AgentReason
from linux.proc import PROC, Mount

OLD = "..2026_11_28_16_49_00.1234567890"
NEW = "..2026_11_28_17_00_00.987"
UID = "0f9e8d7c-1a2b-4c3d-8e9f-001122334455"
MOUNTS = (
    Mount("/", "/", "overlay", "", ""),
    Mount("/scripts", "/pods/u/volumes/kubernetes.io~configmap/s", "ext4", "", ""),
    Mount("/cache", "/", "tmpfs", "", ""),
    Mount("/etc/one", f"/{OLD}/one", "tmpfs", "", ""),
    Mount("/etc/some", f"/pods/u/volumes/kubernetes.io~configmap/s/{OLD}/some", "ext4", "", ""),
    Mount("/cache/rendered", "/rendered", "tmpfs", "", ""),
    Mount("/etc/hosts", "/pods/u/etc-hosts", "ext4", "", ""),
    Mount("/data/one", "/srv/one", "ext4", "", ""),
)
SELF = os.getpid()


@pytest.mark.parametrize(
    ("in_use", "written", "found"),
    [
        pytest.param([f"/scripts/{OLD}/start.sh"], (), [("/scripts", f"{OLD}/start.sh")], id="of-a-config-map"),
        pytest.param([f"/scripts/{OLD}"], (), [("/scripts", OLD)], id="its-folder"),
        pytest.param(["/scripts/start.sh", "/scripts"], (), [], id="not-dated"),
        pytest.param(["/cache/input"], (), [("/cache", "input")], id="of-an-empty-dir"),
        pytest.param(["/cache/state"], ("/cache/state",), [], id="its-own"),
        pytest.param(["/etc/one"], (), [("/etc/one", "")], id="file-by-sub-path"),
        pytest.param(["/etc/some/one"], (), [("/etc/some", "one")], id="folder-by-sub-path"),
        pytest.param(["/cache/rendered"], (), [("/cache/rendered", "")], id="file-of-an-empty-dir"),
        pytest.param(["/etc/hosts"], (), [("/etc/hosts", "")], id="hosts-of-the-pod"),
        pytest.param(["/data/one"], (), [], id="file-of-a-host-path"),
        pytest.param([f"/{OLD}/x", "/usr/bin/python3"], (), [], id="of-the-image"),
        pytest.param(["/cache/\udcff"], (), [], id="no-text"),
    ],
)
def test_what_must_be_the_same(in_use, written, found):
    assert found == held_files.held_paths(in_use, written, MOUNTS, ["/cache", "/cache/rendered"])


def volume(path, folder, **files):
    """Make a volume as kubelet does."""
    (path / folder).mkdir(parents=True)
    for name, text in files.items():
        (path / folder / name).write_text(text)
        (path / name).symlink_to(f"..data/{name}")
    (path / "..data").symlink_to(folder)
    return path


def described(path, name):
    return held_files.describe(SELF, str(path), name, PROC)


@pytest.mark.parametrize(
    ("folder", "text", "renamed"),
    [
        pytest.param(NEW, "echo", [OLD], id="another-date"),
        pytest.param(OLD, "echo", [], id="same-date"),
        pytest.param(NEW, "echo 2", AgentReason.VOLUME_FILE_CHANGED, id="another-size"),
        pytest.param(NEW, "ECHO", AgentReason.VOLUME_FILE_CHANGED, id="another-content"),
        pytest.param(NEW, None, AgentReason.VOLUME_FILE_CHANGED, id="missing"),
        pytest.param("elsewhere", "echo", AgentReason.VOLUME_FILE_CHANGED, id="not-of-kubelet"),
    ],
)
def test_found_again(tmp_path, folder, text, renamed):
    before = volume(tmp_path / "then", OLD, run="echo")
    then = [described(before, name) for name in (f"{OLD}/run", OLD)]
    place = volume(tmp_path / "now", folder, **({"run": text} if text is not None else {}))
    held = [each.model_copy(update={"point": str(place)}) for each in then]
    if isinstance(renamed, list):
        assert [(str(place), name) for name in renamed] == held_files.check(SELF, held, PROC)
    else:
        with pytest.raises(RefusedError, match=r"now/\.\.data/run, which the captured worker has open") as refusal:
            held_files.check(SELF, held, PROC)
        assert renamed == refusal.value.code


class TestMountedAlone:
    """One file of a volume, mounted by ``subPath``."""

    @pytest.fixture
    def place(self, tmp_path):
        (tmp_path / "one").write_text("echo")
        return tmp_path / "one"

    @pytest.mark.parametrize(
        ("text", "is_refused"),
        [
            pytest.param("echo", False, id="the-same"),
            pytest.param("ECHO", True, id="another-content"),
            pytest.param("echo 2", True, id="another-size"),
        ],
    )
    def test_it_must_be_the_same(self, place, text, is_refused):
        then = described(place, "")
        place.write_text(text)
        if is_refused:
            with pytest.raises(RefusedError, match=r"/one, which the captured worker has open, is another") as refusal:
                held_files.check(SELF, [then], PROC)
            assert AgentReason.VOLUME_FILE_CHANGED == refusal.value.code
        else:
            assert [] == held_files.check(SELF, [then], PROC)

    def test_the_root_of_a_volume_need_not_be(self, tmp_path):
        assert described(tmp_path, "") is None

    def test_a_file_in_a_folder_that_is_mounted_alone(self, tmp_path, place):
        then = described(tmp_path, "one")
        place.write_text("ECHO")
        with pytest.raises(RefusedError, match="/one, which the captured worker has open"):
            held_files.check(SELF, [then], PROC)


def test_no_name_leads_out_of_the_volume(tmp_path):
    (tmp_path / "secret").write_text("x")
    place = volume(tmp_path / "now", NEW)
    (place / NEW / "link").symlink_to(tmp_path / "secret")
    template = described(tmp_path, "secret")
    for name in (f"{OLD}/../../secret", f"{OLD}/link", f"{OLD}//etc/passwd"):
        with pytest.raises(RefusedError):
            held_files.check(SELF, [template.model_copy(update={"point": str(place), "name": name})], PROC)


def test_replaced_since(tmp_path):
    place = volume(tmp_path / "then", NEW, run="echo")
    with pytest.raises(RefusedError, match="kubelet has replaced") as refusal:
        described(place, f"{OLD}/run")
    assert AgentReason.VOLUME_FILE_REPLACED == refusal.value.code
    assert described(place, "deleted") is None


class TestLinks:
    @pytest.fixture
    def place(self, tmp_path):
        return volume(tmp_path / UID / "volumes/kubernetes.io~projected/v", NEW, run="echo")

    def test_the_former_name_leads_to_the_file(self, tmp_path, place):
        link = dated_links.find_link(tmp_path, UID, place.stat(), OLD)
        assert DatedLink("kubernetes.io~projected/v", OLD) == link
        for _ in range(2):
            dated_links.make(tmp_path, UID, link)
        assert "echo" == (place / OLD / "run").read_text()
        for _ in range(2):
            dated_links.remove(tmp_path, UID, link)
        assert {NEW, "..data", "run"} == {entry.name for entry in place.iterdir()}

    @pytest.mark.parametrize("name", [NEW, "run", "..data", "../v/run"])
    def test_nothing_else_is_removed(self, tmp_path, place, name):
        dated_links.remove(tmp_path, UID, DatedLink("kubernetes.io~projected/v", name))
        assert {NEW, "..data", "run"} == {entry.name for entry in place.iterdir()}

    @pytest.mark.usefixtures("place")
    def test_not_a_volume_of_kubelet(self, tmp_path):
        with pytest.raises(ContainerError, match="is not found"):
            dated_links.find_link(tmp_path, UID, tmp_path.stat(), OLD)


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "x").write_bytes(b"hello" * 1000)
    number = os.open(tmp_path / "x", os.O_RDONLY)
    yield number
    os.close(number)


def test_the_sum_is_that_of_the_content(opened):
    assert blake3(b"hello" * 1000).hexdigest() == held_files._sum(opened, 5000)


def test_a_file_that_was_cut_off_meanwhile_ends_the_reading(opened, tmp_path):
    os.truncate(tmp_path / "x", 5)
    assert blake3(b"hello").hexdigest() == held_files._sum(opened, 5000)


@pytest.mark.parametrize("is_final", [False, True], ids=["before-the-freeze", "final"])
def test_a_file_that_is_too_large_is_named(tmp_path, is_final):
    (tmp_path / "x").touch()
    os.truncate(tmp_path / "x", 8 << 30)
    with pytest.raises(RefusedError, match="/x is open and has 8192 MiB") as refused:
        held_files.describe(SELF, str(tmp_path), "x", PROC, is_final=is_final)
    assert AgentReason.VOLUME_TOO_LARGE == refused.value.code
