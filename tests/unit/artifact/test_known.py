"""What is kept of an artifact between its restores."""

import pytest

from artifact.known import Known


@pytest.mark.parametrize(
    ("expected", "asked"),
    [
        pytest.param(1, ["a", "a"], id="the-same-again"),
        pytest.param(2, ["a", "b"], id="another-key"),
        pytest.param(2, ["a", "b", "a", "b"], id="several"),
        pytest.param(4, ["a", "b", "c", "a"], id="too-many-to-keep"),
    ],
)
def test_it_is_read_once_for_each_key(expected, asked):
    read = []
    known = Known(lambda fd: read.append(fd) or "found", most=2)

    assert ["found"] * len(asked) == [known.of(digest, 3) for digest in asked]
    assert [3] * expected == read


def test_that_there_is_nothing_is_known_too():
    read = []
    known = Known(read.append)

    assert [None, None] == [known.of("a", 3), known.of("a", 3)]
    assert [3] == read


def test_what_cannot_be_read_is_not_known():
    found = iter([OSError("cut short"), "found"])

    def read(fd):
        if isinstance(each := next(found), OSError):
            raise each
        return each

    known = Known(read)
    with pytest.raises(OSError, match="cut short"):
        known.of("a", 3)
    assert "found" == known.of("a", 3)


def test_what_is_not_worth_its_memory_is_read_again():
    read = []
    known = Known(lambda fd: read.append(fd) or "much", is_kept=lambda found: found != "much")
    assert ["much", "much"] == [known.of("a", 3), known.of("a", 3)]
    assert [3, 3] == read
