"""Which parts of files go onto the card before their process is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gpu.ahead.prefetch import BUFFERS, PART, Part, plan_parts, room_of, share_room

GIB = 1 << 30
UNIT = 2 << 20
THROUGH = BUFFERS * PART
"""What the parts of one process pass through."""


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        pytest.param([], [], id="no-files"),
        pytest.param([0, 0], [], id="empty-files"),
        pytest.param([UNIT, 0], [Part(0, 0, UNIT)], id="one-empty"),
        pytest.param(
            [PART + UNIT, PART],
            [Part(0, 0, PART), Part(1, 0, PART), Part(0, PART, UNIT)],
            id="the-first-of-each-first",
        ),
    ],
)
def test_files_are_cut_in_the_order_in_which_they_were_saved(sizes, parts):
    assert parts == plan_parts(sizes)


@given(st.lists(st.integers(0, 5).map(lambda n: n * PART // 2), max_size=16))
def test_parts_are_the_whole_of_each_file(sizes):
    parts = plan_parts(sizes)
    for file, size in enumerate(sizes):
        own = [part for part in parts if part.file == file]
        assert [sum(part.size for part in own[:n]) for n in range(len(own))] == [part.offset for part in own]
        assert size == sum(part.size for part in own)


@pytest.mark.parametrize(
    ("stored", "spare", "shares"),
    [
        pytest.param([12 * GIB], 122 * GIB, [12 * GIB], id="all"),
        pytest.param([60 * GIB], 6 * GIB + THROUGH, [5 * GIB], id="what-is-to-spare-but-for-a-context"),
        pytest.param([60 * GIB], GIB + THROUGH, [0], id="none"),
        pytest.param([60 * GIB], -GIB, [0], id="less-than-none"),
        pytest.param([60 * GIB], GIB + THROUGH + PART - 1, [0], id="less-than-a-part"),
        pytest.param([UNIT], GIB + 2 * UNIT, [UNIT], id="a-file-that-is-less-than-a-part"),
        pytest.param([30 * GIB, 10 * GIB], 5 * GIB + 2 * THROUGH, [3 * GIB, GIB], id="by-what-each-has"),
        pytest.param(
            [60 * GIB, UNIT],
            2 * GIB + THROUGH + UNIT,
            [GIB * 60 * GIB // (60 * GIB + UNIT), 0],
            id="one-is-left-out",
        ),
        pytest.param([0], 90 * GIB, [0], id="nothing-there"),
    ],
)
def test_processes_share_the_room_of_a_card(stored, spare, shares):
    assert shares == share_room(stored, spare)


@given(st.lists(st.integers(0, 5 * PART // UNIT).map(lambda units: units * UNIT), max_size=16))
def test_with_the_room_that_parts_take_none_waits_for_another(sizes):
    parts = plan_parts(sizes)
    largest = max((part.size for part in parts), default=UNIT)
    assert len(parts) == room_of(parts) // largest


@given(st.lists(st.integers(0, 100 * GIB), max_size=8), st.integers(-GIB, 200 * GIB))
def test_no_process_gets_more_than_it_has_and_all_no_more_than_there_is(stored, spare):
    shares = share_room(stored, spare)
    assert all(0 <= share <= own for share, own in zip(shares, stored, strict=True))
    assert sum(shares) <= max(0, spare)
