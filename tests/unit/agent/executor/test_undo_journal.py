"""What a restore overwrites is on disk before it does, and is found again by the next agent."""

import os

import pytest

from agent.container.files.dated_links import DatedLink
from agent.executor.files.undo_journal import Journal
from contract.api import keys
from linux import filetree
from tests.unit.linux.test_filetree import entry, tar_of

UID = "0f9e8d7c-1a2b-4c3d-8e9f-001122334455"


@pytest.fixture
def pods(tmp_path):
    (tmp_path / UID / "volumes" / "kubernetes.io~empty-dir" / keys.CONTROL_VOLUME / "main").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("root")
    (path / "old").write_text("as the image has it")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    yield path, fd
    os.close(fd)


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def change(journal, root, tmp_path, number=0):
    """Overwrite one file and create another."""
    archive = tmp_path / "change.tar"
    archive.write_bytes(tar_of(entry("old"), entry("new")).read())
    tar = os.open(archive, os.O_RDONLY)
    try:
        filetree.change(
            root[1],
            {"root": "/", "tar": tar, "gone": (), "emptied": (), "made": ("made",), "durable": True}
            | journal.step(number),
        )
    finally:
        os.close(tar)


def test_the_next_agent_can_undo(pods, root, tmp_path):
    with Journal.create(pods, UID, "main") as journal:
        change(journal, root, tmp_path)
    (root[0] / "made").write_text("by criu")
    assert ["made", "new", "old"] == names(root[0])
    assert "" == (root[0] / "old").read_text()
    found = Journal.find(pods, UID, "main")
    assert found is not None
    with found:
        for step in found.undo_steps():
            filetree.change(root[1], step)
        found.remove()
    assert ["old"] == names(root[0])
    assert "as the image has it" == (root[0] / "old").read_text()
    assert Journal.find(pods, UID, "main") is None


def test_a_step_that_had_not_begun_needs_no_undo(pods):
    with Journal.create(pods, UID, "main") as journal:
        journal.step(0)
    found = Journal.find(pods, UID, "main")
    assert found is not None
    with found:
        assert [] == found.undo_steps()


def test_no_container_sees_it(pods):
    """It is beside the containers' own folders, under a name that no container can have."""
    with Journal.create(pods, UID, "main"):
        volume = pods / UID / "volumes" / "kubernetes.io~empty-dir" / keys.CONTROL_VOLUME
        assert [".restore-main", "main"] == names(volume)
        assert [] == names(volume / "main")


def test_none_without_a_pod(tmp_path):
    assert Journal.find(tmp_path, UID, "main") is None


def test_links_are_noted_before_they_are_made(pods):
    link = DatedLink("kubernetes.io~configmap/scripts", "..2026_11_28_16_49_00.1")
    with Journal.create(pods, UID, "main") as journal:
        assert [] == journal.links()
        journal.note_links([link])
        assert [] == journal.undo_steps()
    found = Journal.find(pods, UID, "main")
    assert found is not None
    with found:
        assert [link] == found.links()
