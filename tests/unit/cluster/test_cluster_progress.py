"""Progress without a terminal."""

from cluster.progress import PLAIN_INTERVAL, Plain


def test_a_step_is_told_when_it_begins_goes_on_and_ends():
    lines, now = [], [0.0]
    plain = Plain(lines.append, clock=lambda: now[0])

    with plain.step("building") as advance:
        advance(1, 10)
        now[0] = PLAIN_INTERVAL
        advance(5, 10)
        advance(6, 10)

    assert ["building ...", "building: 5 of 10, 20 s", "building: done in 20.0 s"] == lines
