"""The manifest is written and read by one model: what is written is read back, and every problem is named at once."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from artifact.errors import ArtifactError
from artifact.manifest import parse_manifest, write_manifest
from artifact.parts.files import FileEntry, RootFilesystem, VolumeContent
from artifact.parts.gpu import DeviceMemory, Gpu, ModelWeights
from artifact.parts.process import Database
from tests.support.builders.manifests import DIGEST, captured, container, manifest

OLD = """
formatVersion: 1
checkpointId: abc
version: '1'
createdAt: '2026-11-24T10:00:00Z'
takenOn: {kernel: 6.18.44, architecture: x86_64, cpuFlags: [avx, avx2], criu: 4.2.1}
container: {name: main, image: 'worker:1', uid: 0, gid: 0, groups: [], capabilities: a80425fb, noNewPrivileges: false,
  seccomp: 2}
process:
  pid: 1007
  argv: [python3, -m, worker]
  ids: [1007, 1008]
  stdio: {'0': /dev/null, '1': 'pipe:[11]', '2': 'pipe:[12]'}
usedMounts: [/scratch]
rootfs: {files: 3, deleted: 1, bytes: 4096}
volumes:
- {point: /dev/shm, file: volume-0.tar, size: 67108864, sockets: [a.sock]}
files:
  core-1007.img: {size: 900, blake3: '%(sum)s'}
  deleted-files.json: {size: 2, blake3: '%(sum)s'}
  rootfs-diff.tar: {size: 10240, blake3: '%(sum)s'}
  volume-0.tar: {size: 10240, blake3: '%(sum)s'}
""" % {"sum": DIGEST}  # noqa: UP031 - braces are YAML's
"""As the releases before the typed manifest wrote it."""
PARSED = yaml.safe_load(OLD)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20)
ENTRIES = st.builds(FileEntry, size=st.integers(0, 2**60), blake3=st.text("0123456789abcdef", min_size=64, max_size=64))


def test_artifacts_of_earlier_releases_are_read():
    found = parse_manifest(OLD.encode(), "abc")
    assert (1007, 0xA80425FB, "4.2.1") == (found.process.pid, found.container.bounding_set, found.taken_on.criu)
    assert [("/dev/shm", ["a.sock"])] == [(volume.point, volume.sockets) for volume in found.volumes]
    assert 21382 == found.size


def test_the_format_on_disk_is_what_it_was():
    """The writer gives the very keys, in the same order; later ones may be among them."""
    found = parse_manifest(OLD.encode(), "abc")
    again = yaml.safe_load(write_manifest(found, "abc", "1", found.files))
    old = yaml.safe_load(OLD)
    added = ("stopped", "amx", "protectionKeys", "settings", "programs", "eventfds")
    added += ("recordLocks", "databases", "shared", "huge")
    assert ([], [], [], [], [], [], False, [], 0, 0) == tuple(again["process"].pop(key) for key in added)
    grown = ("takenOn", "container", "rootfs")
    for then, now in zip(
        (*old["volumes"], *map(old.get, grown)), (*again["volumes"], *map(again.get, grown)), strict=True
    ):
        assert list(then.items()) == list(now.items())[: len(then)]
    same = old.keys() - {"volumes", *grown}
    assert {key: old[key] for key in same} == {key: again[key] for key in same}


@given(st.dictionaries(NAMES, ENTRIES, max_size=5), WORDS, st.lists(WORDS, max_size=3), st.integers(0, 2**40 - 1))
def test_what_is_written_is_read_back(files, image, argv, caps):
    process = captured().process.model_copy(update={"argv": argv})
    one = captured(container=container(image=image, capabilities=f"{caps:x}"), process=process)
    found = parse_manifest(write_manifest(one, "abc", "1", files), "abc")
    assert manifest(one).model_copy(update={"files": files}) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
KEYS = ["takenOn", "container", "process", "usedMounts", "rootfs", "volumes", "files", "createdAt", "version"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1))
def test_whatever_is_in_it_ends_in_a_manifest_or_in_one_kind_of_error(parts):
    text = yaml.dump(PARSED | parts, Dumper=DUMPER).encode()
    try:
        parse_manifest(text, "abc")
    except ArtifactError as error:
        assert "manifest-unreadable" == error.code  # noqa: PT017 - any other code would be wrong


def test_all_problems_are_named_at_once():
    broken = yaml.safe_load(OLD)
    broken["process"]["pid"] = "1007"
    broken["container"]["capabilities"] = "all"
    del broken["takenOn"]["criu"]
    with pytest.raises(ArtifactError) as refused:
        parse_manifest(yaml.safe_dump(broken).encode(), "abc")
    for path in ("process.pid", "container.capabilities", "takenOn.criu"):
        assert path in str(refused.value)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        pytest.param(("files",), {"../x": {"size": 0, "blake3": DIGEST}}, id="file-outside"),
        pytest.param(("files", "core-1007.img", "size"), -1, id="negative-size"),
        pytest.param(("files", "core-1007.img", "blake3"), "md5", id="other-sum"),
        pytest.param(("volumes", 0, "file"), "/etc/shadow", id="volume-from-elsewhere"),
        pytest.param(("volumes", 0, "file"), "volume-9.tar", id="volume-without-file"),
        pytest.param(("process", "stdio"), {"one": "pipe:[1]"}, id="descriptor-by-name"),
        pytest.param(("process", "ids"), [0], id="no-process"),
        pytest.param(("process", "settings"), [{"process": 7, "id": 7, "cpus": [-1]}], id="no-processor"),
        pytest.param(("process", "settings"), [{"process": 7, "id": 7, "cpus": [0] * 8193}], id="too-many-processors"),
        pytest.param(("process", "settings"), [{"process": 7, "id": 7, "timerSlack": 1 << 63}], id="no-time"),
        pytest.param(("process", "protectionKeys"), [{"process": 7, "keys": [16], "memory": []}], id="no-key"),
        pytest.param(
            ("process", "databases"),
            [{"process": 7, "descriptor": 3, "device": 1, "inode": 2, "places": [-8]}],
            id="no-place",
        ),
        pytest.param(("usedMounts",), ["data"], id="relative-mount"),
    ],
)
def test_hostile_parts_are_refused(where, value):
    broken = yaml.safe_load(OLD)
    part = broken
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    with pytest.raises(ArtifactError) as refused:
        parse_manifest(yaml.safe_dump(broken).encode(), "abc")
    assert "manifest-unreadable" == refused.value.code


def test_a_root_file_system_needs_its_files():
    with pytest.raises(ValueError, match=r"files lacks rootfs-diff\.tar, deleted-files\.json"):
        manifest(captured(rootfs=RootFilesystem(files=1)))


def test_a_volume_needs_its_file():
    volume = VolumeContent(point="/dev/shm", file="volume-0.tar")
    assert [volume] == manifest(captured(volumes=[volume]), "volume-0.tar").volumes


def outside(imported=0, **fields):
    """Return what is said of device memory in one file."""
    memory = DeviceMemory(process=7, files=["device-memory-7-0.img"], bytes=4, imported=imported, **fields)
    weights = [ModelWeights(point="/models", name="a.safetensors", size=9, blake3=DIGEST)]
    return Gpu(driver="580", cuda="13", devices=[], processes=[7], outside=[memory], weights=weights)


TABLE = {"ranges": "device-memory-7-ranges.img", "referenced": [3]}


def test_a_release_that_would_not_permit_amx_refuses_the_format():
    process = captured().process.model_copy(update={"amx": [7]})
    found = parse_manifest(write_manifest(captured(process=process), "abc", "1", {}), "abc")
    assert (7, [7]) == (found.format_version, found.process.amx)


@pytest.mark.parametrize(
    "noted",
    [
        pytest.param({"record_locks": True}, id="locks"),
        pytest.param(
            {"databases": [Database(process=7, descriptor=3, device=1, inode=1 << 63, places=[0x7F0000000008])]},
            id="databases",
        ),
    ],
)
def test_a_release_that_would_lose_locks_refuses_the_format(noted):
    process = captured().process.model_copy(update=noted)
    found = parse_manifest(write_manifest(captured(process=process), "abc", "1", {}), "abc")
    assert (10, process) == (found.format_version, found.process)


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        pytest.param(outside(), 4, id="stored"),
        pytest.param(outside(imported=1), 5, id="shared"),
        pytest.param(outside(**TABLE), 6, id="in-files-of-a-model"),
        pytest.param(outside(imported=1, **TABLE), 6, id="and-shared"),
    ],
)
def test_a_release_that_would_fill_in_other_bytes_refuses_the_format(gpu, expected):
    files = {name: FileEntry(size=1, blake3=DIGEST) for name in gpu.outside[0].names}
    found = parse_manifest(write_manifest(captured(gpu=gpu), "abc", "1", files), "abc")
    assert (expected, gpu) == (found.format_version, found.gpu)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"ranges": "table"}, id="no-sizes"),
        pytest.param({"referenced": [3]}, id="no-table"),
        pytest.param({"ranges": "table", "referenced": [3, 4]}, id="sizes-of-more-files"),
        pytest.param({"ranges": "../table", "referenced": [3]}, id="a-table-outside"),
        pytest.param({"ranges": "table", "referenced": [-3]}, id="a-negative-size"),
    ],
)
def test_memory_in_files_of_a_model_has_a_table_and_sizes(fields):
    with pytest.raises(ValueError, match=r"ranges|referenced"):
        outside(**fields)


def test_a_table_is_one_of_the_files():
    with pytest.raises(ValueError, match=r"files lacks device-memory-7-ranges\.img"):
        manifest(captured(gpu=outside(**TABLE)), "device-memory-7-0.img")


def test_volumes_in_memory_count_as_memory():
    found = parse_manifest(OLD.encode(), "abc")
    volumes = [
        VolumeContent(point="/dev/shm", file="volume-0.tar", size=1 << 30, bytes=7),
        VolumeContent(point="/cache", file="volume-0.tar", bytes=100),
    ]
    assert found.memory + 7 == found.model_copy(update={"volumes": volumes}).memory


@pytest.mark.parametrize("word", ["\U0001f600", "\x1f\x7f", "é", '"', "\\ud800"], ids=ascii)
def test_any_text_is_read_as_it_was_written(word):
    now = captured()
    written = write_manifest(
        now.model_copy(update={"process": now.process.model_copy(update={"argv": [word]})}), "abc", "1", {}
    )
    assert [word] == parse_manifest(written, "abc").process.argv


def test_half_a_surrogate_is_no_text():
    half = write_manifest(captured(), "abc", "1", {}).replace(b'"argv": [', b'"argv": ["\\ud800", ', 1)
    with pytest.raises(ArtifactError) as refused:
        parse_manifest(half, "abc")
    assert "manifest-unreadable" == refused.value.code
