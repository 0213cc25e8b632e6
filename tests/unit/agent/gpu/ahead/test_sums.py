"""Which sums are known of which files; what they are is tested on a card, and on the stand-in."""

import dataclasses

import pytest

from agent.gpu.ahead import sums
from agent.gpu.ahead.copier import Part, Source
from agent.gpu.ahead.registered import Identity
from agent.gpu.ahead.sums import KnownSums
from agent.gpu.ranges import UNIT

FILE = Identity(1, 2, 3 * UNIT, 4)


def test_sums_are_of_the_file_as_it_was():
    known = KnownSums()
    known.of(FILE)[0] = b"sum"
    assert {0: b"sum"} == known.of(FILE)
    assert {} == known.of(dataclasses.replace(FILE, changed=5))


def test_those_asked_for_longest_ago_go_first(monkeypatch):
    monkeypatch.setattr(sums, "MOST_FILES", 2)
    known = KnownSums()
    first, second, third = (dataclasses.replace(FILE, inode=number) for number in range(3))
    for each in (first, second):
        known.of(each)[0] = b"sum"
    known.of(first)
    known.of(third)
    assert [{0: b"sum"}, {}] == [known.of(each) for each in (first, second)]


@pytest.mark.parametrize(
    ("offset", "size", "units"),
    [
        pytest.param(0, UNIT, [0], id="one"),
        pytest.param(2 * UNIT, 2 * UNIT, [2, 3], id="further-on"),
        pytest.param(1, UNIT, [], id="between-two"),
        pytest.param(0, UNIT + 1, [], id="not-whole"),
        pytest.param(0, (sums.MOST_UNITS + 1) * UNIT, [], id="more-than-are-summed-at-once"),
    ],
)
def test_only_whole_units_are_summed(offset, size, units):
    assert units == list(Part(1, Source(-1, 0), offset, size).units)
