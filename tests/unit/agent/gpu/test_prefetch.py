"""Which parts of files go onto the card before their process is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gpu.prefetch import PART, Part, plan_parts, room_for_parts

GIB = 1 << 30
UNIT = 2 << 20


@pytest.mark.parametrize(
    ("sizes", "room", "parts"),
    [
        pytest.param([], GIB, [], id="no-files"),
        pytest.param([0, 0], GIB, [], id="empty-files"),
        pytest.param([UNIT, 0], GIB, [Part(0, 0, UNIT)], id="one-empty"),
        pytest.param(
            [PART + UNIT, PART],
            GIB,
            [Part(0, 0, PART), Part(1, 0, PART), Part(0, PART, UNIT)],
            id="the-first-of-each-first",
        ),
        pytest.param([PART + UNIT, PART], PART, [Part(0, 0, PART)], id="no-room-for-more"),
        pytest.param([PART], 0, [], id="no-room"),
    ],
)
def test_files_are_cut_in_the_order_in_which_they_are_copied(sizes, room, parts):
    assert parts == plan_parts(sizes, room)


@given(st.lists(st.integers(0, 5).map(lambda n: n * PART // 2), max_size=16), st.integers(0, 20 * PART))
def test_parts_never_exceed_the_room_and_cover_the_files_if_there_is_enough(sizes, room):
    parts = plan_parts(sizes, room)
    assert sum(part.size for part in parts) <= room
    assert len(set(parts)) == len(parts)
    assert sum(sizes) == sum(part.size for part in plan_parts(sizes, sum(sizes)))


@pytest.mark.parametrize(
    ("stored", "used", "free", "room"),
    [
        pytest.param(12 * GIB, 17 * GIB, 139 * GIB, 12 * GIB, id="all"),
        pytest.param(60 * GIB, 127 * GIB, 133 * GIB, 60 * GIB, id="all-as-parts-are-given-back"),
        pytest.param(60 * GIB, 127 * GIB, 132 * GIB, 4 * GIB, id="what-is-to-spare"),
        pytest.param(60 * GIB, 127 * GIB, 127 * GIB, 0, id="none"),
        pytest.param(2 * GIB, 100 * GIB, 105 * GIB, 2 * GIB, id="never-more-than-is-stored"),
    ],
)
def test_the_room_for_parts(stored, used, free, room):
    assert room == room_for_parts(stored, used, free)
