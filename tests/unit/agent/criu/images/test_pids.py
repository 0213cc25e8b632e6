"""What the pid counter of a container is set to before a restore."""

import pytest

from agent.criu.images.pids import LOWEST, ROOM, last_pid


@pytest.mark.parametrize(
    ("expected", "ids"),
    [
        pytest.param(LOWEST, [], id="none"),
        pytest.param(LOWEST, [2, 60, 1001, 1002], id="as-captured-first"),
        pytest.param(116, [114, 115, 116, 1001], id="started-after-a-restore"),
        pytest.param(1001, [114, 600, 1001], id="too-little-room-between"),
        pytest.param(LOWEST, [LOWEST + ROOM + 1], id="just-enough-room"),
        pytest.param(LOWEST + ROOM, [LOWEST + ROOM], id="just-too-little"),
        pytest.param(900, [*range(101, 901), *range(1500, 40_000)], id="the-only-gap"),
        pytest.param(700, [*range(101, 701), *range(900, 40_000, 150)], id="the-widest-gap"),
    ],
)
def test_room(expected, ids):
    assert expected == last_pid(ids)
