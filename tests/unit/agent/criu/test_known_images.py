"""What is kept of the images of an artifact between its restores."""

import pytest

from agent.criu.known_images import KnownImages


@pytest.mark.parametrize(
    ("expected", "asked"),
    [
        pytest.param(1, ["a", "a"], id="the-same-again"),
        pytest.param(2, ["a", "b"], id="another-artifact"),
        pytest.param(2, ["a", "b", "a", "b"], id="several"),
        pytest.param(4, ["a", "b", "c", "a"], id="too-many-to-keep"),
    ],
)
def test_images_are_read_once_for_each_artifact(expected, asked):
    read = []
    known = KnownImages(lambda directory: read.append(directory) or "found", most=2)

    assert ["found"] * len(asked) == [known.of(digest, directory=3) for digest in asked]
    assert [3] * expected == read


def test_that_there_is_nothing_is_known_too():
    read = []
    known = KnownImages(read.append)

    assert [None, None] == [known.of("a", 3), known.of("a", 3)]
    assert [3] == read


def test_what_cannot_be_read_is_not_known():
    found = iter([OSError("cut short"), "found"])

    def read(directory):
        if isinstance(each := next(found), OSError):
            raise each
        return each

    known = KnownImages(read)
    with pytest.raises(OSError, match="cut short"):
        known.of("a", 3)
    assert "found" == known.of("a", 3)
