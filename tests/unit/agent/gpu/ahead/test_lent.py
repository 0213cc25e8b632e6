"""Where what another worker lends is in the files: it says so itself, so any of it may be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gpu.ahead.lent import COPIERS, LentSegment, Run, index_runs, runs_within
from agent.gpu.ranges import UNIT


def lent(*segments):
    """Take segments: the first unit, and how many."""
    return [LentSegment(first, units * UNIT, -1) for first, units in segments]


def places(*of):
    """Take the place of each unit: its file and its number there; None for zeros."""
    return [0 if each is None else 1 + each[1] * COPIERS + each[0] for each in of]


@pytest.mark.parametrize(
    ("segments", "of", "expected"),
    [
        pytest.param(lent((0, 2)), places(None, None), {}, id="zeros"),
        pytest.param(lent((0, 2)), places((0, 0), (0, 1)), {0: [Run(0, 2, 0, 0)]}, id="as-in-the-file"),
        pytest.param(
            lent((0, 4)),
            places((0, 0), (3, 0), (0, 1), (3, 1)),
            {0: [Run(0, 1, 0, 0), Run(1, 1, 0, 2 * UNIT)], 3: [Run(0, 1, 0, UNIT), Run(1, 1, 0, 3 * UNIT)]},
            id="by-two-copiers-in-turns",
        ),
        pytest.param(
            lent((1, 1), (0, 1)), places((0, 0), (0, 1)), {0: [Run(0, 1, 1, 0), Run(1, 1, 0, 0)]}, id="in-another-order"
        ),
        pytest.param(lent((9, 4)), places((0, 0)), {}, id="beyond-the-places"),
        pytest.param(lent((0, 3)), places((0, 0)), {0: [Run(0, 1, 0, 0)]}, id="longer-than-the-places"),
    ],
)
def test_runs_of_each_file(segments, of, expected):
    assert expected == index_runs(segments, of)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=4),
    st.lists(st.integers(0, 1 << 32), max_size=40) | st.lists(st.integers(0, 20 * COPIERS), max_size=40),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_whatever_is_said_each_unit_is_wanted_once_and_within_what_is_lent(segments, of, first, count):
    given_segments = lent(*segments)
    for runs in index_runs(given_segments, of).values():
        found = list(runs_within(runs, first, count))
        units = [unit for run in found for unit in range(run.unit, run.unit + run.count)]
        assert sorted(set(units)) == units
        assert all(first <= unit < first + count for unit in units)
        for run in found:
            assert 0 <= run.offset <= given_segments[run.segment].size - run.count * UNIT


@given(st.permutations(range(20)), st.integers(0, 20), st.integers(0, 20))
def test_all_that_is_asked_for_is_found_if_it_is_lent(order, first, count):
    (runs,) = index_runs(lent((0, 20)), places(*[(5, unit) for unit in order])).values()
    found = {
        unit + each: run.offset // UNIT + each
        for run in runs_within(runs, first, count)
        for each in range(run.count)
        for unit in [run.unit]
    }
    assert {unit: order.index(unit) for unit in range(first, min(20, first + count))} == found
