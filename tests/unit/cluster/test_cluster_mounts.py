"""Folders of the machine that nodes have too."""

import pytest

from cluster.errors import StateError
from cluster.nodes.node import Mount


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("/usr", Mount("/usr", "/usr"), id="where-the-machine-has-it"),
        pytest.param("/usr:/srv/programs", Mount("/usr", "/srv/programs"), id="elsewhere"),
        pytest.param("/usr/", Mount("/usr", "/usr"), id="the-folder-with-a-slash"),
        pytest.param("/usr:/srv/programs/", Mount("/usr", "/srv/programs"), id="with-a-slash"),
    ],
)
def test_a_mount(text, expected):
    assert expected == Mount.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("usr", "usr is not the absolute path", id="relative"),
        pytest.param("", " is not the absolute path", id="nothing"),
        pytest.param("/nowhere/at/all", "is not the absolute path of a folder", id="missing"),
        pytest.param("/etc/passwd", "is not the absolute path of a folder", id="file"),
        pytest.param("/usr:srv", "srv cannot be where", id="relative-place"),
        pytest.param("/usr:/srv/../etc", "cannot be where", id="up"),
        pytest.param("/usr:/", "/ cannot be where", id="root"),
    ],
)
def test_what_is_no_mount(text, expected):
    with pytest.raises(StateError, match=expected):
        Mount.parse(text)
