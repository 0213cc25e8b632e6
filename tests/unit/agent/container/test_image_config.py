"""What an image runs is read where the runtime keeps it, and believed only under its digest."""

import base64
import hashlib
import json

import pytest

from agent.container import image_config
from agent.errors import ContainerError
from contract.api.reports import ImageConfig
from linux.proc import Mount

CONFIG = {
    "rootfs": {"type": "layers"},
    "config": {"Entrypoint": ["python3", "-m"], "Cmd": ["app", ""], "User": "1000", "WorkingDir": "/app"},
}


@pytest.fixture
def store(tmp_path):
    """Write a document into a content store; return its digest."""
    folder = tmp_path / image_config.BLOBS
    folder.mkdir(parents=True)

    def put(document):
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = hashlib.sha256(content).hexdigest()
        (folder / digest).write_bytes(content)
        return f"sha256:{digest}"

    return put


def manifest(config):
    return {"config": {"digest": config}, "layers": []}


def index(*manifests):
    return {"manifests": [{"digest": d, "platform": {"architecture": a, "os": "linux"}} for a, d in manifests]}


@pytest.fixture(autouse=True)
def _amd64(monkeypatch):
    monkeypatch.setattr(image_config.platform, "machine", lambda: "x86_64")


@pytest.mark.parametrize("depth", [pytest.param(0, id="configuration"), pytest.param(1, id="manifest"),
                                   pytest.param(2, id="index")])  # fmt: skip
@pytest.mark.parametrize("form", ["{}", "registry.example/worker@{}"])
def test_an_image_is_found_by_any_of_its_digests(store, tmp_path, depth, form):
    digest = store(CONFIG)
    if depth > 0:
        digest = store(manifest(digest))
    if depth > 1:
        digest = store(index(("arm64", "sha256:" + "0" * 64), ("unknown", "sha256:" + "1" * 64), ("amd64", digest)))

    expected = ImageConfig(("python3", "-m"), ("app", ""), "1000", "/app")
    assert expected == image_config.read_config(form.format(digest), [tmp_path / "elsewhere", tmp_path])


def test_an_image_may_say_nothing(store, tmp_path):
    said = {"rootfs": {}, "config": {"Entrypoint": None, "Cmd": ["sh"]}}

    assert ImageConfig(cmd=("sh",)) == image_config.read_config(store(said), [tmp_path])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param(b"no json", "no JSON", id="no JSON"),
        pytest.param(b"[" * 100_000, "no JSON", id="nested without end"),
        pytest.param([], "no object", id="no object"),
        pytest.param({"rootfs": {}, "config": ["x"]}, "not of its form", id="config no object"),
        pytest.param({"rootfs": {}, "config": {"Cmd": 1}}, "not of its form", id="cmd no list"),
        pytest.param({"rootfs": {}, "config": {"Cmd": ["\ud800"]}}, "not of its form", id="no text"),
        pytest.param({"rootfs": {}, "config": {"User": "\ud800"}}, "not of its form", id="user no text"),
        pytest.param({"manifests": 1}, "not of its form", id="manifests no list"),
        pytest.param({"manifests": [1]}, "not of its form", id="manifest no object"),
        pytest.param({"manifests": [{"platform": "x"}]}, "not of its form", id="platform no object"),
        pytest.param({"config": "x"}, "not of its form", id="reference no object"),
        pytest.param(index(("arm64", "sha256:" + "0" * 64)), "no manifest for amd64", id="another architecture"),
        pytest.param(manifest("sha256:" + "0" * 64), "is not in the runtime's store", id="document missing"),
        pytest.param(manifest("../../etc/passwd"), "no manifest", id="hostile digest"),
        pytest.param({"rootfs": {}, "config": {"Cmd": ["x" * 40_000]}}, "too long", id="too long"),
        pytest.param({"rootfs": {}, "config": {"Cmd": ["a\0b"]}}, "NUL", id="NUL"),
    ],
)
def test_what_cannot_be_told_is_said_with_a_remedy(store, tmp_path, document, words):
    with pytest.raises(ContainerError, match=words) as caught:
        image_config.read_config(store(document), [tmp_path])

    assert "give the pod a command" in str(caught.value)


def test_a_blob_that_is_not_what_its_name_says_is_refused(store, tmp_path):
    digest = store(CONFIG)
    (tmp_path / image_config.BLOBS / digest.removeprefix("sha256:")).write_text("{}")

    with pytest.raises(ContainerError, match="not what its name says"):
        image_config.read_config(digest, [tmp_path])


@pytest.mark.parametrize("image_id", ["", "worker:1", "sha256:short"])
def test_an_image_without_a_digest_cannot_be_found(tmp_path, image_id):
    with pytest.raises(ContainerError, match="no digest"):
        image_config.read_config(image_id, [tmp_path])


@pytest.fixture
def storage(tmp_path):
    """Lays an image out as skopeo 1.9 does, with containers/storage, the library of CRI-O."""

    def put(config, **changes):
        text = json.dumps(config).encode()
        image_id = hashlib.sha256(text).hexdigest()
        whole = json.dumps(manifest(f"sha256:{image_id}")).encode()
        digest = f"sha256:{hashlib.sha256(whole).hexdigest()}"
        names = {"manifest": digest, f"manifest-{digest}": digest, f"sha256:{image_id}": f"sha256:{image_id}"}
        folder = tmp_path / image_config.IMAGES / image_id
        folder.mkdir(parents=True)
        (folder / "manifest").write_bytes(whole)
        for name, content in ((f"manifest-{digest}", whole), (f"sha256:{image_id}", text)):
            (folder / ("=" + base64.b64encode(name.encode()).decode())).write_bytes(content)
        entry = {"id": image_id, "digest": digest, "big-data-digests": names, **changes}
        (tmp_path / image_config.IMAGES / "images.json").write_text(json.dumps([entry]))
        return image_id, digest

    return put


@pytest.mark.parametrize(
    "form", [pytest.param("{0}", id="id"), pytest.param("registry.example/worker@{1}", id="manifest's digest")]
)
def test_an_image_of_cri_o_is_found(storage, tmp_path, form):
    image_id = form.format(*storage(CONFIG))

    assert ("app", "") == image_config.read_config(image_id, [tmp_path]).cmd


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"id": "../../../etc"}, id="hostile id"),
        pytest.param({"big-data-digests": None}, id="no documents"),
        pytest.param({"big-data-digests": {}}, id="other documents"),
    ],
)
def test_a_storage_that_cannot_be_followed_is_said(storage, tmp_path, changes):
    image_id, _ = storage(CONFIG, **changes)

    with pytest.raises(ContainerError, match="is not in the runtime's store"):
        image_config.read_config(image_id, [tmp_path])


@pytest.mark.parametrize(
    ("expected", "upper"),
    [
        pytest.param("/data/cd", "/data/cd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs", id="containerd"),
        pytest.param("/data/cs", f"/data/cs/overlay/{'a' * 64}/diff", id="CRI-O"),
    ],
)
def test_documents_lie_beside_the_layers(expected, upper):
    found = image_config.roots([Mount("/", "/", "overlay", "overlay", f"rw,upperdir={upper}")])

    assert (expected, *image_config.DEFAULT_ROOTS) == found


@pytest.mark.parametrize(
    "options", ["rw", "rw,upperdir=/elsewhere/7/fs", "rw,upperdir=/var/lib/containers/storage/overlay/7"]
)
def test_else_they_lie_in_the_usual_folders(options):
    assert set(image_config.DEFAULT_ROOTS) == set(image_config.roots([Mount("/", "/", "overlay", "overlay", options)]))
