"""What of a worker's device memory is left to files of a model, and what an artifact says of it."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from blake3 import blake3

from agent.errors import ContainerError, RefusedError
from agent.executor.gpu import find_weights
from agent.executor.gpu.find_weights import Found, Referred, by_process, most_used, refer, refuse_wrong
from agent.executor.gpu.open_weights import PodVolumes
from agent.executor.gpu.plan import whole_sizes
from agent.gpu.ranges import Range, RangesError, pack_ranges, parse_ranges
from artifact.parts.gpu import DeviceMemory, Gpu, ModelWeights
from artifact.verified import VerifiedFiles
from contract.api.states import AgentReason
from linux.proc import status

SUM = "0" * 64


def of(file, at, length, source=0, offset=0):
    return Range(file, at, length, source, offset)


def test_the_files_of_each_process_are_numbered_by_themselves():
    files = {70: ["a", "b"], 80: ["c"], 90: ["d"]}
    ranges = [of(0, 0, 4, source=2), of(1, 0, 8, source=5), of(1, 8, 2, source=3), of(2, 6, 1, source=5)]
    expected = {
        70: Referred([of(0, 0, 4, source=0), of(1, 0, 8, source=1)], [4, 8]),
        80: Referred([of(0, 6, 1, source=1)], [1]),
    }
    assert expected == by_process(files, ranges, [2, 5])


def test_files_with_most_bytes_count_if_there_are_too_many(monkeypatch):
    monkeypatch.setattr(find_weights, "MOST_SOURCES", 2)
    ranges = [of(0, 0, 4, source=1), of(0, 4, 3, source=2), of(0, 9, 9, source=7), of(1, 0, 2, source=2)]
    assert [2, 7] == most_used(ranges)


@pytest.mark.parametrize(
    "ranges",
    [
        pytest.param([of(0, 7, 4)], id="beyond-the-end"),
        pytest.param([of(0, 0, 6), of(0, 5, 4)], id="one-over-the-other"),
        pytest.param([of(0, 0, 6), of(0, 6, 6)], id="more-than-there-is"),
        pytest.param([of(1, 0, 1)], id="another-file"),
        pytest.param([of(0, 0, 4, offset=7)], id="beyond-the-source"),
    ],
)
def test_what_could_not_be_put_back_is_not_taken_out(ranges):
    refuse_wrong([of(0, 0, 4), of(0, 6, 4, offset=6)], [10], [10])
    with pytest.raises(RangesError):
        refuse_wrong(ranges, [10], [10])


class Staged:
    def __init__(self, folder: Path):
        self.folder = folder

    def file(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL)


@pytest.fixture
def file(tmp_path):
    with (tmp_path / "device-memory-7-0.img").open("wb+") as opened:
        yield opened


WHOLE = DeviceMemory(process=7, files=["device-memory-7-0.img"], bytes=10)


@pytest.mark.parametrize(
    ("ranges", "left"),
    [
        pytest.param([of(0, 0, 4)], b"456789", id="the-beginning"),
        pytest.param([of(0, 6, 4)], b"012345", id="the-end"),
        pytest.param([of(0, 2, 3), of(0, 6, 1)], b"015789", id="in-between"),
        pytest.param([of(0, 0, 5), of(0, 5, 5)], b"", id="all"),
    ],
)
def test_what_is_elsewhere_is_moved_out_of_the_file(file, tmp_path, monkeypatch, ranges, left):
    monkeypatch.setattr(find_weights, "_BLOCK", 2)
    file.write(b"0123456789")
    file.flush()
    sizes = [sum(each.length for each in ranges)]
    found = Found([], {70: Referred(ranges, sizes)})
    said = refer(found, {70: [file.fileno()]}, {70: WHOLE}, Staged(tmp_path))
    assert {70: WHOLE.model_copy(update={"ranges": "device-memory-7-ranges.img", "referenced": sizes})} == said
    assert left == (tmp_path / "device-memory-7-0.img").read_bytes()
    assert ranges == parse_ranges((tmp_path / "device-memory-7-ranges.img").read_bytes())


def test_storage_that_refuses_fails_the_capture(file, tmp_path):
    found = Found([], {70: Referred([of(0, 0, 1)], [1])})
    with Path(file.name).open("rb") as read_only, pytest.raises(ContainerError) as failed:
        refer(found, {70: [read_only.fileno()]}, {70: WHOLE}, Staged(tmp_path))
    assert AgentReason.STORAGE_UNWRITABLE == failed.value.code


class Artifact:
    """An artifact of one process with one file."""

    def __init__(self, folder: Path, weights: list[ModelWeights], ranges: list[Range], stored: int, referenced: int):
        self._table = folder / "table"
        self._table.write_bytes(pack_ranges(ranges))
        memory = WHOLE.model_copy(update={"ranges": "table", "referenced": [referenced]})
        gpu = Gpu(driver="580", cuda="13", devices=[], processes=[7], outside=[memory], weights=weights)
        sizes = {"device-memory-7-0.img": stored, "table": self._table.stat().st_size}
        files = {name: type("Entry", (), {"size": size})() for name, size in sizes.items()}
        self.manifest = type("Manifest", (), {"gpu": gpu, "files": files, "refers_to_weights": True})()

    def open(self, name: str) -> int:
        assert "table" == name
        return os.open(self._table, os.O_RDONLY)


@pytest.fixture
def volume(tmp_path):
    made = tmp_path / "volume"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def said(volume, content=b"weights", name="model.safetensors"):
    return ModelWeights(point=str(volume), name=name, size=len(content), blake3=blake3(content).hexdigest())


def opened(artifact, resources, verified=None):
    return PodVolumes(os.getpid(), status(os.getpid()), verified, Path("/proc")).open_weights(artifact, resources)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it takes another user's rights")
class TestOpening:
    def test_files_of_the_capture_are_open_as_long_as_the_restore(self, tmp_path, volume):
        with ExitStack() as resources:
            weights = opened(Artifact(tmp_path, [said(volume)], [of(0, 2, 3, offset=4)], 10, 3), resources)
            elsewhere = weights.elsewhere(7)
            assert b"hts" == os.pread(elsewhere.sources[0], 3, 4)
            assert ([of(0, 2, 3, offset=4)], False) == (elsewhere.ranges, bool(weights.elsewhere(8)))
            weights.refuse_changed()
            (volume / "model.safetensors").write_bytes(b"another")
            with pytest.raises(RefusedError, match="changed while it was read"):
                weights.refuse_changed()

    @pytest.mark.parametrize(
        ("content", "name"),
        [
            pytest.param(b"weightz", "model.safetensors", id="another-content"),
            pytest.param(b"weights ", "model.safetensors", id="another-size"),
            pytest.param(b"weights", "absent.safetensors", id="absent"),
            pytest.param(b"weights", "../volume/model.safetensors", id="through-the-folder-above"),
        ],
    )
    def test_another_file_is_refused_by_its_name(self, tmp_path, volume, content, name):
        with ExitStack() as resources, pytest.raises(RefusedError, match=f"{volume}/{name}") as refused:
            opened(Artifact(tmp_path, [said(volume, content, name)], [of(0, 2, 3)], 10, 3), resources)
        assert AgentReason.WEIGHTS_CHANGED == refused.value.code

    def test_a_volume_that_is_not_there_is_refused(self, tmp_path):
        with ExitStack() as resources, pytest.raises(RefusedError, match="cannot be read") as refused:
            opened(Artifact(tmp_path, [said("/nonexistent")], [of(0, 2, 3)], 10, 3), resources)
        assert AgentReason.WEIGHTS_CHANGED == refused.value.code

    @pytest.mark.parametrize(
        ("ranges", "referenced"),
        [
            pytest.param([of(0, 2, 3)], 4, id="other-sizes"),
            pytest.param([of(0, 2, 8)], 8, id="beyond-the-model"),
            pytest.param([of(0, 20, 3)], 3, id="beyond-the-file"),
            pytest.param([of(1, 2, 3)], 3, id="no-such-file"),
        ],
    )
    def test_a_table_that_contradicts_the_manifest_is_refused(self, tmp_path, volume, ranges, referenced):
        with ExitStack() as resources, pytest.raises(RefusedError) as refused:
            opened(Artifact(tmp_path, [said(volume)], ranges, 10, referenced), resources)
        assert AgentReason.ARTIFACT_CORRUPT == refused.value.code

    def test_a_file_that_was_found_right_is_not_read_again(self, tmp_path, volume, monkeypatch):
        os.utime(volume / "model.safetensors")
        verified = VerifiedFiles()
        monkeypatch.setattr("artifact.verified.SETTLED_SECONDS", -1.0)
        artifact = Artifact(tmp_path, [said(volume)], [of(0, 2, 3)], 10, 3)
        with ExitStack() as resources:
            opened(artifact, resources, verified)
            monkeypatch.setattr("agent.executor.gpu.open_weights.sum_of_others", lambda _: SUM)
            assert opened(artifact, resources, verified).files
            (volume / "model.safetensors").write_bytes(b"Weights")
            with pytest.raises(RefusedError, match="is another file"):
                opened(artifact, resources, verified)


def test_files_are_as_large_as_they_were_saved(tmp_path):
    manifest = Artifact(tmp_path, [], [], 10, 3).manifest
    assert {"device-memory-7-0.img": 13, "table": 0} == whole_sizes(manifest)
