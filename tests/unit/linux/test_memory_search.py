"""Bytes are found in memory wherever they are, whatever is around them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linux.memory_search import places

ALPHABET = st.sampled_from(b"\0\0\0\x01\x02")
"""Few bytes, so that what is wanted comes often, overlaps itself, and begins without ending."""
WANTED = st.lists(ALPHABET, min_size=1, max_size=6).map(bytes).filter(any)


def everywhere(content: bytes, wanted: bytes) -> list[int]:
    return [at for at in range(len(content)) if content.startswith(wanted, at)]


@given(st.lists(ALPHABET, max_size=200).map(bytes), WANTED)
def test_every_place_is_found_once_and_in_order(content, wanted):
    assert everywhere(content, wanted) == list(places(content, wanted))


@given(st.binary(max_size=300), st.integers(0, 299), st.integers(1, 16))
def test_every_part_of_some_content_is_found(content, at, length):
    wanted = content[at : at + length]
    if any(wanted):
        assert everywhere(content, wanted) == list(places(content, wanted))


@pytest.mark.parametrize("filler", [pytest.param(b"\0", id="zeros"), pytest.param(b"ab\x01", id="no-zeros")])
@pytest.mark.parametrize(
    "wanted", [pytest.param(b"\0\0\x07\0", id="zero-at-both-ends"), pytest.param(b"\x07", id="a-byte")]
)
def test_in_much_of_the_same(filler, wanted):
    around = filler * 5000
    assert [len(around), 2 * len(around) + len(wanted)] == list(places(wanted.join([around] * 3), wanted))
