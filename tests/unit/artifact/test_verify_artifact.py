"""An artifact in storage is verified: only a whole one counts, and nothing else of it is reported."""

import json
import os
import re

import pytest

from artifact.publish import publish, seal, staging
from artifact.verify import main, verify
from tests.support.builders.manifests import captured


def make(base, version="1", checkpoint_id="abc"):
    root = os.open(base, os.O_RDONLY)
    try:
        with staging(root, checkpoint_id) as staged:
            with os.fdopen(staged.file("pages-1.img"), "wb") as file:
                file.write(b"p" * 5000)
            sealed = seal(staged, checkpoint_id, version, captured())
            publish(root, staged, checkpoint_id, version)
            return sealed
    finally:
        os.close(root)


def test_a_whole_artifact_is_told_as_it_was_published(tmp_path):
    published = make(tmp_path)
    told = verify(str(tmp_path), "abc", "1")

    assert {"version", "digest", "size", "createdAt", "source"} == told.keys()
    assert (published.digest, published.size) == (told["digest"], told["size"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["createdAt"])


def spoil_file(folder):
    (folder / "pages-1.img").write_bytes(b"q" * 5000)


def no_file(folder):
    (folder / "pages-1.img").unlink()


def no_manifest(folder):
    (folder / "manifest.yaml").unlink()


def of_another_version(folder):
    folder.rename(folder.parent / "2")
    make(folder.parents[2], "3")
    (folder.parent / "3").rename(folder)


def files_without_sums(folder):
    (folder / "manifest.yaml").write_text("{formatVersion: 1, checkpointId: abc, version: '1', files: {a: 1}}")
    (folder / "a").write_text("")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(spoil_file, "artifact-corrupt", id="changed-file"),
        pytest.param(no_file, "artifact-missing", id="missing-file"),
        pytest.param(no_manifest, "artifact-missing", id="no-manifest"),
        pytest.param(of_another_version, "manifest-unreadable", id="renamed-version"),
        pytest.param(files_without_sums, "manifest-unreadable", id="no-sums"),
    ],
)
def test_anything_less_is_named(tmp_path, spoil, code):
    store, answer = tmp_path / "store", tmp_path / "answer"
    store.mkdir()
    make(store)
    spoil(store / "abc" / "versions" / "1")

    assert 1 == main([str(store), "abc", "1"], answer)
    told = json.loads(answer.read_text())
    assert {"error", "message"} == told.keys()
    assert code == told["error"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["abc", "../1"], id="hostile-version"),
        pytest.param(["../abc", "1"], id="hostile-id"),
        pytest.param(["other", "1"], id="nothing-there"),
    ],
)
def test_what_cannot_be_is_an_answer_too(tmp_path, arguments):
    make(tmp_path)

    assert 1 == main([str(tmp_path), *arguments], tmp_path / "answer")
    assert json.loads((tmp_path / "answer").read_text())["message"]


def test_wrong_usage_is_no_answer(tmp_path, capsys):
    assert 2 == main([str(tmp_path)], tmp_path / "answer")
    assert "usage:" in capsys.readouterr().err
    assert not (tmp_path / "answer").exists()
