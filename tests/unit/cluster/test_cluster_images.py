"""The archive of the pods' first process."""

import hashlib
import io
import json
import tarfile

from cluster.builder import images


def opened(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}


def test_every_digest_in_the_archive_is_true():
    files = opened(images.pause_archive(b"program", "amd64", "localhost/p:1"))

    blobs = {name.removeprefix("blobs/sha256/"): data for name, data in files.items() if name.startswith("blobs/")}
    assert {} == {name: data for name, data in blobs.items() if hashlib.sha256(data).hexdigest() != name}


def test_the_index_leads_to_the_program():
    files = opened(images.pause_archive(b"program", "amd64", "localhost/p:1"))

    def blob(descriptor):
        return files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]

    entry = json.loads(files["index.json"])["manifests"][0]
    manifest = json.loads(blob(entry))
    assert "localhost/p:1" == entry["annotations"]["io.containerd.image.name"]
    assert ["/pause"] == json.loads(blob(manifest["config"]))["config"]["Entrypoint"]
    assert {"pause": b"program"} == opened(blob(manifest["layers"][0]))


def test_the_same_program_gives_the_same_bytes():
    assert images.pause_archive(b"program", "amd64") == images.pause_archive(b"program", "amd64")
