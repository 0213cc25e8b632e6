"""Ranges of device memory that are in other files: a table is right, or refused, and what is read is what was saved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gpu.ranges import MOST_RANGES, STORED, Range, Ranges, RangesError, gaps, pack_ranges, parse_ranges

LARGE = 1 << 40


def at(start, length, *, file=0, source=0, offset=0):
    return Range(file, start, length, source, offset)


@pytest.mark.parametrize(
    ("ranges", "reads", "expected"),
    [
        pytest.param([], (0, 10), [(STORED, 0, 10)], id="nothing-elsewhere"),
        pytest.param([at(0, 10, offset=7)], (2, 5), [(0, 9, 5)], id="within-one"),
        pytest.param([at(4, 4)], (0, 12), [(STORED, 0, 4), (0, 0, 4), (STORED, 4, 4)], id="around-one"),
        pytest.param([at(0, 4), at(4, 4, source=1)], (2, 4), [(0, 2, 2), (1, 0, 2)], id="side-by-side"),
        pytest.param([at(4, 4)], (8, 4), [(STORED, 4, 4)], id="behind-one"),
    ],
)
def test_a_whole_file_is_read_in_pieces(ranges, reads, expected):
    assert expected == list(Ranges(ranges, [12], [100, 100]).pieces(0, *reads))


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        pytest.param([at(0, 4, file=1)], "no such file", id="another-file"),
        pytest.param([at(0, 4, source=2)], "no such file", id="another-source"),
        pytest.param([at(0, 4), at(3, 4)], "overlap", id="overlap"),
        pytest.param([at(8, 4), at(0, 4)], "overlap", id="backwards"),
        pytest.param([at(0, 0)], "beyond its file", id="empty"),
        pytest.param([at(0, 4, offset=97)], "beyond its file", id="beyond-the-source"),
        pytest.param([at(0, 4, offset=LARGE)], "beyond its file", id="far-beyond-the-source"),
        pytest.param([at(13, 4)], "behind the end", id="behind-what-is-stored"),
        pytest.param([at(0, 4), at(17, 4)], "behind the end", id="second-behind-what-is-stored"),
    ],
)
def test_a_table_that_contradicts_the_files_is_refused(ranges, words):
    with pytest.raises(RangesError, match=words):
        Ranges(ranges, [12], [100, 100])


@pytest.mark.parametrize(
    "text", [pytest.param(b"1" * 31, id="cut-short"), pytest.param(bytes(32) * (MOST_RANGES + 1), id="too-many")]
)
def test_what_is_no_table_is_refused(text):
    with pytest.raises(RangesError, match="no table"):
        parse_ranges(text)


@st.composite
def saved(draw):
    """Return the content of a file, of another, and ranges of the first that are in the second."""
    source = draw(st.binary(min_size=8, max_size=64))
    whole, ranges = b"", []
    for stored in draw(st.lists(st.binary(max_size=6), max_size=8)):
        length = draw(st.integers(1, 8))
        offset = draw(st.integers(0, len(source) - length))
        whole += stored
        ranges.append(at(len(whole), length, offset=offset))
        whole += source[offset : offset + length]
    return whole + draw(st.binary(max_size=6)), source, ranges


@given(saved(), st.data())
def test_what_is_read_is_what_was_saved(case, data):
    whole, source, ranges = case
    stored = b"".join(whole[start : start + length] for start, length in gaps(ranges, len(whole)))
    table = Ranges(parse_ranges(pack_ranges(ranges)), [len(stored)], [len(source)])
    assert len(whole) == len(stored) + sum(table.referenced)
    start = data.draw(st.integers(0, len(whole)))
    size = data.draw(st.integers(0, len(whole) - start))
    pieces = list(table.pieces(0, start, size))
    found = b"".join((stored if number == STORED else source)[offset : offset + n] for number, offset, n in pieces)
    assert whole[start : start + size] == found


@given(st.lists(st.builds(Range, *[st.integers(0, 40)] * 5), max_size=6), st.integers(0, 30))
def test_a_hostile_table_is_refused_or_reads_within_the_files(rows, size):
    try:
        table = Ranges(rows, [size], [40])
    except RangesError:
        return
    for number, offset, length in table.pieces(0, 0, size + sum(table.referenced)):
        assert offset + length <= (size if number == STORED else 40)
