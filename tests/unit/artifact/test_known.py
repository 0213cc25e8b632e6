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
    known = Known(most=2)

    assert ["found"] * len(asked) == [known.of(key, lambda: read.append(1) or "found") for key in asked]
    assert expected == len(read)


def test_that_there_is_nothing_is_known_too():
    read = []
    known = Known()

    assert [None, None] == [known.of("a", lambda: read.append(1)) for _ in range(2)]
    assert 1 == len(read)


def test_what_cannot_be_read_is_not_known():
    def fails():
        raise OSError("cut short")

    known = Known()
    with pytest.raises(OSError, match="cut short"):
        known.of("a", fails)
    assert "found" == known.of("a", lambda: "found")


def test_what_may_not_be_kept_is_read_again():
    read = []
    known = Known()

    for _ in range(2):
        assert "much" == known.of("a", lambda: read.append(1) or "much", lambda found: found != "much")
    assert 2 == len(read)
